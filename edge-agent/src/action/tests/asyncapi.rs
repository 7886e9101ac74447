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
    let foreach = json!({"consume": {"amount": 1}, "foreach": {"do": []}});
    assert_eq!(take(foreach).await.failure().error.kind, kind::CONFIGURATION.0);
    ticking.abort();
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
        (
            ask(
                "2.json",
                json!({"operation": "alarms", "protocol": "http", "subscription": {"consume": {"amount": 1}}}),
            ),
            "cannot be taken over http",
        ),
    ] {
        let detail = asyncapi(&nowhere(), input.clone()).await.detail();
        assert!(detail.contains(expected), "{input} gave {detail}");
    }
}
