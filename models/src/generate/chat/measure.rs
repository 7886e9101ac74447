//! How fast a model is on this machine: what it would compute for a prompt and an answer, without the words.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use memmap2::{Advice, MmapMut};

use super::{Chat, Compute};
use crate::Error;

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
