//! `[inference]` of the node's configuration: what the models on this node may take of the machine.

use std::{num::NonZero, time::Duration};

use serde::{Deserialize, Deserializer, de::Error as _};

pub use crate::size::Bytes;

/// What models may take. What is not given is planned by what the machine has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// All that models take together: weights, keys and values, the embedder.
    pub memory: Option<Bytes>,
    /// The keys and values of all models together, of the conversations that are kept too.
    pub keys_and_values: Option<Bytes>,
    /// Degrees Celsius above which models on this node rest.
    #[serde(default, deserialize_with = "degrees")]
    pub temperature_max: Option<f64>,
    /// Whether weights are mapped from files that are packed once, or packed into memory at each load.
    #[serde(default)]
    pub weights: Weights,
    /// Seconds after which a model that nobody asked is unloaded.
    pub unload_after_s: Option<NonZero<u64>>,
}

/// Where packed weights are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weights {
    /// In files of the data folder, made at a model's first load.
    #[default]
    Mapped,
    /// In memory of the process.
    Memory,
}

impl Limits {
    /// How long a model stays loaded that nobody asks: ten minutes, where the configuration does not say.
    #[must_use]
    pub fn unload_after(&self) -> Duration {
        Duration::from_secs(self.unload_after_s.map_or(600, NonZero::get))
    }
}

fn degrees<'de, D: Deserializer<'de>>(value: D) -> Result<Option<f64>, D::Error> {
    let degrees = f64::deserialize(value)?;
    if (0.0..=200.0).contains(&degrees) {
        Ok(Some(degrees))
    } else {
        Err(D::Error::custom(format!("{degrees}; expected degrees Celsius from 0 to 200")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temperature_is_one_that_a_machine_can_have() {
        let read = |text: &str| toml::from_str::<Limits>(text).map(|limits| limits.temperature_max);
        assert_eq!(read("temperature_max = 85").ok(), Some(Some(85.0)));
        assert_eq!(read("").ok(), Some(None));
        for wrong in ["nan", "inf", "-1"] {
            let error = read(&format!("temperature_max = {wrong}")).expect_err("no temperature").to_string();
            assert!(error.contains("expected degrees Celsius from 0 to 200"), "{error}");
        }
    }
}
