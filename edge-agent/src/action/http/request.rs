//! A request, checked: what goes out, and what the ledger says of it.

use edge_core::engine::effect::Failure;
use reqwest::{
    Method, Url,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use serde_json::{Map, Value};

use super::super::{
    auth::Authentication,
    errand::{Errand, scalar},
};

/// A request on its way.
pub(in super::super) struct Request {
    pub(in super::super) method: Method,
    pub(in super::super) url: Url,
    pub(in super::super) headers: HeaderMap,
    pub(in super::super) body: Option<Vec<u8>>,
    pub(in super::super) authentication: Option<Authentication>,
    /// Whether an answer of 300 to 399 is a good one, and is followed within the origin.
    pub(in super::super) redirect: bool,
    /// What the ledger calls it: `http`, `document`, `oauth2`.
    pub(in super::super) function: String,
    /// Whether the ledger may have its body, and that of its answer.
    pub(in super::super) is_private: bool,
}

/// An absolute address of a web server.
pub(in super::super) fn address(errand: &Errand<'_>, field: &str, text: &str) -> Result<Url, Failure> {
    Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host() && !text.contains(['{', '}']))
        .ok_or_else(|| errand.wrong(field, &format!("{text:?}; expected http:// or https:// and a host")))
}

impl Request {
    /// A request that carries the effect's key.
    pub(in super::super) fn new(errand: &Errand<'_>, method: &str, url: Url) -> Result<Self, Failure> {
        let method = Method::from_bytes(method.to_ascii_uppercase().as_bytes())
            .map_err(|_| errand.wrong("method", &format!("{method:?}; expected GET, POST and the like")))?;
        let mut headers = HeaderMap::new();
        let key = HeaderValue::from_str(&errand.call.key.0)
            .map_err(|_| errand.wrong("task", "its name cannot be a header"))?;
        headers.insert("idempotency-key", key);
        let function = errand.call.function.clone();
        let (body, authentication) = (None, None);
        Ok(Self { method, url, headers, body, authentication, redirect: false, function, is_private: false })
    }

    /// Each value of a list stands for itself; what is null is left out.
    pub(in super::super) fn add_query(
        &mut self,
        errand: &Errand<'_>,
        query: &Map<String, Value>,
    ) -> Result<(), Failure> {
        for (name, value) in query {
            let values = value.as_array().map_or_else(|| std::slice::from_ref(value), Vec::as_slice);
            for value in values.iter().filter(|value| !value.is_null()) {
                self.url.query_pairs_mut().append_pair(name, &text(errand, "query", value)?);
            }
        }
        Ok(())
    }

    pub(in super::super) fn add_headers(
        &mut self,
        errand: &Errand<'_>,
        headers: &Map<String, Value>,
    ) -> Result<(), Failure> {
        for (name, value) in headers.iter().filter(|(_, value)| !value.is_null()) {
            self.add_header(errand, name, &text(errand, "headers", value)?)?;
        }
        Ok(())
    }

    pub(in super::super) fn add_header(&mut self, errand: &Errand<'_>, name: &str, value: &str) -> Result<(), Failure> {
        let bad = || errand.wrong("headers", &format!("{name}: not a header and its text"));
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
        self.headers.insert(name, HeaderValue::from_str(value).map_err(|_| bad())?);
        Ok(())
    }

    /// The host, as policy names it.
    pub(in super::super) fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    /// What the ledger says of the request: no headers, as they may hold secrets.
    pub(in super::super) fn told(&self) -> String {
        let body = self.body.as_deref().filter(|_| !self.is_private);
        let body = body.map(String::from_utf8_lossy).unwrap_or_default();
        format!("{} {}\n\n{body}", self.method, self.url)
    }
}

fn text(errand: &Errand<'_>, field: &str, value: &Value) -> Result<String, Failure> {
    scalar(value).ok_or_else(|| errand.wrong(field, &format!("{value}; expected texts, numbers or booleans")))
}
