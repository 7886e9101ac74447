//! Measures a chat model and prints one line of JSON: for tests/bench/models.
//!
//!     chat_bench MODEL.gguf [--threads N] [--prompt N] [--before N] [--decode N] [--weights DIR]
//!     chat_bench --read [--threads N]          how fast memory is read; one thread, unless more are named
//!     chat_bench MODEL.gguf --schema FILE [--threads N] [--decode N] [--turns N]    answers to a schema beside free ones
//!
//! With `--weights` the packed weights are mapped from a file in that folder, which the first call makes. With `--avx2` all of it computes without AVX-512, as on a machine that lacks it.

use std::{num::NonZero, path::PathBuf, process::ExitCode};

use models::generate::{Compute, Trial, measure, measure_held, open_gguf, read_speed};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(path) = arguments.next().map(PathBuf::from) else {
        eprintln!("which model? chat_bench MODEL.gguf [--threads N] [--prompt N] [--before N] [--decode N]");
        return ExitCode::FAILURE;
    };
    let mut trial = Trial { prompt: 512, before: 32, decode: 128 };
    let mut compute = Compute::default();
    let (mut schema, mut turns) = (None, 9);
    while let Some(name) = arguments.next() {
        if name == "--schema" {
            schema = arguments.next().and_then(|file| serde_json::from_slice(&std::fs::read(file).ok()?).ok());
            if schema.is_none() {
                eprintln!("--schema: expected a file with a JSON schema");
                return ExitCode::FAILURE;
            }
            continue;
        }
        if name == "--weights" {
            compute.weights = arguments.next().map(PathBuf::from);
            continue;
        }
        if name == "--avx2" {
            models::forgo_avx512();
            continue;
        }
        let number = arguments.next().and_then(|number| number.parse::<usize>().ok());
        match (name.as_str(), number) {
            ("--threads", Some(threads)) => compute.threads = NonZero::new(threads),
            ("--prompt", Some(tokens)) => trial.prompt = tokens,
            ("--before", Some(tokens)) => trial.before = tokens,
            ("--decode", Some(tokens)) => trial.decode = tokens,
            ("--turns", Some(count)) => turns = count as u64,
            _ => {
                eprintln!("{name}: expected --threads, --prompt, --before, --decode or --turns and a number");
                return ExitCode::FAILURE;
            }
        }
    }
    if path.as_os_str() == "--read" {
        println!(
            "{}",
            serde_json::json!({ "read_gb_s": read_speed(compute.threads.unwrap_or(NonZero::<usize>::MIN)) / 1e9 })
        );
        return ExitCode::SUCCESS;
    }
    if let Some(schema) = schema {
        return held(&path, compute, &schema, trial.decode, turns);
    }
    // What a node would plan for it: the session of the longest part of the trial, with the token after it.
    let tokens = trial.prompt.max(trial.before + trial.decode) + 1;
    let planned = open_gguf(&path, compute.clone()).map(|unloaded| unloaded.needs());
    let planned = planned.map(|needs| needs.weights + needs.work + needs.token * tokens as u64);
    match planned.and_then(|planned| Ok((planned, measure(&path, compute, trial)?))) {
        Ok((planned, speed)) => {
            let figures = serde_json::json!({
                "planned_mb": planned as f64 / f64::from(1 << 20),
                "load_s": speed.load.as_secs_f64(),
                "prompt_tokens_s": speed.prompt,
                "decode_tokens_s": speed.decode,
                "processor": speed.processor,
                "threads": speed.threads,
            });
            println!("{figures}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn held(path: &std::path::Path, compute: Compute, schema: &serde_json::Value, tokens: usize, turns: u64) -> ExitCode {
    match measure_held(path, compute, schema, tokens, turns) {
        Ok(held) => {
            let figures = serde_json::json!({
                "free_ms_token": held.free.0 * 1e3,
                "held_ms_token": held.held.0 * 1e3,
                "ratio": held.ratio.0,
                "free_cpu_ms_token": held.free.1 * 1e3,
                "held_cpu_ms_token": held.held.1 * 1e3,
                "ratio_cpu": held.ratio.1,
                "compile_ms": held.start * 1e3,
            });
            println!("{figures}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
