//! Qwen2 and Qwen2.5.

use super::decoder::{Family, Rotation};

pub(super) const NAME: &str = "qwen2";

/// Halves turn together; query, key and value have biases.
pub(super) fn family() -> Family {
    Family { name: NAME, rotation: Rotation::Halves, has_bias: true, has_head_norm: false }
}
