//! Series whose detectors learn: their samples go to the history with the checkpoint, and the model that was chosen is taken
//! up at a checkpoint and saved with it. So after a kill the readings since then are judged by the model that judged them.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use edge_core::signal::{
    Series,
    config::Method,
    learned::{Model, Sample},
};
use rusqlite::Connection;
use shared::label::Label;

use super::{Watched, Worker};
use crate::{
    feed::config::{Feed, Feeds},
    learning::book::{self, Name, Rule},
    store,
};

/// Samples of one series that wait for a checkpoint. They wait for more than some seconds only while nothing can be saved;
/// then the oldest are dropped, as they would be from the history.
const WAITING_MAX: usize = 10_080;

/// A stretch of history on its way to the store.
pub(super) type Stretch = (Name, Rule, Label, Vec<Sample>);

/// What is not saved yet, and which models are known to be of no use.
#[derive(Default)]
pub(super) struct Learners {
    waiting: BTreeMap<Name, Vec<Sample>>,
    /// Digests of models that are gone, or of another shape than their detector.
    unusable: HashSet<String>,
    unlearned_told: bool,
}

impl Learners {
    pub fn sampled(&mut self, feed: &Feed, device: &str, channel: &str, samples: &mut Vec<(String, Sample)>) {
        for (detector, sample) in samples.drain(..) {
            let (feed, device, channel) = (feed.name.clone(), device.to_owned(), channel.to_owned());
            let waiting = self.waiting.entry(Name { feed, detector, device, channel }).or_default();
            if waiting.len() >= WAITING_MAX {
                waiting.remove(0);
            }
            waiting.push(sample);
        }
    }

    /// What waits, with what its detectors are now.
    pub fn histories(&self, feeds: &Feeds) -> Vec<Stretch> {
        let stretch = |(name, samples): (&Name, &Vec<Sample>)| {
            let feed = feeds.named(&name.feed)?;
            let detector = feed.signal.detectors.iter().find(|detector| detector.name == name.detector)?;
            Some((name.clone(), Rule::of(detector)?, feed.label.clone(), samples.clone()))
        };
        self.waiting.iter().filter_map(stretch).collect()
    }

    /// What waited is on the disk. `unlearned`: a series for which there was no room.
    pub fn kept(&mut self, unlearned: Option<Name>) {
        self.waiting.clear();
        if let Some(name) = unlearned.filter(|_| !std::mem::replace(&mut self.unlearned_told, true)) {
            let Name { feed, detector, device, channel } = name;
            tracing::warn!(feed, detector, device, channel, "too many series learn: no history is kept of this one");
        }
    }
}

/// Adds the stretches to their histories; a name for which there was no room.
pub(super) fn keep(connection: &Connection, histories: &[Stretch]) -> rusqlite::Result<Option<Name>> {
    let mut unlearned = None;
    for (name, rule, label, samples) in histories {
        if !book::keep(connection, name, rule, label, samples)? {
            unlearned = Some(name.clone());
        }
    }
    Ok(unlearned)
}

/// Series as they were before they took up another model.
pub(super) type TakenUp = Vec<(Name, Series)>;

impl Worker {
    /// Gives each learner the model that its saved state names.
    pub(super) async fn equip(&mut self) -> Result<(), store::Error> {
        let mut wanted = Vec::new();
        for (feed, watching) in &self.watching {
            for ((device, channel), watched) in &watching.series {
                wanted.extend(watched.series.learners().filter_map(|(detector, digest)| {
                    let (feed, device, channel) = (feed.to_string(), device.to_string(), channel.to_string());
                    Some((Name { feed, detector: detector.to_owned(), device, channel }, digest?.to_owned()))
                }));
            }
        }
        let models = self.models(wanted.iter().map(|(_, digest)| digest.clone()).collect()).await?;
        for (name, digest) in wanted {
            let model = models.get(&digest).filter(|model| self.fits(&name, model)).cloned();
            if model.is_none() {
                tracing::warn!(
                    feed = name.feed,
                    device = name.device,
                    digest,
                    "a detector's model is gone; its fallback judges"
                );
            }
            let Some(watched) = self.watched(&name) else { continue };
            watched.series.equip(&name.detector, model.map(|model| (digest, model)));
        }
        Ok(())
    }

    /// Takes up what was chosen since the last checkpoint. What it gives is for `put_down`, should the checkpoint fail.
    pub(super) async fn take_up(&mut self) -> TakenUp {
        let learns =
            |feed: &Arc<Feed>| feed.signal.detectors.iter().any(|one| matches!(one.method, Method::Learned(_)));
        if !self.feeds.list().iter().any(learns) {
            return Vec::new();
        }
        let read = async {
            let chosen = self.store.read("read which models are chosen", book::chosen).await?;
            let (mut changed, unusable) = (Vec::new(), self.learners.unusable.clone());
            for (name, digest) in chosen.into_iter().filter(|(_, digest)| !unusable.contains(digest)) {
                let Some(watched) = self.watched(&name) else { continue };
                let judges = watched.series.learners().find(|(detector, _)| *detector == name.detector);
                if judges.is_some_and(|(_, judges)| judges != Some(digest.as_str())) {
                    changed.push((name, digest));
                }
            }
            let models = self.models(changed.iter().map(|(_, digest)| digest.clone()).collect()).await?;
            Ok::<_, store::Error>((changed, models))
        };
        let (changed, models) = match read.await {
            Ok(read) => read,
            Err(error) => {
                tracing::error!(%error, "the chosen models cannot be read; it is tried again");
                return Vec::new();
            }
        };
        let mut taken_up = Vec::new();
        for (name, digest) in changed {
            let Some(model) = models.get(&digest).filter(|model| self.fits(&name, model)).cloned() else {
                self.learners.unusable.insert(digest);
                continue;
            };
            let Some(watched) = self.watched(&name) else { continue };
            let before = watched.series.clone();
            watched.series.equip(&name.detector, Some((digest, model)));
            watched.changed = true;
            taken_up.push((name, before));
        }
        taken_up
    }

    /// The checkpoint failed: the models before judge on.
    pub(super) fn put_down(&mut self, taken_up: TakenUp) {
        // Backwards: a series with two learners is then as it was before the first.
        for (name, before) in taken_up.into_iter().rev() {
            if let Some(watched) = self.watched(&name) {
                watched.series = before;
            }
        }
    }

    async fn models(&self, mut digests: Vec<String>) -> Result<HashMap<String, Arc<Model>>, store::Error> {
        digests.sort();
        digests.dedup();
        if digests.is_empty() {
            return Ok(HashMap::new());
        }
        let read = move |connection: &Connection| {
            let read = |digest: String| Ok(book::model(connection, &digest)?.map(|model| (digest, Arc::new(model))));
            digests.into_iter().map(read).filter_map(Result::transpose).collect()
        };
        self.store.read("read the models of detectors", read).await
    }

    fn fits(&self, name: &Name, model: &Model) -> bool {
        let feed = self.feeds.named(&name.feed);
        let detectors = feed.into_iter().flat_map(|feed| &feed.signal.detectors);
        let mut same = detectors.filter(|detector| detector.name == name.detector);
        same.any(|detector| matches!(&detector.method, Method::Learned(learned) if model.fits(learned)))
    }

    fn watched(&mut self, name: &Name) -> Option<&mut Watched> {
        let series = (name.device.as_str().into(), name.channel.as_str().into());
        self.watching.get_mut(name.feed.as_str())?.series.get_mut(&series)
    }
}
