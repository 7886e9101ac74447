//! The DSL's `call: asyncapi` (specification, section "AsyncAPI call"): an operation or channel of an AsyncAPI 2.6 or 3.0
//! document, over MQTT and HTTP.

mod describe;
mod poll;
mod session;
mod subscribe;

use edge_core::engine::effect::Failure;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use shared::policy::{Action, TargetKind};

use super::{
    auth::Authentication,
    document::Resource,
    errand::{Errand, scalar},
    http::{Request, address, encode},
    mqtt::{Broker, Publisher},
    openapi::Resolved,
    publish::{self, Outgoing},
};
use describe::{Place, Protocol};
pub(super) use session::Sessions;
pub(super) use subscribe::longest;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Arguments {
    document: Resource,
    channel: Option<String>,
    operation: Option<String>,
    server: Option<Server>,
    protocol: Option<String>,
    message: Option<Message>,
    subscription: Option<subscribe::Subscription>,
    authentication: Option<Value>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "the name of a server, or {name, variables}")]
enum Server {
    Name(String),
    Object {
        name: String,
        #[serde(default)]
        variables: Map<String, Value>,
    },
}

/// What is sent.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Message {
    payload: Option<Value>,
    headers: Option<Map<String, Value>>,
}

/// Sends the message, or takes messages until there are enough.
pub(super) async fn call(errand: &Errand<'_>) -> Result<Value, Failure> {
    let given: Arguments = errand.arguments()?;
    let document = errand.ways.documents.fetch(errand, &given.document).await?;
    let resolved = Resolved::of(document.parsed(errand)?);
    let (server, variables) = match &given.server {
        None => (None, Map::new()),
        Some(Server::Name(name)) => (Some(name.as_str()), Map::new()),
        Some(Server::Object { name, variables }) => (Some(name.as_str()), variables.clone()),
    };
    let wanted = describe::Wanted {
        channel: given.channel.as_deref(),
        operation: given.operation.as_deref(),
        server,
        variables: &variables,
        protocol: given.protocol.as_deref(),
        payload: given.message.as_ref().and_then(|message| message.payload.as_ref()).unwrap_or(&Value::Null),
    };
    let place = describe::find(errand, &resolved, &wanted)?;
    let authentication = given.authentication.map(|given| Authentication::parse(errand, &given)).transpose()?;
    match (given.message, given.subscription) {
        (Some(message), None) if place.protocol == Protocol::Http => post(errand, place, message, authentication).await,
        (Some(message), None) => send(errand, place, message, authentication.as_ref()).await,
        (None, Some(subscription)) if place.protocol == Protocol::Http => {
            subscribe::poll(errand, &place, subscription, authentication).await
        }
        (None, Some(subscription)) => subscribe::take(errand, place, subscription, authentication.as_ref()).await,
        _ => Err(errand.wrong("message", "expected exactly one of message and subscription")),
    }
}

/// One message over MQTT, acknowledged by the broker.
async fn send(
    errand: &Errand<'_>,
    place: Place,
    message: Message,
    authentication: Option<&Authentication>,
) -> Result<Value, Failure> {
    publish::check_topic(errand, "channel", &place.address)?;
    let mut headers = Vec::new();
    for (name, value) in message.headers.iter().flatten() {
        let text = scalar(value).unwrap_or_else(|| value.to_string());
        headers.push((name.clone(), text));
    }
    let text = match message.payload.unwrap_or(Value::Null) {
        Value::String(text) => text,
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let qos = place.qos.and_then(publish::quality).unwrap_or(rumqttc::v5::mqttbytes::QoS::AtLeastOnce);
    let topic = place.address.clone();
    let outgoing = Outgoing { topic: topic.clone(), text, qos, retain: place.retain, headers };
    let (kind, name) = place.target(errand);
    let permit = errand.permit(Action::Publish, kind, &name)?;
    if kind == TargetKind::Topic {
        publish::send(errand, &errand.ways.publisher, outgoing, &permit).await?;
    } else {
        // A connection of its own, which ends when the message is acknowledged.
        let publisher = Publisher::new(broker(errand, &place, authentication)?);
        publish::send(errand, &publisher, outgoing, &permit).await?;
    }
    Ok(json!({"topic": topic, "key": errand.call.key.0}))
}

/// How another broker is reached.
fn broker(errand: &Errand<'_>, place: &Place, authentication: Option<&Authentication>) -> Result<Broker, Failure> {
    let login = authentication.map(|authentication| authentication.login(errand)).transpose()?;
    let tls = if place.is_secure { Some(errand.ways.tls(errand)?) } else { None };
    let client_id = format!("skerry-{}", hex::encode(&crate::clock::seed()[..8]));
    Ok(Broker { host: place.host.clone(), port: place.port, login, tls, client_id })
}

/// One message over HTTP.
async fn post(
    errand: &Errand<'_>,
    place: Place,
    message: Message,
    authentication: Option<Authentication>,
) -> Result<Value, Failure> {
    let method = place.method.as_deref().unwrap_or("POST");
    let mut request = Request::new(errand, method, address(errand, "document", &place.url())?)?;
    request.add_headers(errand, &message.headers.unwrap_or_default())?;
    request.authentication = authentication;
    let payload = message.payload.unwrap_or(Value::Null);
    request.body = Some(encode(errand, &payload, &mut request.headers)?);
    let answer = errand.ways.http().perform(errand, &request).await?;
    answer.shape(errand, &request, Default::default())
}

impl Place {
    /// Where it is over HTTP.
    fn url(&self) -> String {
        let scheme = if self.is_secure { "https" } else { "http" };
        let path = format!("{}/{}", self.path.trim_end_matches('/'), self.address.trim_start_matches('/'));
        format!("{scheme}://{}:{}/{}", self.host, self.port, path.trim_start_matches('/'))
    }

    /// Where it is, as policy names it: a topic of the node's own broker, or one elsewhere.
    fn target(&self, errand: &Errand<'_>) -> (TargetKind, String) {
        let own = errand.ways.publisher.broker();
        if own.host.eq_ignore_ascii_case(&self.host) && own.port == self.port {
            (TargetKind::Topic, self.address.clone())
        } else {
            (TargetKind::RemoteTopic, format!("{}/{}", self.host, self.address))
        }
    }
}
