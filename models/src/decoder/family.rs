//! What differs between the families of models, and where their files say it.

use crate::{
    Error,
    gguf::{Gguf, Value},
    product::Order,
};

/// Keys and values of 8,192 tokens take some 0.9 GB in a 0.6-billion model; a longer context is no gateway's.
const CONTEXT_MAX: usize = 8192;

/// The form of a model.
pub(super) struct Family {
    /// The prefix of the metadata keys.
    pub(super) name: &'static str,
    /// Whether query, key and value have biases.
    pub(super) has_bias: bool,
    /// Whether each head's query and key are normed.
    pub(super) has_head_norm: bool,
    /// Whether a norm follows attention and feed-forward too.
    pub(super) has_norm_after: bool,
    /// Which dimensions turn together in the file: neighbours, or halves.
    pub(super) turns_neighbours: bool,
}

/// The sizes of a model.
#[derive(Debug, Clone)]
pub(super) struct Sizes {
    pub(super) layers: usize,
    pub(super) hidden: usize,
    pub(super) heads: usize,
    /// Heads of keys and values.
    pub(super) groups: usize,
    pub(super) head: usize,
    pub(super) inner: usize,
    pub(super) epsilon: f32,
    pub(super) context: usize,
}

/// The families that are known.
pub(super) fn of(file: &Gguf) -> Result<Family, Error> {
    let plain =
        Family { name: "llama", has_bias: false, has_head_norm: false, has_norm_after: false, turns_neighbours: false };
    Ok(match file.text("general.architecture")? {
        // Llama 1 to 3, and what shares its form: TinyLlama, SmolLM2, Mistral 7B.
        "llama" => {
            // Mixtral calls itself llama too.
            if file.value("llama.expert_count").is_some() && file.whole("llama.expert_count", 0, 0).is_err() {
                return Err(file.wrong("a mixture of experts, which is not supported"));
            }
            Family { turns_neighbours: true, ..plain }
        }
        // Qwen2 and Qwen2.5.
        "qwen2" => Family { name: "qwen2", has_bias: true, ..plain },
        // Qwen3, the dense models.
        "qwen3" => Family { name: "qwen3", has_head_norm: true, ..plain },
        other => {
            let message = format!("general.architecture is {other:?}: expected \"llama\", \"qwen2\" or \"qwen3\"");
            return Err(file.wrong(message));
        }
    })
}

impl Family {
    pub(super) fn sizes(&self, file: &Gguf) -> Result<Sizes, Error> {
        let name = self.name;
        let layers = file.whole(&format!("{name}.block_count"), 1, 512)?;
        let hidden = file.whole(&format!("{name}.embedding_length"), 2, 1 << 16)?;
        let heads = file.whole(&format!("{name}.attention.head_count"), 1, 1024)?;
        let groups = match file.value(&format!("{name}.attention.head_count_kv")) {
            None => heads,
            Some(_) => file.whole(&format!("{name}.attention.head_count_kv"), 1, heads)?,
        };
        let head = match file.value(&format!("{name}.attention.key_length")) {
            None => hidden / heads,
            Some(_) => file.whole(&format!("{name}.attention.key_length"), 2, 1024)?,
        };
        let inner = file.whole(&format!("{name}.feed_forward_length"), 1, 1 << 20)?;
        let context = file.whole(&format!("{name}.context_length"), 1, 1 << 24)?.min(CONTEXT_MAX);
        let epsilon = file.real(&format!("{name}.attention.layer_norm_rms_epsilon"))? as f32;
        if heads % groups != 0 || head == 0 || head % 16 != 0 {
            return Err(file.wrong(format!(
                "{heads} heads of {head} in {groups} groups: expected heads of a multiple of 16, as many in each group"
            )));
        }
        if hidden % 16 != 0 || inner % 16 != 0 {
            return Err(file.wrong(format!(
                "{name}.embedding_length {hidden} and feed_forward_length {inner}: expected multiples of 16"
            )));
        }
        Ok(Sizes { layers, hidden, heads, groups, head, inner, epsilon, context })
    }

    /// The order in which the rows of queries and keys are packed, so that halves turn together.
    pub(super) const fn order(&self, head: usize) -> Order {
        if self.turns_neighbours { Order::Halves(head) } else { Order::Stored }
    }

    /// Radians a position, for each pair of columns, after the file's scaling: none, linear, or Llama 3's factors as a tensor.
    pub(super) fn frequencies(&self, file: &Gguf, head: usize) -> Result<Vec<f32>, Error> {
        let name = self.name;
        if let Some(Value::Whole(dimensions)) = file.value(&format!("{name}.rope.dimension_count"))
            && usize::try_from(*dimensions) != Ok(head)
        {
            return Err(
                file.wrong(format!("{name}.rope.dimension_count is {dimensions}: expected {head}, the whole head"))
            );
        }
        let base = match file.value(&format!("{name}.rope.freq_base")) {
            None => 10_000.0,
            Some(_) => file.real(&format!("{name}.rope.freq_base"))?,
        };
        let scale = match file.value(&format!("{name}.rope.scaling.type")) {
            None => 1.0,
            Some(Value::Text(kind)) if kind == "none" => 1.0,
            Some(Value::Text(kind)) if kind == "linear" => file.real(&format!("{name}.rope.scaling.factor"))?,
            Some(_) => {
                return Err(
                    file.wrong(format!("{name}.rope.scaling.type is not \"none\" or \"linear\", which are supported"))
                );
            }
        };
        let factors = match file.has_tensor("rope_freqs.weight") {
            true => file.vector("rope_freqs.weight", head / 2)?,
            false => vec![1.0; head / 2],
        };
        let frequency = |(pair, factor): (usize, &f32)| {
            let turned = base.powf(-2.0 * pair as f64 / head as f64);
            (turned / (scale * f64::from(*factor))) as f32
        };
        Ok(factors.iter().enumerate().map(frequency).collect())
    }
}
