//! Messages taken from a topic until there are enough: by number, by time, or as an expression says.

use std::time::Duration;

use edge_core::engine::{
    effect::{Call, Failure, kind},
    limit,
};
use rumqttc::v5::{
    AsyncClient, Event, EventLoop, Incoming,
    mqttbytes::{
        QoS,
        v5::{Publish, SubscribeReasonCode},
    },
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use shared::{
    policy::{Action, Permit},
    workflow::{
        definition::Duration as Span,
        expression::{Expression, body},
    },
};
use tokio::time::{Instant, timeout_at};

use super::{
    super::{auth::Authentication, errand::Errand, mqtt},
    Place, broker, poll, session,
};

/// Taken messages become part of the run's state, which is stored at every step.
const MESSAGES_MAX: usize = 1_000;
const TAKEN_BYTES_MAX: usize = 4 << 20;
/// How long messages are waited for when neither the task nor the subscription says.
const LONGEST: Duration = Duration::from_secs(300);
/// Messages that the client holds before they are looked at.
const QUEUE: usize = 16;

/// The task's words. The expressions in it are about messages; what they need of the run comes along in `variables`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Subscription {
    filter: Option<String>,
    consume: Consume,
    /// One message is wanted, see `session`.
    next: Option<session::Next>,
    #[serde(default)]
    variables: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Consume {
    amount: Option<usize>,
    #[serde(rename = "for")]
    span: Option<Value>,
    #[serde(rename = "while")]
    as_long_as: Option<String>,
    until: Option<String>,
}

/// How long a subscription may go on: its own `for`, else what is usual.
pub(in super::super) fn longest(call: &Call) -> Option<Duration> {
    let subscription = call.input.get("subscription")?;
    if subscription.get("next").is_some() {
        return Some(session::WAIT);
    }
    let consume = subscription.get("consume")?;
    let span = consume.get("for").and_then(|span| Span::span_of(span).ok());
    Some(span.unwrap_or(LONGEST))
}

/// Which messages are wanted, and what the expressions about them need of the run.
pub(super) struct Filter {
    expression: Option<Expression>,
    variables: Map<String, Value>,
}

/// When enough was taken.
pub(super) struct Enough {
    amount: Option<usize>,
    as_long_as: Option<Expression>,
    until: Option<Expression>,
}

/// Messages that were taken, within what a run may carry.
#[derive(Default)]
pub(super) struct Taken {
    messages: Vec<Value>,
    bytes: usize,
}

impl Taken {
    pub(super) fn messages(&self) -> &[Value] {
        &self.messages
    }

    pub(super) fn into_messages(self) -> Vec<Value> {
        self.messages
    }

    /// Takes a message that is wanted; `false`: it was the last.
    pub(super) fn takes(
        &mut self,
        errand: &Errand<'_>,
        filter: &Filter,
        enough: Option<&Enough>,
        message: Value,
    ) -> Result<bool, Failure> {
        self.bytes += limit::size(&message);
        self.messages.push(message);
        if self.messages.len() > MESSAGES_MAX || self.bytes > TAKEN_BYTES_MAX {
            let why = format!("more than {MESSAGES_MAX} messages or {TAKEN_BYTES_MAX} bytes before there were enough");
            return Err(errand.failure(kind::RUNTIME, &why));
        }
        let Some(enough) = enough else { return Ok(true) };
        Ok(enough.goes_on(errand, filter, &self.messages)? && !enough.reached(errand, filter, &self.messages)?)
    }
}

/// The same over HTTP.
pub(super) async fn poll(
    errand: &Errand<'_>,
    place: &Place,
    subscription: Subscription,
    authentication: Option<Authentication>,
) -> Result<Value, Failure> {
    let Subscription { filter, consume: wanted, next, variables } = subscription;
    let filter = Filter::parse(errand, filter, variables)?;
    let span = wanted.span.as_ref().map(Span::span_of).transpose();
    let span = span.map_err(|error| errand.wrong("subscription.consume.for", &error.to_string()))?;
    // With tasks for each message, those of one request are all there are: the engine decides which it works on.
    let enough = if next.is_some() { None } else { Some(Enough::parse(errand, wanted)?) };
    if next.is_some_and(|next| next.is_closing()) {
        return Ok(json!({ "over": true }));
    }
    let request = poll::request(errand, place, authentication)?;
    let sent = errand.trail.begin("subscribe", &request.told());
    let until = span.map(|span| Instant::now() + span);
    let taken = poll::take(errand, &request, &filter, enough.as_ref(), until).await;
    match &taken {
        Ok(taken) => sent.answered(&taken.to_string()),
        Err(failure) => sent.failed(failure),
    }
    taken
}

/// Takes messages, and gives them in the order in which they came.
pub(super) async fn take(
    errand: &Errand<'_>,
    place: Place,
    subscription: Subscription,
    authentication: Option<&Authentication>,
) -> Result<Value, Failure> {
    let Subscription { filter, consume: wanted, next, variables } = subscription;
    let filter = Filter::parse(errand, filter, variables)?;
    let span = wanted.span.as_ref().map(Span::span_of).transpose();
    let span = span.map_err(|error| errand.wrong("subscription.consume.for", &error.to_string()))?;
    let enough = if next.is_some() { None } else { Some(Enough::parse(errand, wanted)?) };
    let (kind, name) = place.target(errand);
    let permit = errand.permit(Action::Subscribe, kind, &name)?;
    let mut broker = broker(errand, &place, authentication)?;
    if kind == shared::policy::TargetKind::Topic {
        // The node's own broker, which lets it in as it does for what it sends.
        let client_id = broker.client_id;
        broker = mqtt::Broker { client_id, ..errand.ways.publisher.broker().clone() };
    }
    let sent = errand.trail.begin("subscribe", &name);
    let taken = match (next, enough) {
        (None, Some(enough)) => {
            let until = span.map(|span| Instant::now() + span);
            let taken = consume(errand, &broker, &place, (&filter, &enough), until, &permit).await;
            taken.map(Value::Array)
        }
        (next, _) => session::next(errand, broker, &place, &filter, next.unwrap_or_default(), &permit).await,
    };
    match taken {
        Ok(taken) => {
            sent.answered(&taken.to_string());
            Ok(taken)
        }
        Err(failure) => {
            sent.failed(&failure);
            Err(failure)
        }
    }
}

async fn consume(
    errand: &Errand<'_>,
    broker: &mqtt::Broker,
    place: &Place,
    (filter, enough): (&Filter, &Enough),
    until: Option<Instant>,
    permit: &Permit,
) -> Result<Vec<Value>, Failure> {
    assert!(permit.target().name.ends_with(&place.address), "messages are taken from where the permit says");
    let broken =
        |error: &dyn std::fmt::Display| errand.failure(kind::COMMUNICATION, &format!("{}: {error}", broker.host));
    let (client, mut events) = AsyncClient::new(mqtt::options(broker), QUEUE);
    let qos = place.qos.and_then(super::publish::quality).unwrap_or(QoS::AtLeastOnce);
    client.subscribe(&place.address, qos).await.map_err(|error| broken(&error))?;
    let mut taken = Taken::default();
    while !enough.reached(errand, filter, taken.messages())? {
        let next = next(&mut events);
        let next = match until {
            Some(until) => match timeout_at(until, next).await {
                Ok(next) => next,
                // Its time is over: what came is what there is.
                Err(_) => break,
            },
            None => next.await,
        };
        let publish = next.map_err(|error| broken(&error))?;
        let message = message(&publish);
        if filter.wants(errand, &message)? && !taken.takes(errand, filter, Some(enough), message)? {
            break;
        }
    }
    // The broker need not wait for the connection to time out.
    drop(client.try_disconnect());
    drop(tokio::time::timeout(Duration::from_millis(100), events.poll()).await);
    Ok(taken.into_messages())
}

/// The next message; the broker's own answers pass.
async fn next(events: &mut EventLoop) -> Result<Publish, String> {
    loop {
        match events.poll().await.map_err(|error| error.to_string())? {
            Event::Incoming(Incoming::Publish(publish)) => return Ok(publish),
            Event::Incoming(Incoming::SubAck(ack)) => {
                let refused = ack.return_codes.iter().find(|code| !matches!(code, SubscribeReasonCode::Success(_)));
                if let Some(refused) = refused {
                    return Err(format!("the broker refuses the subscription: {refused:?}"));
                }
            }
            _ => {}
        }
    }
}

/// The DSL's inbound message.
pub(super) fn message(publish: &Publish) -> Value {
    let text = String::from_utf8_lossy(&publish.payload);
    let payload = serde_json::from_str(&text).unwrap_or_else(|_| Value::String(text.into_owned()));
    let mut message = json!({"payload": payload});
    let Some(properties) = &publish.properties else { return message };
    if !properties.user_properties.is_empty() {
        let headers = properties.user_properties.iter().map(|(name, value)| (name.clone(), json!(value)));
        message["headers"] = Value::Object(headers.collect());
    }
    if let Some(id) = &properties.correlation_data {
        message["correlationId"] = json!(String::from_utf8_lossy(id));
    }
    message
}

fn compile(errand: &Errand<'_>, field: &str, text: Option<String>) -> Result<Option<Expression>, Failure> {
    let compiled = text.map(|text| Expression::compile(body(&text).unwrap_or(&text))).transpose();
    compiled.map_err(|error| errand.wrong(&format!("subscription.{field}"), &error.to_string()))
}

impl Filter {
    fn parse(errand: &Errand<'_>, text: Option<String>, variables: Map<String, Value>) -> Result<Self, Failure> {
        Ok(Self { expression: compile(errand, "filter", text)?, variables })
    }

    pub(super) fn wants(&self, errand: &Errand<'_>, message: &Value) -> Result<bool, Failure> {
        let Some(filter) = &self.expression else { return Ok(true) };
        let value = filter.evaluate(message, &|name| self.variables.get(name).cloned());
        value.map(|value| is_true(&value)).map_err(|error| errand.failure(kind::EXPRESSION, &error.to_string()))
    }
}

impl Enough {
    fn parse(errand: &Errand<'_>, given: Consume) -> Result<Self, Failure> {
        let Consume { amount, as_long_as, until, .. } = given;
        if amount.is_none() && as_long_as.is_none() && until.is_none() {
            return Err(errand.wrong("subscription.consume", "expected one of amount, while and until"));
        }
        let as_long_as = compile(errand, "consume.while", as_long_as)?;
        Ok(Self { amount, as_long_as, until: compile(errand, "consume.until", until)? })
    }

    /// Whether there are as many as were wanted by number.
    pub(super) fn is_reached_by(&self, taken: &Taken) -> bool {
        self.amount.is_some_and(|amount| taken.messages.len() >= amount)
    }

    /// Asked before each message.
    pub(super) fn reached(&self, errand: &Errand<'_>, filter: &Filter, taken: &[Value]) -> Result<bool, Failure> {
        let is_full = self.amount.is_some_and(|amount| taken.len() >= amount);
        Ok(is_full || filter.holds(errand, self.until.as_ref(), taken)?.unwrap_or_default())
    }

    /// Asked after each message.
    fn goes_on(&self, errand: &Errand<'_>, filter: &Filter, taken: &[Value]) -> Result<bool, Failure> {
        Ok(filter.holds(errand, self.as_long_as.as_ref(), taken)?.unwrap_or(true))
    }
}

impl Filter {
    /// The examples of the specification count `$context.consumedMessages` and `$context.messages`, which nothing else
    /// defines: both are what was taken, unless the run's context has them itself. The expression's own input is that too.
    fn holds(
        &self,
        errand: &Errand<'_>,
        expression: Option<&Expression>,
        taken: &[Value],
    ) -> Result<Option<bool>, Failure> {
        let Some(expression) = expression else { return Ok(None) };
        let all = Value::Array(taken.to_vec());
        let variable = |name: &str| {
            let mut value = self.variables.get(name).cloned();
            if name == "context" {
                let context = value.get_or_insert_with(|| json!({}));
                if let Value::Null = context {
                    *context = json!({});
                }
                if let Value::Object(context) = context {
                    for name in ["consumedMessages", "messages"] {
                        context.entry(name).or_insert_with(|| all.clone());
                    }
                }
            }
            value
        };
        let value = expression.evaluate(&all, &variable);
        let value = value.map_err(|error| errand.failure(kind::EXPRESSION, &error.to_string()))?;
        Ok(Some(is_true(&value)))
    }
}

/// As in jq: everything but `false` and `null`.
const fn is_true(value: &Value) -> bool {
    !matches!(value, Value::Null | Value::Bool(false))
}
