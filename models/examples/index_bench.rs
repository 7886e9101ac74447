//! Measures the index on one thread; `tests/bench/index/run` calls it beside its peers. Prints JSON lines, times in CPU seconds.
//!
//!     index_bench build DATA FILE            makes an index of DATA/base.f32
//!     index_bench search DATA FILE BREADTH.. opens it and searches for DATA/query.f32, without a filter and with such that 10%, 1% and
//!                                            0.1% pass
//!     index_bench scan DATA FILE             the same with the filters alone, all that pass compared
//!
//! DATA is what `tests/bench/index/data.py` makes.

use std::{error::Error, path::Path, time::Instant};

use models::index::{Filter, Ids, Index, Merge};
use serde_json::{Value, json};
use shared::digest::Digest;

const DIMENSIONS: usize = 384;
const K: usize = 10;
/// A figure is taken over at least this many CPU seconds: the kernel counts them in steps of some milliseconds.
const MEASURED_S: f64 = 0.3;
/// Wider than the index: a walk would cost more than comparing all that pass.
const SCAN: usize = 1_000_000;
/// Filters that one of so many passes.
const FILTERS: [u64; 3] = [10, 100, 1000];
const EMBEDDER: Digest = Digest::from_bytes([0; 32]);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [verb, data, file, rest @ ..] = arguments.as_slice() else {
        return Err("expected build, search or scan, the folder of the data and the file of the index".into());
    };
    let (data, file) = (Path::new(data), Path::new(file));
    match verb.as_str() {
        "build" => build(data, file),
        "search" => search(data, file, &rest.iter().map(|breadth| breadth.parse()).collect::<Result<Vec<_>, _>>()?),
        "scan" => search(data, file, &[SCAN]),
        _ => Err(format!("{verb:?}: expected build, search or scan").into()),
    }
}

fn build(data: &Path, file: &Path) -> Result<(), Box<dyn Error>> {
    let base = floats(&data.join("base.f32"))?;
    let start = cpu_s()?;
    let mut merge = Merge::of(DIMENSIONS, EMBEDDER, (0..).zip(base.chunks_exact(DIMENSIONS)))?;
    while merge.step(100)? {}
    let built_s = cpu_s()? - start;
    let merged = merge.finish(file)?;
    let total_s = cpu_s()? - start;
    let index = Index::of(merged);
    say(&json!({"mode": "build", "build_s": built_s, "with_writing_s": total_s, "vectors": index.len()}));
    Ok(())
}

fn search(data: &Path, file: &Path, breadths: &[usize]) -> Result<(), Box<dyn Error>> {
    let queries = floats(&data.join("query.f32"))?;
    let nearest = ids(&data.join("gt.i32"))?;
    let passing = |one_of: u64| (0..100_000).filter(|id| id % one_of == 3).collect::<Ids>();
    let filters = FILTERS.map(|one_of| (one_of, passing(one_of)));
    let before = resident_kb()?;
    let start = Instant::now();
    let mut index = Index::open(file, DIMENSIONS, EMBEDDER)?;
    let (load_ms, loaded) = (start.elapsed().as_secs_f64() * 1e3, resident_kb()?);
    let scans = breadths == [SCAN];
    let mut modes = if scans { Vec::new() } else { vec![("search".to_owned(), nearest, Filter::All)] };
    for (one_of, passing) in &filters {
        let mode = format!("{} {one_of}", if scans { "scan" } else { "filter" });
        modes.push((mode, ids(&data.join(format!("gt_f{one_of}.i32")))?, Filter::Among(passing)));
    }
    if let (Some((_, truth, filter)), Some(breadth)) = (modes.first(), breadths.first()) {
        // Not counted: it brings the true vectors into the system's cache, where an index that loads all of itself has them already.
        index = index.with_breadth(*breadth);
        measure(&index, &queries, truth, *filter)?;
    }
    for (mode, truth, filter) in modes {
        for breadth in breadths {
            index = index.with_breadth(*breadth);
            let (recall, queries_s) = measure(&index, &queries, &truth, filter)?;
            say(&json!({"mode": mode, "ef": breadth, "recall": recall, "qps": queries_s}));
        }
    }
    let count = index.len() as f64;
    let bytes = |kb: f64| (kb - before) * 1024.0 / count;
    let (loaded, searched) = (bytes(loaded), bytes(resident_kb()?));
    say(&json!({"mode": "load", "load_ms": load_ms, "bytes_loaded": loaded, "bytes_searched": searched}));
    Ok(())
}

/// Recall, and queries a CPU second.
fn measure(index: &Index, queries: &[f32], truth: &[u64], filter: Filter<'_>) -> Result<(f64, f64), Box<dyn Error>> {
    let (mut found, mut asked, start) = (0, 0, cpu_s()?);
    loop {
        for (query, truth) in queries.chunks_exact(DIMENSIONS).zip(truth.chunks_exact(K)) {
            let near = index.search(query, K, filter)?;
            found += near.iter().filter(|(id, _)| truth.contains(id)).count();
            asked += 1;
        }
        let took = cpu_s()? - start;
        if took >= MEASURED_S {
            return Ok((found as f64 / (asked * K) as f64, f64::from(asked as u32) / took));
        }
    }
}

fn say(line: &Value) {
    println!("{line}");
}

fn floats(path: &Path) -> Result<Vec<f32>, Box<dyn Error>> {
    let bytes = std::fs::read(path)?;
    Ok(bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

fn ids(path: &Path) -> Result<Vec<u64>, Box<dyn Error>> {
    let bytes = std::fs::read(path)?;
    Ok(bytes.as_chunks().0.iter().map(|bytes| u64::from(u32::from_le_bytes(*bytes))).collect())
}

/// CPU time of this thread.
fn cpu_s() -> Result<f64, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(text.split_whitespace().next().ok_or("schedstat is empty")?.parse::<f64>()? / 1e9)
}

fn resident_kb() -> Result<f64, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
