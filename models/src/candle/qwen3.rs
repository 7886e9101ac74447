//! Qwen3, the dense models.

use super::decoder::{Family, Rotation};

pub(super) const NAME: &str = "qwen3";

/// Halves turn together; each head's query and key are normalised, nothing has a bias.
pub(super) fn family() -> Family {
    Family { name: NAME, rotation: Rotation::Halves, has_bias: false, has_head_norm: true }
}
