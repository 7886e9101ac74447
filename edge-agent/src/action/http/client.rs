//! The client: one permit, one request, one answer; and a second request where the server first says how it wants to be
//! asked (digest), or no longer takes the token that it took (oauth2).

use std::time::Duration;

use edge_core::engine::effect::{Failure, kind};
use futures::StreamExt as _;
use reqwest::{
    StatusCode, Url,
    header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE},
    redirect,
};
use shared::policy::{Action, Permit, TargetKind};

use super::{
    super::{
        auth::{Authentication, Credentials},
        errand::Errand,
    },
    Answer, Request,
};
use crate::tls;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// An answer becomes part of the run's state, which is stored at every step.
const ANSWER_BYTES_MAX: usize = 4 << 20;
const REDIRECTS_MAX: usize = 5;

/// Two clients, as whether redirects are followed is a setting of the client.
pub(in super::super) struct Client {
    direct: reqwest::Client,
    following: reqwest::Client,
}

impl Client {
    pub(in super::super) fn new() -> Self {
        let same_origin = || {
            redirect::Policy::custom(|attempt| {
                let is_within = attempt.previous().first().is_some_and(|first| is_followed(first, attempt.url()));
                if attempt.previous().len() > REDIRECTS_MAX {
                    attempt.error("too many redirects")
                } else if is_within {
                    attempt.follow()
                } else {
                    attempt.stop()
                }
            })
        };
        let client = |policy: &dyn Fn() -> redirect::Policy| {
            tls::client(|client| client.connect_timeout(CONNECT_TIMEOUT).redirect(policy()))
        };
        Self { direct: client(&redirect::Policy::none), following: client(&same_origin) }
    }

    /// The client itself, for protocols that read their answers as a stream.
    pub(in super::super) const fn direct(&self) -> &reqwest::Client {
        &self.direct
    }

    /// Asks policy, sends the request, and reads the answer whatever its status. What went out is told.
    pub(in super::super) async fn perform(&self, errand: &Errand<'_>, request: &Request) -> Result<Answer, Failure> {
        let permit = errand.permit(Action::Http, TargetKind::Host, request.host())?;
        let credentials = match &request.authentication {
            Some(authentication) => Some(authentication.credentials(errand).await?),
            None => None,
        };
        let sent = errand.trail.begin(&request.function, &request.told());
        let answer = self.exchange(errand, request, credentials, &permit).await;
        match &answer {
            Ok(answer) => sent.answered(&answer.told(request.is_private)),
            Err(failure) => sent.failed(failure),
        }
        answer
    }

    async fn exchange(
        &self,
        errand: &Errand<'_>,
        request: &Request,
        credentials: Option<Credentials>,
        permit: &Permit,
    ) -> Result<Answer, Failure> {
        let header = credentials.as_ref().and_then(Credentials::header);
        let answer = self.send(errand, request, header, permit).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let again = match (&request.authentication, credentials) {
            (Some(authentication), Some(Credentials::Token(token))) => {
                let fresh = authentication.fresh(errand, &token).await?;
                fresh.header()
            }
            (Some(Authentication::Digest(login)), _) => {
                let challenges = answer.headers.get_all(WWW_AUTHENTICATE).iter();
                let challenges = challenges.filter_map(|value| value.to_str().ok());
                let body = request.body.as_deref().unwrap_or_default();
                login.answer(challenges, request.method.as_str(), target(&request.url), body)
            }
            _ => None,
        };
        match again {
            Some(header) => self.send(errand, request, Some(header), permit).await,
            None => Ok(answer),
        }
    }

    /// One request to where the permit says.
    async fn send(
        &self,
        errand: &Errand<'_>,
        request: &Request,
        authorization: Option<HeaderValue>,
        permit: &Permit,
    ) -> Result<Answer, Failure> {
        assert_eq!(permit.target().name, request.host(), "a request goes where its permit says");
        let response = self.respond(errand, request, authorization).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = self.read(errand, response).await?;
        Ok(Answer { status, headers, body })
    }

    /// Asks policy, sends the request, and gives the answer before its body is read.
    pub(in super::super) async fn open(
        &self,
        errand: &Errand<'_>,
        request: &Request,
    ) -> Result<reqwest::Response, Failure> {
        let permit = errand.permit(Action::Http, TargetKind::Host, request.host())?;
        assert_eq!(permit.target().name, request.host(), "a request goes where its permit says");
        let credentials = match &request.authentication {
            Some(authentication) => Some(authentication.credentials(errand).await?),
            None => None,
        };
        self.respond(errand, request, credentials.as_ref().and_then(Credentials::header)).await
    }

    async fn respond(
        &self,
        errand: &Errand<'_>,
        request: &Request,
        authorization: Option<HeaderValue>,
    ) -> Result<reqwest::Response, Failure> {
        let client = if request.redirect { &self.following } else { &self.direct };
        let mut headers = request.headers.clone();
        if let Some(mut value) = authorization {
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let url = errand.ways.hosts.reach(&request.url, &mut headers);
        let mut builder = client.request(request.method.clone(), url).headers(headers);
        if let Some(body) = &request.body {
            builder = builder.body(body.clone());
        }
        builder.send().await.map_err(|error| unreachable(errand, &error))
    }

    /// The body of an answer, if it is not too long.
    pub(in super::super) async fn read(
        &self,
        errand: &Errand<'_>,
        response: reqwest::Response,
    ) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            body.extend_from_slice(&chunk.map_err(|error| unreachable(errand, &error))?);
            if body.len() > ANSWER_BYTES_MAX {
                let detail = format!("the answer is longer than {ANSWER_BYTES_MAX} bytes");
                return Err(errand.failure(kind::COMMUNICATION, &detail));
            }
        }
        Ok(body)
    }
}

/// Whether a redirect is followed: only within the scheme, host and port that were asked, as headers and body go along.
/// One elsewhere is given back as it is.
fn is_followed(first: &Url, next: &Url) -> bool {
    first.origin() == next.origin()
}

/// Path and query: what a request line names.
fn target(url: &Url) -> &str {
    &url[url::Position::BeforePath..url::Position::AfterQuery]
}

fn unreachable(errand: &Errand<'_>, error: &reqwest::Error) -> Failure {
    errand.failure(kind::COMMUNICATION, &causes(error))
}

/// The host with its port and the innermost cause; the layers between say nothing more.
pub(in super::super) fn causes(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    let host = error.url().and_then(|url| Some((url.host_str()?, url.port_or_known_default()?)));
    host.map_or_else(|| format!("the host: {cause}"), |(host, port)| format!("{host}:{port}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_leaves_neither_scheme_nor_host_nor_port() {
        let first = Url::parse("https://erp.example/orders").expect("an address");
        for (next, expected) in [
            ("https://erp.example/there?x=1", true),
            ("https://erp.example:443/", true),
            ("http://erp.example/orders", false),
            ("https://erp.example:8443/orders", false),
            ("https://api.erp.example/orders", false),
        ] {
            assert_eq!(is_followed(&first, &Url::parse(next).expect("an address")), expected, "{next}");
        }
    }
}
