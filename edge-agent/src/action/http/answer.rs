//! What came back, and what of it becomes the task's output or its error.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use edge_core::engine::effect::{Failure, kind};
use reqwest::{
    StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, SET_COOKIE},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{super::errand::Errand, Request};

/// Of an error's body in the error's detail.
const ERROR_CHARS_MAX: usize = 300;

/// What of the answer becomes the task's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in super::super) enum Output {
    /// The body: parsed when it is JSON, else as text; in base64 when it is neither.
    #[default]
    Content,
    /// Status, headers and content.
    Response,
    /// The body in base64.
    Raw,
}

/// An answer, whatever its status.
pub(in super::super) struct Answer {
    pub(in super::super) status: StatusCode,
    pub(in super::super) headers: HeaderMap,
    pub(in super::super) body: Vec<u8>,
}

impl Answer {
    /// The task's output.
    pub(in super::super) fn shape(
        self,
        errand: &Errand<'_>,
        request: &Request,
        output: Output,
    ) -> Result<Value, Failure> {
        if !self.is_good(request.redirect) {
            return Err(self.refusal(errand));
        }
        Ok(match output {
            Output::Content => self.content(),
            Output::Raw => Value::String(STANDARD.encode(&self.body)),
            Output::Response => json!({
                "request": {
                    "method": request.method.as_str(),
                    "uri": request.url.as_str(),
                    "headers": told(&request.headers),
                },
                "statusCode": self.status.as_u16(),
                "headers": told(&self.headers),
                "content": self.content(),
            }),
        })
    }

    pub(in super::super) fn is_good(&self, redirect: bool) -> bool {
        self.status.is_success() || (redirect && self.status.is_redirection())
    }

    fn content(&self) -> Value {
        if self.body.is_empty() {
            return Value::Null;
        }
        let kind = self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        // `application/json`, `application/problem+json`, `text/json`.
        let is_json = kind.split(';').next().is_some_and(|kind| kind.trim().ends_with("json"));
        if let Some(parsed) = is_json.then(|| serde_json::from_slice(&self.body).ok()).flatten() {
            return parsed;
        }
        let text = std::str::from_utf8(&self.body).map(str::to_owned);
        text.unwrap_or_else(|_| STANDARD.encode(&self.body)).into()
    }

    /// The error that the status means.
    pub(in super::super) fn refusal(&self, errand: &Errand<'_>) -> Failure {
        let (uri, _) = match self.status {
            StatusCode::UNAUTHORIZED => kind::AUTHENTICATION,
            StatusCode::FORBIDDEN => kind::AUTHORIZATION,
            StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => kind::TIMEOUT,
            _ => kind::COMMUNICATION,
        };
        let said: String = String::from_utf8_lossy(&self.body).chars().take(ERROR_CHARS_MAX).collect();
        let (function, task) = (&errand.call.function, &errand.call.task);
        let detail = format!("{function} of {task}: answered {}: {said}", self.status);
        Failure::new((uri, self.status.as_u16()), detail)
    }

    /// What the ledger says of it.
    pub(super) fn told(&self, is_private: bool) -> String {
        let body = if is_private { "".into() } else { String::from_utf8_lossy(&self.body) };
        format!("{}\n\n{body}", self.status)
    }
}

/// Headers for people: without those that let somebody in.
fn told(headers: &HeaderMap) -> BTreeMap<String, String> {
    let shown = headers.iter().filter(|(name, _)| **name != AUTHORIZATION && **name != SET_COOKIE);
    shown.map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())).collect()
}
