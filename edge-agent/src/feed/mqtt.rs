//! The connection to the site's own broker, over MQTT 5 or 3.1.1: a session that is kept, acknowledgements by hand.

use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use rumqttc::v5;
use tokio::{sync::watch, task::JoinHandle};

use super::{
    config::{Feed, Feeds, Protocol},
    connection::Connection,
    ingest::{Acknowledge, Door, Incoming},
};
use crate::clock;

/// Messages that a broker of MQTT 5 may have under way to us unacknowledged: two commits of the busiest node. Less than
/// the door takes, so that the connection is never kept from its pings.
const RECEIVE_MAX: u16 = 4_096;
/// Requests that may wait for the connection: an acknowledgement for each packet id, and some subscriptions.
const REQUESTS_MAX: usize = 70_000;
/// Nothing is published here; the library sets aside some hundred bytes for each message that could be under way.
const PUBLISHED_MAX: u16 = 8;
/// How long a broker may take to say whether it takes a client.
const GREETED_WITHIN: Duration = Duration::from_secs(5);
/// After so long the broker is asked again for what it refused.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// The running client.
pub struct Client {
    poll: JoinHandle<()>,
    follow: JoinHandle<()>,
}

impl Client {
    /// Connects, and stays connected. Subscribes to the feeds of the door, and to those that come later.
    #[must_use]
    pub fn start(connection: &Connection, client_id: &str, session_expiry_s: u32, door: Door) -> Self {
        let (requests, events) = open(connection, client_id, session_expiry_s);
        let link = Arc::new(Link { requests, epoch: Mutex::new(0), unanswered: AtomicUsize::new(0) });
        let follow = tokio::spawn(follow(Arc::clone(&link), door.clone()));
        let place = format!("{}:{}", connection.host, connection.port);
        Self { poll: tokio::spawn(poll(events, link, door, place)), follow }
    }

    /// Leaves. The broker keeps the session, with what was not acknowledged.
    pub async fn stop(self) {
        self.follow.abort();
        self.poll.abort();
        drop(self.poll.await);
        drop(self.follow.await);
    }
}

enum Requests {
    V4(rumqttc::AsyncClient),
    V5(v5::AsyncClient),
}

enum Events {
    V4(Box<rumqttc::EventLoop>),
    V5(Box<v5::EventLoop>),
}

/// What both versions tell.
enum Seen {
    Connected { session_present: bool },
    Message { topic: Bytes, payload: Bytes, packet_id: u16, dup: bool },
    Subscribed,
    Refused(String),
    Other,
}

fn open(connection: &Connection, client_id: &str, session_expiry_s: u32) -> (Requests, Events) {
    match connection.protocol {
        Protocol::V5 => {
            let mut options = connection.options_v5(client_id);
            options.set_clean_start(false);
            options.set_session_expiry_interval(Some(session_expiry_s));
            options.set_receive_maximum(Some(RECEIVE_MAX));
            options.set_outgoing_inflight_upper_limit(PUBLISHED_MAX);
            options.set_manual_acks(true);
            let (client, events) = v5::AsyncClient::new(options, REQUESTS_MAX);
            (Requests::V5(client), Events::V5(Box::new(events)))
        }
        Protocol::V4 => {
            let mut options = connection.options_v4(client_id);
            options.set_clean_session(false);
            options.set_inflight(PUBLISHED_MAX);
            options.set_manual_acks(true);
            let (client, mut events) = rumqttc::AsyncClient::new(options, REQUESTS_MAX);
            events.set_network_options(super::connection::network());
            (Requests::V4(client), Events::V4(Box::new(events)))
        }
    }
}

/// Connects once, under a name of its own and without a session, and leaves: whether the broker takes this node at all.
///
/// # Errors
/// What kept it out, in the words of the network, of TLS or of the broker.
pub async fn greet(connection: &Connection, client_id: &str) -> Result<(), String> {
    let (_requests, mut events) = match connection.protocol {
        Protocol::V5 => {
            let (client, events) = v5::AsyncClient::new(connection.options_v5(client_id), 1);
            (Requests::V5(client), Events::V5(Box::new(events)))
        }
        Protocol::V4 => {
            let (client, events) = rumqttc::AsyncClient::new(connection.options_v4(client_id), 1);
            (Requests::V4(client), Events::V4(Box::new(events)))
        }
    };
    let greeted = async {
        loop {
            if let Seen::Connected { .. } = events.poll().await? {
                return Ok(());
            }
        }
    };
    let in_time = tokio::time::timeout(GREETED_WITHIN, greeted).await;
    in_time.unwrap_or_else(|_| Err(format!("no answer within {} s", GREETED_WITHIN.as_secs())))
}

/// What acknowledges. A packet id only means something on the connection that it came by: after a reconnect the same
/// number may be another message, which an old acknowledgement would lose.
struct Link {
    requests: Requests,
    /// Odd while connected.
    epoch: Mutex<u64>,
    /// Subscriptions that the broker has not answered yet. One that a break of the connection swallows is not sent again
    /// by the library, and the session that outlives it does not have it.
    unanswered: AtomicUsize,
}

impl Link {
    fn epoch(&self) -> MutexGuard<'_, u64> {
        self.epoch.lock().expect("no one panicked while acknowledging")
    }
}

impl Acknowledge for Link {
    fn taken(&self, tickets: &[u64]) {
        let epoch = self.epoch();
        if epoch.is_multiple_of(2) {
            return;
        }
        for ticket in tickets.iter().filter(|ticket| **ticket >> 16 == *epoch) {
            let packet_id = u16::try_from(ticket & 0xffff).expect("sixteen bits");
            // There is room for every packet id; should the request still not fit, the broker sends the message again.
            let sent = match &self.requests {
                Requests::V5(client) => {
                    let mut publish =
                        v5::mqttbytes::v5::Publish::new("", v5::mqttbytes::QoS::AtLeastOnce, Bytes::new(), None);
                    publish.pkid = packet_id;
                    client.try_ack(&publish).is_ok()
                }
                Requests::V4(client) => {
                    let mut publish = rumqttc::Publish::new("", rumqttc::QoS::AtLeastOnce, Vec::new());
                    publish.pkid = packet_id;
                    client.try_ack(&publish).is_ok()
                }
            };
            if !sent {
                tracing::debug!(packet_id, "no room for an acknowledgement");
            }
        }
    }
}

impl Requests {
    async fn subscribe(&self, filter: &str, qos: u8) -> bool {
        match self {
            Self::V5(client) => {
                let qos = if qos == 0 { v5::mqttbytes::QoS::AtMostOnce } else { v5::mqttbytes::QoS::AtLeastOnce };
                let mut filter = v5::mqttbytes::v5::Filter::new(filter, qos);
                // A subscription that the session still has does not bring what is retained once more.
                filter.retain_forward_rule = v5::mqttbytes::v5::RetainForwardRule::OnNewSubscribe;
                client.subscribe_many([filter]).await.is_ok()
            }
            Self::V4(client) => {
                let qos = if qos == 0 { rumqttc::QoS::AtMostOnce } else { rumqttc::QoS::AtLeastOnce };
                client.subscribe(filter, qos).await.is_ok()
            }
        }
    }

    async fn unsubscribe(&self, filter: &str) -> bool {
        match self {
            Self::V5(client) => client.unsubscribe(filter).await.is_ok(),
            Self::V4(client) => client.unsubscribe(filter).await.is_ok(),
        }
    }
}

impl Link {
    async fn subscribe(&self, feed: &Feed) {
        self.unanswered.fetch_add(1, Ordering::SeqCst);
        self.requests.subscribe(feed.topic.as_str(), feed.qos).await;
    }

    async fn subscribe_all(&self, feeds: &Feeds) {
        for feed in feeds.list() {
            self.subscribe(feed).await;
        }
    }

    /// The broker answered a subscription.
    fn answered(&self) {
        // An answer to what an earlier connection asked is none of these.
        let less = |count: usize| Some(count.saturating_sub(1));
        let _before = self.unanswered.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
    }

    /// Asks again for what the broker refused, in case it is allowed by then.
    async fn ask_again(self: Arc<Self>, feeds: watch::Receiver<Arc<Feeds>>) {
        let asked = *self.epoch();
        tokio::time::sleep(REFUSED_PAUSE).await;
        if *self.epoch() == asked {
            let feeds = Arc::clone(&feeds.borrow());
            self.subscribe_all(&feeds).await;
        }
    }
}

impl Events {
    async fn poll(&mut self) -> Result<Seen, String> {
        match self {
            Self::V5(events) => match events.poll().await.map_err(|error| error.to_string())? {
                v5::Event::Incoming(v5::Incoming::ConnAck(ack)) => {
                    Ok(Seen::Connected { session_present: ack.session_present })
                }
                v5::Event::Incoming(v5::Incoming::Publish(message)) => Ok(Seen::Message {
                    topic: message.topic,
                    payload: message.payload,
                    packet_id: if message.qos == v5::mqttbytes::QoS::AtMostOnce { 0 } else { message.pkid },
                    dup: message.dup,
                }),
                v5::Event::Incoming(v5::Incoming::SubAck(ack)) => {
                    let refused = ack
                        .return_codes
                        .iter()
                        .find(|code| !matches!(code, v5::mqttbytes::v5::SubscribeReasonCode::Success(_)));
                    Ok(refused.map_or(Seen::Subscribed, |code| Seen::Refused(format!("{code:?}"))))
                }
                _ => Ok(Seen::Other),
            },
            Self::V4(events) => match events.poll().await.map_err(|error| error.to_string())? {
                rumqttc::Event::Incoming(rumqttc::Packet::ConnAck(ack)) => {
                    Ok(Seen::Connected { session_present: ack.session_present })
                }
                rumqttc::Event::Incoming(rumqttc::Packet::Publish(message)) => Ok(Seen::Message {
                    topic: message.topic.into(),
                    payload: message.payload,
                    packet_id: if message.qos == rumqttc::QoS::AtMostOnce { 0 } else { message.pkid },
                    dup: message.dup,
                }),
                rumqttc::Event::Incoming(rumqttc::Packet::SubAck(ack)) => {
                    let refused = ack.return_codes.contains(&rumqttc::SubscribeReasonCode::Failure);
                    Ok(if refused { Seen::Refused("failure".to_owned()) } else { Seen::Subscribed })
                }
                _ => Ok(Seen::Other),
            },
        }
    }

    fn clean(&mut self) {
        match self {
            Self::V5(events) => events.clean(),
            Self::V4(events) => events.clean(),
        }
    }
}

/// Keeps the connection. Nothing is done here but to take messages and pass them on.
async fn poll(mut events: Events, link: Arc<Link>, door: Door, place: String) {
    let sender: Arc<str> = "".into();
    let mut backoff = BACKOFF_MIN;
    let mut down = false;
    // The session may be from a start with other feeds.
    let mut fresh = true;
    let mut asking: Option<JoinHandle<()>> = None;
    loop {
        match events.poll().await {
            Ok(Seen::Connected { session_present }) => {
                *link.epoch() += 1;
                (backoff, down) = (BACKOFF_MIN, false);
                tracing::info!(broker = place, session_present, "connected");
                if fresh || !session_present {
                    fresh = false;
                    let feeds = Arc::clone(&door.feeds().borrow());
                    let link = Arc::clone(&link);
                    tokio::spawn(async move { link.subscribe_all(&feeds).await });
                }
            }
            Ok(Seen::Message { topic, payload, packet_id, dup }) => {
                let Ok(topic) = String::from_utf8(topic.into()) else { continue };
                let ticket = *link.epoch() << 16 | u64::from(packet_id);
                let receipt = (packet_id != 0).then(|| (Arc::clone(&link) as Arc<dyn Acknowledge>, ticket));
                let received = clock::now();
                let sender = Arc::clone(&sender);
                let incoming = Incoming { topic, payload, received, dup, sender, packet_id, receipt, cut_from: None };
                if packet_id == 0 {
                    door.offer(incoming);
                } else if door.bring(incoming).await.is_err() {
                    return;
                }
            }
            Ok(Seen::Subscribed) => link.answered(),
            Ok(Seen::Refused(code)) => {
                link.answered();
                tracing::error!(
                    broker = place,
                    code,
                    "the broker refused a subscription: may this user read the feeds' topics?"
                );
                if asking.as_ref().is_none_or(JoinHandle::is_finished) {
                    asking = Some(tokio::spawn(Arc::clone(&link).ask_again(door.feeds())));
                }
            }
            Ok(Seen::Other) => {}
            Err(error) => {
                {
                    let mut epoch = link.epoch();
                    *epoch += u64::from(!down && *epoch % 2 == 1);
                    // Acknowledgements that came in between belong to the connection that is gone.
                    events.clean();
                }
                fresh |= link.unanswered.swap(0, Ordering::SeqCst) > 0;
                if !down {
                    tracing::warn!(broker = place, error, "not connected; trying until it is");
                }
                down = true;
                tokio::time::sleep(backoff).await;
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
        }
    }
}

/// Subscribes to what new feeds bring and leaves what is not wanted any more.
async fn follow(link: Arc<Link>, door: Door) {
    let mut changes = door.feeds();
    let mut known = Arc::clone(&changes.borrow_and_update());
    drop(door);
    while changes.changed().await.is_ok() {
        let now = Arc::clone(&changes.borrow_and_update());
        let has = |feeds: &Feeds, filter: &str, qos: u8| {
            feeds.list().iter().any(|feed| feed.topic.as_str() == filter && feed.qos == qos)
        };
        for feed in now.list().iter().filter(|feed| !has(&known, feed.topic.as_str(), feed.qos)) {
            link.subscribe(feed).await;
        }
        for feed in known.list().iter().filter(|feed| !now.list().iter().any(|other| other.topic == feed.topic)) {
            link.requests.unsubscribe(feed.topic.as_str()).await;
        }
        known = now;
    }
}
