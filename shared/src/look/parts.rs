//! What the pages of both sides are made of: the document, pills, instants, proposals, ledger entries. Who may see them and
//! what is asked of the store is each side's own.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value;

use super::{tell, words};
use crate::{
    digest::{Digest, canonical_json},
    ledger::entry::Entry,
    time::Timestamp,
    wire::v1::{Health, RunSummary},
};

/// A whole document. A live one listens for changes at `/events`.
#[must_use]
pub fn document(title: &str, events: Option<&str>, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " · Skerry" }
                link rel="stylesheet" href="/assets/skerry.css";
                script src="/assets/live.js" defer {}
            }
            body data-events=[events] { (body) }
        }
    }
}

/// A document without head and navigation.
#[must_use]
pub fn plain(title: &str, body: &Markup) -> Markup {
    document(title, None, &html! { main #main { (body) } })
}

/// A rock in the waves.
#[must_use]
pub fn mark() -> Markup {
    PreEscaped(words::MARK.to_owned())
}

/// The pages by path and name; `here` is the one that is shown, `waiting` how many questions wait for a person.
#[must_use]
pub fn navigation(pages: &[(&str, &str)], here: &str, waiting: usize) -> Markup {
    html! {
        nav aria-label="Pages" #nav data-live {
            @for (path, name) in pages {
                a href=(path) aria-current=[(*path == here).then_some("page")] {
                    (name)
                    @if *path == "/approvals" && waiting > 0 { span.count title="waiting" { (waiting) } }
                }
            }
        }
    }
}

/// A word with a colour and a form: `good`, `wait`, `bad`, `sea` or nothing.
#[must_use]
pub fn pill(kind: &str, word: &str) -> Markup {
    html! { span class=(format!("pill {kind}")) { (word) } }
}

/// A run's status as a pill.
#[must_use]
pub fn status(word: &str) -> Markup {
    pill(words::status_class(word), word)
}

/// A node's health as a pill.
#[must_use]
pub fn health(health: Health) -> Markup {
    match health {
        Health::Healthy => pill("good", "healthy"),
        Health::Degraded => pill("wait", "degraded"),
        Health::Failing => pill("bad", "failing"),
        Health::Starting => pill("sea", "starting"),
        Health::Unknown => pill("", "unknown"),
    }
}

/// An instant, as an age when it is near.
#[must_use]
pub fn when(at: Timestamp, now: Timestamp) -> Markup {
    html! { time datetime=(at) title=(at) { (words::age(at, now)) } }
}

/// The first digits of a digest, with all of it to hover over.
#[must_use]
pub fn digest(digest: Digest) -> Markup {
    html! { code title=(digest) { (digest.short()) } }
}

/// A figure with its name and a remark.
#[must_use]
pub fn tile(name: &str, value: &str, note: &str) -> Markup {
    html! { div.tile { dt { (name) } dd { (value) } dd.aside { (note) } } }
}

/// JSON as people read it.
#[must_use]
pub fn pretty(value: &Value) -> Markup {
    html! { pre { (serde_json::to_string_pretty(value).unwrap_or_default()) } }
}

/// What a person is asked to allow: in words, and exactly as its digest is made. `id` tells several on a page apart.
#[must_use]
pub fn proposal(id: &str, value: &Value) -> Markup {
    let Value::Object(map) = value else { return pretty(value) };
    html! {
        dl.proposal { @for (name, value) in map { dt { (name) } dd { (in_words(value)) } } }
        details #(format!("exact-{id}")) { summary { "Exactly as it is hashed" } pre { (canonical_json(value)) } }
    }
}

fn in_words(value: &Value) -> Markup {
    match value {
        Value::String(text) => html! { (text) },
        Value::Array(items) => html! { @for item in items { (in_words(item)) br; } },
        Value::Object(_) => pretty(value),
        other => html! { (other.to_string()) },
    }
}

/// A run in a sentence; `more` ends it.
#[must_use]
pub fn summary(run: &RunSummary, now: Timestamp, more: &Markup) -> Markup {
    html! {
        p.lead {
            (status(&run.status)) " "
            @if let Some(subject) = &run.subject { (subject) " · " }
            "started " (when(run.started, now))
            @if let Some(ended) = run.ended { ", ended " (when(ended, now)) }
            " · carries " (words::label(&run.label)) (more)
        }
        @let tone = if run.status == "faulted" { "bad" } else { "wait" };
        @if let Some(note) = &run.note { p class=(format!("note {tone}")) { (note) } }
    }
}

/// An entry of a ledger as a step. `key` tells the ledgers on a page apart; `links` lead to what it belongs to. What a newer
/// version wrote is shown as it is.
#[must_use]
pub fn step(key: &str, seq: u64, entry: &Value, links: &Markup, now: Timestamp) -> Markup {
    let Ok(known) = serde_json::from_value::<Entry>(entry.clone()) else {
        return html! { li { div.head { span.faint { "#" (seq) } " an entry of a newer version" (links) } (pretty(entry)) } };
    };
    let told = tell(&known);
    html! {
        li class=(told.tone.class()) {
            div.head {
                strong { (told.headline) }
                @if let Some(task) = &known.task { span.faint.mono { (task) } }
                span.faint { "#" (seq) }
                (links)
                (when(known.at, now))
            }
            @if !told.detail.is_empty() { p { (told.detail) } }
            @for (name, text) in &told.texts {
                details #(format!("entry-{key}-{seq}-{name}")) { summary { (name) } pre { (text) } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_others_wrote_is_text_and_never_markup() {
        let evil = json!({ "device": "<script>alert(1)</script>", "list": ["<b>"] });
        let shown = proposal("a", &evil).into_string();
        assert!(!shown.contains("<script") && !shown.contains("<b>"), "{shown}");
        assert!(shown.contains("&lt;script&gt;") && shown.contains("exact-a"), "{shown}");
    }

    #[test]
    fn an_entry_of_a_newer_version_is_shown_as_it_is() {
        let entry = json!({ "at": "2026-11-21T08:30:00Z", "fact": "teleported", "to": "mars" });
        let shown = step("", 7, &entry, &html! {}, Timestamp::default()).into_string();
        assert!(shown.contains("#7") && shown.contains("mars"), "{shown}");
    }

    #[test]
    fn only_a_live_page_listens() {
        let body = html! { p { "x" } };
        assert!(!plain("a", &body).into_string().contains("data-events"));
        assert!(document("a", Some("/events"), &body).into_string().contains("data-events=\"/events\""));
    }
}
