//! Scores detectors of kind `learned` on the Numenta Anomaly Benchmark as a node would run them, and says what training and
//! judging cost: `cargo run -p edge-agent --example learned -- <folder with labels.json>`.
//!
//! A model is trained at the end of each file's probation (its first 15%, at most 750 rows, which do not count) and again
//! after every 2,016 rows, a week of five minutes, from all samples so far; a new one judges only if it is better. The rate of
//! false alarms is chosen on every second file of each folder, as `edge-core`'s example `nab` chooses thresholds.

use std::{path::Path, sync::Arc, time::Instant};

use edge_agent::learning::{
    book::Rule,
    lesson::{self, Task},
};
use edge_core::signal::{
    Outcome, Series, Signal,
    config::{Detector, Method},
    learned::{Brain, Model, Sample},
};
use score::{File, halves, load, score, total};

#[path = "../core/examples/nab/score.rs"]
mod score;

const RATES: [&str; 6] = ["3d", "7d", "14d", "30d", "90d", "365d"];
/// Rows between two trainings.
const WEEK: usize = 2_016;

/// Detectors beside each other, with `STEP` and `RATE` in their places.
const CASES: [(&str, Brain, &str); 3] = [
    ("forecast", Brain::Forecast, ""),
    ("reconstruct", Brain::Reconstruct, ""),
    (
        "forecast with seasonal",
        Brain::Forecast,
        r#",{"name":"b","kind":"seasonal","slots":96,"smooth":3,"threshold":5,"warmUp":"2d","coolDown":"12h"}"#,
    ),
];

/// The models of a file, each with the row from which it judges.
type Course = Vec<(usize, Arc<Model>)>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).ok_or("say where the benchmark's files are")?;
    let files = load(Path::new(&folder))?;
    let (chosen_on, held_out) = halves(&files);
    for (name, brain, beside) in CASES {
        let (mut trainings, mut longest, mut sum) = (0, 0.0_f64, 0.0);
        let mut courses = Vec::new();
        for file in &files {
            courses.push(course(file, brain, |took| {
                (trainings, longest, sum) = (trainings + 1, longest.max(took), sum + took);
            })?);
        }
        let found = |rate: &str| -> Result<Vec<Vec<usize>>, Box<dyn std::error::Error>> {
            files
                .iter()
                .zip(&courses)
                .map(|(file, course)| findings(&signal(file, rate, beside)?, file, course))
                .collect()
        };
        let of = |some: &[&File], found: &[Vec<usize>]| {
            let scored = files.iter().zip(found).filter(|(file, _)| some.iter().any(|one| one.name == file.name));
            total(scored.map(|(file, found)| (score(file, found), file.windows.len())))
        };
        let mut best = (f64::MIN, "", 0.0, 0.0);
        for rate in RATES {
            let found = found(rate)?;
            let chosen = of(&chosen_on, &found);
            if chosen > best.0 {
                best = (chosen, rate, of(&held_out, &found), of(&files.iter().collect::<Vec<_>>(), &found));
            }
        }
        let (chosen, rate, honest, all) = best;
        println!(
            "{name:24} rate {rate} from {} files (there {chosen:.1}): {honest:.1} on the other {}; {all:.1} on all; {trainings} trainings, mean {:.0} ms, longest {:.0} ms",
            chosen_on.len(),
            held_out.len(),
            1e3 * sum / f64::from(trainings.max(1)),
            1e3 * longest,
        );
    }
    cost(&files)
}

fn step_ms(file: &File) -> i64 {
    let mut gaps: Vec<i64> = file.rows.windows(2).map(|pair| pair[1].0.as_millis() - pair[0].0.as_millis()).collect();
    gaps.sort_unstable();
    gaps.get(gaps.len() / 2).copied().unwrap_or(300_000).max(1)
}

fn signal(file: &File, rate: &str, beside: &str) -> Result<Signal, serde_json::Error> {
    let step = step_ms(file);
    let json = format!(
        r#"[{{"name":"a","kind":"learned","step":"{step}ms","season":"1d","falseAlarmEvery":"{rate}","coolDown":"12h"}}{beside}]"#
    );
    Ok(Signal { window: None, detectors: serde_json::from_str(&json)? })
}

/// Trains as the node would, and tells how long each training took, in seconds.
fn course(file: &File, brain: Brain, mut told: impl FnMut(f64)) -> Result<Course, Box<dyn std::error::Error>> {
    let signal = signal(file, "30d", "")?;
    let rule = Rule::of(&signal.detectors[0]).ok_or("a detector that learns")?;
    let (mut series, mut outcome) = (Series::new(&signal, "value"), Outcome::default());
    let (mut course, mut samples): (Course, Vec<Sample>) = (Vec::new(), Vec::new());
    let mut next = (file.rows.len() * 15 / 100).min(750);
    for (row, (at, value)) in file.rows.iter().enumerate() {
        if row == next {
            let previous = course.last().map(|(version, model)| (i64::try_from(*version).unwrap_or(0), &**model));
            let until = Instant::now() + std::time::Duration::from_secs(60);
            let task = Task { rule, brain, seed: 1, until, previous };
            let began = Instant::now();
            match lesson::learn(&task, samples.clone()) {
                Ok(learned) => {
                    told(began.elapsed().as_secs_f64());
                    if learned.takeover.takes_over {
                        course.push((row, Arc::new(lesson::unpack(&learned.weights)?)));
                    }
                    next = row + WEEK;
                }
                // Too young still.
                Err(_) => next = row + 100,
            }
        }
        series.take(&signal, *at, *value, &mut outcome);
        samples.extend(outcome.samples.drain(..).map(|(_, sample)| sample));
        outcome.findings.clear();
    }
    Ok(course)
}

fn findings(signal: &Signal, file: &File, course: &Course) -> Result<Vec<usize>, Box<dyn std::error::Error>> {
    let (mut series, mut outcome) = (Series::new(signal, "value"), Outcome::default());
    let mut found = Vec::new();
    for (row, (at, value)) in file.rows.iter().enumerate() {
        if let Some((from, model)) = course.iter().find(|(from, _)| *from == row) {
            series.equip("a", Some((from.to_string(), Arc::clone(model))));
        }
        series.take(signal, *at, *value, &mut outcome);
        if !outcome.findings.is_empty() {
            found.push(row);
            outcome.findings.clear();
        }
        outcome.samples.clear();
    }
    Ok(found)
}

/// What a reading costs with each detector, on the file with the most rows, each row a sample of its own.
fn cost(files: &[File]) -> Result<(), Box<dyn std::error::Error>> {
    let file = files.iter().max_by_key(|file| file.rows.len()).ok_or("a file")?;
    let robust: Vec<Detector> = serde_json::from_str(r#"[{"name":"a","kind":"robust","length":288}]"#)?;
    let limits: Vec<Detector> = serde_json::from_str(r#"[{"name":"a","kind":"limits","high":1000}]"#)?;
    for (name, detectors, brain) in [
        ("limits", Some(limits), Brain::Forecast),
        ("robust, 288 values", Some(robust), Brain::Forecast),
        ("forecast", None, Brain::Forecast),
        ("reconstruct", None, Brain::Reconstruct),
    ] {
        let (signal, course) = match detectors {
            Some(detectors) => (Signal { window: None, detectors }, Course::new()),
            None => {
                let mut course = course(file, brain, |_| {})?;
                // From the first row on.
                course.truncate(1);
                course.iter_mut().for_each(|(from, _)| *from = 0);
                (signal(file, "30d", "")?, course)
            }
        };
        let began = Instant::now();
        findings(&signal, file, &course)?;
        #[expect(clippy::cast_precision_loss, reason = "some thousand rows")]
        let each = began.elapsed().as_secs_f64() * 1e6 / file.rows.len() as f64;
        let state = {
            let mut series = Series::new(&signal, "value");
            let mut outcome = Outcome::default();
            for (at, value) in &file.rows {
                series.take(&signal, *at, *value, &mut outcome);
            }
            series.save().len()
        };
        let weights = course.first().map_or(0, |(_, model)| {
            let layers = model.net().layers.iter().chain(&model.net().skip);
            layers.map(|layer| layer.weights.len() + layer.bias.len()).sum()
        });
        let learns = signal.detectors.iter().any(|detector| matches!(detector.method, Method::Learned(_)));
        let of = if learns { format!(", {weights} weights") } else { String::new() };
        println!("{name:24} {each:.2} us a reading, {state} bytes of state in a checkpoint{of}");
    }
    Ok(())
}
