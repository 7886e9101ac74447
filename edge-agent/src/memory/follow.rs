//! Files that were added from this machine are followed: at each look those that are new, changed or gone are told, by their time and size
//! first and by what is in them then. Whoever looks has them kept and forgotten, as a person would; nothing here reads or keeps by itself.
//!
//! A folder or mount that is away takes nothing away with it: a file is gone only when the place where it was is there, on the same
//! device, with something else in it, at two looks.

mod rows;

use std::{
    cell::Cell,
    collections::BTreeMap,
    fs::Metadata,
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Instant,
};

use edge_core::engine::effect::{Call, Completion, Failure, Keep};
use rusqlite::{Connection, params};
use serde::Deserialize;
use serde_json::json;
use shared::{
    digest::Digest,
    label::Label,
    ledger::entry::Fact,
    policy::{Permit, Target, TargetKind},
};

pub(super) use self::rows::forget;
use self::rows::{Row, kept, known, list};
use super::{
    Memory, broken,
    files::{self, Owner},
    hold, millis,
    remember::{index_named, named},
    wrong,
};
use crate::{memory::kept_path, store};

/// A file or folder that is followed.
#[derive(Debug, Clone, PartialEq)]
pub struct Followed {
    pub id: i64,
    pub index: String,
    pub source: String,
    pub path: PathBuf,
    pub subject: Option<String>,
    pub label: Label,
}

/// What is to be done about a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// It is new, or not as it was.
    Read { id: String, file: PathBuf, mark: Option<Mark> },
    /// It is gone.
    Gone { id: String },
}

/// A file that was read, to be noted when its text is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// What it is kept under.
    pub name: String,
    pub text: String,
    mark: Mark,
    digest: Digest,
}

/// What tells a changed file without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Nanoseconds since 1970.
    changed: i64,
    bytes: i64,
    device: i64,
}

impl Mark {
    fn of(file: &Metadata) -> Self {
        let changed = file.mtime().saturating_mul(1_000_000_000).saturating_add(file.mtime_nsec());
        Self { changed, bytes: file.size().cast_signed(), device: file.dev().cast_signed() }
    }

    /// The device may have another number after a restart of the machine.
    fn is_as(self, other: Self) -> bool {
        (self.changed, self.bytes) == (other.changed, other.bytes)
    }
}

/// What is known of a file.
struct Seen {
    mark: Mark,
    digest: Option<Digest>,
    /// It was not there at the last look.
    is_missed: bool,
    /// Somebody had its text forgotten: it stays so until it is added again.
    is_dropped: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Follow {
    index: String,
    source: String,
    path: PathBuf,
    subject: Option<String>,
}

impl Memory {
    /// What policy must be asked about before `follow`: whoever may keep texts may have files followed, and is asked again for each.
    ///
    /// # Errors
    /// A validation error when the call's arguments are wrong.
    pub fn followed_in(&self, call: &Call) -> Result<Target, Failure> {
        let Follow { index, .. } = call.arguments()?;
        index_named(call, &index)?;
        Ok(Target::new(TargetKind::Index, index))
    }

    /// Has a file or folder of this machine followed from now on, with the call's label. What this process cannot read is not followed, and why is
    /// `unreadable` in the output: who adds it may be another user.
    ///
    /// # Errors
    /// `validation` for wrong arguments, `runtime` when the store fails.
    pub async fn follow(&self, call: &Call, permit: Permit, keep: Keep) -> Result<Completion, Failure> {
        let Follow { index, source, path, subject } = call.arguments()?;
        hold(call, &permit, &index)?;
        for (field, name) in [("source", Some(&source)), ("subject", subject.as_ref())] {
            named(call, field, name.map(String::as_str))?;
        }
        let Some(path) = path.to_str().filter(|_| path.is_absolute()).map(str::to_owned) else {
            return Err(wrong(call, "path", &format!("{}; expected the whole path, from /", path.display())));
        };
        let began = Instant::now();
        let told = format!("{index}: {path}");
        let label = json!(call.label).to_string();
        let row = Row { index, source, path, subject, label, files: Vec::new() };
        let memory = self.clone();
        let look = move || {
            let files = memory.kept_of(&row)?;
            Ok::<_, String>(Row { files, ..row })
        };
        let looked = tokio::task::spawn_blocking(look).await;
        let (row, unreadable) = match looked.map_err(|_| broken(call, "the look panicked, see the log"))? {
            Ok(row) => (Some(row), None),
            Err(why) => (None, Some(why)),
        };
        let write = move |tx: &mut store::Transaction<'_>| row.map_or(Ok(()), |row| rows::add(tx.connection(), &row));
        match self.inner.store.write("follow files", write).await {
            Ok(()) => {}
            Err(store::Error::Data { detail, .. }) => return Err(wrong(call, "path", &detail)),
            Err(error) => return Err(broken(call, error)),
        }
        let output = json!({ "unreadable": unreadable });
        let fact = Fact::ToolCalled {
            function: call.function.clone(),
            input: keep.content(&told),
            output: keep.content(&output.to_string()),
            duration_ms: millis(began.elapsed()),
        };
        Ok(Completion { output, label: call.label.clone(), facts: vec![fact] })
    }

    /// Those of a path's files whose text is kept, with their devices. Blocks.
    fn kept_of(&self, row: &Row) -> Result<Vec<(String, i64)>, String> {
        let path = Path::new(&row.path);
        let files = files::documents(path).map_err(|error| error.to_string())?.files;
        self.by_owner(&row.index, &row.source, |connection, owner| {
            let mut beside = list(connection)?;
            beside.retain(|other| (&other.index, &other.source) == (&row.index, &row.source) && other.path != path);
            let is_own = |name: &String| {
                owner(name) == Owner::This && !beside.iter().any(|other| files::holds(&other.path, name, owner))
            };
            let is_kept = |id: &str| files::name_of(path, id, owner).as_ref().is_some_and(is_own);
            let device = |file: &Path| file.metadata().ok().map(|now| Mark::of(&now).device);
            let kept = files.iter().filter(|(id, _)| is_kept(id));
            Ok(kept.filter_map(|(id, file)| Some((id.clone(), device(file)?))).collect())
        })
    }

    /// What is followed.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn followed(&self) -> Result<Vec<Followed>, store::Error> {
        self.inner.store.read_blocking("list what is followed", list)
    }

    /// What is to be done about the files of a path. Reads no file. Blocks.
    ///
    /// # Errors
    /// Why the path cannot be looked at now, for people.
    pub fn look(&self, followed: &Followed) -> Result<Vec<Due>, String> {
        let id = followed.id;
        let seen =
            self.inner.store.read_blocking("read which files are known", move |connection| known(connection, id));
        let seen = seen.map_err(|error| error.to_string())?;
        let here = here(followed, &seen)?;
        let mut due = Vec::new();
        let mut missed: Vec<(String, bool)> = Vec::new();
        for (id, file) in &here {
            match seen.get(id) {
                Some(seen) if seen.is_dropped => continue,
                Some(seen) => {
                    if seen.is_missed {
                        missed.push((id.clone(), false));
                    }
                    // One that is gone by now is looked at next time.
                    let now = file.metadata().ok().map(|now| Mark::of(&now));
                    if now.is_some_and(|now| !now.is_as(seen.mark)) {
                        due.push(Due::Read { id: id.clone(), file: file.clone(), mark: now });
                    }
                }
                None => {
                    let mark = file.metadata().ok().map(|now| Mark::of(&now));
                    due.push(Due::Read { id: id.clone(), file: file.clone(), mark });
                }
            }
        }
        for (id, seen) in seen.iter().filter(|(id, _)| !here.contains_key(*id)) {
            match is_gone(&followed.path, id, seen.mark.device) {
                true if seen.is_missed => due.push(Due::Gone { id: id.clone() }),
                is_missed if is_missed != seen.is_missed => missed.push((id.clone(), is_missed)),
                _ => {}
            }
        }
        self.note_missed(id, missed).map_err(|error| error.to_string())?;
        Ok(due)
    }

    fn note_missed(&self, followed: i64, missed: Vec<(String, bool)>) -> Result<(), store::Error> {
        if missed.is_empty() {
            return Ok(());
        }
        self.inner.store.write_blocking("note which files are not there", move |tx| {
            let sql = "UPDATE memory_file SET missed = ?3 WHERE followed = ?1 AND id = ?2";
            let mut update = tx.connection().prepare_cached(sql)?;
            for (id, is_missed) in missed {
                update.execute(params![followed, id, is_missed])?;
            }
            Ok(())
        })
    }

    /// The name that a file's text is kept under; `None` where others have all that it might have. Blocks.
    ///
    /// # Errors
    /// Why that cannot be read, for people.
    fn name(&self, followed: &Followed, id: &str) -> Result<Option<String>, String> {
        self.by_owner(&followed.index, &followed.source, |_, owner| Ok(files::name_of(&followed.path, id, owner)))
    }

    /// What is to be forgotten with a file that is gone: the name of its text, unless another path has a file that is kept there too. Blocks.
    ///
    /// # Errors
    /// Why that cannot be read, for people.
    pub fn left_by(&self, followed: &Followed, id: &str) -> Result<Option<String>, String> {
        let Some(name) = self.name(followed, id)? else { return Ok(None) };
        Ok(if self.rival(followed, &name)?.is_some() { None } else { Some(name) })
    }

    /// Another path that is followed with the same source and keeps a file under this name.
    fn rival(&self, followed: &Followed, name: &str) -> Result<Option<Followed>, String> {
        self.by_owner(&followed.index, &followed.source, |connection, owner| {
            let is_beside = |other: &Followed| {
                (&other.index, &other.source) == (&followed.index, &followed.source) && other.id != followed.id
            };
            let mut all = list(connection)?.into_iter();
            Ok(all.find(|other| is_beside(other) && files::holds(&other.path, name, owner)))
        })
    }

    /// Finds something out by whose the names of the index are, where the files of one source are `This`.
    fn by_owner<T>(
        &self,
        index: &str,
        source: &str,
        find: impl FnOnce(&Connection, &dyn Fn(&str) -> Owner) -> rusqlite::Result<T>,
    ) -> Result<T, String> {
        let read = self.inner.store.read_blocking("find what is kept of a file", |connection| {
            let failed = Cell::new(None);
            let owner = |name: &str| match kept(connection, index, &kept_path(name)) {
                Ok(None) => Owner::Nobody,
                Ok(Some((_, own))) if own.as_deref() == Some(source) => Owner::This,
                Ok(Some(_)) => Owner::Other,
                Err(error) => {
                    failed.set(Some(error));
                    Owner::Other
                }
            };
            let found = find(connection, &owner)?;
            failed.take().map_or(Ok(found), Err)
        });
        read.map_err(|error| error.to_string())
    }

    /// Reads a file; `None` when its text is kept already as it is. Blocks.
    ///
    /// # Errors
    /// Why it cannot be kept, for people.
    pub fn read(&self, followed: &Followed, id: &str, file: &Path) -> Result<Option<Read>, String> {
        let mark = || file.metadata().map(|now| Mark::of(&now)).map_err(|error| format!("cannot be read: {error}"));
        let before = mark()?;
        let content = files::content(&followed.index, id, file)?;
        let digest = Digest::of(&content);
        let name = self.name(followed, id)?;
        let name = name.ok_or_else(|| format!("{} has documents of this name from elsewhere", followed.index))?;
        let path = kept_path(&name);
        let known = self.inner.store.read_blocking("read what is kept of a file", |connection| {
            Ok((known(connection, followed.id)?, kept(connection, &followed.index, &path)?))
        });
        let (mut seen, kept) = known.map_err(|error| error.to_string())?;
        let seen = seen.remove(id);
        let is_same = seen.as_ref().is_some_and(|seen| seen.digest == Some(digest));
        let text = if is_same { String::new() } else { files::text(id, content)? };
        if before != mark()? {
            return Err(files::BEING_WRITTEN.to_owned());
        }
        let read = Read { name, text, mark: before, digest };
        let is_kept = kept.as_ref().is_some_and(|(digest, _)| *digest == Digest::of(read.text.as_bytes()));
        if is_same || is_kept {
            self.note(followed, id, &read).map_err(|error| error.to_string())?;
            return Ok(None);
        }
        let is_new = seen.is_none_or(|seen| seen.digest.is_none()) && kept.is_some();
        match if is_new { self.rival(followed, &read.name)? } else { None } {
            Some(rival) => Err(format!("{} has one of this name with the same source, too", rival.path.display())),
            None => Ok(Some(read)),
        }
    }

    /// Notes that a file is about to be kept, so that whoever has its text forgotten in between is heard. Blocks.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn announce(&self, followed: &Followed, id: &str, read: &Read) -> Result<(), store::Error> {
        let (followed, id, device) = (followed.id, id.to_owned(), read.mark.device);
        let announce =
            move |tx: &mut store::Transaction<'_>| Ok(rows::announce(tx.connection(), followed, &id, device)?);
        self.inner.store.write_blocking("note a new file", announce)
    }

    /// Notes that a file's text is kept as it was read. Blocks.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn note(&self, followed: &Followed, id: &str, read: &Read) -> Result<(), store::Error> {
        let (followed, id, digest, Mark { changed, bytes, device }) =
            (followed.id, id.to_owned(), read.digest, read.mark);
        self.inner.store.write_blocking("note a file", move |tx| {
            // Nobody follows it any more: then nothing is noted.
            let sql = "INSERT INTO memory_file (followed, id, changed, bytes, device, digest)
                       SELECT id, ?2, ?3, ?4, ?5, ?6 FROM memory_followed WHERE id = ?1
                       ON CONFLICT (followed, id) DO UPDATE SET changed = excluded.changed, bytes = excluded.bytes,
                       device = excluded.device, digest = excluded.digest, missed = 0";
            let digest = digest.as_bytes().as_slice();
            tx.connection().prepare_cached(sql)?.execute(params![followed, id, changed, bytes, device, digest])?;
            Ok(())
        })
    }

    /// Forgets a file that is gone. Blocks.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn unnote(&self, followed: &Followed, id: &str) -> Result<(), store::Error> {
        let (followed, id) = (followed.id, id.to_owned());
        self.inner.store.write_blocking("forget a file", move |tx| {
            let sql = "DELETE FROM memory_file WHERE followed = ?1 AND id = ?2";
            Ok(tx.connection().prepare_cached(sql)?.execute(params![followed, id]).map(drop)?)
        })
    }
}

/// The documents that are there now.
fn here(followed: &Followed, seen: &BTreeMap<String, Seen>) -> Result<BTreeMap<String, PathBuf>, String> {
    match files::documents(&followed.path) {
        Ok(here) => Ok(here.files),
        // A file that was added by itself may be gone.
        Err(files::Error::Missing(path)) if seen.len() == 1 && seen.contains_key(&files::name(&path)) => {
            Ok(BTreeMap::new())
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Whether a file that is not there any more is gone, and its folder not just away.
fn is_gone(root: &Path, id: &str, device: i64) -> bool {
    let is_folder = root.is_dir();
    let file = if is_folder { root.join(id) } else { root.to_owned() };
    let mut folders = file.ancestors().skip(1);
    // A folder may have gone with its files; of a file that was added by itself, the folder is not ours to judge by.
    let there = if is_folder { folders.find(|folder| folder.is_dir()) } else { folders.next() };
    let holds = |folder: &Path| -> io::Result<bool> {
        let is_same = folder.metadata()?.dev().cast_signed() == device;
        Ok(is_same && std::fs::read_dir(folder)?.next().is_some())
    };
    there.is_some_and(|folder| holds(folder).unwrap_or(false))
}
