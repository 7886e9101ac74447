//! `edge-agent docs add`: files of this machine as documents of the node, and followed from then on.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::builder::NonEmptyStringValueParser;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::json;
use shared::digest::Digest;

use super::{
    super::{
        Context, Failure, output,
        person::{Demands, Person},
    },
    id_of,
};
use crate::{
    memory::{
        self,
        files::{self, Owner},
    },
    store::documents::{self, Listed},
};

/// The index of documents that are added without another.
const INDEX: &str = "documents";

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  edge-agent docs add manuals/ --index manuals
  edge-agent docs add interview.pdf --label confidential --personal --subject \"Mia Keller\"

The agent follows what was added, where it may read it: while it runs, what is new, changed or gone is taken over every five minutes
(`follow_every` under [memory]). A folder or mount that is away, or empty, takes nothing away; adding it again does. `docs remove` ends it.
What is broken off keeps what it had kept, and follows nothing until it is added again. A folder that is added again is brought in step at
once; label and subject stay as they were unless they are given. A document is named by its place in the folder; where the index has one of
that name from elsewhere, the folders above are put before it. Names that begin with a dot, links and what is no file are left out; a PATH
that is a link stands for what it leads to. A text has at most 8 MB and is UTF-8, a PDF at most 32 MB, a table 50,000 rows, and a document
comes to 50,000 passages at most, a folder holds 20,000 documents; a file that is more is named, and the others are kept. Policy's
`remember` is asked for each document, and each is in the ledger.")]
pub(in super::super) struct Add {
    /// A file, or a folder with all in it.
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// Where it is found; made when it is not there.
    #[arg(long, value_name = "INDEX", default_value = INDEX, value_parser = NonEmptyStringValueParser::new())]
    index: String,
    /// What it is removed by; without one, as it was, and the path where it is new.
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    source: Option<String>,
    /// Whom or what it is about; it can be removed by that.
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    subject: Option<String>,
    /// Take the files as they are now, and do not follow them.
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    demands: Demands,
}

/// What became of the files, by the names that they are kept under.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Added {
    index: String,
    source: String,
    kept: Vec<String>,
    unchanged: Vec<String>,
    removed: Vec<String>,
    /// Those of `kept` and `unchanged` that made room again for later ones, in an index that forgets the oldest.
    forgotten: Vec<String>,
    /// How many others made room.
    others_forgotten: usize,
    /// Whether the node keeps in step with them from now on.
    followed: bool,
    /// Files that are left out, with why.
    failed: BTreeMap<String, String>,
}

pub(super) fn run(asked: &Add, context: &Context) -> Result<ExitCode, Failure> {
    if let Some(why) = memory::reserved(&asked.index) {
        return Err(Failure::Input(format!("--index {}: {why}", asked.index)));
    }
    let found = match documents_of(&asked.path) {
        Err(Failure::Input(why)) if asked.path.is_dir() => Err(Failure::Input(why)),
        found => Ok(found?),
    };
    let person = Person::of(context)?;
    let before = Before::of(asked, context)?;
    if let Some(other) = before.other_source() {
        let (path, index) = (before.path.display(), &asked.index);
        let advice = format!("`docs remove --source {other:?}` first, or give --source {other:?}");
        return Err(Failure::Input(format!("{path} was added to {index} before with the source {other}: {advice}")));
    }
    let files::Documents { files, closed } = match found {
        // All that was in it may be gone.
        Err(Failure::Input(_)) if before.is_folder && !before.files.is_empty() => files::Documents::default(),
        found => found?,
    };
    let mut added = Added { index: asked.index.clone(), source: before.source.clone(), ..Added::default() };
    added.failed = closed;
    let names = before.names(files.keys());
    let bar = bar(files.len(), context);
    for (id, path) in &files {
        bar.set_message(id.clone());
        match keep(asked, &before, &person, (id, names.get(id)), path) {
            Ok((name, true)) => added.kept.push(name),
            Ok((name, false)) => added.unchanged.push(name),
            Err(Failure::Input(why)) => drop(added.failed.insert(id.clone(), why)),
            Err(other) => {
                bar.finish_and_clear();
                return Err(other);
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    if !asked.once {
        follow(asked, &before, &person, &mut added)?;
    }
    // What was in the folder when it was added before, and is no longer. What lies in a folder that cannot be read now may be there.
    let is_in =
        |name: &str, folder: &str| name.starts_with(&format!("{folder}/")) || name.contains(&format!("/{folder}/"));
    let is_closed = |name: &str| added.failed.keys().any(|folder| is_in(name, folder));
    let here: BTreeSet<&String> = names.values().collect();
    let is_left = |name: &&String| !here.contains(name) && !is_closed(name);
    let is_kept = |name: &&String| added.kept.contains(name) || added.unchanged.contains(name);
    let gone = before.files.iter().filter(is_left).chain(vanished(&files, &names, asked).filter(is_kept));
    let gone: Vec<_> = gone.filter(|name| before.rival(name).is_none()).cloned().collect();
    for id in gone {
        person.ask("forget", json!({ "index": asked.index, "id": id }), None)?;
        added.removed.push(id);
    }
    forgotten(&mut added, &before, context)?;
    tell(&added, context)?;
    Ok(if added.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How far it is, where somebody sees the terminal; one file has no progress.
fn bar(files: usize, context: &Context) -> ProgressBar {
    let is_shown = !context.json && files > 1;
    let bar = if is_shown { ProgressBar::new(files as u64) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} files, {eta} to go  {wide_msg}") {
        bar.set_style(style);
    }
    bar
}

/// What was added before from the same place.
struct Before {
    /// The whole path.
    path: PathBuf,
    is_folder: bool,
    source: String,
    /// What the index has, by id.
    known: BTreeMap<String, Listed>,
    /// The names of what came from this very folder.
    files: BTreeSet<String>,
    /// How the path is followed.
    followed: Option<documents::Followed>,
    /// Other paths that are followed with the same source.
    beside: Vec<PathBuf>,
}

impl Before {
    fn of(asked: &Add, context: &Context) -> Result<Self, Failure> {
        let path = asked.path.canonicalize().with_context(|| format!("cannot find {}", asked.path.display()))?;
        let (known, is_folder, whole) = (known(context, &asked.index)?, path.is_dir(), path.display().to_string());
        let store = context.store()?;
        let all = documents::followed(&store, Some(&asked.index)).context("cannot list what is followed")?;
        let followed = all.iter().find(|followed| followed.path == whole).cloned();
        let standing = followed.as_ref().map(|followed| followed.source.clone());
        let source = asked.source.clone().or(standing).unwrap_or_else(|| whole.clone());
        let beside = all.iter().filter(|one| one.path != whole && one.source == source);
        let beside = beside.map(|one| one.path.clone().into()).collect();
        let mut before = Self { path, is_folder, source, known, files: BTreeSet::new(), followed, beside };
        let noted = documents::files_of(&store, &asked.index, &whole).context("cannot list what is followed")?;
        let mut files: BTreeSet<String> = before.names(noted.iter()).into_values().collect();
        if asked.source.is_none() {
            // Nothing else has this path for its source.
            let known = before.known.iter();
            files.extend(known.filter(|(_, own)| own.source.as_ref() == Some(&whole)).map(|(id, _)| id.clone()));
        }
        // A file that was added by itself says nothing of others.
        files.retain(|name| is_folder && before.known.contains_key(name));
        before.files = files;
        Ok(before)
    }

    /// The names that files are kept under, by their ids; one has none where others have all that it might have.
    fn names<'a>(&self, ids: impl Iterator<Item = &'a String>) -> BTreeMap<String, String> {
        let mut names = BTreeMap::new();
        let mut taken = BTreeSet::new();
        for id in ids {
            let owner = |name: &str| if taken.contains(name) { Owner::Other } else { self.owner(name) };
            if let Some(name) = files::name_of(&self.path, id, owner) {
                taken.insert(name.clone());
                names.insert(id.clone(), name);
            }
        }
        names
    }

    /// Whose a name is; what a workflow keeps without a source is its own.
    fn owner(&self, name: &str) -> Owner {
        match self.known.get(name) {
            None => Owner::Nobody,
            Some(known) if known.source.as_ref() == Some(&self.source) => Owner::This,
            Some(_) => Owner::Other,
        }
    }

    /// The other source that the same path was added with.
    fn other_source(&self) -> Option<&String> {
        let path = self.path.display().to_string();
        let known = self.known.values().filter_map(|own| own.source.as_ref()).filter(|source| **source == path);
        let mut all = self.followed.iter().map(|one| &one.source).chain(known);
        all.find(|source| **source != self.source)
    }

    /// Another path with a file that is kept under this name.
    fn rival(&self, name: &str) -> Option<&PathBuf> {
        self.beside.iter().find(|other| files::holds(other, name, |name| self.owner(name)))
    }

    /// Why a file is not to be kept under a name, though no other source has it.
    fn objection(&self, name: &str) -> Option<String> {
        let is_kept = self.known.contains_key(name) && self.followed.is_none();
        let rival = self.rival(name).filter(|_| is_kept)?;
        let (rival, source) = (rival.display(), &self.source);
        Some(format!(
            "{rival} has one of this name with the source {source}, too: give another --source, or another --index"
        ))
    }
}

/// Files that went while others were kept: no look would miss them. As at a look, only where their folder is there and holds something.
fn vanished<'a>(
    files: &'a BTreeMap<String, PathBuf>,
    names: &'a BTreeMap<String, String>,
    asked: &Add,
) -> impl Iterator<Item = &'a String> {
    let is_there = |folder: &Path| folder.read_dir().is_ok_and(|mut entries| entries.next().is_some());
    let is_gone = move |path: &Path| !path.exists() && path.parent().is_some_and(is_there);
    let gone = files.iter().filter(|_| !asked.once).filter(move |(_, path)| is_gone(path));
    gone.filter_map(|(id, _)| names.get(id))
}

/// Has the node follow what was added. What is not said stays as it was.
fn follow(asked: &Add, before: &Before, person: &Person, added: &mut Added) -> Result<(), Failure> {
    let Some(path) = before.path.to_str() else {
        eprintln!("edge-agent: the path is no UTF-8, so its files are not followed");
        return Ok(());
    };
    let mut input = json!({ "index": asked.index, "source": added.source, "path": path });
    let followed = before.followed.as_ref();
    if let Some(subject) = asked.subject.as_ref().or(followed.and_then(|followed| followed.subject.as_ref())) {
        input["subject"] = subject.as_str().into();
    }
    let label = asked.demands.label().or(followed.map(|followed| followed.label.clone()));
    let answer = person.ask("follow", input, label)?;
    match answer["unreadable"].as_str() {
        Some(why) => eprintln!("edge-agent: the agent cannot read what was added, so it is not followed: {why}"),
        None => added.followed = true,
    }
    Ok(())
}

/// Keeps one file's text; its name, and false when it is kept already as it is. Without a label or subject it has those that it had, or those of
/// what is followed: nothing becomes looser unless it is said.
fn keep(
    asked: &Add,
    before: &Before,
    person: &Person,
    (id, name): (&str, Option<&String>),
    path: &Path,
) -> Result<(String, bool), Failure> {
    let Some(name) = name else {
        return Err(Failure::Input(format!(
            "{} has documents of this name from elsewhere: give another --index",
            asked.index
        )));
    };
    let text =
        files::content(&asked.index, id, path).and_then(|content| files::text(id, content)).map_err(Failure::Input)?;
    let (known, followed) = (before.known.get(name), before.followed.as_ref());
    let standing = known.map(|known| &known.label).or(followed.map(|followed| &followed.label)).cloned();
    let label = asked.demands.label().or(standing);
    let standing = known.and_then(|known| known.subject.as_ref()).or(followed.and_then(|one| one.subject.as_ref()));
    let subject = asked.subject.as_ref().or(standing);
    let is_same = |known: &Listed| {
        known.digest == Some(Digest::of(text.as_bytes()))
            && known.subject.as_ref() == subject
            && label.as_ref().is_none_or(|label| *label == known.label)
    };
    if known.is_some_and(is_same) {
        return Ok((name.clone(), false));
    }
    if let Some(why) = before.objection(name) {
        return Err(Failure::Input(why));
    }
    let mut input = json!({ "index": asked.index, "id": name, "text": text, "source": before.source });
    if let Some(subject) = subject {
        input["subject"] = subject.as_str().into();
    }
    person.ask("remember", input, label)?;
    Ok((name.clone(), true))
}

/// What the index has that was added or remembered, by its id.
fn known(context: &Context, index: &str) -> Result<BTreeMap<String, Listed>, Failure> {
    let found = documents::list(&context.store()?, Some(index)).context("cannot list the documents")?;
    let kept = found.into_iter().filter(|document| document.kept && document.outcome.is_none());
    Ok(kept.map(|document| (id_of(&document.document).to_owned(), document)).collect())
}

/// The documents of a path, as whoever gave it has to be told of mistakes. A link stands for what it leads to, whose names are kept.
fn documents_of(path: &Path) -> Result<files::Documents, Failure> {
    let whole = path.canonicalize();
    files::documents(whole.as_deref().unwrap_or(path)).map_err(|error| match error {
        files::Error::Missing(_) => Failure::NotFound(error.to_string()),
        files::Error::Unreadable { .. } => Failure::Failed(error.into()),
        _ => Failure::Input(error.to_string()),
    })
}

/// Looks which texts made room for others.
fn forgotten(added: &mut Added, before: &Before, context: &Context) -> Result<(), Failure> {
    if added.kept.is_empty() {
        return Ok(());
    }
    let now = known(context, &added.index)?;
    let own: BTreeSet<&String> = added.kept.iter().chain(&added.unchanged).collect();
    let gone = |name: &&String| !now.contains_key(*name);
    let others = before.known.keys().filter(gone).filter(|name| !own.contains(name) && !added.removed.contains(name));
    added.others_forgotten = others.count();
    added.forgotten = own.into_iter().filter(gone).cloned().collect();
    Ok(())
}

fn tell(added: &Added, context: &Context) -> Result<(), Failure> {
    if context.json {
        return output::json(added);
    }
    for (id, why) in &added.failed {
        eprintln!("edge-agent: {}: {why}", output::named(id));
    }
    let Added { index, source, forgotten, others_forgotten, .. } = added;
    if forgotten.len() + others_forgotten > 0 {
        let (own, stay) = (forgotten.len(), added.kept.len() + added.unchanged.len() - forgotten.len());
        eprintln!(
            "edge-agent: {index} is full and forgets the oldest: {own} of these files and {others_forgotten} other texts made room, {stay} of these \
             files are in it now; `entries` and `bytes` under [memory.indexes.{index}] say how much it holds"
        );
    }
    let counted = |count: usize, what: &str| (count > 0).then(|| format!("{count} {what}"));
    let parts = [
        counted(added.kept.len(), "kept"),
        counted(added.unchanged.len(), "unchanged"),
        counted(forgotten.len(), "forgotten again to make room"),
        counted(added.removed.len(), "removed, as they are gone from there"),
        counted(added.failed.len(), "left out"),
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    let followed = if added.followed { "; followed from now on" } else { "" };
    output::say(&format!("{index}: {} (source {}){followed}", parts.join(", "), output::named(source)));
    Ok(())
}
