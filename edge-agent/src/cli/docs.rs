//! `edge-agent docs`: the node's documents, beside those that a bundle brings: added, searched, removed by source or subject, listed.

mod add;

use std::{collections::BTreeSet, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::{ArgGroup, Subcommand, builder::NonEmptyStringValueParser, value_parser};
use serde_json::json;
use shared::{label::Label, look::words};

use super::{Context, Failure, ask, output, person::Person};
use crate::{
    memory::{episode_path, kept_path},
    store::documents::{self, Listed},
};

/// Characters of a passage in a table.
const TEXT_CHARS: usize = 160;

#[derive(Debug, Subcommand)]
pub(super) enum Args {
    /// Add a file or a folder (Markdown, text, HTML, PDF, CSV), or bring what was added before in step with it.
    Add(add::Add),
    /// Show the passages that fit words or a question best.
    #[command(after_help = "Exit code: 0, or 3 where nothing fits.")]
    Search(Search),
    /// Remove what was added or remembered: one document, a conversation, all of a source, or all about a subject.
    Remove(Remove),
    /// List the documents and episodes with label, source and subject. One whose time is over is found no more, and listed until
    /// the node has a moment to remove it.
    #[command(after_help = "Exit code: 0, or 3 for an --index that has nothing and is not named in the configuration.")]
    List {
        /// Of this index alone.
        #[arg(long, value_name = "INDEX", value_parser = NonEmptyStringValueParser::new())]
        index: Option<String>,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Search {
    /// Words or a question.
    #[arg(value_name = "QUERY")]
    query: String,
    /// In this index alone.
    #[arg(long, value_name = "INDEX", value_parser = NonEmptyStringValueParser::new())]
    index: Option<String>,
    /// So many passages at most.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = value_parser!(u8).range(1..=ask::TOP_MAX))]
    top: u8,
    /// Look for episodes, what happened in past runs, in place of documents.
    #[arg(long)]
    episodes: bool,
    /// Episodes that came to this, such as completed or faulted; may be given several times.
    #[arg(long = "outcome", value_name = "WORD", requires = "episodes")]
    outcomes: Vec<String>,
}

#[derive(Debug, Clone, clap::Args)]
#[command(group(ArgGroup::new("what").required(true).multiple(true)), after_help = "\
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
    #[arg(value_name = "DOCUMENT", group = "what")]
    document: Option<String>,
    /// This conversation, or what was said in it of the source or about the subject.
    #[arg(long, value_name = "NAME", group = "what", conflicts_with_all = ["document", "index"], value_parser = NonEmptyStringValueParser::new())]
    session: Option<String>,
    /// All that came from there: the source that `docs list` names, or the path that was added (./manuals, for one in this folder).
    #[arg(long, value_name = "TEXT", group = "what", value_parser = NonEmptyStringValueParser::new())]
    source: Option<String>,
    /// All that is about it.
    #[arg(long, value_name = "TEXT", group = "what", value_parser = NonEmptyStringValueParser::new())]
    subject: Option<String>,
    /// In this index alone; without it, in all.
    #[arg(long, value_name = "INDEX", value_parser = NonEmptyStringValueParser::new())]
    index: Option<String>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, Failure> {
    match args {
        Args::Add(asked) => add::run(asked, context),
        Args::Search(asked) => search(asked, context),
        Args::Remove(asked) => remove(asked, context),
        Args::List { index } => list(index.as_deref(), context),
    }
}

/// The id under which a text or an episode was kept, of the name that a search shows.
fn id_of(document: &str) -> &str {
    let kept = [kept_path(""), episode_path("")];
    kept.iter().find_map(|prefix| document.strip_prefix(prefix.as_str())).unwrap_or(document)
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
            vec![output::named(&passage.document).into(), passage.place.clone(), label, score, beginning]
        };
        let rows = passages.iter().map(row).collect();
        output::table(&["document", "place", "label", "score", "text"], rows, "Nothing fits.");
    }
    Ok(if passages.is_empty() { ExitCode::from(3) } else { ExitCode::SUCCESS })
}

fn remove(asked: &Remove, context: &Context) -> Result<ExitCode, Failure> {
    let store = context.store()?;
    let listed = documents::list(&store, asked.index.as_deref()).context("cannot list the documents")?;
    let all = documents::followed(&store, asked.index.as_deref()).context("cannot list what is followed")?;
    if listed.is_empty() && all.is_empty() {
        must_be_known(asked.index.as_deref(), context)?;
    }
    let subjects = listed.iter().filter_map(|own| own.subject.as_deref());
    let subject = asked.subject.as_ref().map(|given| meant(given, subjects));
    let ids = listed.iter().map(|own| id_of(&own.document));
    let document = asked.document.as_ref().map(|given| meant(id_of(given), ids));
    let sources = listed.iter().filter_map(|own| own.source.as_deref());
    let sources = sources.chain(all.iter().flat_map(|own| [own.source.as_str(), own.path.as_str()]));
    let source = match asked.source.as_ref().map(|given| meant(given, sources)).as_deref() {
        None => None,
        Some(given) => {
            let said = documents::turns(&store, (None, Some(given), None)).context("cannot count what was said")?;
            let has = |source: &str| {
                listed.iter().any(|own| own.source.as_deref() == Some(source))
                    || all.iter().any(|own| own.source == source)
                    || (source == given && asked.index.is_none() && said > 0)
            };
            Some(source_of(given, has, &all)?)
        }
    };
    let asked = &Remove { source, subject, document, ..asked.clone() };
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
    let followed = followed(asked, all);
    if doomed.is_empty() && said == 0 && followed.is_empty() {
        let is_of_bundle = |own: &Listed| !own.kept && asked.document.as_deref() == Some(&own.document);
        let of_bundle = listed.iter().any(is_of_bundle);
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
        let paths: Vec<_> = followed.iter().map(|own| json!({ "index": own.index, "path": own.path })).collect();
        output::json(&json!({ "forgotten": forgotten, "documents": names, "turns": said, "unfollowed": paths }))?;
    } else {
        for document in &doomed {
            output::say(&format!("{}: {}", document.index, output::named(&document.document)));
        }
        if said > 0 {
            output::say(&format!("{said} turns of conversations"));
        }
        for documents::Followed { index, path, .. } in &followed {
            output::say(&format!("{index} does not follow {} any more", output::named(path)));
        }
        output::say(&match forgotten {
            0 => "No document of it was there.".to_owned(),
            _ => format!("{forgotten} removed; no search finds them any more."),
        });
    }
    Ok(ExitCode::SUCCESS)
}

/// The name that somebody means who may give it as it is shown.
fn meant<'a>(given: &str, names: impl Iterator<Item = &'a str> + Clone) -> String {
    let is_there = names.clone().any(|name| name == given);
    let shown = names.filter(|_| !is_there).find(|name| output::named(name) == given);
    shown.unwrap_or(given).to_owned()
}

/// The source that somebody means who may give a path as it was given to `docs add`. A word alone is not taken for one: the same word may
/// have been a source a moment ago.
///
/// # Errors
/// When nothing has it, and it is likely that another one is meant.
fn source_of(given: &str, has: impl Fn(&str) -> bool, followed: &[documents::Followed]) -> Result<String, Failure> {
    let Some(whole) = whole(given).filter(|_| !has(given)) else { return Ok(given.to_owned()) };
    let is_path = given.contains('/') || [".", ".."].contains(&given);
    if has(&whole) && is_path {
        return Ok(whole);
    }
    let other = followed.iter().find(|own| own.path == whole).map(|own| &own.source).filter(|_| !has(&whole));
    let (shown, named) = (output::named(&whole), output::named(given));
    match other {
        Some(source) => Err(Failure::NotFound(format!(
            "{shown} was added with the source {}: give --source {source:?}",
            output::named(source)
        ))),
        None if has(&whole) => Err(Failure::NotFound(format!(
            "nothing has the source {named}; {shown} was added: give --source {whole:?}"
        ))),
        None => Ok(given.to_owned()),
    }
}

/// The whole path, of what is gone too.
fn whole(given: &str) -> Option<String> {
    let path = std::fs::canonicalize(given).or_else(|_| std::path::absolute(given)).ok()?;
    let whole = path.to_str()?.trim_end_matches('/');
    Some(if whole.is_empty() { "/" } else { whole }.to_owned())
}

/// How many turns of conversations go too.
fn said(asked: &Remove, context: &Context) -> Result<u64, Failure> {
    if asked.document.is_some() || asked.index.is_some() {
        return Ok(0);
    }
    let which = (asked.session.as_deref(), asked.source.as_deref(), asked.subject.as_deref());
    Ok(documents::turns(&context.store()?, which).context("cannot count what was said")?)
}

/// What is followed that goes too.
fn followed(asked: &Remove, all: Vec<documents::Followed>) -> Vec<documents::Followed> {
    if asked.document.is_some() || asked.session.is_some() {
        return Vec::new();
    }
    let is = |wanted: &Option<String>, own: Option<&String>| wanted.as_ref().is_none_or(|wanted| Some(wanted) == own);
    let fits =
        |own: &documents::Followed| is(&asked.source, Some(&own.source)) && is(&asked.subject, own.subject.as_ref());
    all.into_iter().filter(fits).collect()
}

/// Asks for the removal, index by index; how much is gone.
fn forget(
    asked: &Remove,
    doomed: &[&Listed],
    followed: &[documents::Followed],
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
    places.extend(followed.iter().map(|own| (own.index.as_str(), "text")));
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
    let store = context.store()?;
    let found = documents::list(&store, index).context("cannot list the documents")?;
    let followed = documents::followed(&store, index).context("cannot list what is followed")?;
    if found.is_empty() && followed.is_empty() {
        must_be_known(index, context)?;
    }
    if context.json {
        output::json(&found)?;
        return Ok(ExitCode::SUCCESS);
    }
    let row = |document: Listed| {
        let label = |label: &Label| words::label(label);
        let from = if document.kept {
            let source =
                document.source.map_or_else(|| "a workflow".to_owned(), |source| output::named(&source).into());
            document.outcome.map_or_else(|| source.clone(), |outcome| format!("{source}, {outcome}"))
        } else {
            "the bundle".to_owned()
        };
        vec![
            document.index,
            output::named(&document.document).into(),
            label(&document.label),
            from,
            output::named(&document.subject.unwrap_or_default()).into(),
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
    for documents::Followed { index, path, .. } in followed {
        let away = if std::path::Path::new(&path).exists() { "" } else { ", which is not there now" };
        output::say(&format!("{index} follows {}{away}", output::named(&path)));
    }
    Ok(ExitCode::SUCCESS)
}

/// # Errors
/// When an index that has nothing is none of the configuration's either: it is mistyped.
fn must_be_known(index: Option<&str>, context: &Context) -> Result<(), Failure> {
    let is_mistyped = |index: &&str| !context.config().is_ok_and(|config| config.memory.knows(index));
    let Some(index) = index.filter(is_mistyped) else { return Ok(()) };
    let all = documents::list(&context.store()?, None).context("cannot list the documents")?;
    let others: BTreeSet<&str> = all.iter().map(|document| document.index.as_str()).collect();
    let others = match others.into_iter().collect::<Vec<_>>().join(", ") {
        names if names.is_empty() => "there is none in any other".to_owned(),
        names => format!("there are some in {names}"),
    };
    Err(Failure::NotFound(format!("no document is in the index {index}; {others}")))
}

#[cfg(test)]
mod tests {
    use clap::Args as _;

    use super::*;

    #[test]
    fn a_path_is_a_source_where_nothing_else_has_that_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().canonicalize().expect("it is there").join(name).display().to_string();
        let (added, shelf) = (at("added"), at("shelf"));
        let followed = |path: &str, source: &str| documents::Followed {
            index: "documents".to_owned(),
            path: path.to_owned(),
            source: source.to_owned(),
            subject: None,
            label: Label::default(),
        };
        let all = [followed(&added, &added), followed(&added, "plant"), followed(&shelf, "books")];
        let sources = [added.as_str(), "plant", "books"];
        let source = |given: &str| source_of(given, |source| sources.contains(&source), &all);
        let is = |given: &str, expected: &str| assert_eq!(source(given).ok().as_deref(), Some(expected), "{given}");
        // Gone by now, with more than its name, under another name: what is added by it comes first.
        is(&added, &added);
        is(&format!("{added}/"), &added);
        std::os::unix::fs::symlink(folder.path(), at("link")).expect("linked");
        std::fs::create_dir(&added).expect("made");
        is(&at("link/added"), &added);
        is("plant", "plant");
        is("nothing", "nothing");
        let told = |given: &str| match source(given) {
            Err(Failure::NotFound(why)) => why,
            other => panic!("{given}: {:?}", other.ok()),
        };
        assert!(told(&shelf).ends_with("was added with the source books: give --source \"books\""), "{}", told(&shelf));
        let here = std::env::current_dir().expect("here").join("word").display().to_string();
        let word = source_of("word", |source| source == here, &[]);
        assert!(matches!(word, Err(Failure::NotFound(why)) if why.starts_with("nothing has the source word; ")));
    }

    #[test]
    fn what_is_to_be_removed_is_asked_for_with_all_that_may_say_it() {
        let parsed = |given: &[&str]| {
            let command = Remove::augment_args(clap::Command::new("remove")).no_binary_name(true);
            command.try_get_matches_from(given).map(drop).map_err(|error| error.to_string())
        };
        let why = parsed(&["--index", "junk"]).expect_err("nothing is said");
        for wanted in ["DOCUMENT", "--source <TEXT>", "--subject <TEXT>", "--session <NAME>"] {
            assert!(why.contains(wanted), "{wanted}: {why}");
        }
        for given in [&["a.md"][..], &["--source", "plant", "--subject", "Mia"], &["--session", "4711"]] {
            assert_eq!(parsed(given), Ok(()));
        }
    }

    #[test]
    fn a_name_may_be_given_as_it_is_shown() {
        let names = ["a\\nb.md", "a\nb.md", "c\td.md"];
        let meant = |given| meant(given, names.into_iter());
        assert_eq!(meant("a\\nb.md"), "a\\nb.md", "one is called so");
        assert_eq!(meant("a\nb.md"), "a\nb.md");
        assert_eq!(meant("c\\td.md"), "c\td.md");
        assert_eq!(meant("none"), "none");
    }

    #[test]
    fn a_document_is_named_by_its_id() {
        assert_eq!((id_of("remembered:sub/b.txt"), id_of("episode:01J")), ("sub/b.txt", "01J"));
        assert_eq!(id_of("sub/b.txt"), "sub/b.txt");
    }
}
