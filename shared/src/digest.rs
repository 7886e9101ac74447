//! SHA-256 digests as a type: of files, of canonical JSON, of what a person was shown.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::canonical::{Canonical, Text};

/// A SHA-256 digest. Text form: `sha256:` and 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// The text was not `sha256:` followed by 64 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a digest: expected `sha256:` and 64 hex digits")]
pub struct ParseError {
    text: String,
}

impl Digest {
    /// The digest of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest of a JSON value in its canonical form: object keys sorted, no white space.
    #[must_use]
    pub fn of_json(value: &Value) -> Self {
        Self::of(canonical_json(value).as_bytes())
    }

    /// A digest computed elsewhere.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 12 hex digits, for tables read by people; never for comparison.
    #[must_use]
    pub fn short(&self) -> String {
        hex::encode(&self.0[..6])
    }
}

/// JSON with object keys sorted by code point at every depth and no white space, so that equal values have equal bytes.
#[must_use]
pub fn canonical_json(value: &Value) -> String {
    canonical_of(value)
}

/// The same of plain data that is no value yet.
///
/// # Panics
/// When it is not plain: a map with keys that are no text, a `Serialize` that fails.
#[must_use]
pub fn canonical_of(data: &(impl Serialize + ?Sized)) -> String {
    let mut text = Text::new();
    data.serialize(Canonical(&mut text)).expect("plain data goes into memory");
    String::from_utf8(text.into_bytes()).expect("JSON is UTF-8")
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0; 64];
        hex::encode_to_slice(self.0, &mut digits).map_err(|_| fmt::Error)?;
        f.write_str("sha256:")?;
        f.write_str(str::from_utf8(&digits).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let parse = || {
            let bytes = hex::decode(text.strip_prefix("sha256:")?).ok()?;
            Some(Self(bytes.try_into().ok()?))
        };
        parse().ok_or_else(|| ParseError { text: text.to_owned() })
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_survives_a_round_trip_and_refuses_other_text() {
        let digest = Digest::of(b"abc");
        assert_eq!(digest.to_string(), "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert!("sha256:ba78".parse::<Digest>().is_err());
        assert!(digest.to_string()[7..].parse::<Digest>().is_err());
    }

    #[test]
    fn key_order_does_not_change_the_digest_of_json() {
        let a = serde_json::json!({"b": [1, {"y": 0, "x": 1}], "a": "t"});
        let b = serde_json::json!({"a": "t", "b": [1, {"x": 1, "y": 0}]});
        assert_eq!(Digest::of_json(&a), Digest::of_json(&b));
        assert_eq!(canonical_json(&a), r#"{"a":"t","b":[1,{"x":1,"y":0}]}"#);
    }

    #[test]
    fn canonical_json_escapes_and_numbers_as_any_json_does() {
        let value =
            serde_json::json!({"é\n\"": [null, true, -0.5, 1e300, u64::MAX], "": {}, "Z": [], "a\u{1f600}": "\u{7}"});
        let text = canonical_json(&value);
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        assert_eq!(text, r#"{"":{},"Z":[],"a😀":"\u0007","é\n\"":[null,true,-0.5,1e+300,18446744073709551615]}"#);
    }
}
