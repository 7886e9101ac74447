//! An MQTT client of the test's own: publishes at QoS 1 and knows what was acknowledged, listens and keeps what came.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Outgoing, Packet, QoS};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::wait;

/// Publishes not yet acknowledged: more than any test keeps in flight on purpose.
const INFLIGHT_MAX: u16 = 100;

#[derive(Default)]
struct Seen {
    connected: bool,
    filters: Vec<String>,
    /// How many of the filters the broker has said yes to since it accepted this connection.
    subscribed: usize,
    /// Packet ids sent and not acknowledged.
    open: BTreeSet<u16>,
    sent: usize,
    acknowledged: usize,
    received: Vec<(String, Vec<u8>)>,
}

/// A connected client. It reconnects by itself; dropped, it is gone.
pub struct Client {
    client: AsyncClient,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Client {
    /// Connects to a broker on loopback.
    ///
    /// # Panics
    /// When it does not accept within ten seconds.
    pub async fn connect(id: &str, port: u16) -> Self {
        let mut options = MqttOptions::new(id, "127.0.0.1", port);
        options.set_keep_alive(Duration::from_secs(30)).set_inflight(INFLIGHT_MAX).set_clean_session(true);
        options.set_max_packet_size(4 << 20, 4 << 20);
        let (client, events) = AsyncClient::new(options, usize::from(INFLIGHT_MAX));
        let seen = Arc::new(Mutex::new(Seen::default()));
        let task = tokio::spawn(poll(events, client.clone(), Arc::clone(&seen)));
        let this = Self { client, seen, task };
        this.ready().await;
        this
    }

    /// Publishes at QoS 1; returns when the client has taken it, not when the broker has.
    ///
    /// # Panics
    /// When the client has ended.
    pub async fn publish(&self, topic: &str, payload: impl Into<Vec<u8>>) {
        self.client.publish(topic, QoS::AtLeastOnce, false, payload).await.expect("the client runs");
    }

    /// Publishes at QoS 1 a message that the broker keeps for whoever subscribes later.
    ///
    /// # Panics
    /// When the client has ended.
    pub async fn retain(&self, topic: &str, payload: impl Into<Vec<u8>>) {
        self.client.publish(topic, QoS::AtLeastOnce, true, payload).await.expect("the client runs");
    }

    /// Waits until the broker has acknowledged as many messages.
    pub async fn acknowledged(&self, count: usize, bound: Duration) {
        wait::until(&format!("{count} acknowledgements"), bound, async || {
            (self.acknowledged_now() >= count).then_some(())
        })
        .await;
    }

    /// How many messages the broker has acknowledged.
    #[must_use]
    pub fn acknowledged_now(&self) -> usize {
        self.look(|seen| seen.acknowledged)
    }

    /// Subscribes at QoS 1 and waits until the broker has said yes.
    ///
    /// # Panics
    /// When it has not within ten seconds.
    pub async fn subscribe(&self, filter: &str) {
        self.seen.lock().expect("no test thread panicked while it looked").filters.push(filter.to_owned());
        self.client.subscribe(filter, QoS::AtLeastOnce).await.expect("the client runs");
        self.ready().await;
    }

    /// Waits until it is connected, again after the broker was away, and every subscription stands.
    pub async fn ready(&self) {
        wait::until("the broker to accept", Duration::from_secs(10), async || {
            self.look(|seen| (seen.connected && seen.subscribed >= seen.filters.len()).then_some(()))
        })
        .await;
    }

    /// All that came so far: topic and payload.
    #[must_use]
    pub fn received(&self) -> Vec<(String, Vec<u8>)> {
        self.look(|seen| seen.received.clone())
    }

    /// Waits until a message satisfies the question, and gives its JSON.
    pub async fn receives(&self, what: &str, bound: Duration, is_it: impl Fn(&str, &Value) -> bool) -> Value {
        wait::until(what, bound, async || {
            self.received().into_iter().find_map(|(topic, payload)| {
                let json = serde_json::from_slice(&payload).ok()?;
                is_it(&topic, &json).then_some(json)
            })
        })
        .await
    }

    fn look<T>(&self, question: impl FnOnce(&Seen) -> T) -> T {
        question(&self.seen.lock().expect("no test thread panicked while it looked"))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn poll(mut events: EventLoop, client: AsyncClient, seen: Arc<Mutex<Seen>>) {
    let mut again = tokio::time::interval(Duration::from_millis(50));
    loop {
        let Ok(event) = events.poll().await else {
            // The broker is away; the event loop connects again when polled.
            seen.lock().expect("no test thread panicked while it looked").connected = false;
            again.tick().await;
            continue;
        };
        let mut seen = seen.lock().expect("no test thread panicked while it looked");
        match event {
            Event::Incoming(Packet::ConnAck(_)) => {
                (seen.connected, seen.subscribed) = (true, 0);
                for filter in &seen.filters {
                    client.try_subscribe(filter, QoS::AtLeastOnce).expect("the client has room for its subscriptions");
                }
            }
            Event::Incoming(Packet::SubAck(_)) => seen.subscribed += 1,
            Event::Incoming(Packet::PubAck(ack)) => {
                seen.acknowledged += usize::from(seen.open.remove(&ack.pkid));
            }
            Event::Incoming(Packet::Publish(message)) => {
                seen.received.push((message.topic, message.payload.to_vec()));
            }
            Event::Outgoing(Outgoing::Publish(id)) => {
                seen.open.insert(id);
                seen.sent += 1;
            }
            _ => {}
        }
    }
}
