//! Loads a decoder: what a file must hold, and where it goes.

use std::sync::Mutex;

use super::{
    Bend, CHUNK_LEN, Cache, Decoder, Engine, Layer, Queue, Table,
    batch::SESSIONS_MAX,
    family::{self, Family, Mix, Sizes, Turns, View},
    layers::{Attention, Mixing},
};
use crate::{
    Error,
    gguf::Gguf,
    lanes::{Processor, ROWS},
    pool::Pool,
    product::{Matrix, Order, Plan, Weights},
};

/// Finds a matrix of so many rows and columns, to be packed in this order.
type Find<'a> = dyn FnMut(&str, usize, usize, Order) -> Result<Matrix, Error> + 'a;

/// What a file holds, checked, and where it would go: nothing of it is in memory yet but the vectors of its norms.
pub(crate) struct Layout {
    sizes: Sizes,
    growth: f32,
    bend: Bend,
    turns: Vec<Turns>,
    embedding: Table,
    layers: Vec<Layer>,
    norm: Vec<[f32; ROWS]>,
    output: Matrix,
    plan: Plan,
}

/// Lays out the decoder of a file by the architecture that it names.
pub(crate) fn lay_out(file: &Gguf, vocabulary: usize) -> Result<Layout, Error> {
    let family = family::of(file)?;
    let sizes = family.sizes(file)?;
    let turns = family.turns(file, sizes.head)?;
    let mixes = family.mixes(file, &sizes)?;
    check_vocabulary(file, vocabulary, sizes.hidden)?;
    let mut plan = Plan::default();
    let mut matrix = |name: &str, rows: usize, columns: usize, order: Order| {
        Ok::<_, Error>(plan.add(file.rows(name, rows, columns)?, order))
    };
    let (embedding, output) = if file.has_tensor("output.weight") {
        let embedding = Table::Stored(file.rows("token_embd.weight", vocabulary, sizes.hidden)?);
        (embedding, matrix("output.weight", vocabulary, sizes.hidden, Order::Stored)?)
    } else {
        let both = matrix("token_embd.weight", vocabulary, sizes.hidden, Order::Stored)?;
        (Table::Packed(both.clone()), both)
    };
    let norm = sixteens(file, family.output_norm, sizes.hidden)?;
    let layer = |(at, mix): (usize, Mix)| layer(file, &family, &sizes, at, mix, &mut matrix);
    let layers = mixes.into_iter().enumerate().map(layer).collect::<Result<_, _>>()?;
    let growth = if family.grows_embedding { (sizes.hidden as f32).sqrt() } else { 1.0 };
    Ok(Layout { sizes, growth, bend: family.bend, turns, embedding, layers, norm, output, plan })
}

impl Layout {
    /// Bytes of the weights as they are computed with.
    pub(crate) fn weights_bytes(&self) -> usize {
        self.plan.len()
    }

    /// Bytes that the keys and values of a token take.
    pub(crate) fn token_bytes(&self, cache: Cache) -> usize {
        self.sizes.token_bytes(cache)
    }

    /// How many tokens a session can hold.
    pub(crate) fn context(&self) -> usize {
        self.sizes.context
    }

    /// How many tokens it knows.
    pub(crate) fn vocabulary(&self) -> usize {
        self.output.rows
    }

    /// Bytes between the layers, at most: the sheets of a chunk of tokens as floats and once more rounded, and the logits of those that are
    /// computed together, before and after they are handed out.
    pub(crate) fn work_bytes(&self) -> usize {
        let Sizes { hidden, heads, groups, head, inner, .. } = self.sizes;
        let mixed = ((heads + 2 * groups) * head).max(if self.sizes.tail > 0 { 3 * hidden } else { 0 });
        let numbers = 3 * hidden + mixed + 2 * inner;
        let logits = 2 * SESSIONS_MAX * self.output.rows;
        size_of::<f32>() * (CHUNK_LEN * (numbers + numbers / 4) + logits)
    }

    /// Has the weights brought, packed as planned, to compute on so many threads.
    pub(crate) fn load(
        self,
        threads: usize,
        cache: Cache,
        processor: Processor,
        bring: impl FnOnce(&Plan, &mut Pool) -> Result<Weights, Error>,
    ) -> Result<Decoder, Error> {
        let Self { sizes, growth, bend, turns, embedding, layers, norm, output, plan } = self;
        let mut pool = Pool::new(threads);
        tracing::debug!(
            megabytes = plan.len() >> 20,
            threads = pool.threads(),
            processor = processor.name(),
            "loading the weights"
        );
        let weights = bring(&plan, &mut pool)?;
        let (engine, queue) = (Mutex::new(Engine::new(pool)), Queue::default());
        Ok(Decoder {
            sizes,
            growth,
            bend,
            turns,
            embedding,
            layers,
            norm,
            output,
            weights,
            processor,
            cache,
            engine,
            queue,
        })
    }
}

/// That the table of embeddings has a row for each token.
fn check_vocabulary(file: &Gguf, vocabulary: usize, hidden: usize) -> Result<(), Error> {
    match file.shape("token_embd.weight") {
        Some([rows, columns]) if *rows != vocabulary && *columns == hidden => Err(file.wrong(format!(
            "the tokenizer does not fit the model: tokenizer.ggml.tokens has {vocabulary} tokens, token_embd.weight has {rows} rows"
        ))),
        _ => Ok(()),
    }
}

fn layer(
    file: &Gguf,
    family: &Family,
    sizes: &Sizes,
    at: usize,
    mix: Mix,
    matrix: &mut Find<'_>,
) -> Result<Layer, Error> {
    let Sizes { hidden, heads, groups, head, inner, .. } = *sizes;
    let name = |part: &str| format!("blk.{at}.{part}.weight");
    let norm = |part: &str| sixteens(file, &name(part), hidden);
    let norm_after = |part: &str| if family.has_norm_after { norm(part).map(Some) } else { Ok(None) };
    let before = norm("attn_norm")?;
    let order = family.order(head);
    let (input, output, mixing) = match mix {
        Mix::Convolution => (
            vec![matrix(&name("shortconv.in_proj"), 3 * hidden, hidden, Order::Stored)?],
            matrix(&name("shortconv.out_proj"), hidden, hidden, Order::Stored)?,
            Mixing::Convolution(taps(file, &name("shortconv.conv"), hidden, sizes.tail + 1)?),
        ),
        Mix::Attention(view) => {
            let input = match family.is_fused {
                true => vec![matrix(&name("attn_qkv"), (heads + 2 * groups) * head, hidden, Order::Stored)?],
                false => vec![
                    matrix(&name("attn_q"), heads * head, hidden, order)?,
                    matrix(&name("attn_k"), groups * head, hidden, order)?,
                    matrix(&name("attn_v"), groups * head, hidden, Order::Stored)?,
                ],
            };
            let output = matrix(&name("attn_output"), hidden, heads * head, Order::Stored)?;
            (input, output, Mixing::Attention(attention(file, family, sizes, at, view)?))
        }
    };
    let (gate, up) = match family.is_fused {
        true => {
            let both = matrix(&name("ffn_up"), 2 * inner, hidden, Order::Stored)?;
            (both.part(0..inner), both.part(inner..2 * inner))
        }
        false => (
            matrix(&name("ffn_gate"), inner, hidden, Order::Stored)?,
            matrix(&name("ffn_up"), inner, hidden, Order::Stored)?,
        ),
    };
    Ok(Layer {
        norm: before,
        mixing,
        input,
        output,
        after_mixing: norm_after("post_attention_norm")?,
        feed_norm: norm("ffn_norm")?,
        gate,
        up,
        down: matrix(&name("ffn_down"), hidden, inner, Order::Stored)?,
        after_feed: norm_after("post_ffw_norm")?,
    })
}

/// What an attention has beside its matrices.
fn attention(file: &Gguf, family: &Family, sizes: &Sizes, at: usize, view: View) -> Result<Attention, Error> {
    let Sizes { heads, groups, head, .. } = *sizes;
    let bias = match family.has_bias {
        false => None,
        true => {
            let mut all = sixteens(file, &format!("blk.{at}.attn_q.bias"), heads * head)?;
            all.extend(sixteens(file, &format!("blk.{at}.attn_k.bias"), groups * head)?);
            all.extend(sixteens(file, &format!("blk.{at}.attn_v.bias"), groups * head)?);
            Some(all)
        }
    };
    let norm = |part: &str| match family.has_head_norm {
        true => sixteens(file, &format!("blk.{at}.{part}.weight"), head).map(Some),
        false => Ok(None),
    };
    Ok(Attention { view, bias, query_norm: norm("attn_q_norm")?, key_norm: norm("attn_k_norm")? })
}

/// What a convolution multiplies the columns of each of so many tokens with, as [`Mixing::Convolution`] has it.
fn taps(file: &Gguf, name: &str, columns: usize, tokens: usize) -> Result<Vec<[f32; ROWS]>, Error> {
    let numbers = file.numbers(name, &[columns, tokens])?;
    let tap = |at: usize| std::array::from_fn(|lane| numbers[(at / tokens * ROWS + lane) * tokens + at % tokens]);
    Ok((0..columns / ROWS * tokens).map(tap).collect())
}

/// A vector whose length is a multiple of 16.
fn sixteens(file: &Gguf, name: &str, len: usize) -> Result<Vec<[f32; ROWS]>, Error> {
    Ok(file.vector(name, len)?.as_chunks().0.to_vec())
}
