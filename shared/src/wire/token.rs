//! Join tokens: everything that a new node must know to enrol, in one line to paste.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use crate::{digest::Digest, time::Timestamp};

const PREFIX: &str = "skt1.";

/// Where the control plane is, which authority its certificate must come from, and the secret that admits one node once.
/// Text form: `skt1.` and the base64url of its JSON.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// `https://host:port`.
    pub url: String,
    /// The SHA-256 of the control plane's CA certificate in DER.
    pub ca_sha256: Digest,
    pub secret: String,
    pub exp: Timestamp,
}

/// The text is not a join token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a join token: expected the whole line that `cloud-control token create` printed, beginning with `skt1.`")]
pub struct ParseError;

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let json = serde_json::to_vec(self).map_err(|_| fmt::Error)?;
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(json))
    }
}

impl fmt::Debug for JoinToken {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken").field("url", &self.url).field("exp", &self.exp).finish_non_exhaustive()
    }
}

impl FromStr for JoinToken {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let encoded = text.trim().strip_prefix(PREFIX).ok_or(ParseError)?;
        let json = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| ParseError)?;
        serde_json::from_slice(&json).map_err(|_| ParseError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_pasting_and_hides_its_secret_in_logs() {
        let token = JoinToken {
            url: "https://127.0.0.1:7443".to_owned(),
            ca_sha256: Digest::of(b"ca"),
            secret: "hush".to_owned(),
            exp: Timestamp::from_millis(1),
        };
        assert_eq!(format!(" {token}\n").parse(), Ok(token.clone()));
        assert!(!format!("{token:?}").contains("hush"));
        for bad in ["", "skt1.", "skt1.e30", "skt2.e30", "skt1.%%%"] {
            assert_eq!(bad.parse::<JoinToken>(), Err(ParseError), "{bad}");
        }
    }
}
