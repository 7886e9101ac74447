//! Llama 1 to 3, and what shares its form: TinyLlama, SmolLM2, Mistral 7B.

use super::{
    decoder::{Family, Rotation},
    gguf::Gguf,
};
use crate::Error;

pub(super) const NAME: &str = "llama";

/// Neighbouring dimensions turn together (llama.cpp stores the weights so); no biases, no norms of heads.
pub(super) fn family(file: &Gguf) -> Result<Family, Error> {
    // Mixtral calls itself llama too.
    if file.value("llama.expert_count").is_some() && file.whole("llama.expert_count", 0, 0).is_err() {
        return Err(file.wrong("a mixture of experts, which is not supported"));
    }
    Ok(Family { name: NAME, rotation: Rotation::Neighbours, has_bias: false, has_head_norm: false })
}
