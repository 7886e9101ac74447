//! How fast a model is on this machine: what it would compute for a prompt and an answer, without the words.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use memmap2::{Advice, MmapMut};

use super::{Chat, Compute};
use crate::{
    Error,
    generate::{Answer, Generator, Request, Sampling},
};

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub struct Trial {
    /// Tokens of a prompt.
    pub prompt: usize,
    /// Tokens before those that are written one by one.
    pub before: usize,
    /// Tokens that are written one by one.
    pub decode: usize,
}

/// What was measured.
#[derive(Debug, Clone, Copy)]
pub struct Speed {
    pub load: Duration,
    /// Tokens a second.
    pub prompt: f64,
    /// Tokens a second.
    pub decode: f64,
    /// The lanes that compute, for people.
    pub processor: &'static str,
    pub threads: usize,
}

/// Loads a model and computes a trial, with tokens that mean nothing. A first pass, whose time is not counted, fetches what is fetched once.
///
/// # Errors
/// As [`super::load_gguf`], and when the trial is longer than the context.
pub fn measure(path: &Path, compute: Compute, trial: Trial) -> Result<Speed, Error> {
    let start = Instant::now();
    let chat = Chat::load_with(path, compute)?;
    let load = start.elapsed();
    let vocabulary = chat.tokens.len();
    let token = |at: usize| u32::try_from((at * 31 + 7) % vocabulary).unwrap_or(0);
    let tokens: Vec<u32> = (0..trial.prompt.max(trial.before)).map(token).collect();

    let mut session = chat.decoder.session();
    chat.decoder.forward(&mut session, &[token(0)])?;
    let prompt = match trial.prompt {
        0 => 0.0,
        len => {
            let mut session = chat.decoder.session();
            let start = Instant::now();
            chat.decoder.forward(&mut session, &tokens[..len])?;
            len as f64 / start.elapsed().as_secs_f64()
        }
    };
    if trial.before > 0 {
        session = chat.decoder.session();
        chat.decoder.forward(&mut session, &tokens[..trial.before])?;
    }
    let start = Instant::now();
    for at in 0..trial.decode {
        chat.decoder.forward(&mut session, &[token(at)])?;
    }
    let decode = trial.decode as f64 / start.elapsed().as_secs_f64();
    let (processor, threads) = (chat.decoder.processor().name(), compute.threads());
    Ok(Speed { load, prompt, decode, processor, threads })
}

/// What an answer that is held to a schema costs beside a free one.
#[derive(Debug, Clone, Copy)]
pub struct Held {
    /// Seconds a token of a free answer.
    pub free: f64,
    /// Seconds a token of an answer that fits the schema.
    pub held: f64,
    /// Seconds until the first token is asked for: the schema compiled, beside a free answer to the same prompt.
    pub start: f64,
}

/// Writes free answers and such that fit a schema by turns, so many of each, and gives the medians.
///
/// # Errors
/// As [`super::load_gguf`] and [`Generator::generate`].
pub fn measure_held(
    path: &Path,
    compute: Compute,
    schema: &serde_json::Value,
    tokens: usize,
    turns: u64,
) -> Result<Held, Error> {
    let chat = Chat::load_with(path, compute)?;
    let sampling = Sampling { temperature: Some(0.8), ..Sampling::default() };
    let ask = Request { sampling, max_tokens: tokens, ..Request::ask("Describe what you see.") };
    let mut all: [Vec<f64>; 4] = Default::default();
    for seed in 0..turns {
        let free = Request { seed, ..ask.clone() };
        // The same prompt, the schema's words in it.
        let words = format!("{}\n\n{schema}", free.messages[0].content);
        let free = Request { messages: Request::ask(words).messages, ..free };
        let held = Request { schema: Some(schema.clone()), ..free.clone() };
        for (request, to) in [(&free, 0), (&held, 2)] {
            let (first, each) = timed(&chat, request)?;
            all[to].push(first);
            all[to + 1].push(each);
        }
    }
    let [free_first, free, held_first, held] = all.map(median);
    Ok(Held { free, held, start: held_first - free_first })
}

/// Seconds to the first text, and of each token after it.
fn timed(chat: &Chat, request: &Request) -> Result<(f64, f64), Error> {
    let start = Instant::now();
    let mut first = None;
    let Answer { tokens_out, .. } = chat.generate(request, &mut |text| {
        if first.is_none() && !text.is_empty() {
            first = Some(start.elapsed());
        }
        std::ops::ControlFlow::Continue(())
    })?;
    let first = first.unwrap_or_default();
    let rest = start.elapsed() - first;
    Ok((first.as_secs_f64(), rest.as_secs_f64() / tokens_out.saturating_sub(1).max(1) as f64))
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(0.0)
}

/// Bytes a second that one thread reads from memory, one after the other: what no product of one token can surpass on it. The best of
/// several passes over what no cache holds; 0 when there is no memory for it.
#[must_use]
pub fn read_speed() -> f64 {
    let Ok(mut memory) = MmapMut::map_anon(256 << 20) else { return 0.0 };
    drop(memory.advise(Advice::HugePage));
    memory.fill(1);
    let mut best = Duration::MAX;
    for _ in 0..4 {
        let start = Instant::now();
        let mut sums = [0u64; 8];
        for line in memory.as_chunks::<64>().0 {
            for (sum, word) in sums.iter_mut().zip(line.as_chunks::<8>().0) {
                *sum = sum.wrapping_add(u64::from_le_bytes(*word));
            }
        }
        std::hint::black_box(sums);
        best = best.min(start.elapsed());
    }
    memory.len() as f64 / best.as_secs_f64()
}
