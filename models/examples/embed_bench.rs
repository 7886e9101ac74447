//! Measures a sentence embedder and prints one line of JSON: for tests/bench/embed, whose `peer.py` measures onnxruntime alike.
//!
//!     embed_bench MODEL_DIR TEXTS.json [--threads N] [--int8] [--avx2] [--vectors]
//!     embed_bench --peak          what a core computes and reads at most

use std::{
    collections::BTreeMap,
    error::Error,
    num::NonZero,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use models::{
    embed::Embedder,
    encoder::{Compute, Precision, load_embedder_with, peak_flops},
    generate::read_speed,
};

/// Each case is repeated for so long, at least five times.
const TIME: Duration = Duration::from_millis(1500);

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let first = arguments.next().ok_or("which model? embed_bench MODEL_DIR TEXTS.json [--threads N] [--int8]")?;
    if first == "--peak" {
        println!(
            "{}",
            serde_json::json!({ "gflops": peak_flops() / 1e9, "read_gb_s": read_speed(NonZero::<usize>::MIN) / 1e9 })
        );
        return Ok(());
    }
    let texts = arguments.next().ok_or("which texts? a file of JSON: {\"case\": [\"text\"]}")?;
    let cases: BTreeMap<String, Vec<String>> = serde_json::from_slice(&std::fs::read(texts)?)?;
    let (mut compute, mut is_vectors) = (Compute::default(), false);
    while let Some(name) = arguments.next() {
        match name.as_str() {
            "--avx2" => models::forgo_avx512(),
            "--int8" => compute.precision = Precision::Int8,
            "--vectors" => is_vectors = true,
            "--threads" => {
                let number = arguments.next().and_then(|number| number.parse::<NonZero<usize>>().ok());
                compute.threads = Some(number.ok_or("--threads: expected a number")?);
            }
            other => return Err(format!("{other}: expected --threads, --int8, --avx2 or --vectors").into()),
        }
    }
    let before = status_mb("VmRSS:")?;
    let start = Instant::now();
    let embedder = load_embedder_with(Path::new(&PathBuf::from(first)), compute)?;
    embedder.embed(&asked(&cases, "short")?)?;
    let load = start.elapsed();
    if is_vectors {
        println!("{}", serde_json::json!(embedder.embed(&asked(&cases, "mixed")?)?));
        return Ok(());
    }
    let mut figures = BTreeMap::new();
    for name in cases.keys() {
        figures.insert(name.as_str(), measure(&*embedder, &asked(&cases, name)?)?);
    }
    let memory = status_mb("VmHWM:")? - before;
    println!("{}", serde_json::json!({ "load_s": load.as_secs_f64(), "memory_mb": memory, "cases": figures }));
    Ok(())
}

fn asked<'a>(cases: &'a BTreeMap<String, Vec<String>>, name: &str) -> Result<Vec<&'a str>, String> {
    let texts = cases.get(name).ok_or_else(|| format!("no case {name} among the texts"))?;
    Ok(texts.iter().map(String::as_str).collect())
}

fn measure(embedder: &dyn Embedder, texts: &[&str]) -> Result<serde_json::Value, Box<dyn Error>> {
    embedder.embed(texts)?;
    let (mut walls, start, end) = (Vec::new(), cpu_s()?, Instant::now() + TIME);
    while Instant::now() < end || walls.len() < 5 {
        let wall = Instant::now();
        embedder.embed(texts)?;
        walls.push(wall.elapsed().as_secs_f64());
    }
    let best = walls.iter().copied().fold(f64::INFINITY, f64::min);
    // The kernel counts in ticks of some milliseconds: the mean, not the median.
    let cpu = (cpu_s()? - start) / walls.len() as f64;
    let wall = median(walls);
    Ok(serde_json::json!({ "wall_ms": wall * 1e3, "cpu_ms": cpu * 1e3, "best_ms": best * 1e3 }))
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// CPU time of all threads so far.
fn cpu_s() -> Result<f64, Box<dyn Error>> {
    let mut sum = 0.0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        sum += text.split_whitespace().next().ok_or("schedstat is empty")?.parse::<f64>()?;
    }
    Ok(sum / 1e9)
}

/// A line of `/proc/self/status` in MB.
fn status_mb(name: &str) -> Result<f64, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such line in status")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}
