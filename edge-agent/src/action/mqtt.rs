//! One connection to the node's broker for everything that goes out, made when it is needed. A message counts as sent
//! when the broker has acknowledged it; after a broken connection what was not acknowledged is sent again.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use edge_core::engine::effect::kind;
use rumqttc::{
    Outgoing, TlsConfiguration, Transport,
    v5::{
        AsyncClient, ConnectionError, Event, EventLoop, Incoming, MqttOptions,
        mqttbytes::{
            QoS,
            v5::{PubAckReason, PubRecReason, PublishProperties},
        },
    },
};
use tokio::sync::{mpsc, oneshot};

use super::KEY;

/// Messages on their way, acknowledged or not. Beyond it callers wait, each as long as its own deadline.
const IN_FLIGHT_MAX: usize = 64;
/// A message that saw this many connections break is what breaks them (brokers cut the connection of one that sends too
/// large a packet); it is given up, so that the others pass.
const CONNECTIONS_MAX: u8 = 5;
const RECONNECT_MAX: Duration = Duration::from_secs(10);
/// A message that waits longer is told to whoever reads the log, or sits at the terminal.
const QUIET: Duration = Duration::from_secs(3);
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Where the broker is and how it lets the node in.
#[derive(Clone)]
pub struct Broker {
    pub host: String,
    pub port: u16,
    /// User name and password.
    pub login: Option<(String, String)>,
    /// `None`: without TLS.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Must differ from the feed's, or each would push the other out.
    pub client_id: String,
}

/// One message to the broker.
pub(super) struct Message {
    topic: String,
    payload: String,
    qos: QoS,
    retain: bool,
    key: String,
    /// User properties beside the key.
    headers: Vec<(String, String)>,
    connections: u8,
    answer: Option<oneshot::Sender<Result<(), Error>>>,
}

/// Why a message was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    #[error("the broker refuses the message: {0}")]
    Refused(String),
    #[error("the broker did not acknowledge within {} ms", .0.as_millis())]
    Timeout(Duration),
    #[error("the connection broke {CONNECTIONS_MAX} times while the message was sent: {0}")]
    Broken(String),
    #[error("the agent is shutting down")]
    Closed,
}

impl Error {
    pub(super) const fn kind(&self) -> (&'static str, u16) {
        match self {
            Self::Refused(_) => kind::AUTHORIZATION,
            Self::Timeout(_) => kind::TIMEOUT,
            Self::Broken(_) | Self::Closed => kind::COMMUNICATION,
        }
    }
}

impl Message {
    pub(super) const fn new(topic: String, payload: String, qos: QoS, retain: bool, key: String) -> Self {
        Self { topic, payload, qos, retain, key, headers: Vec::new(), connections: 0, answer: None }
    }

    pub(super) fn with_headers(self, headers: Vec<(String, String)>) -> Self {
        Self { headers, ..self }
    }

    fn answer(self, outcome: Result<(), Error>) {
        // A caller that no longer waits is no error.
        drop(self.answer.map(|answer| answer.send(outcome)));
    }

    fn is_given_up(&self) -> bool {
        self.answer.as_ref().is_none_or(oneshot::Sender::is_closed)
    }
}

/// The way to the broker: its task starts with the first message and ends with the publisher.
pub(super) struct Publisher {
    broker: Broker,
    queue: OnceLock<mpsc::Sender<Message>>,
    /// Whether it was told that the broker keeps messages waiting, since it took one.
    is_told: AtomicBool,
}

impl Publisher {
    pub(super) const fn new(broker: Broker) -> Self {
        Self { broker, queue: OnceLock::new(), is_told: AtomicBool::new(false) }
    }

    pub(super) const fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Sends a message and waits for the broker's acknowledgement (QoS 0: until it is on the wire).
    pub(super) async fn publish(&self, mut message: Message, within: Duration) -> Result<(), Error> {
        let (answer, outcome) = oneshot::channel();
        message.answer = Some(answer);
        let published = async {
            self.queue().send(message).await.map_err(|_| Error::Closed)?;
            outcome.await.map_err(|_| Error::Closed)?
        };
        let waiting = async {
            tokio::time::sleep(QUIET).await;
            if !self.is_told.swap(true, Ordering::Relaxed) {
                let (Broker { host, port, .. }, left) = (&self.broker, within.saturating_sub(QUIET).as_secs());
                tracing::warn!(
                    "the broker at {host}:{port} has not taken a message yet; it is waited for {left} s more"
                );
            }
            std::future::pending().await
        };
        let outcome = tokio::select! {
            outcome = tokio::time::timeout(within, published) => outcome.unwrap_or(Err(Error::Timeout(within))),
            outcome = waiting => outcome,
        };
        if outcome.is_ok() {
            self.is_told.store(false, Ordering::Relaxed);
        }
        outcome
    }

    fn queue(&self) -> &mpsc::Sender<Message> {
        self.queue.get_or_init(|| {
            let (sender, queue) = mpsc::channel(IN_FLIGHT_MAX);
            tokio::spawn(run(self.broker.clone(), queue));
            sender
        })
    }
}

/// Connects whenever there is something to send, until the publisher is gone.
async fn run(broker: Broker, mut queue: mpsc::Receiver<Message>) {
    let backoff =
        || ExponentialBuilder::default().with_max_delay(RECONNECT_MAX).without_max_times().with_jitter().build();
    let mut delays = backoff();
    let mut waiting: VecDeque<Message> = VecDeque::new();
    loop {
        if waiting.is_empty() {
            let Some(message) = queue.recv().await else { return };
            waiting.push_back(message);
        }
        let mut connection = Connection::new(&broker, std::mem::take(&mut waiting));
        let Err(error) = connection.drive(&mut queue).await else { return };
        if connection.was_up {
            delays = backoff();
        }
        tracing::warn!(broker = %broker.host, port = broker.port, %error, "the broker cannot be reached; trying again");
        waiting = connection.unacknowledged(&error);
        tokio::time::sleep(delays.next().unwrap_or(RECONNECT_MAX)).await;
        waiting.retain(|message| !message.is_given_up());
    }
}

/// One connection and the messages that it carries. A fresh one keeps no memory of the packet ids of the one before.
struct Connection {
    client: AsyncClient,
    events: EventLoop,
    /// Handed to the client, packet id not known yet; the client sends in this order.
    handed: VecDeque<Message>,
    /// On the wire, by packet id.
    sent: BTreeMap<u16, Message>,
    was_up: bool,
}

impl Connection {
    fn new(broker: &Broker, waiting: VecDeque<Message>) -> Self {
        let (client, events) = AsyncClient::new(options(broker), 2 * IN_FLIGHT_MAX);
        let mut connection = Self { client, events, handed: VecDeque::new(), sent: BTreeMap::new(), was_up: false };
        waiting.into_iter().for_each(|message| hand(&connection.client, &mut connection.handed, message));
        connection
    }

    /// Polls the connection until it breaks; `Ok` when the queue is closed and all is acknowledged.
    async fn drive(&mut self, queue: &mut mpsc::Receiver<Message>) -> Result<(), ConnectionError> {
        let mut is_open = true;
        while is_open || !self.handed.is_empty() || !self.sent.is_empty() {
            let event = {
                // Polling is not safe to cancel while it connects, so one poll lives until it is done.
                let poll = self.events.poll();
                tokio::pin!(poll);
                loop {
                    let has_room = self.handed.len() + self.sent.len() < IN_FLIGHT_MAX;
                    tokio::select! {
                        event = &mut poll => break event?,
                        message = queue.recv(), if is_open && has_room => match message {
                            Some(message) => hand(&self.client, &mut self.handed, message),
                            None => {
                                is_open = false;
                                if self.handed.is_empty() && self.sent.is_empty() {
                                    return Ok(());
                                }
                            }
                        },
                    }
                }
            };
            self.take(event);
        }
        Ok(())
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Incoming(Incoming::ConnAck(_)) => self.was_up = true,
            Event::Outgoing(Outgoing::Publish(id)) => {
                if let Some(message) = self.handed.pop_front() {
                    if id == 0 {
                        message.answer(Ok(()));
                    } else {
                        self.sent.insert(id, message);
                    }
                }
            }
            Event::Incoming(Incoming::PubAck(ack)) => {
                let outcome = match ack.reason {
                    PubAckReason::Success | PubAckReason::NoMatchingSubscribers => Ok(()),
                    reason => Err(Error::Refused(format!("{reason:?}"))),
                };
                self.end(ack.pkid, outcome);
            }
            Event::Incoming(Incoming::PubRec(received)) => match received.reason {
                PubRecReason::Success | PubRecReason::NoMatchingSubscribers => {}
                reason => self.end(received.pkid, Err(Error::Refused(format!("{reason:?}")))),
            },
            Event::Incoming(Incoming::PubComp(done)) => self.end(done.pkid, Ok(())),
            _ => {}
        }
    }

    fn end(&mut self, id: u16, outcome: Result<(), Error>) {
        if let Some(message) = self.sent.remove(&id) {
            message.answer(outcome);
        }
    }

    /// What must be sent again, in the order that it came; a message that broke too many connections is given up. A
    /// connection that never came up says nothing about the messages.
    fn unacknowledged(self, error: &ConnectionError) -> VecDeque<Message> {
        let was_up = self.was_up;
        let mut again = VecDeque::new();
        for mut message in self.sent.into_values().chain(self.handed) {
            message.connections += u8::from(was_up);
            if message.connections >= CONNECTIONS_MAX {
                message.answer(Err(Error::Broken(error.to_string())));
            } else {
                again.push_back(message);
            }
        }
        again
    }
}

/// How a client connects to the broker.
pub(super) fn options(broker: &Broker) -> MqttOptions {
    let mut options = MqttOptions::new(&broker.client_id, &broker.host, broker.port);
    options.set_keep_alive(KEEP_ALIVE);
    if let Some((user, password)) = &broker.login {
        options.set_credentials(user, password);
    }
    if let Some(tls) = &broker.tls {
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::clone(tls))));
    }
    options
}

fn hand(client: &AsyncClient, handed: &mut VecDeque<Message>, message: Message) {
    if message.is_given_up() {
        return;
    }
    let key = (KEY.to_owned(), message.key.clone());
    let properties = PublishProperties {
        user_properties: message.headers.iter().cloned().chain([key]).collect(),
        payload_format_indicator: Some(1),
        ..PublishProperties::default()
    };
    let (topic, payload) = (message.topic.clone(), message.payload.clone());
    match client.try_publish_with_properties(topic, message.qos, message.retain, payload, properties) {
        Ok(()) => handed.push_back(message),
        // The client's queue is twice as long as what is ever handed to it, so this is a topic that it does not take.
        Err(error) => message.answer(Err(Error::Refused(error.to_string()))),
    }
}
