//! Measures a chat model and prints one line of JSON: for tests/bench/models.
//!
//!     chat_bench MODEL.gguf [--threads N] [--prompt N] [--before N] [--decode N]
//!     chat_bench --read          how fast memory is read

use std::{num::NonZero, path::PathBuf, process::ExitCode};

use models::generate::{Compute, Trial, measure, read_speed};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(path) = arguments.next().map(PathBuf::from) else {
        eprintln!("which model? chat_bench MODEL.gguf [--threads N] [--prompt N] [--before N] [--decode N]");
        return ExitCode::FAILURE;
    };
    if path.as_os_str() == "--read" {
        println!("{}", serde_json::json!({ "read_gb_s": read_speed() / 1e9 }));
        return ExitCode::SUCCESS;
    }
    let mut trial = Trial { prompt: 512, before: 32, decode: 128 };
    let mut compute = Compute::default();
    while let Some(name) = arguments.next() {
        let number = arguments.next().and_then(|number| number.parse::<usize>().ok());
        match (name.as_str(), number) {
            ("--threads", Some(threads)) => compute.threads = NonZero::new(threads),
            ("--prompt", Some(tokens)) => trial.prompt = tokens,
            ("--before", Some(tokens)) => trial.before = tokens,
            ("--decode", Some(tokens)) => trial.decode = tokens,
            _ => {
                eprintln!("{name}: expected --threads, --prompt, --before or --decode and a number");
                return ExitCode::FAILURE;
            }
        }
    }
    match measure(&path, compute, trial) {
        Ok(speed) => {
            let figures = serde_json::json!({
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
