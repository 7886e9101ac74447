//! `edge-agent docs`: the node's documents, beside those that a bundle brings: added, searched, removed by source or subject, listed.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::json;
use shared::{digest::Digest, label::Label, look::words};

use super::{
    Context, Failure, ask, output,
    person::{Demands, Person},
};
use crate::{
    memory::{episode_path, files, kept_path},
    store::documents::{self, Listed},
};

/// Characters of a passage in a table.
const TEXT_CHARS: usize = 160;
/// The index of documents that are added without another.
const INDEX: &str = "documents";

#[derive(Debug, Subcommand)]
pub(super) enum Args {
    /// Add a file or a folder (Markdown, text, HTML, PDF, CSV), or bring what was added before in step with it.
    Add(Add),
    /// Show the passages that fit words or a question best.
    Search(Search),
    /// Remove what was added or remembered: one document, a conversation, all of a source, or all about a subject.
    Remove(Remove),
    /// List the documents and episodes that can be found, with label, source and subject.
    List {
        /// Of this index alone.
        #[arg(long, value_name = "INDEX")]
        index: Option<String>,
    },
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  edge-agent docs add manuals/ --index manuals
  edge-agent docs add interview.pdf --label confidential --personal --subject \"Mia Keller\"

The agent follows what was added, where it may read it: while it runs, what is new, changed or gone is taken over every five minutes
(`follow_every` under [memory]). A folder or mount that is away, or empty, takes nothing away; adding it again does. `docs remove` ends it.
A folder that is added again is brought in step at once; label and subject stay as they were unless they are given. Names that begin with a
dot, links and what is no file are left out. A text has at most 8 MB and is UTF-8, a PDF at most 32 MB, a table 50,000 rows, and a document
comes to 50,000 passages at most, a folder holds 20,000 documents; a file that is more is named, and the others are kept. Policy's `remember` is asked for each document, and each is in the ledger.")]
pub(super) struct Add {
    /// A file, or a folder with all in it.
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// Where it is found; made when it is not there.
    #[arg(long, value_name = "INDEX", default_value = INDEX)]
    index: String,
    /// What it is removed by; without one, the path.
    #[arg(long, value_name = "TEXT")]
    source: Option<String>,
    /// Whom or what it is about; it can be removed by that.
    #[arg(long, value_name = "TEXT")]
    subject: Option<String>,
    /// Take the files as they are now, and do not follow them.
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    demands: Demands,
}

#[derive(Debug, clap::Args)]
pub(super) struct Search {
    /// Words or a question.
    #[arg(value_name = "QUERY")]
    query: String,
    /// In this index alone.
    #[arg(long, value_name = "INDEX")]
    index: Option<String>,
    /// So many passages at most.
    #[arg(long, default_value_t = 5, value_name = "N")]
    top: usize,
    /// Look for episodes, what happened in past runs, in place of documents.
    #[arg(long)]
    episodes: bool,
    /// Episodes that came to this, such as completed or faulted; may be given several times.
    #[arg(long = "outcome", value_name = "WORD", requires = "episodes")]
    outcomes: Vec<String>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  edge-agent docs remove pump.md                          one document, as `docs list` names it, in every index that has it
  edge-agent docs remove --source /srv/manuals            all that was added from there; it is not followed any more
  edge-agent docs remove --subject \"Mia Keller\"           all that is about her, conversations too
  edge-agent docs remove --session 4711                   a whole conversation

Give a document, or at least one of --source, --subject and --session; what is removed fits all that is given. What was said in conversations
is removed with the rest of a source or subject, unless an index is named. What a bundle brings is not removed here: take it out of the bundle.

Exit code: 0 something was removed, 3 nothing fits.")]
pub(super) struct Remove {
    /// One document, as `docs list` names it.
    #[arg(value_name = "DOCUMENT", required_unless_present_any = ["source", "subject", "session"])]
    document: Option<String>,
    /// This conversation, or what was said in it of the source or about the subject.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["document", "index"])]
    session: Option<String>,
    /// All that came from there.
    #[arg(long, value_name = "TEXT")]
    source: Option<String>,
    /// All that is about it.
    #[arg(long, value_name = "TEXT")]
    subject: Option<String>,
    /// In this index alone; without it, in all.
    #[arg(long, value_name = "INDEX")]
    index: Option<String>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, Failure> {
    match args {
        Args::Add(asked) => add(asked, context),
        Args::Search(asked) => search(asked, context),
        Args::Remove(asked) => remove(asked, context),
        Args::List { index } => list(index.as_deref(), context),
    }
}

/// What became of the files.
#[derive(Debug, Default, Serialize)]
struct Added {
    index: String,
    source: String,
    kept: Vec<String>,
    unchanged: Vec<String>,
    removed: Vec<String>,
    /// Whether the node keeps in step with them from now on.
    followed: bool,
    /// Files that cannot be read, with why.
    failed: BTreeMap<String, String>,
}

fn add(asked: &Add, context: &Context) -> Result<ExitCode, Failure> {
    let found = match files(&asked.path) {
        Err(Failure::Input(why)) if asked.path.is_dir() => Err(Failure::Input(why)),
        found => Ok(found?),
    };
    let person = Person::of(context)?;
    let before = Before::of(asked, context)?;
    let files::Documents { files, closed } = match found {
        // All that was in it may be gone.
        Err(Failure::Input(_)) if before.is_folder && !before.files.is_empty() => files::Documents::default(),
        found => found?,
    };
    let whole = asked.path.canonicalize().with_context(|| format!("cannot find {}", asked.path.display()))?;
    let mut added = Added { index: asked.index.clone(), source: before.source.clone(), ..Added::default() };
    added.failed = closed;
    let bar = bar(files.len(), context);
    for (id, path) in &files {
        bar.set_message(id.clone());
        match keep(asked, &before, &person, id, path) {
            Ok(true) => added.kept.push(id.clone()),
            Ok(false) => added.unchanged.push(id.clone()),
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
        follow(asked, &whole, &before, &person, &mut added)?;
    }
    // What was in the folder when it was added before, and is no longer. What lies in a folder that cannot be read now may be there.
    let is_closed = |id: &str| added.failed.keys().any(|folder| id.starts_with(&format!("{folder}/")));
    let gone: Vec<_> = before.files.iter().filter(|id| !files.contains_key(*id) && !is_closed(id)).cloned().collect();
    for id in gone {
        person.ask("forget", json!({ "index": asked.index, "id": id }), None)?;
        added.removed.push(id);
    }
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
    is_folder: bool,
    source: String,
    /// What the index has, by id.
    known: BTreeMap<String, Listed>,
    /// The ids of what came from this very folder.
    files: BTreeSet<String>,
    /// How the path is followed.
    followed: Option<documents::Followed>,
}

impl Before {
    fn of(asked: &Add, context: &Context) -> Result<Self, Failure> {
        let known = known(context, &asked.index)?;
        let is_folder = asked.path.is_dir();
        let whole = asked.path.canonicalize().unwrap_or_else(|_| asked.path.clone()).display().to_string();
        let store = context.store()?;
        let followed = documents::followed(&store, Some(&asked.index)).context("cannot list what is followed")?;
        let followed = followed.into_iter().find(|followed| followed.path == whole);
        let mut files = documents::files_of(&store, &asked.index, &whole).context("cannot list what is followed")?;
        if asked.source.is_none() {
            // Nothing else has this path for its source.
            files.extend(known.iter().filter(|(_, own)| own.source.as_ref() == Some(&whole)).map(|(id, _)| id.clone()));
        }
        // A file that was added by itself says nothing of others.
        files.retain(|id| is_folder && known.contains_key(id));
        let source = asked.source.clone().unwrap_or(whole);
        Ok(Self { is_folder, source, known, files, followed })
    }
}

/// Has the node follow what was added. What is not said stays as it was.
fn follow(asked: &Add, whole: &Path, before: &Before, person: &Person, added: &mut Added) -> Result<(), Failure> {
    let Some(path) = whole.to_str() else {
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

/// Keeps one file's text; false when it is kept already as it is. Without a label or subject it has those that it had, or those of what is
/// followed: nothing becomes looser unless it is said.
fn keep(asked: &Add, before: &Before, person: &Person, id: &str, path: &Path) -> Result<bool, Failure> {
    let (source, known, followed) = (&before.source, before.known.get(id), before.followed.as_ref());
    if let Some(other) = known.and_then(|known| known.source.as_ref()).filter(|other| *other != source) {
        let message =
            format!("{} has a document of this name from {other}: remove that, or give another --index", asked.index);
        return Err(Failure::Input(message));
    }
    let text =
        files::content(&asked.index, id, path).and_then(|content| files::text(id, content)).map_err(Failure::Input)?;
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
        return Ok(false);
    }
    let mut input = json!({ "index": asked.index, "id": id, "text": text, "source": source });
    if let Some(subject) = subject {
        input["subject"] = subject.as_str().into();
    }
    person.ask("remember", input, label)?;
    Ok(true)
}

/// What the index has that was added or remembered, by its id.
fn known(context: &Context, index: &str) -> Result<BTreeMap<String, Listed>, Failure> {
    let found = documents::list(&context.store()?, Some(index)).context("cannot list the documents")?;
    let kept = found.into_iter().filter(|document| document.kept && document.outcome.is_none());
    Ok(kept.map(|document| (id_of(&document.document).to_owned(), document)).collect())
}

/// The id under which a text or an episode was kept, of the name that a search shows.
fn id_of(document: &str) -> &str {
    let kept = [kept_path(""), episode_path("")];
    kept.iter().find_map(|prefix| document.strip_prefix(prefix.as_str())).unwrap_or(document)
}

/// The documents of a path, as whoever gave it has to be told of mistakes.
fn files(path: &Path) -> Result<files::Documents, Failure> {
    files::documents(path).map_err(|error| match error {
        files::Error::Missing(_) => Failure::NotFound(error.to_string()),
        files::Error::Unreadable { .. } => Failure::Failed(error.into()),
        _ => Failure::Input(error.to_string()),
    })
}

fn tell(added: &Added, context: &Context) -> Result<(), Failure> {
    if context.json {
        return output::json(added);
    }
    for (id, why) in &added.failed {
        eprintln!("edge-agent: {id}: {why}");
    }
    let counted = |count: usize, what: &str| (count > 0).then(|| format!("{count} {what}"));
    let parts = [
        counted(added.kept.len(), "kept"),
        counted(added.unchanged.len(), "unchanged"),
        counted(added.removed.len(), "removed, as they are gone from there"),
        counted(added.failed.len(), "not read"),
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    let followed = if added.followed { "; followed from now on" } else { "" };
    output::say(&format!("{}: {} (source {}){followed}", added.index, parts.join(", "), added.source));
    Ok(())
}

fn search(asked: &Search, context: &Context) -> Result<ExitCode, Failure> {
    let mut input = json!({ "query": asked.query, "topK": asked.top });
    if let Some(index) = &asked.index {
        input["index"] = index.as_str().into();
    }
    if asked.episodes {
        input["kind"] = "episode".into();
    }
    if !asked.outcomes.is_empty() {
        input["outcome"] = json!(asked.outcomes);
    }
    let found = Person::of(context)?.ask("search", input, None)?;
    let passages = ask::passages(&found)?;
    if context.json {
        output::json(&found["passages"])?;
    } else {
        let row = |passage: &ask::Passage| {
            let text: String = passage.text.split_whitespace().collect::<Vec<_>>().join(" ");
            let beginning: String = text.chars().take(TEXT_CHARS).collect();
            let (label, score) = (words::label(&passage.label), format!("{:.2}", passage.score));
            vec![passage.document.clone(), passage.place.clone(), label, score, beginning]
        };
        let rows = passages.iter().map(row).collect();
        output::table(&["document", "place", "label", "score", "text"], rows, "Nothing fits.");
    }
    Ok(if passages.is_empty() { ExitCode::from(3) } else { ExitCode::SUCCESS })
}

fn remove(asked: &Remove, context: &Context) -> Result<ExitCode, Failure> {
    let listed = documents::list(&context.store()?, asked.index.as_deref()).context("cannot list the documents")?;
    let fits = |document: &&Listed| {
        let is =
            |wanted: &Option<String>, own: Option<&String>| wanted.as_ref().is_none_or(|wanted| Some(wanted) == own);
        let named = asked.document.as_ref().is_none_or(|name| id_of(name) == id_of(&document.document));
        document.kept
            && named
            && is(&asked.source, document.source.as_ref())
            && is(&asked.subject, document.subject.as_ref())
    };
    let doomed: Vec<&Listed> = listed.iter().filter(fits).filter(|_| asked.session.is_none()).collect();
    let said = said(asked, context)?;
    let followed = followed(asked, context)?;
    if doomed.is_empty() && said == 0 && followed.is_empty() {
        let of_bundle = asked.document.as_ref().is_some_and(|name| listed.iter().any(|own| own.document == *name));
        let message = match (of_bundle, &asked.session) {
            (true, _) => "the bundle brings this document: take it out of the bundle",
            (_, Some(_)) => "nothing that was said there fits",
            _ => "nothing that was added fits: `edge-agent docs list` tells what is there",
        };
        return Err(Failure::NotFound(message.to_owned()));
    }
    let person = Person::of(context)?;
    let forgotten = forget(asked, &doomed, &followed, said > 0, &person)?;
    if context.json {
        let names: Vec<_> = doomed.iter().map(|own| json!({ "index": own.index, "document": own.document })).collect();
        output::json(&json!({ "forgotten": forgotten, "documents": names, "turns": said }))?;
    } else {
        for document in &doomed {
            output::say(&format!("{}: {}", document.index, document.document));
        }
        if said > 0 {
            output::say(&format!("{said} turns of conversations"));
        }
        output::say(&format!("{forgotten} removed; no search finds them any more."));
    }
    Ok(ExitCode::SUCCESS)
}

/// How many turns of conversations go too.
fn said(asked: &Remove, context: &Context) -> Result<u64, Failure> {
    if asked.document.is_some() || asked.index.is_some() {
        return Ok(0);
    }
    let which = (asked.session.as_deref(), asked.source.as_deref(), asked.subject.as_deref());
    Ok(documents::turns(&context.store()?, which).context("cannot count what was said")?)
}

/// The indexes in which files are followed that go too.
fn followed(asked: &Remove, context: &Context) -> Result<BTreeSet<String>, Failure> {
    if asked.document.is_some() || asked.session.is_some() {
        return Ok(BTreeSet::new());
    }
    let all = documents::followed(&context.store()?, asked.index.as_deref()).context("cannot list what is followed")?;
    let is = |wanted: &Option<String>, own: Option<&String>| wanted.as_ref().is_none_or(|wanted| Some(wanted) == own);
    let fits =
        |own: &documents::Followed| is(&asked.source, Some(&own.source)) && is(&asked.subject, own.subject.as_ref());
    Ok(all.into_iter().filter(fits).map(|own| own.index).collect())
}

/// Asks for the removal, index by index; how much is gone.
fn forget(
    asked: &Remove,
    doomed: &[&Listed],
    followed: &BTreeSet<String>,
    of_sessions: bool,
    person: &Person,
) -> Result<u64, Failure> {
    let forget = |mut input: serde_json::Value, more: &[(&str, Option<&str>)]| -> Result<u64, Failure> {
        for (name, value) in more {
            if let Some(value) = value {
                input[*name] = (*value).into();
            }
        }
        Ok(person.ask("forget", input, None)?["forgotten"].as_u64().unwrap_or(0))
    };
    let (source, subject) = (("source", asked.source.as_deref()), ("subject", asked.subject.as_deref()));
    let kind = |document: &Listed| if document.outcome.is_some() { "episode" } else { "text" };
    let mut places: BTreeSet<_> = doomed.iter().map(|document| (document.index.as_str(), kind(document))).collect();
    places.extend(followed.iter().map(|index| (index.as_str(), "text")));
    let mut forgotten = 0;
    for (index, kind) in places {
        let id = ("id", asked.document.as_deref().map(id_of));
        forgotten += forget(json!({ "index": index, "kind": kind }), &[id, source, subject])?;
    }
    if of_sessions {
        forgotten += forget(json!({ "kind": "session" }), &[("session", asked.session.as_deref()), source, subject])?;
    }
    Ok(forgotten)
}

fn list(index: Option<&str>, context: &Context) -> Result<ExitCode, Failure> {
    let found = documents::list(&context.store()?, index).context("cannot list the documents")?;
    if context.json {
        output::json(&found)?;
        return Ok(ExitCode::SUCCESS);
    }
    let row = |document: Listed| {
        let label = |label: &Label| words::label(label);
        let from = if document.kept {
            let source = document.source.unwrap_or_else(|| "a workflow".to_owned());
            document.outcome.map_or_else(|| source.clone(), |outcome| format!("{source}, {outcome}"))
        } else {
            "the bundle".to_owned()
        };
        vec![
            document.index,
            document.document,
            label(&document.label),
            from,
            document.subject.unwrap_or_default(),
            document.passages.to_string(),
            document
                .expires_in_s
                .map_or_else(String::new, |left| indicatif::HumanDuration(Duration::from_secs(left)).to_string()),
        ]
    };
    let rows = found.into_iter().map(row).collect();
    let nothing =
        "There is no document: the bundle's lie in its documents/INDEX/, and `edge-agent docs add` brings others.";
    output::table(&["index", "document", "label", "from", "about", "passages", "kept for"], rows, nothing);
    for documents::Followed { index, path, .. } in
        documents::followed(&context.store()?, index).context("cannot list what is followed")?
    {
        output::say(&format!("{index} follows {path}"));
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_named_by_its_id() {
        assert_eq!((id_of("remembered:sub/b.txt"), id_of("episode:01J")), ("sub/b.txt", "01J"));
        assert_eq!(id_of("sub/b.txt"), "sub/b.txt");
    }
}
