//! The decoder that the Llama and Qwen families share: grouped-query attention with rotary positions, gated feed-forward, RMS
//! norms. Weights stay quantised; the embedding table too, of which only the rows of the prompt are unpacked.
//!
//! The weights are never changed, so one `Decoder` serves many answers at once, each with its own [`Session`].

use std::sync::Arc;

use candle_core::{D, DType, Device, IndexOp, Module, Tensor, quantized::QMatMul, quantized::QTensor};
use candle_nn::{kv_cache::KvCache, ops, rotary_emb};

use super::gguf::{Gguf, Value};
use crate::Error;

/// Keys and values of 8,192 tokens take some 0.9 GB in a 0.6-billion model; a longer context is no gateway's.
const CONTEXT_MAX: usize = 8192;
/// Tokens of a prompt computed at once: bounds the attention scores to this times the context for each head.
const CHUNK_LEN: usize = 256;
/// The cache grows by this many tokens.
const CACHE_STEP: usize = 256;

/// What differs between the families.
pub(super) struct Family {
    /// The prefix of the metadata keys.
    pub(super) name: &'static str,
    pub(super) rotation: Rotation,
    pub(super) has_bias: bool,
    pub(super) has_head_norm: bool,
}

/// Which dimensions of a head turn together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rotation {
    Neighbours,
    Halves,
}

struct Sizes {
    hidden: usize,
    heads: usize,
    groups: usize,
    head: usize,
    inner: usize,
    epsilon: f32,
}

struct Linear {
    weight: QMatMul,
    bias: Option<Tensor>,
}

struct Layer {
    attention_norm: Tensor,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    /// For the query's and the key's heads.
    head_norms: Option<(Tensor, Tensor)>,
    feed_norm: Tensor,
    gate: Linear,
    up: Linear,
    down: Linear,
}

/// A model's weights.
pub(crate) struct Decoder {
    sizes: Sizes,
    rotation: Rotation,
    /// Radians a position, for each pair of dimensions.
    frequencies: Vec<f32>,
    embedding: Arc<QTensor>,
    layers: Vec<Layer>,
    norm: Tensor,
    output: QMatMul,
    context: usize,
}

/// The keys and values of the tokens so far.
pub(crate) struct Session {
    caches: Vec<KvCache>,
    len: usize,
}

impl Decoder {
    pub(super) fn load(file: &Gguf, family: &Family, vocabulary: usize) -> Result<Self, Error> {
        let name = family.name;
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
        if heads % groups != 0 || head == 0 || head % 2 != 0 {
            return Err(file.wrong(format!(
                "{heads} heads of {head} in {groups} groups: expected even heads, as many in each group"
            )));
        }
        let sizes = Sizes { hidden, heads, groups, head, inner, epsilon };
        let frequencies = frequencies(file, name, head)?;
        let embedding = Arc::new(file.tensor("token_embd.weight", &[vocabulary, hidden])?);
        let output = if file.has_tensor("output.weight") {
            Arc::new(file.tensor("output.weight", &[vocabulary, hidden])?)
        } else {
            embedding.clone()
        };
        let layers = (0..layers).map(|at| Layer::load(file, family, &sizes, at)).collect::<Result<_, _>>()?;
        let norm = vector(file, "output_norm.weight", hidden)?;
        let output = QMatMul::from_arc(output).map_err(Error::tensor("unpack output.weight"))?;
        Ok(Self { sizes, rotation: family.rotation, frequencies, embedding, layers, norm, output, context })
    }

    /// How many tokens a session can hold.
    pub(crate) fn context(&self) -> usize {
        self.context
    }

    pub(crate) fn session(&self) -> Session {
        Session { caches: self.layers.iter().map(|_| KvCache::new(2, CACHE_STEP)).collect(), len: 0 }
    }

    /// Takes tokens in and gives the logits of the token that follows the last.
    pub(crate) fn forward(&self, session: &mut Session, tokens: &[u32]) -> Result<Vec<f32>, Error> {
        if session.len + tokens.len() > self.context || tokens.is_empty() {
            let (held, new, most) = (session.len, tokens.len(), self.context);
            return Err(Error::request(format!(
                "{held} and {new} tokens: expected at least 1 new and at most {most} together"
            )));
        }
        let compute = |session: &mut Session| {
            let mut hidden = None;
            for chunk in tokens.chunks(CHUNK_LEN) {
                hidden = Some(self.chunk(session, chunk)?);
            }
            let hidden = hidden.ok_or_else(|| candle_core::Error::Msg("no tokens".to_owned()))?;
            let last = hidden.i((.., hidden.dim(1)? - 1.., ..))?;
            let last = ops::rms_norm(&last.contiguous()?, &self.norm, self.sizes.epsilon)?;
            self.output.forward(&last)?.flatten_all()?.to_vec1::<f32>()
        };
        compute(session).map_err(Error::tensor(format!("compute {} tokens", tokens.len())))
    }

    fn chunk(&self, session: &mut Session, tokens: &[u32]) -> candle_core::Result<Tensor> {
        let ids = Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)?;
        let mut hidden = self.embedding.embedding(&ids)?;
        let turn = self.turn(session.len, tokens.len())?;
        let mask = mask(session.len, tokens.len())?;
        for (layer, cache) in self.layers.iter().zip(&mut session.caches) {
            let normed = ops::rms_norm(&hidden, &layer.attention_norm, self.sizes.epsilon)?;
            hidden = (hidden + self.attend(layer, cache, &normed, &turn, mask.as_ref())?)?;
            let normed = ops::rms_norm(&hidden, &layer.feed_norm, self.sizes.epsilon)?;
            let gated = (ops::silu(&layer.gate.forward(&normed)?)? * layer.up.forward(&normed)?)?;
            hidden = (hidden + layer.down.forward(&gated)?)?;
        }
        session.len += tokens.len();
        Ok(hidden)
    }

    fn attend(
        &self,
        layer: &Layer,
        cache: &mut KvCache,
        hidden: &Tensor,
        turn: &(Tensor, Tensor),
        mask: Option<&Tensor>,
    ) -> candle_core::Result<Tensor> {
        let Sizes { heads, groups, head, epsilon, .. } = self.sizes;
        let len = hidden.dim(1)?;
        let split = |x: Tensor, heads: usize| x.reshape((1, len, heads, head));
        let mut query = split(layer.query.forward(hidden)?, heads)?;
        let mut key = split(layer.key.forward(hidden)?, groups)?;
        let value = split(layer.value.forward(hidden)?, groups)?.transpose(1, 2)?.contiguous()?;
        if let Some((query_norm, key_norm)) = &layer.head_norms {
            query = ops::rms_norm(&query.contiguous()?, query_norm, epsilon)?;
            key = ops::rms_norm(&key.contiguous()?, key_norm, epsilon)?;
        }
        let rotate = |x: Tensor| {
            let x = x.transpose(1, 2)?.contiguous()?;
            match self.rotation {
                Rotation::Neighbours => rotary_emb::rope_i(&x, &turn.0, &turn.1),
                Rotation::Halves => rotary_emb::rope(&x, &turn.0, &turn.1),
            }
        };
        let (query, key) = (rotate(query)?, rotate(key)?);
        let (keys, values) = cache.append(&key, &value)?;
        let (keys, values) = (keys.squeeze(0)?, values.squeeze(0)?);

        // The heads of a group stand as more rows over the group's keys, so that keys and values are not repeated.
        let each = heads / groups;
        let query = (query.reshape((groups, each * len, head))? / (head as f64).sqrt())?;
        let mut scores = query.matmul(&keys.transpose(1, 2)?)?;
        let held = scores.dim(D::Minus1)?;
        if let Some(mask) = mask {
            let apart = scores.reshape((groups, each, len, held))?;
            scores = apart.broadcast_add(mask)?.reshape((groups, each * len, held))?;
        }
        let weights = ops::softmax_last_dim(&scores)?;
        let mixed = weights.matmul(&values.contiguous()?)?.reshape((heads, len, head))?;
        layer.output.forward(&mixed.transpose(0, 1)?.reshape((1, len, heads * head))?)
    }

    /// Cosine and sine of each position's angles.
    fn turn(&self, start: usize, len: usize) -> candle_core::Result<(Tensor, Tensor)> {
        let angles = (start..start + len).flat_map(|at| self.frequencies.iter().map(move |f| at as f32 * f));
        let angles = Tensor::from_iter(angles, &Device::Cpu)?.reshape((len, self.frequencies.len()))?;
        Ok((angles.cos()?, angles.sin()?))
    }
}

impl Session {
    /// How many tokens it holds.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl Layer {
    fn load(file: &Gguf, family: &Family, sizes: &Sizes, at: usize) -> Result<Self, Error> {
        let Sizes { hidden, heads, groups, head, inner, .. } = *sizes;
        let linear = |name: &str, rows: usize, columns: usize, has_bias: bool| {
            let weight = file.tensor(&format!("blk.{at}.{name}.weight"), &[rows, columns])?;
            let weight =
                QMatMul::from_qtensor(weight).map_err(Error::tensor(format!("unpack blk.{at}.{name}.weight")))?;
            let bias = has_bias.then(|| vector(file, &format!("blk.{at}.{name}.bias"), rows)).transpose()?;
            Ok::<_, Error>(Linear { weight, bias })
        };
        let norm = |name: &str, len: usize| vector(file, &format!("blk.{at}.{name}.weight"), len);
        let has_bias = family.has_bias;
        Ok(Self {
            attention_norm: norm("attn_norm", hidden)?,
            query: linear("attn_q", heads * head, hidden, has_bias)?,
            key: linear("attn_k", groups * head, hidden, has_bias)?,
            value: linear("attn_v", groups * head, hidden, has_bias)?,
            output: linear("attn_output", hidden, heads * head, false)?,
            head_norms: match family.has_head_norm {
                true => Some((norm("attn_q_norm", head)?, norm("attn_k_norm", head)?)),
                false => None,
            },
            feed_norm: norm("ffn_norm", hidden)?,
            gate: linear("ffn_gate", inner, hidden, false)?,
            up: linear("ffn_up", inner, hidden, false)?,
            down: linear("ffn_down", hidden, inner, false)?,
        })
    }
}

impl Linear {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let product = self.weight.forward(x)?;
        match &self.bias {
            Some(bias) => product.broadcast_add(bias),
            None => Ok(product),
        }
    }
}

fn vector(file: &Gguf, name: &str, len: usize) -> Result<Tensor, Error> {
    file.tensor(name, &[len])?.dequantize(&Device::Cpu).map_err(Error::tensor(format!("unpack {name}")))
}

/// The frequencies of the rotation, after the file's scaling: none, linear, or Llama 3's factors as a tensor.
fn frequencies(file: &Gguf, name: &str, head: usize) -> Result<Vec<f32>, Error> {
    if let Some(Value::Whole(dimensions)) = file.value(&format!("{name}.rope.dimension_count"))
        && usize::try_from(*dimensions) != Ok(head)
    {
        return Err(file.wrong(format!("{name}.rope.dimension_count is {dimensions}: expected {head}, the whole head")));
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
        true => {
            vector(file, "rope_freqs.weight", head / 2)?.to_vec1().map_err(Error::tensor("read rope_freqs.weight"))?
        }
        false => vec![1.0f32; head / 2],
    };
    let frequency = |(pair, factor): (usize, &f32)| {
        let turned = base.powf(-2.0 * pair as f64 / head as f64);
        (turned / (scale * f64::from(*factor))) as f32
    };
    Ok(factors.iter().enumerate().map(frequency).collect())
}

/// Minus infinity where a token would see a later one; none is needed for a single token.
fn mask(before: usize, len: usize) -> candle_core::Result<Option<Tensor>> {
    if len == 1 {
        return Ok(None);
    }
    let row = |at: usize| (0..before + len).map(move |seen| if seen > before + at { f32::NEG_INFINITY } else { 0.0 });
    let mask = Tensor::from_iter((0..len).flat_map(row), &Device::Cpu)?;
    Ok(Some(mask.reshape((len, before + len))?.to_dtype(DType::F32)?))
}
