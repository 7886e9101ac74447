//! How runs begin: one that somebody starts is written down together with its first step, those that waited on the disk are
//! read together.

use std::{collections::HashMap, sync::Arc};

use edge_core::engine::Command;
use rusqlite::Connection;
use shared::{id::RunId, ledger::entry::Entry};
use tokio::sync::oneshot;

use super::{
    commit::{self, Ready},
    drive::{self, Told},
    journal::{self, Loaded, NewRun},
    pump::{Beginning, IN_FLIGHT_MAX},
    runner::{Inner, Message},
};
use crate::store::{self, Transaction};

const START: &str = "start a run";

/// A run on its way to the disk, and where to tell that it is there.
pub(super) struct Birth {
    pub run: NewRun,
    /// What the ledger says of its start, before what it says of its first step.
    entry: Entry,
    told: oneshot::Sender<Result<(), store::Error>>,
}

impl Inner {
    /// Writes a run down. It begins at once, in the same transaction, unless so much is under way that it has to wait for its
    /// turn.
    pub(super) async fn start(self: &Arc<Self>, run: NewRun, entry: Entry) -> Result<(), store::Error> {
        if self.under_way() < IN_FLIGHT_MAX {
            let (told, kept) = oneshot::channel();
            self.send(run.id, Message::Birth(Box::new(Birth { run, entry, told })));
            return kept.await.map_err(|_| store::Error::Closed { operation: START })?;
        }
        let write = move |tx: &mut Transaction<'_>| {
            journal::insert(tx.connection(), &run)?;
            tx.append(&entry)?;
            Ok(())
        };
        self.store.write(START, write).await?;
        self.bell.starts();
        Ok(())
    }

    /// The first step of a run that nobody else knows of yet. When it cannot be kept, there is no run.
    pub(super) async fn be_born(self: &Arc<Self>, run: RunId, loaded: &mut Loaded, birth: Birth) {
        let Birth { run: new, entry, told } = birth;
        let (Some((input, label)), now) = (loaded.beginning.take(), self.clock.now()) else { return };
        let start = Told::with(Command::Start { input, label }, vec![entry]);
        let mut step = match drive::decide(loaded, start.command.clone(), now).await {
            Ok(step) => step,
            Err(rejection) => {
                let error = store::Error::Data { operation: START, detail: rejection.to_string() };
                return drop(told.send(Err(error)));
            }
        };
        let more = step.more;
        let ready = Arc::new(Ready::first(self.commit_of(run, loaded, &mut step, &start, now), &new));
        let write = Arc::clone(&ready);
        let written = self.store.write_repeatable(START, move |tx| commit::write(tx, &write)).await;
        let is_kept = written.is_ok();
        // Who started it may have gone.
        drop(told.send(written.map(drop)));
        if is_kept {
            self.apply(run, loaded, step, &ready);
        }
        if is_kept && more {
            self.step(run, loaded, Command::Continue, Vec::new()).await;
        }
    }

    /// Lets runs begin, or go on where the node was killed.
    pub(super) async fn begin(self: &Arc<Self>, runs: Vec<RunId>, beginning: &mut Beginning) {
        let (free, busy): (Vec<_>, Vec<_>) = runs.into_iter().partition(|run| self.claim(*run));
        let mut read = self.load_together(&free).await;
        for run in free {
            let (done, begun) = oneshot::channel();
            self.drive_claimed(run, read.remove(&run), Message::Begin(done));
            beginning.push(begun);
        }
        for run in busy {
            let (done, begun) = oneshot::channel();
            self.send(run, Message::Begin(done));
            beginning.push(begun);
        }
    }

    /// What can be read of these runs. Each of the others is read by itself, and says what is wrong.
    async fn load_together(self: &Arc<Self>, runs: &[RunId]) -> HashMap<RunId, Box<Loaded>> {
        let (inner, runs) = (Arc::clone(self), runs.to_vec());
        let read = move |connection: &Connection| {
            let load = |run: RunId| Some((run, Box::new(journal::load(connection, &inner.catalog, run).ok()??)));
            Ok(runs.into_iter().filter_map(load).collect())
        };
        self.store.read("load runs", read).await.unwrap_or_default()
    }
}
