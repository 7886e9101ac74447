//! Sizes as people write them in `agent.toml`.

use serde::{Deserialize, Deserializer, de::Error as _};

/// A number of bytes, written such as `600 MB`; a megabyte has 1,048,576.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl Bytes {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let at = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, unit) = (text[..at].parse::<f64>().ok()?, text[at..].trim());
        let unit = match unit {
            "KB" | "KiB" => 1u64 << 10,
            "MB" | "MiB" => 1 << 20,
            "GB" | "GiB" => 1 << 30,
            _ => return None,
        };
        let bytes = number * unit as f64;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be 1 to 2^50")]
        (1.0..=1e15).contains(&bytes).then_some(Self(bytes as u64))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text)
            .ok_or_else(|| D::Error::custom(format!("{text:?} is no size: expected such as \"600 MB\" or \"1.5 GB\"")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Limits {
        memory: Bytes,
    }

    #[test]
    fn a_size_is_a_number_and_a_unit() {
        let bytes = |text: &str| Bytes::parse(text).map(|bytes| bytes.0);
        assert_eq!(bytes("600 MB"), Some(600 << 20));
        assert_eq!(bytes("1.5GB"), Some(1536 << 20));
        assert_eq!(bytes("64KiB"), Some(64 << 10));
        for wrong in ["600", "MB", "-1 MB", "1 TB", "0 MB", "1e99 GB", ""] {
            assert_eq!(bytes(wrong), None, "{wrong}");
        }
        let told = toml::from_str::<Limits>("memory = '600'").expect_err("no unit").to_string();
        assert!(told.contains("\"600\" is no size: expected such as \"600 MB\""), "{told}");
        assert_eq!(toml::from_str::<Limits>("memory = '600 MB'").expect("valid").memory, Bytes(600 << 20));
    }
}
