//! The recording of a real machine: the temperature of one component, with labelled windows of trouble.
//!
//! It belongs to the Numenta Anomaly Benchmark and is no part of the checkout; `SKERRY_NAB_DIR` says where it lies.

use std::path::PathBuf;

use shared::time::Timestamp;

const FILE: &str = "realKnownCause/machine_temperature_system_failure.csv";

/// The recording: where it lies, its readings in order, and the windows in which something was wrong.
pub struct Recording {
    pub path: PathBuf,
    pub readings: Vec<(Timestamp, f64)>,
    pub windows: Vec<(Timestamp, Timestamp)>,
}

impl Recording {
    /// Reads it.
    ///
    /// # Panics
    /// When it is not there: `tests/run` leaves the tests that need it out and says so.
    #[must_use]
    pub fn load() -> Self {
        let folder = std::env::var_os("SKERRY_NAB_DIR")
            .map_or_else(|| crate::binaries::checkout().join("../shared/data/nab"), PathBuf::from);
        let path = folder.join(FILE);
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}; set SKERRY_NAB_DIR to the data of NAB", path.display()));
        let readings = text
            .lines()
            .skip(1)
            .map(|line| {
                let (time, value) = line.split_once(',').expect("two columns");
                (instant(time), value.parse().expect("a number"))
            })
            .collect();
        let labels = std::fs::read_to_string(folder.join("labels.json")).expect("the labels lie beside the data");
        let labels: serde_json::Value = serde_json::from_str(&labels).expect("the labels are JSON");
        let windows = labels[FILE]["windows"]
            .as_array()
            .expect("the file has windows")
            .iter()
            .map(|window| {
                let end = |index: usize| instant(window[index].as_str().expect("a window has two ends"));
                (end(0), end(1))
            })
            .collect();
        Self { path, readings, windows }
    }
}

/// The recording's times have no zone; they are read as UTC.
fn instant(text: &str) -> Timestamp {
    let text = text.split('.').next().expect("a text has a first part").replace(' ', "T");
    format!("{text}Z").parse().expect("an instant")
}
