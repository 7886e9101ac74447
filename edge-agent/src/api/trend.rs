//! The last values of each series as pages saw them, for the small drawings. Grows only while someone looks.

use std::{
    collections::{HashMap, VecDeque},
    sync::Mutex,
};

use shared::time::Timestamp;

use super::live::Live;

/// As many as the drawing has room for.
const VALUES_MAX: usize = 44;
/// Series that are drawn; beyond it all begin anew, which costs drawings alone.
const SERIES_MAX: usize = 4_096;

type Key = (String, String, String);

/// Values by feed, device and channel, oldest first.
#[derive(Default)]
pub(super) struct Trends(Mutex<HashMap<Key, VecDeque<(Timestamp, f64)>>>);

impl Trends {
    /// Takes in what is new and gives every series its trend.
    pub fn look(&self, live: &mut Live) {
        let mut kept = self.0.lock().expect("no thread panicked with the trends");
        for feed in &mut live.feeds {
            for series in &mut feed.series {
                let key = (feed.name.clone(), series.device.clone(), series.channel.clone());
                if kept.len() >= SERIES_MAX && !kept.contains_key(&key) {
                    kept.clear();
                }
                let values = kept.entry(key).or_default();
                if values.back().is_none_or(|(at, _)| *at < series.at) {
                    if values.len() == VALUES_MAX {
                        values.pop_front();
                    }
                    values.push_back((series.at, series.value));
                }
                series.trend = values.iter().map(|(_, value)| *value).collect();
            }
        }
    }
}
