//! A disk whose power can be cut: files in memory, each as it was last synced, and what was written since. At a cut all,
//! none or some of what was not synced survives; of a write that survives in part, whole sectors do.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard},
};

use super::chance::Chance;

/// The unit that a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// What becomes of writes that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsynced {
    Lost,
    Kept,
    /// Sector by sector, by chance.
    Torn(u64),
}

/// Clones are the same disk.
#[derive(Clone, Default)]
pub(crate) struct Disk(Arc<Mutex<State>>);

#[derive(Default)]
pub(super) struct State {
    pub files: BTreeMap<String, File>,
    /// Memory that the connections to a database share, and who holds which of its locks. Gone with the power.
    pub shared: HashMap<String, Shared>,
    /// Writes, truncations and syncs so far.
    operations: u64,
    syncs: u64,
    /// The power goes with this operation.
    cut_at: Option<u64>,
    is_off: bool,
    handles: u64,
}

#[derive(Default, Clone)]
pub(super) struct File {
    pub now: Vec<u8>,
    synced: Option<Vec<u8>>,
    since: Vec<Change>,
    /// By handle: how far it has locked the file, 0 to 4 as SQLite counts.
    pub locks: HashMap<u64, i32>,
}

#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

/// Shared memory of one database.
#[derive(Default)]
pub(super) struct Shared {
    pub regions: Vec<Box<[u8]>>,
    /// By handle: the locks that it shares, and those that it has alone, a bit each.
    pub locks: HashMap<u64, (u8, u8)>,
}

/// The power is off.
pub(super) struct Off;

impl Disk {
    /// A disk with the same bytes, all of them synced.
    pub fn copy(&self) -> Self {
        let files =
            self.state().files.iter().map(|(name, file)| (name.clone(), File::synced(file.now.clone()))).collect();
        Self(Arc::new(Mutex::new(State { files, ..State::default() })))
    }

    /// How many operations there were.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// How many of them were syncs.
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// The power will go with this operation, counted from now, from 1.
    pub fn cut_after(&self, operations: u64) {
        let mut state = self.state();
        state.cut_at = Some(state.operations + operations);
    }

    pub fn is_off(&self) -> bool {
        self.state().is_off
    }

    /// Power off, now at the latest, and on again.
    pub fn restart(&self, unsynced: Unsynced) {
        let mut state = self.state();
        state.files.retain(|_, file| file.restart(unsynced));
        state.shared.clear();
        (state.is_off, state.cut_at) = (false, None);
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl State {
    pub fn handle(&mut self) -> u64 {
        self.handles += 1;
        self.handles
    }

    pub fn check(&self) -> Result<(), Off> {
        if self.is_off { Err(Off) } else { Ok(()) }
    }

    /// Counts an operation. With the last one its change has reached the disk's own memory, and nothing more is sure.
    fn count(&mut self) -> Result<(), Off> {
        self.operations += 1;
        self.is_off |= self.cut_at == Some(self.operations);
        self.check()
    }

    pub fn write(&mut self, name: &str, offset: usize, bytes: &[u8]) -> Result<(), Off> {
        self.check()?;
        let file = self.files.entry(name.to_owned()).or_default();
        file.change(Change::Write(offset, bytes.to_vec()));
        self.count()
    }

    pub fn truncate(&mut self, name: &str, length: usize) -> Result<(), Off> {
        self.check()?;
        self.files.entry(name.to_owned()).or_default().change(Change::Truncate(length));
        self.count()
    }

    pub fn sync(&mut self, name: &str) -> Result<(), Off> {
        self.check()?;
        self.count()?;
        self.syncs += 1;
        if let Some(file) = self.files.get_mut(name) {
            *file = File { locks: std::mem::take(&mut file.locks), ..File::synced(std::mem::take(&mut file.now)) };
        }
        Ok(())
    }
}

impl File {
    fn synced(bytes: Vec<u8>) -> Self {
        Self { synced: Some(bytes.clone()), now: bytes, ..Self::default() }
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.now, &change);
        self.since.push(change);
    }

    /// `false`: it was new, and its name was not on the disk yet.
    fn restart(&mut self, unsynced: Unsynced) -> bool {
        let mut chance = Chance::new(if let Unsynced::Torn(seed) = unsynced { seed } else { 0 });
        let is_there = match unsynced {
            Unsynced::Lost => self.synced.is_some(),
            Unsynced::Kept => true,
            Unsynced::Torn(_) => self.synced.is_some() || chance.one_in(2),
        };
        let mut bytes = self.synced.take().unwrap_or_default();
        for change in self.since.drain(..) {
            match (unsynced, change) {
                (Unsynced::Lost, _) => {}
                (Unsynced::Kept, change) => apply(&mut bytes, &change),
                (Unsynced::Torn(_), Change::Write(offset, data)) => {
                    let mut at = 0;
                    while at < data.len() {
                        let sector_end = (offset + at) / SECTOR_BYTES * SECTOR_BYTES + SECTOR_BYTES - offset;
                        let end = sector_end.min(data.len());
                        if chance.one_in(2) {
                            apply(&mut bytes, &Change::Write(offset + at, data[at..end].to_vec()));
                        }
                        at = end;
                    }
                }
                (Unsynced::Torn(_), change) => {
                    if chance.one_in(2) {
                        apply(&mut bytes, &change);
                    }
                }
            }
        }
        *self = Self::synced(bytes);
        is_there
    }
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write(offset, data) => {
            if bytes.len() < offset + data.len() {
                bytes.resize(offset + data.len(), 0);
            }
            bytes[*offset..offset + data.len()].copy_from_slice(data);
        }
        Change::Truncate(length) => bytes.resize(*length, 0),
    }
}

#[test]
fn what_was_synced_survives_and_the_rest_as_it_was_said() {
    let written = || {
        let disk = Disk::default();
        let mut state = disk.state();
        drop(state.write("a", 0, &[1; 1_024]));
        drop(state.sync("a"));
        drop(state.write("a", 512, &[2; 1_024]));
        drop(state.write("b", 0, &[3; 8]));
        drop(state);
        disk
    };
    let after = |unsynced| {
        let disk = written();
        disk.restart(unsynced);
        let state = disk.state();
        state.files.iter().map(|(name, file)| (name.clone(), file.now.clone())).collect::<Vec<_>>()
    };
    assert_eq!(after(Unsynced::Lost), [("a".to_owned(), vec![1; 1_024])]);
    let kept = after(Unsynced::Kept);
    assert_eq!((kept[0].1.len(), kept[0].1[1_000], &kept[1].1), (1_536, 2, &vec![3; 8]));
    let torn: Vec<_> = (0..64).map(|seed| after(Unsynced::Torn(seed))).collect();
    assert!(torn.iter().any(|files| files[0].1.get(600) == Some(&1) && files[0].1.get(1_100) == Some(&2)));
    assert!(torn.iter().any(|files| files.len() == 1) && torn.iter().any(|files| files.len() == 2));
}

#[test]
fn nothing_is_written_without_power() {
    let disk = Disk::default();
    disk.cut_after(2);
    let mut state = disk.state();
    assert!(state.write("a", 0, &[1]).is_ok());
    assert!(state.write("a", 1, &[1]).is_err(), "the power goes with this one");
    assert!(state.write("a", 2, &[1]).is_err() && state.sync("a").is_err());
    assert_eq!(state.files["a"].now, [1, 1]);
}
