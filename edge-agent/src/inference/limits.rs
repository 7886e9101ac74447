//! `[inference]` of the node's configuration: what the models on this node may take of the machine.

use std::{num::NonZero, time::Duration};

use serde::Deserialize;

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
