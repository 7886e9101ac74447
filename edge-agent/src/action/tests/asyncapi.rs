//! `call: asyncapi` against Mosquitto and a web server.

use super::*;

const TWO: &str = r#"{
    "asyncapi": "2.6.0",
    "servers": {
        "queue": {"url": "kafka.example", "protocol": "kafka"},
        "plant": {"url": "mqtt://{host}:PORT", "protocol": "mqtt5", "variables": {"host": {"default": "127.0.0.1"}}},
        "web": {"url": "http://127.0.0.1:WEB/base", "protocol": "http"}
    },
    "channels": {
        "open/{pump}/set": {
            "parameters": {"pump": {"location": "$message.payload#/id"}},
            "publish": {"operationId": "setPump", "bindings": {"mqtt": {"qos": 1}}}
        },
        "open/alarms": {"subscribe": {"operationId": "alarms"}}
    }
}"#;

const THREE: &str = r##"
asyncapi: 3.0.0
servers:
  plant: {host: "127.0.0.1:PORT", protocol: mqtt}
channels:
  alarms: {address: open/alarms, servers: [{$ref: "#/servers/plant"}]}
operations:
  onAlarm: {action: receive, channel: {$ref: "#/channels/alarms"}}
  raise: {action: send, channel: {$ref: "#/channels/alarms"}}
"##;

/// Both documents, with servers that are there.
async fn documents(broker: u16) -> (String, u16) {
    let router = Router::new().fallback(echo);
    let web: u16 = serve(router).await.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let fill = move |text: &str| text.replace("PORT", &broker.to_string()).replace("WEB", &web.to_string());
    let (two, three) = (fill(TWO), fill(THREE));
    let router =
        Router::new().route("/2.json", get(move || async { two })).route("/3.yaml", get(move || async { three }));
    (serve(router).await, web)
}

async fn asyncapi(action: &Action, input: Value) -> Done {
    perform(action, &call("asyncapi", input)).await
}

#[tokio::test]
async fn a_message_is_published_as_the_document_says() {
    let Some(broker) = Mosquitto::start().await else { return };
    let (url, _) = documents(broker.address.port()).await;
    let mut inbox = broker.subscribe("open/#").await;
    let document = json!({"endpoint": format!("{url}/2.json")});
    let message = json!({"payload": {"id": "p1", "speed": 2}, "headers": {"site": "basel"}});
    let input =
        json!({"document": document, "channel": "open/{pump}/set", "server": {"name": "plant"}, "message": message});
    // The broker of the document is another than the node's, so policy is asked about it by name.
    let done = asyncapi(&nowhere(), input.clone()).await;
    assert!(done.told().contains(&"publish 127.0.0.1/open/p1/set yes".to_owned()), "{:?}", done.told());
    assert!(done.told().last().is_some_and(|told| told.starts_with("published 127.0.0.1/open/p1/set")));
    assert_eq!(done.output()["topic"], "open/p1/set");
    let (payload, key) = inbox.recv().await.expect("delivered");
    assert_eq!((payload, key.as_deref()), (json!({"id": "p1", "speed": 2}), Some("run:/do/0/act")));
    // The node's own broker goes by its topic.
    let mut own = input;
    own["message"]["payload"]["id"] = json!("a/b");
    let done = asyncapi(&through(&broker), own).await;
    assert!(done.told().contains(&"publish open/a%2Fb/set yes".to_owned()), "{:?}", done.told());
    let three = json!({"document": {"endpoint": format!("{url}/3.yaml")}, "operation": "raise", "message": {"payload": {"n": 1}}});
    assert_eq!(asyncapi(&nowhere(), three).await.output()["topic"], "open/alarms");
}

#[tokio::test]
async fn a_message_goes_over_http_too() {
    let (url, web) = documents(1).await;
    let document = json!({"endpoint": format!("{url}/2.json")});
    let message = json!({"payload": {"id": "p1"}, "headers": {"x-site": "basel"}});
    let input = json!({"document": document, "operation": "setPump", "protocol": "http", "message": message});
    let output = asyncapi(&nowhere(), input).await.output();
    assert_eq!(
        (&output["method"], &output["uri"], &output["x"], &output["body"]),
        (&json!("POST"), &json!("/base/open/p1/set"), &json!("basel"), &json!(r#"{"id":"p1"}"#)),
        "at port {web}"
    );
}

/// Publishes `{"n": 0}`, `{"n": 1}`, .. each when the one before was acknowledged, until told to stop.
async fn ticking(broker: &Mosquitto) -> tokio::task::JoinHandle<()> {
    let action = through(broker);
    tokio::spawn(async move {
        for n in 0.. {
            let payload = json!({"n": n, "even": n % 2 == 0});
            drop(perform(&action, &call("publish", json!({"topic": "open/alarms", "payload": payload}))).await);
        }
    })
}

#[tokio::test]
async fn messages_are_taken_until_there_are_enough() {
    let Some(broker) = Mosquitto::start().await else { return };
    let (url, _) = documents(broker.address.port()).await;
    let ticking = ticking(&broker).await;
    let take = async |subscription: Value| {
        let document = json!({"endpoint": format!("{url}/3.yaml")});
        asyncapi(&nowhere(), json!({"document": document, "operation": "onAlarm", "subscription": subscription})).await
    };
    let numbers = |output: &Value| -> Vec<i64> {
        output.as_array().expect("a list").iter().map(|message| message["payload"]["n"].as_i64().expect("n")).collect()
    };
    let done = take(json!({"consume": {"amount": 3}})).await;
    assert!(done.told().contains(&"subscribe 127.0.0.1/open/alarms yes".to_owned()), "{:?}", done.told());
    let output = done.output();
    assert_eq!(output[0]["headers"][KEY], "run:/do/0/act");
    let taken = numbers(&output);
    assert_eq!(taken, [taken[0], taken[0] + 1, taken[0] + 2]);
    let filtered = json!({
        "filter": "${ .payload.even == $context.even }", "consume": {"amount": 2}, "variables": {"context": {"even": true}},
    });
    assert!(numbers(&take(filtered).await.output()).iter().all(|n| n % 2 == 0));
    let until = json!({"consume": {"until": "${ ($context.consumedMessages | length) == 4 }"}});
    assert_eq!(numbers(&take(until).await.output()).len(), 4);
    let as_long_as = json!({"consume": {"while": "${ length < 2 }"}});
    assert_eq!(numbers(&take(as_long_as).await.output()).len(), 2);
    let timed = json!({"filter": "${ false }", "consume": {"amount": 1, "for": {"milliseconds": 300}}});
    assert_eq!(take(timed).await.output(), json!([]));
    ticking.abort();
}

#[tokio::test]
async fn messages_come_over_http_as_a_stream_or_with_each_request() {
    let asked = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let streamed = || async {
        let text = "data: {\"n\": 1}\n\ndata: {\"n\": 2}\n\ndata: hello\n\ndata: {\"n\": 4}\n\n";
        ([("content-type", "text/event-stream")], text)
    };
    let listed = move || async move {
        let n = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        axum::Json(json!([{"n": 2 * n}, {"n": 2 * n + 1}]))
    };
    let router = Router::new().route("/base/stream", get(streamed)).route("/base/list", get(listed));
    let port = serve(router).await.rsplit(':').next().expect("a port").to_owned();
    let document = format!(
        "{{asyncapi: 2.6.0, servers: {{web: {{url: 'http://127.0.0.1:{port}/base', protocol: http}}}}, channels: {{stream: {{subscribe: {{operationId: stream}}}}, list: {{subscribe: {{operationId: list}}}}}}}}"
    );
    let url = serve(Router::new().route("/a.yaml", get(move || async { document }))).await;
    let take = async |operation: &str, subscription: Value| {
        let document = json!({"endpoint": format!("{url}/a.yaml")});
        asyncapi(&nowhere(), json!({"document": document, "operation": operation, "subscription": subscription})).await
    };
    let done = take("stream", json!({"consume": {"amount": 3}})).await;
    assert!(done.told().contains(&"http 127.0.0.1 yes".to_owned()), "{:?}", done.told());
    assert_eq!(done.output(), json!([{"payload": {"n": 1}}, {"payload": {"n": 2}}, {"payload": "hello"}]));
    let filtered = json!({"filter": "${ .payload.n % 2 == 1 }", "consume": {"amount": 2}});
    assert_eq!(take("list", filtered).await.output(), json!([{"payload": {"n": 1}}, {"payload": {"n": 3}}]));
    assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 2, "a server that does not stream is asked again");
    let timed = json!({"filter": "${ false }", "consume": {"amount": 1, "for": {"milliseconds": 300}}});
    assert_eq!(take("list", timed).await.output(), json!([]));
    // With tasks for each message, what one request gives is all there is.
    let all = take("list", json!({"consume": {"amount": 9}, "next": {"number": 0}})).await.output();
    assert_eq!(all.as_array().map(Vec::len), Some(2));
}

/// Asks for one message of a task's subscription, as the engine does.
async fn one(action: &Action, url: &str, next: Value) -> Done {
    let document = json!({"endpoint": format!("{url}/3.yaml")});
    let subscription =
        json!({"filter": "${ .payload.n != 1 }", "consume": {"while": "${ true }"}, "next": next.clone()});
    let input = json!({"document": document, "operation": "onAlarm", "subscription": subscription});
    let step = if next["close"] == true { "end".to_owned() } else { next["number"].to_string() };
    let call = Call { key: EffectKey(format!("run:/do/0/act/message/{step}")), ..call("asyncapi", input) };
    perform(action, &call).await
}

async fn publish(broker: &Mosquitto, n: u32) {
    let input = json!({"topic": "open/alarms", "payload": {"n": n}});
    perform(&through(broker), &call("publish", input)).await.output();
}

#[tokio::test]
async fn messages_are_taken_one_by_one_each_once_over_a_restart_of_the_node() {
    let Some(broker) = Mosquitto::start().await else { return };
    let (url, _) = documents(broker.address.port()).await;
    // Nothing is there yet; the session is, when the node knows that nothing came.
    let soon = |millis| json!(crate::clock::now().plus(Duration::from_millis(millis)));
    let action = nowhere();
    let waiting = async {
        let first = one(&action, &url, json!({"number": 0})).await.output();
        assert_eq!(first["message"]["payload"]["n"], 0);
        first["id"].as_str().expect("an id").to_owned()
    };
    let publishing = async {
        loop {
            publish(&broker, 0).await;
        }
    };
    let after = tokio::select! { id = waiting => id, () = publishing => unreachable!("it goes on") };
    // What else came of the first ones is passed over until the one that is meant.
    for n in [1, 2, 3] {
        publish(&broker, n).await;
    }
    let (mut known, mut taken) = (vec![after], Vec::new());
    for number in 1.. {
        // The second message comes by the connection that is open. From then on the node is a new one each time: the
        // message before comes again, and is known.
        let fresh = nowhere();
        let node = if number == 1 { &action } else { &fresh };
        let given = one(node, &url, json!({"number": number, "after": known})).await.output();
        known.push(given["id"].as_str().expect("an id").to_owned());
        match given["message"]["payload"]["n"].as_u64() {
            Some(0) => {}
            n => taken.extend(n),
        }
        if taken.last() == Some(&3) {
            break;
        }
    }
    assert_eq!(taken, [2, 3], "each once, in order, as the filter says");
    let over = one(&action, &url, json!({"number": 9, "after": known, "until": soon(300)})).await.output();
    assert_eq!(over, json!({"over": true}), "its time is over");
    publish(&broker, 4).await;
    let forgotten = one(&nowhere(), &url, json!({"number": 9, "until": soon(300)})).await.output();
    assert_eq!(forgotten, json!({"over": true}), "the broker has forgotten the session");
    assert_eq!(one(&action, &url, json!({"close": true})).await.output(), json!({"over": true}));
}

#[tokio::test]
async fn a_broker_that_is_gone_is_asked_again_once_it_was_there() {
    let Some(broker) = Mosquitto::start().await else { return };
    let (url, _) = documents(broker.address.port()).await;
    broker.kill();
    let first = one(&nowhere(), &url, json!({"number": 0})).await;
    assert_eq!((first.failure().error.kind.as_str(), first.failure().ask_again_at), (kind::COMMUNICATION.0, None));
    let later = one(&nowhere(), &url, json!({"number": 1, "after": ["x"]})).await;
    assert!(later.failure().ask_again_at.is_some(), "{:?}", later.failure());
}

#[tokio::test]
async fn mistakes_say_what_the_document_has() {
    let (url, _) = documents(1).await;
    let ask = |file: &str, more: Value| {
        let mut input = json!({"document": {"endpoint": format!("{url}/{file}")}});
        input.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        input
    };
    for (input, expected) in [
        (ask("2.json", json!({"operation": "stop", "message": {}})), "no \"stop\"; expected one of setPump, alarms"),
        (ask("3.yaml", json!({"operation": "stop", "message": {}})), "expected one of onAlarm, raise"),
        (ask("2.json", json!({"channel": "x", "message": {}})), "expected one of open/{pump}/set, open/alarms"),
        (ask("2.json", json!({"operation": "setPump", "message": {}})), "the channel wants \"pump\""),
        (ask("2.json", json!({"operation": "alarms", "protocol": "kafka", "message": {}})), "server queue speaks"),
        (
            ask("2.json", json!({"operation": "alarms", "server": {"name": "none"}, "message": {}})),
            "no server for none",
        ),
    ] {
        let detail = asyncapi(&nowhere(), input.clone()).await.detail();
        assert!(detail.contains(expected), "{input} gave {detail}");
    }
}
