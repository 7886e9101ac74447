//! What a real broker does with the session of a node: it forgets it, or keeps a message in it that is too large.

use rumqttc::{AsyncClient, MqttOptions, QoS};

use super::*;

const TOPIC: &str = "plant/press/temperature";

fn reading(minute: u32) -> String {
    format!(r#"{{"timestamp":"2026-01-01 00:{minute:02}:00","value":20}}"#)
}

/// Publishes at QoS 1 and returns when the broker has all of it.
async fn publish(port: u16, payloads: Vec<String>) {
    let mut options = MqttOptions::new("sender", "127.0.0.1", port);
    options.set_max_packet_size(32 << 20, 32 << 20);
    let (client, mut events) = AsyncClient::new(options, 64);
    let count = payloads.len();
    for payload in payloads {
        client.publish(TOPIC, QoS::AtLeastOnce, false, payload).await.expect("room");
    }
    let mut taken = 0;
    while taken < count {
        let event = tokio::time::timeout(Duration::from_secs(20), events.poll()).await.expect("in time");
        taken += usize::from(matches!(event, Ok(rumqttc::Event::Incoming(rumqttc::Packet::PubAck(_)))));
    }
}

async fn received(running: &Running, count: u64) {
    let mut stats = running.stats();
    let seen = stats.wait_for(|snapshot| snapshot.messages >= count);
    tokio::time::timeout(Duration::from_secs(20), seen).await.expect("in time").expect("it runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_comes_back_without_the_session_is_subscribed_to_again() {
    for protocol in ["5", "3.1.1"] {
        let (dir, port) = (tempfile::tempdir().expect("a directory"), free_port());
        let Some(first) = mosquitto(dir.path(), port, "") else {
            eprintln!("skipped: no mosquitto here; tests/run installs it");
            return;
        };
        begin(dir.path(), remote(port, protocol)).await.after_subscribing(dir.path(), port).await;
        forget(dir.path());
        let running = begin(dir.path(), remote(port, protocol)).await;
        publish(port, vec![reading(1)]).await;
        received(&running, 1).await;
        drop(first);
        // It keeps nothing on the disk: what comes back knows nobody.
        let _second = mosquitto(dir.path(), port, "").expect("it was there before");
        let mut stats = running.stats();
        let deadline = Instant::now() + Duration::from_secs(20);
        while totals(dir.path()).journalled < 2 {
            assert!(Instant::now() < deadline, "the subscription does not come back over MQTT {protocol}");
            publish(port, vec![reading(2)]).await;
            drop(tokio::time::timeout(Duration::from_millis(500), stats.changed()).await);
        }
        running.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_too_large_to_take_holds_up_no_other_over_the_older_protocol() {
    let (dir, port) = (tempfile::tempdir().expect("a directory"), free_port());
    let Some(_mosquitto) = mosquitto(dir.path(), port, "") else {
        eprintln!("skipped: no mosquitto here; tests/run installs it");
        return;
    };
    begin(dir.path(), remote(port, "3.1.1")).await.after_subscribing(dir.path(), port).await;
    forget(dir.path());
    let running = begin(dir.path(), remote(port, "3.1.1")).await;
    publish(port, vec!["x".repeat(17 << 20), reading(1)]).await;
    received(&running, 2).await;
    running.shutdown().await;
    let totals = totals(dir.path());
    assert_eq!((totals.quarantined, totals.journalled), (1, 1));
}
