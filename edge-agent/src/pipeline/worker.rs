//! The task that moves readings through windows and detectors, and keeps its place.

mod learners;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use edge_core::signal::{Kept, Outcome, Series};
use rusqlite::params;
use shared::{event::Event, id::NodeName, label::Label, time::Timestamp};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use learners::Learners;

use super::{
    Deliver, event,
    live::{Live, RENEWED_EVERY, SERIES_SHOWN_MAX, SeriesView},
};
use crate::{
    feed::{
        config::{Feed, Feeds},
        ingest::Passed,
        journal::{self, Row, Totals},
    },
    store::{self, Store},
};

/// How often the place is saved while readings come: what a restart has to go through again at most.
const SAVED_EVERY: Duration = Duration::from_secs(5);
/// Readings after which the place is saved even sooner: a restart takes up to a second for so many.
const SAVED_AFTER: i64 = 100_000;
/// Series of one node. Each has up to some tens of KiB of state; beyond it readings are kept but not watched, and counted.
const SERIES_MAX: usize = 10_000;
/// Rows that are read at once when catching up.
const CATCH_UP_LEN: usize = 4_096;
/// Events offered at once; a sink commits each offer.
const OFFERED_LEN_MAX: usize = 512;

type Name = (Arc<str>, Arc<str>);

struct Watched {
    series: Series,
    /// Whether it changed since it was saved.
    changed: bool,
    value: f64,
    unit: Option<Arc<str>>,
    at: Timestamp,
}

#[derive(Default)]
struct Watching {
    feed: Option<Arc<Feed>>,
    series: HashMap<Name, Watched>,
}

pub(super) struct Worker {
    store: Store,
    node: NodeName,
    feeds: Arc<Feeds>,
    sink: Arc<dyn Deliver>,
    live: Live,
    stop: CancellationToken,
    /// By the feed's name.
    watching: BTreeMap<Arc<str>, Watching>,
    series_count: usize,
    position: i64,
    saved_position: i64,
    saved_at: Instant,
    save_failing: bool,
    /// Late and unwatched readings since the last save.
    totals: BTreeMap<Arc<str>, Totals>,
    outcome: Outcome,
    learners: Learners,
}

/// A saved series: feed, device, channel, window, state.
type Saved = (String, String, String, String, Vec<u8>);

impl Worker {
    pub(super) async fn load(
        store: Store,
        node: NodeName,
        feeds: Arc<Feeds>,
        sink: Arc<dyn Deliver>,
        live: Live,
        stop: CancellationToken,
    ) -> Result<Self, store::Error> {
        let (position, saved) = store
            .read("read the pipeline's place", |connection| {
                let position: i64 = connection.query_row("SELECT position FROM journal_state", [], |row| row.get(0))?;
                let saved = connection
                    .prepare("SELECT feed, device, channel, window, state FROM series")?
                    .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)))?
                    .collect::<Result<Vec<Saved>, _>>()?;
                Ok((position, saved))
            })
            .await?;
        let mut worker = Self {
            store,
            node,
            feeds,
            sink,
            live,
            stop,
            watching: BTreeMap::new(),
            series_count: 0,
            position,
            saved_position: position,
            saved_at: Instant::now(),
            save_failing: false,
            totals: BTreeMap::new(),
            outcome: Outcome::default(),
            learners: Learners::default(),
        };
        for series in saved {
            worker.restore(series);
        }
        worker.equip().await?;
        Ok(worker)
    }

    fn restore(&mut self, (name, device, channel, window, state): Saved) {
        let Some(feed) = self.feeds.named(&name) else { return };
        let kept = if window == window_text(feed) { Kept::Yes } else { Kept::No };
        match Series::load(&feed.signal, &channel, kept, &state) {
            Ok(series) => {
                let watching = self.watching.entry(name.into()).or_default();
                watching.feed = Some(Arc::clone(feed));
                let watched = Watched { series, changed: false, value: f64::NAN, unit: None, at: Timestamp::default() };
                watching.series.insert((device.into(), channel.into()), watched);
                self.series_count += 1;
            }
            Err(error) => {
                tracing::error!(feed = name, device, channel, %error, "a saved series is damaged; it begins anew")
            }
        }
    }

    /// Runs until the journal's end, having caught up with what was written before this start (up to `last`).
    pub(super) async fn run(mut self, mut passed: mpsc::Receiver<Passed>, last: i64) {
        if self.catch_up(last).await.is_err() {
            return;
        }
        let mut tick = tokio::time::interval(RENEWED_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                passed = passed.recv() => match passed {
                    None => break,
                    Some(Passed::Batch(batch)) => {
                        let messages: i64 = batch.totals.values().map(|totals| totals.received).sum();
                        self.live.count(messages.unsigned_abs(), batch.rows.len() as u64);
                        if self.take(&batch.rows, batch.last()).await.is_err() {
                            return;
                        }
                        self.live.passed(&batch.rows);
                    }
                    Some(Passed::Feeds(feeds, done)) => {
                        self.save().await;
                        self.change(feeds);
                        if let Err(error) = self.equip().await {
                            tracing::error!(%error, "models of detectors cannot be read; their fallbacks judge");
                        }
                        // The one who asked may have gone; the change is done all the same.
                        let _gone = done.send(());
                    }
                },
                _ = tick.tick() => {}
            }
            let since = self.position - self.saved_position;
            if since >= SAVED_AFTER || since > 0 && self.saved_at.elapsed() >= SAVED_EVERY {
                self.save().await;
            }
            self.renew();
        }
        self.save().await;
    }

    /// Takes what the journal held at this start. What is written meanwhile is not read here: it is passed, and would be
    /// taken twice.
    async fn catch_up(&mut self, last: i64) -> Result<(), Stopped> {
        while self.position < last {
            let (feeds, position) = (Arc::clone(&self.feeds), self.position);
            let read = self.store.read("read the journal", move |connection| {
                journal::read_after(connection, &feeds, position, last, CATCH_UP_LEN)
            });
            match read.await {
                Ok((rows, Some(reached))) => self.take(&rows, reached).await?,
                Ok((_, None)) => break,
                Err(error) => {
                    tracing::error!(%error, "the pipeline cannot catch up with the journal");
                    self.wait(Duration::from_secs(1)).await?;
                }
            }
        }
        self.position = self.position.max(last);
        Ok(())
    }

    /// Moves rows through and delivers what comes of them.
    async fn take(&mut self, rows: &[Row], last: i64) -> Result<(), Stopped> {
        let mut events = Vec::new();
        for row in rows {
            if let Some((topic, payload)) = &row.message {
                events.push((event::of_message(&self.node, row, topic, payload), row.feed.label.clone()));
            }
            self.step(row, &mut events);
        }
        while !events.is_empty() {
            let rest = events.split_off(events.len().min(OFFERED_LEN_MAX));
            self.deliver(events).await?;
            events = rest;
        }
        self.position = last;
        Ok(())
    }

    fn step(&mut self, row: &Row, events: &mut Vec<(Event, Label)>) {
        let (feed, reading) = (&row.feed, &row.reading);
        if !self.watching.contains_key(feed.name.as_str()) {
            self.watching
                .insert(feed.name.as_str().into(), Watching { feed: Some(Arc::clone(feed)), ..Watching::default() });
        }
        let watching = self.watching.get_mut(feed.name.as_str()).expect("inserted above");
        let name = (Arc::clone(&reading.device), Arc::clone(&reading.channel));
        let watched = match watching.series.entry(name) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => {
                if self.series_count >= SERIES_MAX {
                    count(&mut self.totals, &feed.name).unwatched += 1;
                    return;
                }
                self.series_count += 1;
                let series = Series::new(&feed.signal, &reading.channel);
                place.insert(Watched { series, changed: true, value: reading.value, unit: None, at: reading.at })
            }
        };
        (watched.changed, watched.value, watched.at) = (true, reading.value, reading.at);
        watched.unit.clone_from(&reading.unit);
        let (_, late_before, _) = watched.series.counts();
        watched.series.take(&feed.signal, reading.at, reading.value, &mut self.outcome);
        // One that leapt ahead turns out to be late only when the next one is there.
        let (_, late, _) = watched.series.counts();
        if late > late_before {
            count(&mut self.totals, &feed.name).late += i64::try_from(late - late_before).unwrap_or(i64::MAX);
        }
        for finding in self.outcome.findings.drain(..) {
            let event = event::of_finding(&self.node, row, &finding);
            self.live.found(event.data.clone().unwrap_or_default());
            events.push((event, feed.label.clone()));
        }
        self.outcome.closed.clear();
        self.learners.sampled(feed, &reading.device, &reading.channel, &mut self.outcome.samples);
    }

    /// Offers the events until they are taken. Nothing further is read meanwhile, so that the feeds are held back.
    async fn deliver(&self, events: Vec<(Event, Label)>) -> Result<(), Stopped> {
        let mut failing = false;
        loop {
            match self.sink.deliver(events.clone()).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    if !failing {
                        tracing::error!(%error, "findings cannot be delivered; they are offered again until they are taken");
                    }
                    failing = true;
                    self.wait(Duration::from_secs(1)).await?;
                }
            }
        }
    }

    async fn wait(&self, span: Duration) -> Result<(), Stopped> {
        match tokio::time::timeout(span, self.stop.cancelled()).await {
            Ok(()) => Err(Stopped),
            Err(_) => Ok(()),
        }
    }

    /// Saves the changed series together with the place, and lets the journal drop what lies behind.
    async fn save(&mut self) {
        if self.position == self.saved_position {
            return;
        }
        let taken_up = self.take_up().await;
        let histories = self.learners.histories(&self.feeds);
        let mut states: Vec<Saved> = Vec::new();
        for (name, watching) in &self.watching {
            let window = watching.feed.as_deref().map(window_text).unwrap_or_default();
            for ((device, channel), watched) in watching.series.iter().filter(|(_, watched)| watched.changed) {
                states.push((
                    name.to_string(),
                    device.to_string(),
                    channel.to_string(),
                    window.clone(),
                    watched.series.save(),
                ));
            }
        }
        let (position, totals) = (self.position, self.totals.clone());
        let written = self.store.write("save the pipeline's place", move |tx| {
            let connection = tx.connection();
            for (feed, device, channel, window, state) in &states {
                connection
                    .prepare_cached("INSERT OR REPLACE INTO series (feed, device, channel, window, state) VALUES (?1, ?2, ?3, ?4, ?5)")?
                    .execute(params![feed, device, channel, window, state])?;
            }
            for (feed, totals) in &totals {
                journal::add_totals(connection, feed, totals)?;
            }
            let unlearned = learners::keep(connection, &histories)?;
            connection.prepare_cached("UPDATE journal_state SET position = ?1")?.execute([position])?;
            journal::trim(connection, position)?;
            Ok(unlearned)
        });
        self.saved_at = Instant::now();
        match written.await {
            Ok(unlearned) => {
                self.learners.kept(unlearned);
                self.saved_position = position;
                self.totals.clear();
                self.save_failing = false;
                for watched in self.watching.values_mut().flat_map(|watching| watching.series.values_mut()) {
                    watched.changed = false;
                }
            }
            Err(error) => {
                self.put_down(taken_up);
                if !self.save_failing {
                    tracing::error!(%error, "the pipeline's place cannot be saved; it is tried again");
                }
                self.save_failing = true;
            }
        }
    }

    /// Goes over to other feeds: series of feeds that changed are taken over under their new configuration.
    fn change(&mut self, feeds: Arc<Feeds>) {
        self.feeds = feeds;
        let old = std::mem::take(&mut self.watching);
        self.series_count = 0;
        for (name, watching) in old {
            let Some(feed) = self.feeds.named(&name).cloned() else { continue };
            let same = watching.feed.as_deref().map(window_text) == Some(window_text(&feed));
            let kept = if same { Kept::Yes } else { Kept::No };
            let mut taken = Watching { feed: Some(Arc::clone(&feed)), series: HashMap::new() };
            for ((device, channel), mut watched) in watching.series {
                // Saving and loading is how a state meets a new configuration, here as after a restart.
                if let Ok(series) = Series::load(&feed.signal, &channel, kept, &watched.series.save()) {
                    (watched.series, watched.changed) = (series, true);
                    taken.series.insert((device, channel), watched);
                    self.series_count += 1;
                }
            }
            self.watching.insert(name, taken);
        }
    }

    fn renew(&mut self) {
        let (watching, count) = (&self.watching, self.series_count);
        self.live.renew(|| {
            let all = watching
                .iter()
                .flat_map(|(feed, watching)| watching.series.iter().map(move |(name, watched)| (feed, name, watched)));
            let seen = all.filter(|(_, _, watched)| watched.value.is_finite());
            let mut shown: Vec<SeriesView> = seen
                .take(SERIES_SHOWN_MAX)
                .map(|(feed, (device, channel), watched)| {
                    let (readings, late, windows) = watched.series.counts();
                    let (feed, device, channel) = (Arc::clone(feed), Arc::clone(device), Arc::clone(channel));
                    let (value, unit, at) = (watched.value, watched.unit.clone(), watched.at);
                    SeriesView { feed, device, channel, value, unit, at, readings, late, windows }
                })
                .collect();
            shown.sort_by(|a, b| (&a.feed, &a.device, &a.channel).cmp(&(&b.feed, &b.device, &b.channel)));
            (count, shown)
        });
    }
}

/// The agent goes down while something could not be done; it is done after the next start.
#[derive(Debug)]
struct Stopped;

fn count<'a>(totals: &'a mut BTreeMap<Arc<str>, Totals>, feed: &str) -> &'a mut Totals {
    if !totals.contains_key(feed) {
        totals.insert(feed.into(), Totals::default());
    }
    totals.get_mut(feed).expect("inserted above")
}

fn window_text(feed: &Feed) -> String {
    format!("{:?}", feed.signal.window)
}
