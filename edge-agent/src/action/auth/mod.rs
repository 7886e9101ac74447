//! How a call proves who it is (specification, section "Authentication"): basic, bearer, digest, oauth2, oidc.

mod digest;
mod grant;
mod token;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use edge_core::engine::effect::Failure;
use reqwest::header::HeaderValue;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::errand::Errand;
pub(super) use digest::Login;
use grant::Grant;
pub(super) use token::{Token, Tokens};

/// A policy of the document, its secrets resolved.
pub(super) enum Authentication {
    Basic(Login),
    Bearer(Bearer),
    Digest(Login),
    OAuth2(Box<Grant>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bearer {
    token: String,
}

/// What a request is sent with.
pub(super) enum Credentials {
    /// A constant header.
    Header(HeaderValue),
    /// A token that may have been taken back before its time.
    Token(Token),
    /// The server says first what it wants.
    Challenge,
}

impl Authentication {
    /// Parses a policy.
    pub(super) fn parse(errand: &Errand<'_>, given: &Value) -> Result<Self, Failure> {
        let schemes = given.as_object().into_iter().flatten();
        let known = |name: &str| matches!(name, "basic" | "bearer" | "digest" | "oauth2" | "oidc");
        let Some((scheme, properties)) = schemes.into_iter().find(|(name, _)| known(name)) else {
            let expected = "expected one of basic, bearer, digest, oauth2, oidc";
            return Err(errand.wrong("authentication", expected));
        };
        let properties = properties.clone();
        Ok(match scheme.as_str() {
            "basic" => Self::Basic(read(errand, scheme, properties)?),
            "bearer" => Self::Bearer(read(errand, scheme, properties)?),
            "digest" => Self::Digest(read(errand, scheme, properties)?),
            _ => Self::OAuth2(Box::new(Grant::parse(errand, scheme, &properties)?)),
        })
    }

    /// What the first request goes out with. Asks the authority for a token where there is none.
    pub(super) async fn credentials(&self, errand: &Errand<'_>) -> Result<Credentials, Failure> {
        Ok(match self {
            Self::Basic(login) => {
                let pair = STANDARD.encode(format!("{}:{}", login.username, login.password));
                errand.trail.hide("authorization", &pair.as_str().into());
                Credentials::Header(header(errand, &format!("Basic {pair}"))?)
            }
            Self::Bearer(Bearer { token }) => Credentials::Header(header(errand, &format!("Bearer {token}"))?),
            Self::Digest(_) => Credentials::Challenge,
            Self::OAuth2(grant) => Credentials::Token(errand.ways.tokens.get(errand, grant, None).await?),
        })
    }

    /// Another token, as the server does not take this one.
    pub(super) async fn fresh(&self, errand: &Errand<'_>, refused: &Token) -> Result<Credentials, Failure> {
        match self {
            Self::OAuth2(grant) => Ok(Credentials::Token(errand.ways.tokens.get(errand, grant, Some(refused)).await?)),
            _ => self.credentials(errand).await,
        }
    }

    /// The header for protocols that send once: everything but digest.
    pub(super) async fn only_header(&self, errand: &Errand<'_>) -> Result<HeaderValue, Failure> {
        let credentials = self.credentials(errand).await?;
        let refuse = || errand.wrong("authentication", "digest is for HTTP requests alone");
        credentials.header().ok_or_else(refuse)
    }

    /// User name and password, for protocols that have these.
    pub(super) fn login(&self, errand: &Errand<'_>) -> Result<(String, String), Failure> {
        match self {
            Self::Basic(login) => Ok((login.username.clone(), login.password.clone())),
            _ => Err(errand.wrong("authentication", "expected basic: a broker asks for a user name and a password")),
        }
    }
}

impl Credentials {
    pub(super) fn header(&self) -> Option<HeaderValue> {
        match self {
            Self::Header(header) => Some(header.clone()),
            Self::Token(token) => Some(token.header.clone()),
            Self::Challenge => None,
        }
    }
}

fn read<T: DeserializeOwned>(errand: &Errand<'_>, scheme: &str, properties: Value) -> Result<T, Failure> {
    // The parser's own words could quote a value.
    serde_json::from_value(properties).map_err(|_| {
        let expected = if scheme == "bearer" { "a token" } else { "username and password" };
        errand.wrong(&format!("authentication.{scheme}"), &format!("expected {expected}, texts, and nothing else"))
    })
}

fn header(errand: &Errand<'_>, text: &str) -> Result<HeaderValue, Failure> {
    HeaderValue::from_str(text).map_err(|_| errand.wrong("authentication", "has letters that a header cannot carry"))
}
