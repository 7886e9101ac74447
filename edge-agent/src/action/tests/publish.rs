//! `call: publish` against Mosquitto.

use super::*;

#[tokio::test]
async fn mistakes_name_their_field() {
    for (function, input, expected) in [
        ("http", json!({"method": "GET", "endpoint": "example.com"}), "endpoint: \"example.com\"; expected http://"),
        ("http", json!({"method": "GET", "endpoint": "http://h/{id}"}), "endpoint:"),
        ("http", json!({"method": "GE T", "endpoint": "http://h"}), "method:"),
        ("http", json!({"method": "GET", "endpoint": "http://h", "output": "xml"}), "output: unknown variant `xml`"),
        ("publish", json!({"topic": "a/+", "payload": 1}), "topic: \"a/+\"; expected"),
        ("publish", json!({"topic": "a"}), "missing field `payload`"),
        ("publish", json!({"topic": "a", "payload": 1, "qos": 3}), "qos: 3; expected 0, 1 or 2"),
    ] {
        let detail = perform(&nowhere(), &call(function, input.clone())).await.detail();
        assert!(detail.contains(expected), "{input} gave {detail}");
    }
}

async fn publish(action: &Action, input: Value) -> Done {
    perform(action, &call("publish", input)).await
}

#[tokio::test]
async fn a_message_is_published_with_its_key_and_acknowledged() {
    let Some(broker) = Mosquitto::start().await else { return };
    let mut inbox = broker.subscribe("open/#").await;
    let action = through(&broker);
    for qos in [1, 2, 0] {
        let payload = json!({"command": "stop", "qos": qos});
        let done = publish(&action, json!({"topic": "open/a", "payload": payload, "qos": qos})).await;
        assert_eq!(done.told()[0], "publish open/a yes");
        assert!(done.told()[1].starts_with("published open/a: {"), "{:?}", done.told());
        assert_eq!(done.output(), json!({"topic": "open/a", "key": "run:/do/0/act"}));
        let received = tokio::time::timeout(Duration::from_secs(10), inbox.recv()).await;
        let (payload, key) = received.expect("in time").expect("delivered");
        assert_eq!((&payload["qos"], &payload[KEY]), (&json!(qos), &json!("run:/do/0/act")));
        assert_eq!(key.as_deref(), Some("run:/do/0/act"));
    }
    let refused = publish(&action, json!({"topic": "closed/a", "payload": "no"})).await;
    assert_eq!(refused.failure().error.kind, kind::AUTHORIZATION.0, "{}", refused.detail());
    let told = refused.told();
    assert!(told[1].starts_with("publish: closed/a\n\nno -> {"), "sent and refused is told: {told:?}");
    publish(&action, json!({"topic": "open/a", "payload": {}})).await.output();
}

#[tokio::test]
async fn messages_wait_for_a_broker_that_comes_back_and_none_is_lost() {
    let Some(broker) = Mosquitto::start().await else { return };
    let action = through(&broker);
    publish(&action, json!({"topic": "open/a", "payload": {"n": -1}})).await.output();
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
        handle.await.expect("no panic").output();
    }
}

#[tokio::test]
async fn without_a_broker_the_deadline_ends_the_wait() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("an address");
    let action = Action::new(site(free), Calls::default());
    let mut call = call("publish", json!({"topic": "a", "payload": 1}));
    call.deadline = Some(crate::clock::now().plus(Duration::from_millis(200)));
    assert_eq!(perform(&action, &call).await.failure().error.kind, kind::TIMEOUT.0);
}
