//! Messages taken over HTTP: a server that streams sends them as events (text/event-stream), any other gives with each
//! request what it has, a list or one message, and is asked again after a pause.

use std::time::Duration;

use edge_core::engine::effect::{Failure, kind};
use eventsource_stream::Eventsource as _;
use futures::{StreamExt as _, stream::BoxStream};
use reqwest::{StatusCode, header::CONTENT_TYPE};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::{
    super::{
        auth::Authentication,
        errand::Errand,
        http::{Request, address},
    },
    Place,
    subscribe::{Enough, Filter, Taken},
};

/// Between two requests to a server that does not stream.
const PAUSE: Duration = Duration::from_secs(1);

/// Where messages of the place come from.
pub(super) fn request(
    errand: &Errand<'_>,
    place: &Place,
    authentication: Option<Authentication>,
) -> Result<Request, Failure> {
    let mut request =
        Request::new(errand, place.method.as_deref().unwrap_or("GET"), address(errand, "document", &place.url())?)?;
    request.add_header(errand, "accept", "text/event-stream, application/json")?;
    request.authentication = authentication;
    Ok(request)
}

/// Takes messages until there are enough, its time is over, or, without `enough`, as many as one request gives.
pub(super) async fn take(
    errand: &Errand<'_>,
    request: &Request,
    filter: &Filter,
    enough: Option<&Enough>,
    until: Option<Instant>,
) -> Result<Value, Failure> {
    let mut taken = Taken::default();
    let taking = async {
        loop {
            let mut messages = ask(errand, request).await?;
            while let Some(message) = messages.next().await {
                if enough.is_some_and(|enough| enough.is_reached_by(&taken)) {
                    return Ok::<(), Failure>(());
                }
                let message = message?;
                if filter.wants(errand, &message)? && !taken.takes(errand, filter, enough, message)? {
                    return Ok(());
                }
            }
            match enough {
                Some(enough) if !enough.reached(errand, filter, taken.messages())? => {}
                _ => return Ok(()),
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    match until {
        // Its time is over: what came is what there is.
        Some(until) => timeout_at(until, taking).await.unwrap_or(Ok(())),
        None => taking.await,
    }?;
    Ok(Value::Array(taken.into_messages()))
}

/// The messages of one request, as they come.
async fn ask<'a>(errand: &'a Errand<'_>, request: &Request) -> Result<BoxStream<'a, Result<Value, Failure>>, Failure> {
    let response = errand.ways.http().open(errand, request).await?;
    if !response.status().is_success() {
        let detail = format!("{} answers {}", request.host(), response.status());
        return Err(errand.failure(kind::COMMUNICATION, &detail));
    }
    let kind_of = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind_of.starts_with("text/event-stream") {
        let events = response.bytes_stream().eventsource().map(|event| match event {
            Ok(event) => Ok(message(&event.data)),
            Err(error) => Err(errand.failure(kind::COMMUNICATION, &error.to_string())),
        });
        return Ok(events.boxed());
    }
    let is_empty = response.status() == StatusCode::NO_CONTENT;
    let body = errand.ways.http().read(errand, response).await?;
    let text = String::from_utf8_lossy(&body);
    let messages = match serde_json::from_str(&text) {
        _ if is_empty || text.trim().is_empty() => Vec::new(),
        Ok(Value::Array(payloads)) => payloads.into_iter().map(|payload| json!({ "payload": payload })).collect(),
        _ => vec![message(&text)],
    };
    Ok(futures::stream::iter(messages.into_iter().map(Ok)).boxed())
}

/// The DSL's inbound message.
fn message(text: &str) -> Value {
    json!({ "payload": serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())) })
}
