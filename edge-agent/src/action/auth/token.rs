//! Tokens, kept until shortly before they expire. Two calls that need the same one at once ask for it once.

use std::{collections::HashMap, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use edge_core::engine::effect::{Failure, kind};
use reqwest::header::HeaderValue;
use serde::Deserialize;
use serde_json::Value;
use shared::digest::Digest;
use tokio::{sync::Mutex, time::Instant};

use super::{super::errand::Errand, grant::Grant, header};

/// Far more authorities than a site calls; beyond it all are forgotten and asked again.
const TOKENS_MAX: usize = 64;
/// A token is not used in its last moments: the request takes a while, and clocks differ.
const MARGIN: Duration = Duration::from_secs(30);
/// Of a token whose authority says nothing of its life.
const LIFE_DEFAULT_S: u64 = 300;
/// Asked anew once a day, whatever its authority says.
const LIFE_MAX_S: u64 = 86_400;

/// A token that lets a call in.
#[derive(Clone)]
pub(in super::super) struct Token {
    pub(super) header: HeaderValue,
    access: String,
    until: Instant,
}

/// The answer of a token endpoint (RFC 6749, 5.1).
#[derive(Deserialize)]
struct Granted {
    access_token: String,
    token_type: Option<String>,
    expires_in: Option<Value>,
}

type Slot = Arc<Mutex<Option<Token>>>;

/// The tokens at hand, by what they were asked for with.
#[derive(Default)]
pub(in super::super) struct Tokens(Mutex<HashMap<Digest, Slot>>);

impl Tokens {
    /// A token for this grant; another than `refused`, if that one is no longer taken.
    pub(super) async fn get(
        &self,
        errand: &Errand<'_>,
        grant: &Grant,
        refused: Option<&Token>,
    ) -> Result<Token, Failure> {
        let slot = {
            let mut slots = self.0.lock().await;
            if slots.len() >= TOKENS_MAX && !slots.contains_key(&grant.digest) {
                slots.clear();
            }
            Arc::clone(slots.entry(grant.digest).or_default())
        };
        let mut token = slot.lock().await;
        let good = token.as_ref().filter(|token| {
            Instant::now() < token.until && refused.is_none_or(|refused| refused.access != token.access)
        });
        if let Some(good) = good {
            errand.trail.hide("token", &good.access.as_str().into());
            return Ok(good.clone());
        }
        *token = None;
        let fresh = ask(errand, grant).await?;
        *token = Some(fresh.clone());
        Ok(fresh)
    }
}

async fn ask(errand: &Errand<'_>, grant: &Grant) -> Result<Token, Failure> {
    let request = grant.request(errand).await?;
    let host = request.host().to_owned();
    // Without authentication of its own, so this does not come back here.
    let answer = Box::pin(errand.ways.http().perform(errand, &request)).await?;
    let denied = |why: &str| errand.failure(kind::AUTHENTICATION, &format!("{host} gives no token: {why}"));
    if !answer.status.is_success() {
        // RFC 6749, 5.2: `error` is one of a few words, `error_description` is for people.
        let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let word = |name: &str| said.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        return Err(denied(&format!("{} {} {}", answer.status, word("error"), word("error_description"))));
    }
    // The parser's own words could quote the token.
    let granted: Granted =
        serde_json::from_slice(&answer.body).map_err(|_| denied("its answer has no `access_token`"))?;
    errand.trail.hide("token", &granted.access_token.as_str().into());
    let kind = granted.token_type.as_deref().unwrap_or("Bearer");
    if !kind.eq_ignore_ascii_case("bearer") && !kind.eq_ignore_ascii_case("n_a") {
        return Err(denied(&format!("its token is of type {kind:?}; expected Bearer")));
    }
    let claims = claims(&granted.access_token);
    let issuer = claims.as_ref().and_then(|claims| claims.get("iss")).and_then(Value::as_str);
    if claims.is_some() && !grant.takes_issuer(issuer) {
        return Err(denied(&format!("its token is from {:?}, which is none of `issuers`", issuer.unwrap_or(""))));
    }
    let life = granted.expires_in.as_ref().and_then(|life| match life {
        Value::String(text) => text.parse().ok(),
        number => number.as_u64(),
    });
    let life = Duration::from_secs(life.unwrap_or(LIFE_DEFAULT_S).min(LIFE_MAX_S));
    let mut value = header(errand, &format!("Bearer {}", granted.access_token))?;
    value.set_sensitive(true);
    // One that lives no longer than the margin is good for this one call.
    Ok(Token { header: value, access: granted.access_token, until: Instant::now() + life.saturating_sub(MARGIN) })
}

/// What a token says of itself, if it is a JWT. Nothing is trusted that it says: it is the server that checks it.
fn claims(token: &str) -> Option<Value> {
    let payload = token.split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}
