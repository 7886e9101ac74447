//! A subscription whose messages are taken one at a time (`subscription.next`). The broker keeps the session between two
//! calls, and over a restart of the node; a message is acknowledged only when the next one is asked for, because then
//! it is on the disk. Between calls the connection stays open for a while, so that the next message costs no new one.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use edge_core::engine::effect::{Failure, kind};
use rumqttc::v5::{
    AsyncClient, ConnectionError, Event, EventLoop, Incoming, MqttOptions,
    mqttbytes::{
        QoS,
        v5::{ConnectReturnCode, Publish, SubscribeReasonCode},
    },
};
use serde::Deserialize;
use serde_json::{Value, json};
use shared::{
    digest::{Digest, canonical_json},
    policy::Permit,
    time::Timestamp,
};
use tokio::time::{Instant, timeout_at};

use super::{
    super::{errand::Errand, mqtt},
    Place,
    subscribe::{Filter, message},
};
use crate::clock;

/// How long one call waits for a message before it is asked again; a run that was cancelled is noticed after that.
pub(super) const WAIT: Duration = Duration::from_secs(150);
/// When a call is asked again that saw no message, and one that had no connection.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_CONNECTED: Duration = Duration::from_secs(15);
/// How long the broker keeps what comes while the node is away, in seconds: a day.
const KEPT_S: u32 = 86_400;
/// Messages that the broker sends before the first of them is acknowledged; the engine knows as many of the last ones.
const AHEAD: u16 = 16;
/// How long a session that is over is still asked for what waits in it.
const DRAIN: Duration = Duration::from_millis(250);
/// Connections that are kept between calls, and for how long: less than the broker waits for a sign of life.
const IDLE_MAX: usize = 64;
const IDLE: Duration = Duration::from_secs(30);

/// What is asked of the session.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Next {
    #[serde(default)]
    number: u32,
    /// The ids of the messages before, as many as the broker may send again: they are on the disk.
    #[serde(default)]
    after: Vec<String>,
    /// When there will be no more.
    until: Option<Timestamp>,
    /// No more are wanted.
    #[serde(default)]
    close: bool,
}

impl Next {
    /// Whether no more messages are wanted.
    pub(super) const fn is_closing(&self) -> bool {
        self.close
    }
}

/// Sessions whose connection is open, by the client id that the broker knows them by.
#[derive(Default)]
pub(in super::super) struct Sessions {
    idle: Mutex<HashMap<String, Session>>,
}

struct Session {
    client: AsyncClient,
    events: EventLoop,
    /// Came, and is not acknowledged yet.
    last: Option<Publish>,
    /// The id of the message that was given last. Another one was asked for after: the connection is not the session's any more.
    given: Option<String>,
    since: Instant,
}

impl Sessions {
    fn take(&self, name: &str, after: Option<&String>) -> Option<Session> {
        let mut idle = self.idle.lock().expect("no thread panicked with the sessions");
        idle.retain(|_, session| session.since.elapsed() < IDLE);
        idle.remove(name).filter(|session| session.given.as_ref() == after)
    }

    fn keep(&self, name: &str, session: Session) {
        let mut idle = self.idle.lock().expect("no thread panicked with the sessions");
        if idle.len() < IDLE_MAX {
            idle.insert(name.to_owned(), Session { since: Instant::now(), ..session });
        }
    }
}

/// Why there is no message.
enum Ended {
    /// Its time is over.
    Over,
    /// None came while this call waited.
    None,
    Broken(ConnectionError),
    Refused(String),
    Failed(Failure),
}

/// The name by which the broker knows the session: the same for every message of a task.
fn name(errand: &Errand<'_>) -> String {
    let key = &errand.call.key.0;
    let task = key.rsplit_once("/message/").map_or(key.as_str(), |(task, _)| task);
    let digest = Digest::of(task.as_bytes());
    format!("skerry-{}", hex::encode(&digest.as_bytes()[..8]))
}

/// The next message that the filter lets through, as `{message, id}`; `{over: true}` when there will be none.
///
/// # Errors
/// What the broker refuses. While it cannot be reached, and while no message comes, the call is to be asked again.
pub(super) async fn next(
    errand: &Errand<'_>,
    broker: mqtt::Broker,
    place: &Place,
    filter: &Filter,
    next: Next,
    permit: &Permit,
) -> Result<Value, Failure> {
    assert!(permit.target().name.ends_with(&place.address), "messages are taken from where the permit says");
    let name = name(errand);
    let broker = mqtt::Broker { client_id: name.clone(), ..broker };
    let until = next.until.map(|until| errand.call.by_wall(until));
    if next.close {
        drop(errand.ways.subscriptions.take(&name, None));
        forget(&broker).await;
        return Ok(json!({ "over": true }));
    }
    let last = next.after.last();
    let (mut session, known) = match errand.ways.subscriptions.take(&name, last) {
        Some(session) => (session, Vec::new()),
        None => (open(&broker, last.cloned()), next.after.clone()),
    };
    match session.wait(errand, place, filter, until, &known).await {
        Ok(publish) => {
            let id = id(&publish);
            let given = json!({ "message": message(&publish), "id": id });
            errand.ways.subscriptions.keep(&name, Session { last: Some(publish), given: Some(id), ..session });
            Ok(given)
        }
        Err(Ended::Over) => {
            drop(session);
            forget(&broker).await;
            Ok(json!({ "over": true }))
        }
        Err(Ended::None) => {
            errand.ways.subscriptions.keep(&name, session);
            Err(again(errand.failure(kind::TIMEOUT, "no message came yet"), AGAIN))
        }
        Err(Ended::Refused(why)) => Err(errand.failure(kind::AUTHORIZATION, &format!("{}: {why}", broker.host))),
        Err(Ended::Broken(ConnectionError::ConnectionRefused(code))) if is_final(code) => {
            Err(errand.failure(kind::AUTHENTICATION, &format!("{} refuses the connection: {code:?}", broker.host)))
        }
        // Whoever has had a message has been there; a first one may be looked for in the wrong place.
        Err(Ended::Broken(error)) => {
            let failure = errand.failure(kind::COMMUNICATION, &format!("{}: {error}", broker.host));
            Err(if next.number == 0 { failure } else { again(failure, AGAIN_CONNECTED) })
        }
        Err(Ended::Failed(failure)) => Err(failure),
    }
}

fn again(failure: Failure, after: Duration) -> Failure {
    Failure { ask_again_at: Some(clock::now().plus(after)), ..failure }
}

const fn is_final(code: ConnectReturnCode) -> bool {
    matches!(
        code,
        ConnectReturnCode::BadUserNamePassword
            | ConnectReturnCode::NotAuthorized
            | ConnectReturnCode::ClientIdentifierNotValid
            | ConnectReturnCode::Banned
    )
}

fn options(broker: &mqtt::Broker) -> MqttOptions {
    let mut options = mqtt::options(broker);
    options.set_clean_start(false);
    options.set_session_expiry_interval(Some(KEPT_S));
    options.set_receive_maximum(Some(AHEAD));
    options.set_manual_acks(true);
    options
}

fn open(broker: &mqtt::Broker, given: Option<String>) -> Session {
    // Room for the acknowledgement of all that may be on its way, and a subscription.
    let (client, events) = AsyncClient::new(options(broker), usize::from(AHEAD) + 2);
    Session { client, events, last: None, given, since: Instant::now() }
}

/// Lets the broker forget the session with all that waits in it. One that cannot be told forgets it in a day.
async fn forget(broker: &mqtt::Broker) {
    let (client, mut events) = AsyncClient::new(mqtt::options(broker), 2);
    let forgotten = async {
        while let Ok(event) = events.poll().await {
            if matches!(event, Event::Incoming(Incoming::ConnAck(_))) {
                drop(client.try_disconnect());
            }
        }
    };
    drop(tokio::time::timeout(Duration::from_secs(5), forgotten).await);
}

impl Session {
    /// Waits for the next message that is wanted. `known`: the ids of those that may come again.
    async fn wait(
        &mut self,
        errand: &Errand<'_>,
        place: &Place,
        filter: &Filter,
        until: Option<Timestamp>,
        known: &[String],
    ) -> Result<Publish, Ended> {
        if let Some(last) = self.last.take() {
            drop(self.client.try_ack(&last));
        }
        let now = Instant::now();
        // What came in time and waits in the broker's queue is there at once.
        let over = until.map(|until| now + until.since(clock::now()).max(DRAIN));
        let patience = now + WAIT;
        let until = over.map_or(patience, |over| over.min(patience));
        loop {
            let event = match timeout_at(until, self.events.poll()).await {
                Err(_) => return Err(if over == Some(until) { Ended::Over } else { Ended::None }),
                Ok(Err(error)) => return Err(Ended::Broken(error)),
                Ok(Ok(event)) => event,
            };
            match event {
                // A session that the broker kept is subscribed already; to do it again would bring kept messages again.
                Event::Incoming(Incoming::ConnAck(ack)) if !ack.session_present => {
                    let subscribed = self.client.try_subscribe(&place.address, QoS::AtLeastOnce);
                    subscribed.map_err(|error| Ended::Refused(error.to_string()))?;
                }
                Event::Incoming(Incoming::SubAck(ack)) => {
                    let mut codes = ack.return_codes.iter();
                    if let Some(refused) = codes.find(|code| !matches!(code, SubscribeReasonCode::Success(_))) {
                        return Err(Ended::Refused(format!("the broker refuses the subscription: {refused:?}")));
                    }
                }
                Event::Incoming(Incoming::Publish(publish)) => {
                    let is_known = publish.dup && known.contains(&id(&publish));
                    if !is_known && filter.wants(errand, &message(&publish)).map_err(Ended::Failed)? {
                        return Ok(publish);
                    }
                    drop(self.client.try_ack(&publish));
                }
                _ => {}
            }
        }
    }
}

/// By what a message is known that the broker sends again: it keeps its packet's number (MQTT 5.0, 4.4), which alone would
/// come back with another message some day.
fn id(publish: &Publish) -> String {
    let topic = String::from_utf8_lossy(&publish.topic);
    let digest = Digest::of(canonical_json(&json!([topic, message(publish)])).as_bytes());
    format!("{}-{}", publish.pkid, hex::encode(&digest.as_bytes()[..8]))
}
