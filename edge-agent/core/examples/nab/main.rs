//! Scores the detectors on the Numenta Anomaly Benchmark (github.com/numenta/NAB, standard profile), each with one
//! configuration for all files: `cargo run --release -p edge-core --example nab -- <folder with labels.json> [file]`.
//! The threshold is chosen on every second file of each folder, in the order of their names, and the score is that of the
//! others, which had no part in the choice; the best score on all files, chosen on those very files, stands beside it.
//! With the name of a file, its findings are listed instead. With `feeds.yaml` and the name of a file, each detector of the
//! first feed is shown against the file's labelled windows: `-- <folder> site/feeds.yaml machine_temperature`.

mod score;

use std::{collections::BTreeMap, path::Path};

use edge_core::signal::{Outcome, Series, Signal};
use score::{File, halves, load, score, total};
use shared::time::Timestamp;

/// The detectors as the benchmark runs them, with `THRESHOLD` in the place of the threshold.
const DETECTORS: &[(&str, &str)] = &[
    (
        "robust (24 h of 5 min)",
        r#"[{"name":"a","kind":"robust","length":288,"smooth":1,"threshold":THRESHOLD,"coolDown":"12h"}]"#,
    ),
    (
        "robust, smoothed",
        r#"[{"name":"a","kind":"robust","length":1000,"smooth":6,"threshold":THRESHOLD,"coolDown":"12h"}]"#,
    ),
    (
        "seasonal (day)",
        r#"[{"name":"a","kind":"seasonal","slots":96,"smooth":3,"threshold":THRESHOLD,"warmUp":"2d","coolDown":"12h"}]"#,
    ),
    (
        "seasonal and robust",
        r#"[{"name":"a","kind":"seasonal","slots":96,"smooth":3,"threshold":THRESHOLD,"warmUp":"2d","coolDown":"12h"},
            {"name":"b","kind":"robust","length":1000,"smooth":6,"threshold":THRESHOLD,"coolDown":"12h"}]"#,
    ),
];

const THRESHOLDS: [f64; 14] = [2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 12.0, 15.0, 20.0, 30.0, 50.0];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("say where the benchmark's files are")?;
    let only = arguments.next();
    let files = load(Path::new(&folder))?;
    if let Some(feeds) = only.as_deref().filter(|only| only.ends_with("feeds.yaml")) {
        let name = arguments.next().ok_or("say which file")?;
        return windows_found(Path::new(feeds), &files, &name);
    }
    let (chosen_on, held_out) = halves(&files);
    for (name, detectors) in DETECTORS {
        if let Some(only) = &only {
            let threshold: f64 = arguments.next().map_or(Ok(6.0), |text| text.parse())?;
            for file in files.iter().filter(|file| file.name.contains(only.as_str())) {
                println!("{name} on {}: {:?}", file.name, file.windows);
                detections(&signal(detectors, threshold)?, file)
                    .iter()
                    .for_each(|row| println!("  {} {}", file.rows[*row].0, file.rows[*row].1));
            }
            continue;
        }
        let mut best = [(f64::MIN, 0.0); 2];
        for threshold in THRESHOLDS {
            let signal = signal(detectors, threshold)?;
            for (best, files) in best.iter_mut().zip([&chosen_on, &files.iter().collect()]) {
                let score = score_of(&signal, files);
                if score > best.0 {
                    *best = (score, threshold);
                }
            }
        }
        let [(on_chosen, threshold), (on_all, at)] = best;
        let honest = score_of(&signal(detectors, threshold)?, &held_out);
        println!(
            "{name:24} threshold {threshold} from {} files (there {on_chosen:.1}): {honest:.1} on the other {}; best on all {on_all:.1} at {at}",
            chosen_on.len(),
            held_out.len()
        );
        let best = (on_all, threshold);
        let signal = signal(detectors, best.1)?;
        let mut folders: BTreeMap<&str, Vec<(f64, usize)>> = BTreeMap::new();
        for file in &held_out {
            let folder = file.name.split('/').next().unwrap_or_default();
            folders.entry(folder).or_default().push((score(file, &detections(&signal, file)), file.windows.len()));
        }
        for (folder, scores) in folders {
            println!(
                "    {folder:24} {:.2} of {} windows",
                scores.iter().map(|s| s.0).sum::<f64>(),
                scores.iter().map(|s| s.1).sum::<usize>()
            );
        }
    }
    Ok(())
}

fn score_of(signal: &Signal, files: &[&File]) -> f64 {
    total(files.iter().map(|file| (score(file, &detections(signal, file)), file.windows.len())))
}

/// For each detector of the first feed: how many labelled windows it finds, and how many findings lie outside of them.
fn windows_found(feeds: &Path, files: &[File], name: &str) -> Result<(), Box<dyn std::error::Error>> {
    let feeds = edge_core::feed::Feeds::parse(&feeds.display().to_string(), &std::fs::read_to_string(feeds)?)?;
    let feed = feeds.list().first().ok_or("a feed")?;
    for file in files.iter().filter(|file| file.name.contains(name)) {
        println!("{}: {} labelled windows", file.name, file.windows.len());
        for detector in &feed.signal.detectors {
            let signal = Signal { window: feed.signal.window, detectors: vec![detector.clone()] };
            let (mut series, mut outcome) = (Series::new(&signal, "value"), Outcome::default());
            for (at, value) in &file.rows {
                series.take(&signal, *at, *value, &mut outcome);
            }
            let at: Vec<Timestamp> = outcome.findings.iter().map(|finding| finding.at).collect();
            let inside = |(from, to): &(Timestamp, Timestamp)| at.iter().any(|at| (*from..=*to).contains(at));
            let found = file.windows.iter().filter(|window| inside(window)).count();
            let outside = at.iter().filter(|at| !file.windows.iter().any(|(from, to)| (*from..=*to).contains(*at)));
            println!(
                "  {:12} {found} windows found, {} findings, {} outside",
                detector.name,
                at.len(),
                outside.count()
            );
        }
    }
    Ok(())
}

fn signal(detectors: &str, threshold: f64) -> Result<Signal, serde_json::Error> {
    let detectors = serde_json::from_str(&detectors.replace("THRESHOLD", &threshold.to_string()))?;
    Ok(Signal { window: None, detectors })
}

fn detections(signal: &Signal, file: &File) -> Vec<usize> {
    let mut series = Series::new(signal, "value");
    let mut outcome = Outcome::default();
    let mut found = Vec::new();
    for (row, (at, value)) in file.rows.iter().enumerate() {
        series.take(signal, *at, *value, &mut outcome);
        if !outcome.findings.is_empty() {
            found.push(row);
            outcome.findings.clear();
        }
    }
    found
}
