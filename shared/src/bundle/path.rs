//! The path of a file in a bundle, safe to join to any folder on any system.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize};

/// Longest path in bytes, and longest step of it: what common file systems take, with room for the data folder before it.
const PATH_BYTES_MAX: usize = 512;
const STEP_BYTES_MAX: usize = 200;

/// Relative, with `/` between steps, none of them empty, `.` or `..`; no backslash, colon or control character; no step that
/// begins or ends with a space or ends with a dot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct BundlePath(String);

/// The text is not a safe path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path:?} cannot be a file of a bundle: {expected}")]
pub struct Error {
    path: String,
    expected: &'static str,
}

impl BundlePath {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The folders above the file, from the outermost on.
    pub fn folders(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').map(|(at, _)| &self.0[..at])
    }
}

impl FromStr for BundlePath {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = |expected| Err(Error { path: text.to_owned(), expected });
        if text.is_empty() || text.len() > PATH_BYTES_MAX {
            return refuse("expected 1 to 512 bytes");
        }
        if text.starts_with('/') {
            return refuse("expected a relative path");
        }
        if text.contains(|c: char| c.is_control() || matches!(c, '\\' | ':')) {
            return refuse("expected no backslash, colon or control character");
        }
        for step in text.split('/') {
            if matches!(step, "" | "." | "..") {
                return refuse("expected no empty, `.` or `..` step");
            }
            if step.len() > STEP_BYTES_MAX {
                return refuse("expected steps of at most 200 bytes");
            }
            if step.starts_with(' ') || step.ends_with([' ', '.']) {
                return refuse("expected no step with a space at an end or a dot at its end");
            }
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for BundlePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for BundlePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ordinary_files_pass_and_ways_out_do_not() {
        for good in ["feeds.yaml", "workflows/a.yaml", "documents/manuals/Presse 1.md", ".hidden", "a/..b", "ü.md"] {
            assert!(good.parse::<BundlePath>().is_ok(), "{good}");
        }
        let long = "x".repeat(201);
        for bad in
            ["", "/etc/passwd", "..", "a/../b", "./a", "a//b", "a/", "C:/x", "a\\b", "a\0", "a\nb", "a ", "b./c", &long]
        {
            assert!(bad.parse::<BundlePath>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_passes_stays_below_the_folder(text in "[a./\\\\: ]{0,12}") {
            if let Ok(path) = text.parse::<BundlePath>() {
                let joined = std::path::Path::new("/base").join(path.as_str());
                prop_assert!(joined.starts_with("/base"));
                prop_assert!(joined.components().all(|part| part != std::path::Component::ParentDir));
                prop_assert_eq!(joined.components().count(), 2 + path.as_str().split('/').count());
            }
        }
    }
}
