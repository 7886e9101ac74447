//! Keeps what was added from files in step with them, in the background: policy and ledger are asked and told as when a person adds and removes
//! documents.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    memory::{Due, Followed, Mark, Memory, files::BEING_WRITTEN},
    store::Store,
    workflow::{Rooms, Wanted, perform_wanted},
};

/// A file that could not be kept is tried again after so many looks, or when it changes.
const LOOKS_BETWEEN_TRIES: u32 = 12;
/// After each file the others have as much time as it took, up to this.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// What following needs.
pub(super) struct Follower {
    pub memory: Memory,
    pub rooms: Arc<Rooms>,
    pub store: Store,
    /// Time between two looks.
    pub every: Duration,
}

/// What could not be done, by what is followed and the file.
type Told = BTreeMap<(i64, String), Trouble>;

/// Why something could not be done, and how many looks ago that was told.
#[derive(Default)]
struct Trouble {
    why: String,
    looks: u32,
    /// What the file was like.
    mark: Option<Mark>,
}

impl Follower {
    /// Looks again and again until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut told = Told::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.every) => {}
            }
            told.values_mut().for_each(|trouble| trouble.looks += 1);
            told.retain(|_, trouble| trouble.looks < LOOKS_BETWEEN_TRIES);
            let memory = self.memory.clone();
            match blocking(move || memory.followed().map_err(|error| error.to_string())).await {
                Ok(all) => {
                    for followed in all {
                        tokio::select! {
                            () = stop.cancelled() => return,
                            () = self.look(&followed, &mut told) => {}
                        }
                    }
                }
                Err(error) => tracing::warn!(error, "the files that were added cannot be looked at"),
            }
        }
    }

    async fn look(&self, followed: &Followed, told: &mut Told) {
        let (memory, own) = (self.memory.clone(), followed.clone());
        let due = match blocking(move || memory.look(&own)).await {
            Ok(due) => due,
            Err(why) => return tell(told, followed, "", None, why),
        };
        told.remove(&(followed.id, String::new()));
        for due in due {
            let (Due::Read { id, .. } | Due::Gone { id }) = &due;
            let mark = if let Due::Read { mark, .. } = &due { *mark } else { None };
            let (id, began) = (id.clone(), Instant::now());
            if told.get(&(followed.id, id.clone())).is_some_and(|trouble| trouble.mark == mark) {
                continue;
            }
            match self.perform(followed, due).await {
                Ok(()) => drop(told.remove(&(followed.id, id))),
                // The next look finds it whole.
                Err(why) if why == BEING_WRITTEN => {}
                Err(why) => tell(told, followed, &id, mark, why),
            }
            tokio::time::sleep(began.elapsed().min(PAUSE_MAX)).await;
        }
    }

    async fn perform(&self, followed: &Followed, due: Due) -> Result<(), String> {
        let (memory, own) = (self.memory.clone(), followed.clone());
        match due {
            Due::Read { id, file, .. } => {
                let read_id = id.clone();
                let Some(read) = blocking(move || memory.read(&own, &read_id, &file)).await? else { return Ok(()) };
                // Somebody may have taken it away since the look began.
                let (memory, own) = (self.memory.clone(), followed.clone());
                let all = blocking(move || memory.followed().map_err(|error| error.to_string())).await?;
                if !all.contains(&own) {
                    return Ok(());
                }
                let announce = {
                    let (memory, own, id, read) = (self.memory.clone(), own.clone(), id.clone(), read.clone());
                    move || memory.announce(&own, &id, &read).map_err(|error| error.to_string())
                };
                blocking(announce).await?;
                let Followed { index, source, subject, .. } = followed;
                let mut input = json!({ "index": index, "id": read.name, "text": read.text, "source": source });
                if let Some(subject) = subject {
                    input["subject"] = subject.as_str().into();
                }
                self.ask("remember", input, followed).await?;
                let memory = self.memory.clone();
                blocking(move || memory.note(&own, &id, &read).map_err(|error| error.to_string())).await
            }
            Due::Gone { id } => {
                let name = {
                    let (memory, own, id) = (memory.clone(), own.clone(), id.clone());
                    blocking(move || memory.left_by(&own, &id)).await?
                };
                if let Some(name) = name {
                    let input = json!({ "index": followed.index, "id": name, "source": followed.source });
                    self.ask("forget", input, followed).await?;
                }
                blocking(move || memory.unnote(&own, &id).map_err(|error| error.to_string())).await
            }
        }
    }

    async fn ask(&self, function: &str, input: serde_json::Value, followed: &Followed) -> Result<(), String> {
        let wanted = Wanted { function: function.to_owned(), input, label: followed.label.clone() };
        let done = perform_wanted(&self.rooms, &self.store, wanted).await;
        done.map(drop).map_err(|failure| failure.error.detail.unwrap_or(failure.error.kind))
    }
}

/// Tells it once, and again when it is tried again.
fn tell(told: &mut Told, followed: &Followed, id: &str, mark: Option<Mark>, why: String) {
    let trouble = told.entry((followed.id, id.to_owned())).or_default();
    trouble.mark = mark;
    if trouble.why != why {
        let path = followed.path.join(id);
        tracing::warn!(path = %path.display(), index = followed.index, why, "a file that was added is not in step");
        (trouble.why, trouble.looks) = (why, 0);
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, String> + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(format!("it broke down: {error}")))
}
