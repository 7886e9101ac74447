//! What goes out, against a real HTTP server and a real broker on loopback.

use std::{
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::Mutex,
};

use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, Uri},
    response::{IntoResponse, Redirect, Response},
    routing::{any, get},
};
use edge_core::engine::effect::EffectKey;
use rumqttc::v5::{AsyncClient, Event, Incoming, MqttOptions};
use shared::{
    id::RunId,
    label::Label,
    policy::{PolicySet, Request},
};

use super::*;

fn call(function: &str, input: Value) -> Call {
    let now = crate::clock::now();
    Call {
        key: EffectKey("run:/do/0/act".to_owned()),
        run: RunId::derive(now, b"test"),
        task: "/do/0/act".to_owned(),
        workflow: "test/act:1.0.0".to_owned(),
        function: function.to_owned(),
        input,
        label: Label::default(),
        deadline: Some(now.plus(Duration::from_secs(10))),
        asked_at: now,
    }
}

fn permit(action: &Action, call: &Call) -> Result<Permit, Failure> {
    let request = Request {
        action: if call.function == "http" { policy::Action::Http } else { policy::Action::Publish },
        workflow: "test/act".to_owned(),
        target: action.target(call)?,
        label: Label::default(),
        node_jurisdiction: "CH".to_owned(),
    };
    Ok(PolicySet::default_rules().decide(&request).expect("the default rules permit it for open data"))
}

fn site(address: SocketAddr) -> Broker {
    Broker { host: address.ip().to_string(), port: address.port(), login: None, tls: None, client_id: "out".to_owned() }
}

fn nowhere() -> Action {
    Action::new(site(([127, 0, 0, 1], 1).into()))
}

async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

async fn http(input: Value) -> Result<Value, Failure> {
    let (action, call) = (nowhere(), call("http", input));
    let permit = permit(&action, &call)?;
    action.http(&call, permit, Keep::Text).await.map(|done| done.output)
}

async fn echo(method: axum::http::Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    axum::Json(json!({
        "method": method.as_str(), "uri": uri.to_string(), "key": header("idempotency-key"), "auth": header("authorization"),
        "type": header("content-type"), "x": header("x-site"), "body": String::from_utf8_lossy(&body),
    }))
    .into_response()
}

#[tokio::test]
async fn a_request_carries_what_the_task_says_and_the_effects_key() {
    let url = serve(Router::new().route("/echo", any(echo))).await;
    let output = http(json!({
        "method": "post",
        "endpoint": {"uri": format!("{url}/echo"), "authentication": {"basic": {"username": "u", "password": "p"}}},
        "headers": {"x-site": "basel"}, "query": {"tag": ["a b", 2]}, "body": {"n": 1}
    }))
    .await
    .expect("answered");
    assert_eq!(
        output,
        json!({
            "method": "POST", "uri": "/echo?tag=a+b&tag=2", "key": "run:/do/0/act", "auth": "Basic dTpw",
            "type": "application/json", "x": "basel", "body": "{\"n\":1}"
        })
    );
}

#[tokio::test]
async fn the_output_is_content_raw_or_the_whole_response() {
    let text = get(|| async { ([("content-type", "text/plain"), ("x-made-by", "test")], "hello") });
    let url = serve(Router::new().route("/text", text)).await;
    let ask = |output: &str| json!({"method": "GET", "endpoint": format!("{url}/text"), "output": output});
    assert_eq!(http(ask("content")).await.expect("answered"), "hello");
    assert_eq!(http(ask("raw")).await.expect("answered"), "aGVsbG8=");
    let response = http(ask("response")).await.expect("answered");
    assert_eq!((&response["statusCode"], &response["content"]), (&json!(200), &json!("hello")));
    assert_eq!((&response["headers"]["x-made-by"], &response["request"]["method"]), (&json!("test"), &json!("GET")));
}

#[tokio::test]
async fn a_status_becomes_the_error_that_it_means() {
    let status = |uri: Uri| async move {
        let code: u16 = uri.path()[1..].parse().expect("a status");
        (axum::http::StatusCode::from_u16(code).expect("a status"), "no")
    };
    let url = serve(Router::new().fallback(status)).await;
    for (status, kind) in [
        (404, kind::COMMUNICATION),
        (401, kind::AUTHENTICATION),
        (403, kind::AUTHORIZATION),
        (504, kind::TIMEOUT),
        (500, kind::COMMUNICATION),
        (302, kind::COMMUNICATION),
    ] {
        let failure =
            http(json!({"method": "GET", "endpoint": format!("{url}/{status}")})).await.expect_err("no success");
        assert_eq!((failure.error.kind.as_str(), failure.error.status), (kind.0, status));
    }
}

#[tokio::test]
async fn a_redirect_is_followed_within_the_host_alone() {
    let elsewhere =
        serve(Router::new().route("/", get(|| async { "elsewhere" }))).await.replace("127.0.0.1", "localhost");
    let url = serve(
        Router::new()
            .route("/here", get(|| async { Redirect::temporary("/there") }))
            .route("/there", get(|| async { "there" }))
            .route("/away", get(move || async move { Redirect::temporary(&elsewhere) })),
    )
    .await;
    let ask =
        |path: &str, redirect: bool| json!({"method": "GET", "endpoint": format!("{url}{path}"), "redirect": redirect});
    assert_eq!(http(ask("/here", true)).await.expect("followed"), "there");
    assert!(http(ask("/here", false)).await.is_err_and(|failure| failure.error.status == 307));
    assert_ne!(http(ask("/away", true)).await.ok(), Some(json!("elsewhere")), "no permit names the other host");
}

#[tokio::test]
async fn an_answer_that_is_too_long_or_too_late_is_an_error() {
    let long = get(|| async { vec![b'x'; 5 << 20] });
    let late = get(std::future::pending::<&'static str>);
    let url = serve(Router::new().route("/long", long).route("/late", late)).await;
    let failure = http(json!({"method": "GET", "endpoint": format!("{url}/long")})).await.expect_err("too long");
    assert!(failure.error.detail.is_some_and(|detail| detail.contains("longer than")));
    let mut call = call("http", json!({"method": "GET", "endpoint": format!("{url}/late")}));
    let action = nowhere();
    let permit = permit(&action, &call).expect("permitted");
    call.deadline = Some(crate::clock::now().plus(Duration::from_millis(100)));
    let failure = action.http(&call, permit, Keep::Digest).await.expect_err("too late");
    assert_eq!(failure.error.kind, kind::TIMEOUT.0);
}

#[tokio::test]
async fn mistakes_name_their_field_and_a_permit_is_for_one_place() {
    for (function, input, expected) in [
        ("http", json!({"method": "GET", "endpoint": "example.com"}), "endpoint: \"example.com\"; expected http://"),
        ("http", json!({"method": "GET", "endpoint": "http://h/{id}"}), "endpoint:"),
        ("http", json!({"method": "GE T", "endpoint": "http://h"}), "method:"),
        ("http", json!({"method": "GET", "endpoint": "http://h", "output": "xml"}), "output: unknown variant `xml`"),
        ("publish", json!({"topic": "a/+", "payload": 1}), "topic: \"a/+\"; expected"),
        ("publish", json!({"topic": "a"}), "missing field `payload`"),
        ("publish", json!({"topic": "a", "payload": 1, "qos": 3}), "qos: 3; expected 0, 1 or 2"),
    ] {
        let failure = nowhere().target(&call(function, input.clone())).expect_err("wrong");
        let detail = failure.error.detail.unwrap_or_default();
        assert!(detail.contains(expected), "{input} gave {detail}");
    }
    let action = nowhere();
    let other = permit(&action, &call("publish", json!({"topic": "a", "payload": 1}))).expect("permitted");
    let failure = action.publish(&call("publish", json!({"topic": "b", "payload": 1})), other, Keep::Text).await;
    assert!(failure.is_err_and(|failure| failure.error.kind == kind::AUTHORIZATION.0));
}

/// Mosquitto on a free port; ends with the test.
struct Mosquitto {
    child: Mutex<Child>,
    address: SocketAddr,
    dir: tempfile::TempDir,
}

impl Mosquitto {
    async fn start() -> Option<Self> {
        if !std::path::Path::new("/usr/sbin/mosquitto").exists() {
            eprintln!("mosquitto is not installed; tests/run installs it");
            return None;
        }
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("an address");
        let dir = tempfile::tempdir().expect("a folder");
        // Everything else is refused.
        let acl = "topic readwrite open/#\n";
        std::fs::write(dir.path().join("acl"), acl).expect("written");
        let config = format!(
            "listener {} 127.0.0.1\nallow_anonymous true\nacl_file {}\n",
            free.port(),
            dir.path().join("acl").display()
        );
        std::fs::write(dir.path().join("mosquitto.conf"), config).expect("written");
        let broker = Self { child: Mutex::new(Self::spawn(dir.path())), address: free, dir };
        broker.listening().await;
        Some(broker)
    }

    fn spawn(dir: &std::path::Path) -> Child {
        let mut command = Command::new("/usr/sbin/mosquitto");
        command.arg("-c").arg(dir.join("mosquitto.conf")).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("mosquitto starts")
    }

    async fn listening(&self) {
        let connected = async {
            while tokio::net::TcpStream::connect(self.address).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), connected).await.expect("mosquitto listens");
    }

    fn kill(&self) {
        let mut child = self.child.lock().expect("free");
        child.kill().expect("killed");
        child.wait().expect("ended");
    }

    async fn restart(&self) {
        *self.child.lock().expect("free") = Self::spawn(self.dir.path());
        self.listening().await;
    }

    /// The payload, and the key in its user properties, of the next message on the topic.
    async fn subscribe(&self, topic: &str) -> tokio::sync::mpsc::Receiver<(Value, Option<String>)> {
        let options = MqttOptions::new(format!("in-{topic}"), self.address.ip().to_string(), self.address.port());
        let (client, mut events) = AsyncClient::new(options, 4);
        client.subscribe(topic, QoS::AtLeastOnce).await.expect("asked");
        let (sender, receiver) = tokio::sync::mpsc::channel(64);
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        tokio::spawn(async move {
            let mut ready = Some(ready);
            while let Ok(event) = events.poll().await {
                match event {
                    Event::Incoming(Incoming::SubAck(_)) => drop(ready.take().map(|ready| ready.send(()))),
                    Event::Incoming(Incoming::Publish(publish)) => {
                        let properties = publish.properties.map(|properties| properties.user_properties);
                        let key =
                            properties.and_then(|p| p.into_iter().find(|(name, _)| name == KEY)).map(|(_, key)| key);
                        let payload = serde_json::from_slice(&publish.payload).expect("JSON");
                        drop(sender.send((payload, key)).await);
                    }
                    _ => {}
                }
            }
            drop(client);
        });
        is_ready.await.expect("subscribed");
        receiver
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn publish(action: &Action, input: Value) -> Result<Completion, Failure> {
    let call = call("publish", input);
    let permit = permit(action, &call)?;
    action.publish(&call, permit, Keep::Text).await
}

#[tokio::test]
async fn a_message_is_published_with_its_key_and_acknowledged() {
    let Some(broker) = Mosquitto::start().await else { return };
    let mut inbox = broker.subscribe("open/#").await;
    let action = Action::new(site(broker.address));
    for qos in [1, 2, 0] {
        let payload = json!({"command": "stop", "qos": qos});
        let done = publish(&action, json!({"topic": "open/a", "payload": payload, "qos": qos})).await.expect("taken");
        assert_eq!(done.output, json!({"topic": "open/a", "key": "run:/do/0/act"}));
        assert!(matches!(&done.facts[..], [Fact::MessagePublished { topic, .. }] if topic == "open/a"));
        let received = tokio::time::timeout(Duration::from_secs(10), inbox.recv()).await;
        let (payload, key) = received.expect("in time").expect("delivered");
        assert_eq!((&payload["qos"], &payload[KEY]), (&json!(qos), &json!("run:/do/0/act")));
        assert_eq!(key.as_deref(), Some("run:/do/0/act"));
    }
    let failure =
        publish(&action, json!({"topic": "closed/a", "payload": "no"})).await.expect_err("the broker refuses");
    assert_eq!(failure.error.kind, kind::AUTHORIZATION.0, "{:?}", failure.error);
    assert!(publish(&action, json!({"topic": "open/a", "payload": {}})).await.is_ok(), "the others go on");
}

#[tokio::test]
async fn messages_wait_for_a_broker_that_comes_back_and_none_is_lost() {
    let Some(broker) = Mosquitto::start().await else { return };
    let action = Action::new(site(broker.address));
    publish(&action, json!({"topic": "open/a", "payload": {"n": -1}})).await.expect("taken");
    broker.kill();
    let waiting: Vec<_> = (0..10)
        .map(|n| {
            let action = action.clone();
            tokio::spawn(async move {
                publish(&action, json!({"topic": "open/a", "payload": {"n": n}, "retain": true})).await
            })
        })
        .collect();
    broker.restart().await;
    for handle in waiting {
        handle.await.expect("no panic").expect("taken after the restart");
    }
}

#[tokio::test]
async fn without_a_broker_the_deadline_ends_the_wait() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("an address");
    let action = Action::new(site(free));
    let mut call = call("publish", json!({"topic": "a", "payload": 1}));
    let permit = permit(&action, &call).expect("permitted");
    call.deadline = Some(crate::clock::now().plus(Duration::from_millis(200)));
    let failure = action.publish(&call, permit, Keep::Digest).await.expect_err("nobody there");
    assert_eq!(failure.error.kind, kind::TIMEOUT.0);
}
