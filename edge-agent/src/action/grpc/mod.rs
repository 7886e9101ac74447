//! The DSL's `call: grpc` (specification, section "gRPC call"): a method that a proto file describes, called with JSON.
//! A server that streams gives a list.

mod proto;
mod wire;

use std::time::Duration;

use edge_core::engine::effect::{Failure, kind};
use prost_reflect::{DynamicMessage, MethodDescriptor, SerializeOptions, prost::Message as _};
use reqwest::{
    Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use shared::policy::{Action, TargetKind};

use super::{
    auth::Authentication,
    document::Resource,
    errand::{Errand, TIMEOUT},
};
pub(super) use proto::Pools;
pub(super) use wire::Channel;
use wire::Status;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Arguments {
    proto: Resource,
    service: Service,
    method: String,
    arguments: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Service {
    name: String,
    host: String,
    port: Option<u16>,
    authentication: Option<Value>,
}

impl Service {
    /// Where it is. The language has no word for TLS: it is spoken where no port is said, and at those that end in 443.
    fn url(&self, errand: &Errand<'_>, path: &str) -> Result<Url, Failure> {
        let port = self.port.unwrap_or(443);
        let scheme = if port % 1_000 == 443 { "https" } else { "http" };
        let url = Url::parse(&format!("{scheme}://{}:{port}{path}", self.host)).ok();
        let named = url.filter(|url| url.host_str().is_some_and(|host| host.eq_ignore_ascii_case(&self.host)));
        named.ok_or_else(|| errand.wrong("service.host", &format!("{:?}; expected the name of a host", self.host)))
    }
}

/// Calls the method, and makes JSON of what it gives.
pub(super) async fn call(errand: &Errand<'_>) -> Result<Value, Failure> {
    let given: Arguments = errand.arguments()?;
    let pool = errand.ways.pools.pool(errand, &given.proto).await?;
    let method = proto::method(errand, &pool, &given.service.name, &given.method)?;
    let request = encode(errand, &method, given.arguments.unwrap_or_default())?;
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
    let url = given.service.url(errand, &path)?;
    let permit = errand.permit(Action::Http, TargetKind::Host, &given.service.host)?;
    let within = errand.within(TIMEOUT);
    let mut headers = headers(errand, within)?;
    if let Some(authentication) = &given.service.authentication {
        let authentication = Authentication::parse(errand, authentication)?;
        headers.insert(AUTHORIZATION, authentication.only_header(errand).await?);
    }
    let sent = errand.trail.begin("grpc", &format!("{url} {}", json(&request)));
    assert_eq!(permit.target().name, given.service.host, "a call goes where its permit says");
    let url = errand.ways.hosts.reach(&url, &mut headers);
    let called = errand.ways.channel().call(url, headers, request.encode_to_vec()).await;
    let outcome = called.map_err(|error| fail(errand, error)).and_then(|messages| decode(errand, &method, &messages));
    match &outcome {
        Ok(output) => sent.answered(&output.to_string()),
        Err(failure) => sent.failed(failure),
    }
    outcome
}

fn headers(errand: &Errand<'_>, within: Duration) -> Result<HeaderMap, Failure> {
    let unfit = |_| errand.wrong("task", "its name cannot be a header");
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc+proto"));
    headers.insert("te", HeaderValue::from_static("trailers"));
    // At most eight digits, so in milliseconds a day.
    let ms = within.as_millis().min(86_400_000);
    headers.insert("grpc-timeout", HeaderValue::from_str(&format!("{ms}m")).map_err(unfit)?);
    let key = HeaderValue::from_str(&errand.call.key.0).map_err(unfit)?;
    headers.insert(HeaderName::from_static("idempotency-key"), key);
    Ok(headers)
}

/// JSON to a message, as the proto's own mapping says.
fn encode(
    errand: &Errand<'_>,
    method: &MethodDescriptor,
    given: Map<String, Value>,
) -> Result<DynamicMessage, Failure> {
    DynamicMessage::deserialize(method.input(), Value::Object(given))
        .map_err(|error| errand.wrong("arguments", &format!("do not fit {}: {error}", method.input().full_name())))
}

fn decode(errand: &Errand<'_>, method: &MethodDescriptor, messages: &[Vec<u8>]) -> Result<Value, Failure> {
    let mut decoded = Vec::with_capacity(messages.len());
    for bytes in messages {
        let message = DynamicMessage::decode(method.output(), bytes.as_slice()).map_err(|error| {
            let why = format!("the answer is no {}: {error}", method.output().full_name());
            errand.failure(kind::COMMUNICATION, &why)
        })?;
        decoded.push(json(&message));
    }
    match (method.is_server_streaming(), decoded.len()) {
        (true, _) => Ok(Value::Array(decoded)),
        (false, 1) => Ok(decoded.remove(0)),
        (false, count) => Err(errand.failure(kind::COMMUNICATION, &format!("{count} answers came; expected one"))),
    }
}

/// With every field, also those that have their default: an expression should not have to know which these are.
fn json(message: &DynamicMessage) -> Value {
    let options = SerializeOptions::new().skip_default_fields(false);
    message.serialize_with_options(serde_json::value::Serializer, &options).unwrap_or_default()
}

/// The status codes of gRPC as errors of the DSL, with the HTTP statuses that gateways give them.
fn fail(errand: &Errand<'_>, error: wire::Error) -> Failure {
    let wire::Error::Status(Status { code, message }) = error else {
        return errand.failure(kind::COMMUNICATION, &error.to_string());
    };
    let (kind, status) = match code {
        3 | 9 | 11 => (kind::COMMUNICATION.0, 400),
        4 => (kind::TIMEOUT.0, 504),
        5 => (kind::COMMUNICATION.0, 404),
        6 | 10 => (kind::COMMUNICATION.0, 409),
        7 => (kind::AUTHORIZATION.0, 403),
        8 => (kind::COMMUNICATION.0, 429),
        12 => (kind::COMMUNICATION.0, 501),
        14 => (kind::COMMUNICATION.0, 503),
        16 => (kind::AUTHENTICATION.0, 401),
        _ => (kind::COMMUNICATION.0, 500),
    };
    let detail = format!("grpc of {}: status {code}: {message}", errand.call.task);
    Failure::new((kind, status), detail)
}
