//! What goes on in the pipeline, for pages and tables: a snapshot that costs its readers nothing.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use serde::Serialize;
use serde_json::Value;
use shared::time::Timestamp;
use tokio::{sync::watch, time::Instant};

use super::latency::Latency;
use crate::{clock, feed::journal::Row};

/// How often the snapshot is renewed while readings come.
pub(super) const RENEWED_EVERY: Duration = Duration::from_secs(1);
/// Series shown; a page with more would not be read.
pub(super) const SERIES_SHOWN_MAX: usize = 1_000;
/// Findings shown, newest last.
const FINDINGS_SHOWN_MAX: usize = 50;

/// The pipeline at one moment.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Snapshot {
    pub at: Timestamp,
    /// Messages a second, over the time since the snapshot before.
    pub messages_per_second: f64,
    /// Since the start of the process.
    pub messages: u64,
    pub readings: u64,
    pub findings: u64,
    /// All series of the node; `series` shows at most a thousand of them.
    pub series_count: usize,
    pub series: Vec<SeriesView>,
    /// The data of the newest findings, newest last.
    pub recent: Vec<Value>,
    /// By feed, of what came in since the start of the process.
    pub latency: BTreeMap<Arc<str>, Latency>,
}

/// The newest reading of a series and what was counted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SeriesView {
    pub feed: Arc<str>,
    pub device: Arc<str>,
    pub channel: Arc<str>,
    pub value: f64,
    pub unit: Option<Arc<str>>,
    pub at: Timestamp,
    pub readings: u64,
    pub late: u64,
    pub windows: u64,
}

pub(super) struct Live {
    snapshot: watch::Sender<Arc<Snapshot>>,
    /// Before the first renewal: never.
    renewed: Option<Instant>,
    messages: u64,
    messages_before: u64,
    readings: u64,
    findings: u64,
    recent: VecDeque<Value>,
    latency: BTreeMap<Arc<str>, Latency>,
    stale: bool,
}

impl Live {
    pub(super) fn new() -> (Self, watch::Receiver<Arc<Snapshot>>) {
        let (snapshot, receiver) = watch::channel(Arc::new(Snapshot::default()));
        let live = Self {
            snapshot,
            renewed: None,
            messages: 0,
            messages_before: 0,
            readings: 0,
            findings: 0,
            recent: VecDeque::new(),
            latency: BTreeMap::new(),
            stale: false,
        };
        (live, receiver)
    }

    pub(super) const fn count(&mut self, messages: u64, readings: u64) {
        self.messages += messages;
        self.readings += readings;
        self.stale = true;
    }

    /// These rows have just passed the detectors.
    pub(super) fn passed(&mut self, rows: &[Row]) {
        let now = clock::now();
        for of_feed in rows.chunk_by(|a, b| Arc::ptr_eq(&a.feed, &b.feed)) {
            let Some(feed) = of_feed.first().map(|row| row.feed.name.as_str()) else { continue };
            if !self.latency.contains_key(feed) {
                self.latency.insert(feed.into(), Latency::default());
            }
            let Some(latency) = self.latency.get_mut(feed) else { continue };
            of_feed.iter().for_each(|row| latency.took(now.since(row.reading.at)));
        }
    }

    pub(super) fn found(&mut self, data: Value) {
        self.findings += 1;
        if self.recent.len() >= FINDINGS_SHOWN_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(data);
    }

    /// Renews the snapshot when it is time and something has changed; for the first time at once, so that whoever waits for
    /// a node that starts sees its first message when it is handled.
    pub(super) fn renew(&mut self, series: impl FnOnce() -> (usize, Vec<SeriesView>)) {
        let elapsed = self.renewed.map_or(RENEWED_EVERY, |at| at.elapsed());
        if elapsed < RENEWED_EVERY || !self.stale {
            return;
        }
        let (series_count, series) = series();
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let messages_per_second = (self.messages - self.messages_before) as f64 / elapsed.as_secs_f64();
        // One more renewal after the last reading, so that the rate falls to zero.
        self.stale = self.messages != self.messages_before;
        self.messages_before = self.messages;
        self.renewed = Some(Instant::now());
        self.snapshot.send_replace(Arc::new(Snapshot {
            at: clock::now(),
            messages_per_second,
            messages: self.messages,
            readings: self.readings,
            findings: self.findings,
            series_count,
            series,
            recent: self.recent.iter().cloned().collect(),
            latency: self.latency.clone(),
        }));
    }
}
