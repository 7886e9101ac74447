//! How fast a model is on this machine: what it would compute for a prompt and an answer, without the words.

use std::{
    num::NonZero,
    path::Path,
    time::{Duration, Instant},
};

use memmap2::{Advice, MmapMut};

use super::{Chat, Compute, order};
use crate::{
    Error,
    generate::{Answer, Generator, Request, Sampling},
};

const QUESTION: &str = "Describe what you see.";

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
    let chat = Chat::load_with(path, compute.clone())?;
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

/// What answers that are held to a schema cost beside free ones to the same prompt, which tells the schema. Of each token of an answer, those among them that
/// can only come in one way; what brings a value to its end after the last of `max_tokens` costs time and is not counted.
#[derive(Debug, Clone, Copy)]
pub struct Held {
    /// Seconds of a token of a free answer, and the processor's seconds of all threads.
    pub free: (f64, f64),
    /// The same of an answer that fits the schema.
    pub held: (f64, f64),
    /// The medians of the ratios within a turn.
    pub ratio: (f64, f64),
    /// Seconds that compiling the schema took, once.
    pub start: f64,
}

/// Writes free answers and such that fit a schema by turns, so many of each, and gives the medians. Both prompts were read before.
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
    let start = Instant::now();
    chat.grammars.matcher(&chat.tokens, schema)?;
    let start = start.elapsed().as_secs_f64();
    let sampling = Sampling { temperature: Some(0.8), ..Sampling::default() };
    let held = Request { schema: Some(schema.clone()), max_tokens: tokens, sampling, ..Request::ask(QUESTION) };
    // A longer context takes longer, whatever is written.
    let free = Request { schema: None, ..Request::ask(format!("{QUESTION}\n\n{}", order(&held, schema))) };
    let free = Request { max_tokens: tokens, sampling, ..free };
    let mut all: [Vec<f64>; 6] = Default::default();
    for seed in 0..=turns {
        let [free, held] = [&free, &held].map(|request| timed(&chat, &Request { seed, ..request.clone() }));
        let (free, held) = (free?, held?);
        // The first read the prompts.
        if seed > 0 {
            let ratios = (held.0 / free.0, held.1 / free.1);
            let figures = [free.0, free.1, held.0, held.1, ratios.0, ratios.1];
            all.iter_mut().zip(figures).for_each(|(all, figure)| all.push(figure));
        }
    }
    let [free, free_cpu, held, held_cpu, ratio, ratio_cpu] = all.map(median);
    Ok(Held { free: (free, free_cpu), held: (held, held_cpu), ratio: (ratio, ratio_cpu), start })
}

/// Seconds and processor's seconds of each token of an answer.
fn timed(chat: &Chat, request: &Request) -> Result<(f64, f64), Error> {
    let (start, cpu) = (Instant::now(), processor_seconds());
    let Answer { tokens_out, .. } = chat.generate(request, &mut |_| std::ops::ControlFlow::Continue(()))?;
    let tokens = tokens_out.clamp(1, request.max_tokens.max(1)) as f64;
    Ok((start.elapsed().as_secs_f64() / tokens, (processor_seconds() - cpu) / tokens))
}

/// Seconds that the threads of this process have had a processor; 0 where the kernel does not tell.
fn processor_seconds() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let told = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok());
    let nanoseconds = told.filter_map(|text| text.split(' ').next()?.parse::<u64>().ok());
    nanoseconds.sum::<u64>() as f64 / 1e9
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(0.0)
}

/// Bytes a second that so many threads together read from memory, each one after the other: what no product of one token can surpass on
/// them. The best of several passes over what no cache holds; 0 when there is no memory for it.
#[must_use]
pub fn read_speed(threads: NonZero<usize>) -> f64 {
    let Ok(mut memory) = MmapMut::map_anon(256 << 20) else { return 0.0 };
    drop(memory.advise(Advice::HugePage));
    memory.fill(1);
    let lines = memory.as_chunks::<64>().0;
    let mut best = Duration::MAX;
    for _ in 0..6 {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for part in lines.chunks(lines.len().div_ceil(threads.get())) {
                scope.spawn(|| read(part));
            }
        });
        best = best.min(start.elapsed());
    }
    memory.len() as f64 / best.as_secs_f64()
}

fn read(lines: &[[u8; 64]]) {
    let mut sums = [0u64; 8];
    for line in lines {
        for (sum, word) in sums.iter_mut().zip(line.as_chunks::<8>().0) {
            *sum = sum.wrapping_add(u64::from_le_bytes(*word));
        }
    }
    std::hint::black_box(sums);
}
