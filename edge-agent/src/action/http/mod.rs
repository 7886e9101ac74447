//! HTTP: the DSL's `call: http` (specification, section "HTTP call"), and the requests of every other protocol that is
//! carried by it. One request, its answer as content, as raw bytes or whole.

mod answer;
mod body;
mod client;
mod request;

use serde::Deserialize;
use serde_json::{Map, Value};

pub(super) use answer::{Answer, Output};
pub(super) use body::encode;
pub(super) use client::{Client, causes};
pub(super) use request::{Request, address};

use edge_core::engine::effect::Failure;

use super::{auth::Authentication, errand::Errand};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Arguments {
    method: String,
    endpoint: Endpoint,
    headers: Option<Map<String, Value>>,
    body: Option<Value>,
    query: Option<Map<String, Value>>,
    #[serde(default)]
    output: Output,
    #[serde(default)]
    redirect: bool,
}

/// An address as text, or with how to authenticate there.
#[derive(Deserialize, Clone)]
#[serde(untagged, expecting = "an address, or {uri, authentication}")]
pub(super) enum Endpoint {
    Address(String),
    Object(EndpointObject),
}

#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
pub(super) struct EndpointObject {
    uri: String,
    authentication: Option<Value>,
}

impl Endpoint {
    pub(super) fn address(&self) -> &str {
        match self {
            Self::Address(address) | Self::Object(EndpointObject { uri: address, .. }) => address,
        }
    }

    /// How to authenticate there, parsed.
    pub(super) fn authentication(&self, errand: &Errand<'_>) -> Result<Option<Authentication>, Failure> {
        match self {
            Self::Object(EndpointObject { authentication: Some(given), .. }) => {
                Authentication::parse(errand, given).map(Some)
            }
            _ => Ok(None),
        }
    }
}

/// Makes the request of `call: http`, and the task's output of its answer.
pub(super) async fn call(errand: &Errand<'_>) -> Result<Value, Failure> {
    let given: Arguments = errand.arguments()?;
    let url = address(errand, "endpoint", given.endpoint.address())?;
    let mut request = Request::new(errand, &given.method, url)?;
    request.add_query(errand, &given.query.unwrap_or_default())?;
    request.add_headers(errand, &given.headers.unwrap_or_default())?;
    request.authentication = given.endpoint.authentication(errand)?;
    request.redirect = given.redirect;
    request.body = given.body.map(|body| encode(errand, &body, &mut request.headers)).transpose()?;
    let answer = errand.ways.http().perform(errand, &request).await?;
    answer.shape(errand, &request, given.output)
}
