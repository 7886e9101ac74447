//! gRPC over HTTP/2: messages with a prefix of five bytes, and a status after the last one
//! (the gRPC project's "gRPC over HTTP2").

use std::time::Duration;

use http_body_util::BodyExt as _;
use reqwest::{Body, Url, header::HeaderMap};

use super::super::http::causes;
use crate::tls;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What a server may say in one call; it becomes part of the run's state, which is stored at every step.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Messages of a server that streams.
const MESSAGES_MAX: usize = 10_000;
/// A flag, and the message's length.
const PREFIX_BYTES: usize = 5;

/// The client: HTTP/2 from the first byte, with TLS or without.
pub(in super::super) struct Channel(reqwest::Client);

/// How a call ended that gave no messages.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{0}")]
    Unreachable(String),
    #[error("{0}")]
    Nonsense(String),
    #[error("status {}", .0.code)]
    Status(Status),
}

/// What the server says after the last message.
#[derive(Debug)]
pub(super) struct Status {
    pub(super) code: u32,
    pub(super) message: String,
}

impl Channel {
    pub(in super::super) fn new() -> Self {
        let none = reqwest::redirect::Policy::none;
        Self(tls::client(|client| client.http2_prior_knowledge().connect_timeout(CONNECT_TIMEOUT).redirect(none())))
    }

    /// Sends one message; gives those that come back.
    pub(super) async fn call(&self, url: Url, headers: HeaderMap, message: Vec<u8>) -> Result<Vec<Vec<u8>>, Error> {
        let length = u32::try_from(message.len()).map_err(|_| Error::Nonsense("a message of 4 GiB".to_owned()))?;
        let mut framed = Vec::with_capacity(PREFIX_BYTES + message.len());
        framed.push(0);
        framed.extend_from_slice(&length.to_be_bytes());
        framed.extend_from_slice(&message);
        let unreachable = |error: reqwest::Error| Error::Unreachable(causes(&error));
        let response = self.0.post(url).headers(headers).body(framed).send().await.map_err(unreachable)?;
        if !response.status().is_success() {
            return Err(Error::Nonsense(format!("answered {}, which is not gRPC", response.status())));
        }
        // A call that fails at once says so in its first headers.
        if let Some(status) = Status::read(response.headers()) {
            status.check()?;
        }
        let mut body = Body::from(response);
        let (mut bytes, mut status) = (Vec::new(), None);
        while let Some(frame) = body.frame().await {
            match frame.map_err(unreachable)?.into_data() {
                Ok(data) => bytes.extend_from_slice(&data),
                Err(frame) => status = frame.into_trailers().ok().as_ref().and_then(Status::read).or(status),
            }
            if bytes.len() > ANSWER_BYTES_MAX {
                return Err(Error::Nonsense(format!("the answer is longer than {ANSWER_BYTES_MAX} bytes")));
            }
        }
        match status {
            Some(status) => status.check()?,
            None => return Err(Error::Nonsense("the answer ended without a status".to_owned())),
        }
        split(&bytes)
    }
}

impl Status {
    fn read(headers: &HeaderMap) -> Option<Self> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let code = text("grpc-status")?.parse().ok()?;
        let message = percent_decoded(text("grpc-message").unwrap_or_default());
        Some(Self { code, message })
    }

    fn check(self) -> Result<(), Error> {
        if self.code == 0 { Ok(()) } else { Err(Error::Status(self)) }
    }
}

fn split(mut bytes: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let short = || Error::Nonsense("the answer breaks off in a message".to_owned());
        let (prefix, rest) = bytes.split_at_checked(PREFIX_BYTES).ok_or_else(short)?;
        if prefix[0] != 0 {
            return Err(Error::Nonsense("the answer is compressed, which was not offered".to_owned()));
        }
        let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        let (message, rest) = rest.split_at_checked(length).ok_or_else(short)?;
        messages.push(message.to_vec());
        if messages.len() > MESSAGES_MAX {
            return Err(Error::Nonsense(format!("more than {MESSAGES_MAX} messages")));
        }
        bytes = rest;
    }
    Ok(messages)
}

fn percent_decoded(text: &str) -> String {
    url::form_urlencoded::parse(text.replace('+', "%2B").replace('&', "%26").replace('=', "%3D").as_bytes())
        .map(|(name, _)| name.into_owned())
        .collect()
}
