//! The files of the Numenta Anomaly Benchmark and its score, for the examples that score detectors on them.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;
use shared::time::Timestamp;

#[derive(Deserialize)]
struct Labels {
    windows: Vec<[String; 2]>,
}

pub struct File {
    pub name: String,
    pub rows: Vec<(Timestamp, f64)>,
    pub windows: Vec<(Timestamp, Timestamp)>,
}

/// The files that thresholds are chosen on, and the others.
pub fn halves(files: &[File]) -> (Vec<&File>, Vec<&File>) {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    files.iter().partition(|file| {
        let count = seen.entry(file.name.split('/').next().unwrap_or_default()).or_default();
        *count += 1;
        *count % 2 == 1
    })
}

/// The standard profile: a window counts once by its earliest detection, one outside costs up to 0.11, a missed window 1.
#[expect(clippy::cast_precision_loss, reason = "a few thousand rows")]
pub fn score(file: &File, found: &[usize]) -> f64 {
    let probation = (file.rows.len() * 15 / 100).min(750);
    let place = |at: Timestamp| file.rows.partition_point(|(then, _)| *then < at);
    let windows: Vec<(usize, usize)> =
        file.windows.iter().map(|(from, to)| (place(*from), place(to.plus_micros(1)) - 1)).collect();
    let sigmoid = |y: f64| if y > 3.0 { -1.0 } else { 2.0 / (1.0 + (5.0 * y).exp()) - 1.0 };
    let mut caught = vec![None; windows.len()];
    let mut score = 0.0;
    for row in found.iter().copied().filter(|row| *row >= probation) {
        if let Some(window) = windows.iter().position(|(from, to)| (*from..=*to).contains(&row)) {
            let (from, to) = windows[window];
            let y = -((to - row + 1) as f64) / (to - from + 1) as f64;
            caught[window].get_or_insert(sigmoid(y) / sigmoid(-1.0));
        } else {
            let before = windows.iter().rfind(|(_, to)| *to < row);
            score += 0.11 * before.map_or(-1.0, |(from, to)| sigmoid((row - to) as f64 / (to - from).max(1) as f64));
        }
    }
    score + caught.into_iter().map(|caught| caught.unwrap_or(-1.0)).sum::<f64>()
}

/// 0 for no detections at all, 100 for a perfect detector.
#[expect(clippy::cast_precision_loss, reason = "a few windows")]
pub fn total(scores: impl Iterator<Item = (f64, usize)>) -> f64 {
    let (score, windows) = scores.fold((0.0, 0), |sum, (score, windows)| (sum.0 + score, sum.1 + windows));
    100.0 * (score + windows as f64) / (2.0 * windows as f64)
}

pub fn load(folder: &Path) -> Result<Vec<File>, Box<dyn std::error::Error>> {
    let labels: BTreeMap<String, Labels> = serde_json::from_slice(&std::fs::read(folder.join("labels.json"))?)?;
    let instant = |text: &str| format!("{}Z", text.replacen(' ', "T", 1)).parse::<Timestamp>();
    let mut files = Vec::new();
    for (name, labels) in labels {
        let mut rows = Vec::new();
        for line in std::fs::read_to_string(folder.join(&name))?.lines().skip(1) {
            let (at, value) = line.split_once(',').ok_or("two columns")?;
            rows.push((instant(at)?, value.parse()?));
        }
        let windows = labels.windows.iter().map(|[from, to]| Ok((instant(from)?, instant(to)?)));
        files.push(File { name, rows, windows: windows.collect::<Result<_, shared::time::ParseError>>()? });
    }
    Ok(files)
}
