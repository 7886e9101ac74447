//! Typed ids. Making one needs data (an instant and a seed); nothing here is random.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::time::Timestamp;

/// The text was not an id of this type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {what}: expected {expected}")]
pub struct ParseError {
    text: String,
    what: &'static str,
    expected: &'static str,
}

macro_rules! ulid_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(ulid::Ulid);

        impl $name {
            /// The id that belongs to this instant and this seed: the same pair always gives the same id, ids sort by
            /// instant (to the millisecond), and the seed's SHA-256 fills the other 80 bits.
            #[must_use]
            pub fn derive(at: Timestamp, seed: &[u8]) -> Self {
                let hash = Sha256::digest(seed);
                let mut low = [0_u8; 16];
                low[6..].copy_from_slice(&hash[..10]);
                let millis = u64::try_from(at.as_millis()).unwrap_or(0);
                Self(ulid::Ulid::from_parts(millis, u128::from_be_bytes(low)))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseError;
            fn from_str(text: &str) -> Result<Self, ParseError> {
                ulid::Ulid::from_string(text).map(Self).map_err(|_| ParseError {
                    text: text.to_owned(),
                    what: $what,
                    expected: "a ULID of 26 characters",
                })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

ulid_id!(
    /// One execution of a workflow.
    RunId, "run id");
ulid_id!(
    /// One question to a person.
    ApprovalId, "approval id");

/// The name of a node: 1 to 63 of `a-z`, `0-9` and `-`, beginning and ending with a letter or digit, so that it fits a
/// host name, a topic level and a certificate's common name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct NodeName(String);

impl NodeName {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeName {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let ok = (1..=63).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !text.starts_with('-')
            && !text.ends_with('-');
        if ok {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseError {
                text: text.to_owned(),
                what: "node name",
                expected: "1 to 63 of a-z, 0-9 and -, with a letter or digit at both ends",
            })
        }
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for NodeName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_derived_id_is_repeatable_and_sorts_by_time() {
        let at = Timestamp::from_millis(1_700_000_000_000);
        assert_eq!(RunId::derive(at, b"a"), RunId::derive(at, b"a"));
        assert_ne!(RunId::derive(at, b"a"), RunId::derive(at, b"b"));
        assert!(RunId::derive(at, b"a") < RunId::derive(at.plus_micros(1_000), b"a"));
        let id = RunId::derive(at, b"a");
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn a_node_name_fits_a_host_name() {
        for good in ["basel", "line-3", "a"] {
            assert!(good.parse::<NodeName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "Basel", "a b", "a/b", &"x".repeat(64)] {
            assert!(bad.parse::<NodeName>().is_err(), "{bad}");
        }
    }
}
