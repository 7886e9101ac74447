//! What differs between the families of models, and where their files say it.

use super::{Cache, cache::PIECE, steps::Bend};
use crate::{
    Error,
    gguf::{Gguf, Value},
    product::Order,
};

/// Keys and values of 8,192 tokens take some 0.9 GB in a 0.6-billion model; a longer context is no gateway's.
const CONTEXT_MAX: usize = 8192;
/// Tokens that a short convolution mixes, at most; LFM2's mix three.
const TAPS_MAX: usize = 16;

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
    /// Which columns turn together in the file: neighbours, or halves.
    pub(super) turns_neighbours: bool,
    /// Whether query, key and value are one matrix, and gate and up another.
    pub(super) is_fused: bool,
    /// The norm before the output.
    pub(super) output_norm: &'static str,
    /// Whether an embedding is multiplied with the root of its length.
    pub(super) grows_embedding: bool,
    pub(super) bend: Bend,
}

/// How a layer mixes tokens.
#[derive(Debug, Clone, Copy)]
pub(super) enum Mix {
    Attention(View),
    Convolution,
}

/// How far a layer sees and how its heads turn.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    /// How many positions a token sees, its own among them.
    pub(super) window: usize,
    /// Which of the turns.
    pub(super) turn: usize,
}

/// How the columns of a head turn with the position.
pub(super) struct Turns {
    /// Radians a position, for each pair of columns; columns after them do not turn.
    pub(super) frequencies: Vec<f32>,
    /// What both of a pair are multiplied with besides.
    pub(super) size: f32,
}

/// The sizes of a model.
#[derive(Debug, Clone)]
pub(super) struct Sizes {
    /// For each layer, whether it attends; the others convolve.
    pub(super) attends: Vec<bool>,
    /// Tokens before its own that a convolution mixes a token with.
    pub(super) tail: usize,
    pub(super) hidden: usize,
    pub(super) heads: usize,
    /// Heads of keys and values.
    pub(super) groups: usize,
    pub(super) head: usize,
    pub(super) inner: usize,
    pub(super) epsilon: f32,
    pub(super) context: usize,
}

impl Sizes {
    /// Bytes that a token takes in a session: its keys and values, a row of each in each group of heads, with what the rows are scaled by;
    /// and its share of the states of the convolutions, of which each piece has one.
    pub(super) fn token_bytes(&self, cache: Cache) -> usize {
        let row = match cache {
            Cache::Half => 2 * self.head,
            Cache::Eight => self.head,
        };
        let attend = self.attends.iter().filter(|attends| **attends).count();
        let state = self.tail * self.hidden * size_of::<f32>() / PIECE;
        2 * attend * self.groups * (row + size_of::<f32>()) + (self.attends.len() - attend) * state
    }
}

/// The families that are known.
pub(super) fn of(file: &Gguf) -> Result<Family, Error> {
    let plain = Family {
        name: "llama",
        has_bias: false,
        has_head_norm: false,
        has_norm_after: false,
        turns_neighbours: false,
        is_fused: false,
        output_norm: "output_norm.weight",
        grows_embedding: false,
        bend: Bend::Silu,
    };
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
        // Gemma 3, the text models; the norms' weights have the one in them.
        "gemma3" => Family {
            name: "gemma3",
            has_head_norm: true,
            has_norm_after: true,
            grows_embedding: true,
            bend: Bend::Gelu,
            ..plain
        },
        // Phi-3, Phi-3.5 and Phi-4-mini, of which a part of each head turns.
        "phi3" => Family { name: "phi3", is_fused: true, ..plain },
        // LFM2, the dense models; of their layers most convolve.
        "lfm2" => Family { name: "lfm2", has_head_norm: true, output_norm: "token_embd_norm.weight", ..plain },
        other => {
            let known = "\"llama\", \"qwen2\", \"qwen3\", \"gemma3\", \"phi3\" or \"lfm2\"";
            return Err(file.wrong(format!("general.architecture is {other:?}: expected {known}")));
        }
    })
}

impl Family {
    pub(super) fn sizes(&self, file: &Gguf) -> Result<Sizes, Error> {
        let name = self.name;
        let layers = file.whole(&format!("{name}.block_count"), 1, 512)?;
        let hidden = file.whole(&format!("{name}.embedding_length"), 2, 1 << 16)?;
        let heads = file.whole(&format!("{name}.attention.head_count"), 1, 1024)?;
        let (attends, groups) = self.groups(file, layers, heads)?;
        let tail = match attends.contains(&false) {
            true => file.whole(&format!("{name}.shortconv.l_cache"), 2, TAPS_MAX)? - 1,
            false => 0,
        };
        let head = match file.value(&format!("{name}.attention.key_length")) {
            None => hidden / heads,
            Some(_) => file.whole(&format!("{name}.attention.key_length"), 2, 1024)?,
        };
        let inner = file.whole(&format!("{name}.feed_forward_length"), 1, 1 << 20)?;
        let context = file.whole(&format!("{name}.context_length"), 1, 1 << 24)?.min(CONTEXT_MAX);
        // Beyond it Phi-3 turns by other factors.
        let original = format!("{name}.rope.scaling.original_context_length");
        let context = match file.has_tensor("rope_factors_short.weight") {
            true => context.min(file.whole(&original, 1, 1 << 24)?),
            false => context,
        };
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
        Ok(Sizes { attends, tail, hidden, heads, groups, head, inner, epsilon, context })
    }

    /// For each layer whether it attends, and with how many heads of keys and values; a layer that has none convolves.
    fn groups(&self, file: &Gguf, layers: usize, heads: usize) -> Result<(Vec<bool>, usize), Error> {
        let key = format!("{}.attention.head_count_kv", self.name);
        match file.value(&key) {
            None => Ok((vec![true; layers], heads)),
            Some(Value::Wholes(each)) if self.name == "lfm2" => {
                let groups = each.iter().copied().max().and_then(|most| usize::try_from(most).ok()).unwrap_or(0);
                let fits = |count: &i64| *count == 0 || usize::try_from(*count) == Ok(groups);
                if each.len() != layers || !(1..=heads).contains(&groups) || !each.iter().all(fits) {
                    return Err(file.wrong(format!(
                        "{key}: expected a number for each of {layers} layers: 0 where it convolves, and one from 1 to {heads} for all \
                         others"
                    )));
                }
                Ok((each.iter().map(|count| *count != 0).collect(), groups))
            }
            Some(_) => Ok((vec![true; layers], file.whole(&key, 1, heads)?)),
        }
    }

    /// The order in which the rows of queries and keys are packed, so that halves turn together.
    pub(super) const fn order(&self, head: usize) -> Order {
        if self.turns_neighbours { Order::Halves(head) } else { Order::Stored }
    }

    /// How each layer mixes. Of Gemma 3's layers five in six see a window alone and turn by a base of their own.
    pub(super) fn mixes(&self, file: &Gguf, sizes: &Sizes) -> Result<Vec<Mix>, Error> {
        let key = format!("{}.attention.sliding_window", self.name);
        let window = match file.value(&key) {
            None | Some(Value::Whole(0)) => sizes.context,
            Some(_) => file.whole(&key, 1, 1 << 24)?,
        };
        let is_local = |layer: usize| self.name == "gemma3" && layer % 6 != 5;
        let view = |layer: usize| match is_local(layer) {
            true => View { window, turn: 1 },
            false if self.name == "gemma3" => View { window: sizes.context, turn: 0 },
            false => View { window, turn: 0 },
        };
        let mix =
            |(layer, attends): (usize, &bool)| if *attends { Mix::Attention(view(layer)) } else { Mix::Convolution };
        Ok(sizes.attends.iter().enumerate().map(mix).collect())
    }

    /// The turns that the views name.
    pub(super) fn turns(&self, file: &Gguf, head: usize) -> Result<Vec<Turns>, Error> {
        let name = self.name;
        let key = format!("{name}.rope.dimension_count");
        let turning = if file.value(&key).is_some() { file.whole(&key, 2, head)? } else { head };
        if turning % 2 != 0 || (self.turns_neighbours && turning != head) {
            return Err(file.wrong(format!("{key} is {turning}: expected {head}, the whole head")));
        }
        let base = match file.value(&format!("{name}.rope.freq_base")) {
            None => 10_000.0,
            Some(_) => file.real(&format!("{name}.rope.freq_base"))?,
        };
        let scale = match file.value(&format!("{name}.rope.scaling.type")) {
            None => 1.0,
            Some(Value::Text(kind)) if kind == "none" || (kind == "longrope" && name == "phi3") => 1.0,
            Some(Value::Text(kind)) if kind == "linear" => file.real(&format!("{name}.rope.scaling.factor"))?,
            Some(_) => {
                return Err(
                    file.wrong(format!("{name}.rope.scaling.type is not \"none\" or \"linear\", which are supported"))
                );
            }
        };
        // Llama 3's factors, or Phi-3's for contexts that are not long.
        let factors = ["rope_freqs.weight", "rope_factors_short.weight"].into_iter().find(|name| file.has_tensor(name));
        let factors = match factors {
            Some(name) => file.vector(name, turning / 2)?,
            None => vec![1.0; turning / 2],
        };
        let frequencies = |base: f64, scale: f64, factors: &[f32]| {
            let frequency = |(pair, factor): (usize, &f32)| {
                let turned = base.powf(-2.0 * pair as f64 / turning as f64);
                (turned / (scale * f64::from(*factor))) as f32
            };
            factors.iter().enumerate().map(frequency).collect()
        };
        let key = format!("{name}.rope.scaling.attn_factor");
        let size = if file.value(&key).is_some() { file.real(&key)? as f32 } else { 1.0 };
        let mut turns = vec![Turns { frequencies: frequencies(base, scale, &factors), size }];
        if name == "gemma3" {
            let key = "gemma3.rope.freq_base_swa";
            let base = if file.value(key).is_some() { file.real(key)? } else { 10_000.0 };
            turns.push(Turns { frequencies: frequencies(base, 1.0, &factors), size: 1.0 });
        }
        Ok(turns)
    }
}
