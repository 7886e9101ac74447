//! `edge-agent models bench`: how fast a model is on this machine, and what it takes. Nothing is asked of a running agent, which may
//! compute meanwhile: then it is slower than it could be, as its answers are.

use std::{
    num::NonZero,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use models::{
    catalog::{Digests, Manifest},
    embed::Embedder,
    generate::{self, Compute, Speed, Trial},
};
use serde::Serialize;

use super::super::{Context, Failure, output};
use crate::{
    agent,
    config::{Config, models::Embedder as Named},
    inference::{
        self, EXTRACT, Machine,
        config::{Gguf, Source},
        limits::Weights,
    },
};

/// The embedder that the configuration names, as `models list` has it.
const CONFIGURED: &str = "embedder";
/// Texts that an embedder is given together, and how long it is measured.
const BATCH_LEN: usize = 32;
const EMBED_FOR: Duration = Duration::from_secs(2);
/// A text as documents have them: about forty words.
const TEXT: &str = "The bearing of the pump runs hot when the oil is low or the belt of the fan is worn. Stop the pump, let it cool for half an \
                    hour, check the level of the oil and the belt, and write both into the log before it is started again.";

#[derive(Debug, clap::Args)]
pub(in super::super) struct Args {
    /// A target of kind gguf, a GGUF file, `embedder` (the configured one), `builtin`, or an embedder from `models list`.
    #[arg(value_name = "MODEL")]
    model: String,
    /// Tokens of the prompt; without it, 512 or as many as the model has room for.
    #[arg(long, value_name = "N")]
    prompt: Option<usize>,
    /// Tokens of the answer; without it, 64 or half of what the model has room for.
    #[arg(long, value_name = "N")]
    answer: Option<usize>,
    /// Compute on so many threads; without it, on as many as the machine has cores.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1_024))]
    threads: Option<u16>,
}

/// What was measured of a chat model. Speeds are tokens a second.
#[derive(Debug, Serialize)]
struct Chat {
    file: PathBuf,
    load_s: f64,
    prompt_tokens_per_second: f64,
    answer_tokens_per_second: f64,
    prompt_tokens: usize,
    answer_tokens: usize,
    /// What was planned for weights, work and the keys and values of this trial, and what the process came to take.
    planned_bytes: u64,
    memory_bytes: Option<u64>,
    threads: usize,
    processor: &'static str,
}

/// What was measured of an embedder.
#[derive(Debug, Serialize)]
struct Embedding {
    model: String,
    dimensions: usize,
    load_s: f64,
    /// One text alone.
    latency_ms: f64,
    /// Together with others.
    texts_per_second: f64,
    memory_bytes: Option<u64>,
}

pub(super) fn run(args: &Args, config: &Config, context: &Context) -> Result<ExitCode, Failure> {
    let target = config.targets.iter().find(|target| target.name == args.model);
    let known = || Manifest::built_in().into_iter().find(|model| model.name == args.model);
    let file = Path::new(&args.model);
    match target.map(|target| &target.source) {
        // What is no target's is not kept.
        Some(Source::Gguf(model)) => {
            let is_kept = config.inference.weights == Weights::Mapped && config.data_dir.is_dir();
            chat(args, model, is_kept.then(|| config.weights_dir()), config, context)
        }
        Some(Source::Provider(_)) => {
            let message = format!("{} is at a provider: its speed is theirs and the link's", args.model);
            Err(Failure::Input(message))
        }
        None if args.model == EXTRACT => Err(Failure::Input(format!(
            "{EXTRACT} takes what stands in its passages: there is nothing to load or to decode"
        ))),
        None if [CONFIGURED, "builtin"].contains(&args.model.as_str()) || known().is_some() => {
            embedder(args, config, context)
        }
        None if file.is_file() => chat(args, &Gguf::of(file), None, config, context),
        None => {
            let targets = config.targets.iter().map(|target| target.name.as_str());
            let known = Manifest::built_in();
            let names: Vec<_> =
                targets.chain([CONFIGURED, "builtin"]).chain(known.iter().map(|model| model.name.as_str())).collect();
            let message =
                format!("{:?} is no target, model or file: expected {} or a GGUF file", args.model, names.join(", "));
            Err(Failure::NotFound(message))
        }
    }
}

fn chat(
    args: &Args,
    model: &Gguf,
    weights: Option<PathBuf>,
    config: &Config,
    context: &Context,
) -> Result<ExitCode, Failure> {
    let what = || format!("cannot measure {}", model.file.display());
    let threads = args.threads.and_then(|threads| NonZero::new(threads.into()));
    let compute = Compute { cache: model.cache, threads, weights };
    let needs = generate::open_gguf(&model.file, compute.clone()).with_context(what)?.needs();
    let prompt = args.prompt.unwrap_or(512.min(needs.context));
    let answer = args.answer.unwrap_or(64.min(needs.context / 2));
    // The answer follows on some tokens of a prompt of its own.
    let before = prompt.min(needs.context.div_ceil(2)).clamp(1, 32);
    let tokens = prompt.max(before.saturating_add(answer));
    if tokens > needs.context {
        let message = format!("--prompt and --answer: a session of {tokens} tokens; this model has {}", needs.context);
        return Err(Failure::Input(message));
    }
    let planned_bytes = needs.weights + needs.work + needs.token * tokens as u64;
    inference::admit(&args.model, planned_bytes, 0, config.inference, &Machine::this())
        .map_err(|refusal| Failure::Failed(anyhow::anyhow!(refusal.to_string())))?;
    let held_before = resident();
    let trial = Trial { prompt, before, decode: answer };
    let Speed { load, prompt: read, decode, processor, threads } =
        generate::measure(&model.file, compute, trial).with_context(what)?;
    let measured = Chat {
        file: model.file.clone(),
        load_s: load.as_secs_f64(),
        prompt_tokens_per_second: read,
        answer_tokens_per_second: decode,
        prompt_tokens: prompt,
        answer_tokens: answer,
        planned_bytes,
        memory_bytes: grown(held_before),
        threads,
        processor,
    };
    if context.json {
        output::json(&measured)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows = vec![
        ("loading", format!("{:.2} s", measured.load_s)),
        ("prompt", format!("{read:.1} tokens a second, of {prompt}")),
        ("answer", format!("{decode:.1} tokens a second, of {answer}")),
        ("memory", format!("{}; planned {}", memory(measured.memory_bytes), megabytes(planned_bytes))),
        ("computed", format!("on {threads} threads with {processor}")),
    ];
    tell(rows);
    Ok(ExitCode::SUCCESS)
}

fn embedder(args: &Args, config: &Config, context: &Context) -> Result<ExitCode, Failure> {
    let (before, began) = (resident(), Instant::now());
    let mut config = config.clone();
    if args.model != CONFIGURED {
        config.models.embedder = Some(Named::Named(args.model.clone()));
    }
    let embedder = agent::embedder(&config, &Digests::default())?;
    let load = began.elapsed();
    let (latency, speed) = embed(embedder.as_ref()).with_context(|| format!("cannot measure {}", args.model))?;
    let measured = Embedding {
        model: embedder.name().to_owned(),
        dimensions: embedder.dimensions(),
        load_s: load.as_secs_f64(),
        latency_ms: latency.as_secs_f64() * 1e3,
        texts_per_second: speed,
        memory_bytes: grown(before),
    };
    if context.json {
        output::json(&measured)?;
        return Ok(ExitCode::SUCCESS);
    }
    tell(vec![
        ("loading", format!("{:.2} s, digests checked", measured.load_s)),
        ("one text", format!("{:.2} ms", measured.latency_ms)),
        ("many texts", format!("{speed:.0} a second, {BATCH_LEN} together, of about forty words")),
        ("memory", memory(measured.memory_bytes)),
        ("vectors", format!("of {} numbers", measured.dimensions)),
    ]);
    Ok(ExitCode::SUCCESS)
}

/// The median time of one text, and texts a second of batches; the first pass, which fetches what is fetched once, does not count.
fn embed(embedder: &dyn Embedder) -> Result<(Duration, f64), models::Error> {
    embedder.embed(&[TEXT])?;
    let mut times = Vec::new();
    let began = Instant::now();
    while began.elapsed() < EMBED_FOR / 2 {
        let one = Instant::now();
        embedder.embed(&[TEXT])?;
        times.push(one.elapsed());
    }
    times.sort_unstable();
    let (began, mut count) = (Instant::now(), 0);
    while began.elapsed() < EMBED_FOR {
        count += embedder.embed(&[TEXT; BATCH_LEN])?.len();
    }
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    Ok((median, count as f64 / began.elapsed().as_secs_f64()))
}

fn tell(rows: Vec<(&str, String)>) {
    let rows = rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
    output::table(&["what", "measured"], rows, "");
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes.div_ceil(1 << 20))
}

fn memory(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "not told by this system".to_owned(), megabytes)
}

/// Bytes that this process has in memory, and the most that it has had.
fn resident() -> Option<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let bytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok().map(|number| number << 10)
    };
    Some((bytes("VmRSS:")?, bytes("VmHWM:")?))
}

/// How much more it has come to take since.
fn grown(before: Option<(u64, u64)>) -> Option<u64> {
    Some(resident()?.1.saturating_sub(before?.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_told_as_it_grows() {
        let before = resident();
        let more = std::hint::black_box(vec![1u8; 64 << 20]);
        let grown = grown(before).expect("Linux tells");
        assert!(grown >= 60 << 20, "{grown} after {} bytes", more.len());
    }

    #[test]
    fn the_built_in_embedder_has_a_speed() {
        let (latency, speed) = embed(models::embed::default_embedder().as_ref()).expect("it computes");
        assert!(latency > Duration::ZERO && speed > 1.0, "{latency:?} {speed}");
    }
}
