//! The audit archive: which ledgers are here, what they say, and the proof that nothing is missing.

use axum::{
    Extension,
    extract::{Path, Query, State},
};
use maud::{Markup, html};
use serde::Deserialize;
use shared::{id::NodeName, look::words, time::Timestamp};

use super::{
    Shared,
    door::Visitor,
    parts::{self, Page},
};
use crate::{
    control::Verification,
    store::{
        actions::{self, Action},
        ledger::{self, Alarm, Archived},
        nodes::{self, Node},
    },
};

const ENTRIES_SHOWN: usize = 60;
const ACTIONS_SHOWN: usize = 20;
const ALARMS_SHOWN: usize = 50;

#[derive(Deserialize)]
pub(super) struct Wanted {
    node: Option<NodeName>,
    fact: Option<String>,
    before: Option<String>,
    before_node: Option<NodeName>,
    before_seq: Option<u64>,
}

/// The kinds of entries that auditors ask for first.
const FACTS: [&str; 7] = [
    "policy-decided",
    "model-called",
    "retrieved",
    "approval-decided",
    "message-published",
    "effect-failed",
    "run-started",
];

pub(super) async fn show(
    State(console): Shared,
    Extension(visitor): Extension<Visitor>,
    Query(Wanted { node, fact, before, before_node, before_seq }): Query<Wanted>,
) -> Page {
    let control = &console.control;
    let all = control.read("list the nodes", nodes::list).await?;
    let alarms = control.read("list the alarms", |c| ledger::alarms(c, ALARMS_SHOWN)).await?;
    let done = control.read("list what operators did", |c| actions::list(c, ACTIONS_SHOWN)).await?;
    let before: Option<Timestamp> = before.and_then(|text| text.parse().ok());
    let (of_node, of_fact) = (node.clone(), fact.clone());
    let filter = ledger::Filter {
        node: of_node,
        fact: of_fact,
        before,
        before_node,
        before_seq,
        limit: ENTRIES_SHOWN,
        run: None,
    };
    let entries = control.read("list audit entries", move |c| ledger::list(c, &filter)).await?;
    let of = |fact: Option<&str>, behind: Option<&Archived>| {
        let pairs = [
            ("node", node.as_ref().map(ToString::to_string)),
            ("fact", fact.map(str::to_owned)),
            ("before", behind.map(|last| last.at.to_string())),
            ("before_node", behind.map(|last| last.node.to_string())),
            ("before_seq", behind.map(|last| last.seq.to_string())),
        ];
        let query: Vec<String> =
            pairs.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value?))).collect();
        format!("/audit?{}", query.join("&"))
    };
    let body = html! {
        h1 { "Audit" }
        p.lead { "Every decision of every node, as its own ledger says it. A head is countersigned only when the tree grows from the one before; verification computes all of it again." }
        section.sheet { header { h2 { "Ledgers" } } div #ledgers data-live { (ledgers(&all)) } }
        div #alarms data-live { (alarm_list(&alarms)) }
        section.sheet {
            header { h2 { "Entries" } nav aria-label="Kind" {
                a href=(of(None, None)) aria-current=[fact.is_none().then_some("true")] { "all" }
                @for kind in FACTS { a href=(of(Some(kind), None)) aria-current=[(fact.as_deref() == Some(kind)).then_some("true")] { (kind.replace('-', " ")) } }
            } }
            ol.steps #entries data-live { @for entry in &entries { (parts::step(entry, true)) } }
            @if entries.is_empty() { p.empty { "No entry of this kind has come." } }
            @if entries.len() == ENTRIES_SHOWN { @if let Some(last) = entries.last() {
                div.pad { a.button href=(of(fact.as_deref(), Some(last))) { "Older entries" } }
            } }
        }
        section.sheet { header { h2 { "What operators did" } } div #actions data-live { (action_list(&done)) } }
    };
    parts::page(&console, &visitor, "/audit", "Audit", body).await
}

fn ledgers(all: &[Node]) -> Markup {
    html! {
        @if all.is_empty() { p.empty { "No node yet: the ledgers of those that join are archived here." } } @else {
            div.scroll { table {
                thead { tr { th { "Node" } th { "State" } th.n { "Entries here" } th.n { "On the node" } th { "" } } }
                tbody { @for node in all { tr {
                    @let size = node.status.as_ref().map_or(0, |status| status.ledger_size);
                    td { strong { (node.name) } }
                    td { @if let Some(reason) = &node.halted { (parts::pill("bad", "halted")) div.faint { (reason) } }
                        @else if size > node.archived { (parts::pill("wait", &format!("{} not here yet", size - node.archived))) }
                        @else { (parts::pill("good", "countersigned")) } }
                    td.n { (words::count(node.archived as f64)) }
                    td.n { (words::count(size as f64)) }
                    td.n { a href=(format!("/audit/{}", node.name)) { "Verify" } " · " a href=(format!("/audit?node={}", node.name)) { "Entries" } }
                } } }
            } }
        }
    }
}

fn alarm_list(alarms: &[Alarm]) -> Markup {
    html! { @for alarm in alarms {
        div class=(if alarm.cleared.is_some() { "note" } else { "note bad" }) {
            strong { (alarm.node) ": " (alarm.kind) ". " } (alarm.message) " " (parts::when(alarm.at))
            @if let (Some(at), Some(by)) = (alarm.cleared, &alarm.by) { " Looked into by " (by) ", " (parts::when(at)) "." }
            @if let Some(evidence) = &alarm.evidence {
                details #(format!("alarm-{}", alarm.id)) { summary { "The head that the node signed" } pre { (evidence) } }
            }
        }
    } }
}

fn action_list(done: &[Action]) -> Markup {
    html! {
        @if done.is_empty() { p.empty { "Nothing yet." } } @else {
            div.scroll { table {
                thead { tr { th { "Who" } th { "What" } th { "When" } } }
                tbody { @for action in done { tr { td { (action.by) } td { (action.what) } td.t { (parts::when(action.at)) } } } }
            } }
        }
    }
}

pub(super) async fn verify(
    State(console): Shared,
    Extension(visitor): Extension<Visitor>,
    Path(node): Path<NodeName>,
) -> Page {
    let verification = console.control.verify_ledger(&node).await?;
    let body = html! {
        p.crumb { a href="/audit" { "Audit" } " / " (node) }
        h1 { "Ledger of " (node) }
        (verdict(&verification))
        section.sheet { header { h2 { "What was computed" } } div.pad { dl.facts {
            dt { "Entries" } dd { (words::count(verification.entries as f64)) }
            dt { "Root of the tree" } dd { code { (verification.root) } }
            dt { "Countersigned" } dd { @if let Some(at) = verification.countersigned { (parts::when(at)) } @else { "not yet" } }
        } } }
        @if let Some(head) = &verification.head {
            section.sheet { header { h2 { "Signed head" } p { "C2SP note; anyone can check it with the two public keys" } }
                div.pad { pre { (head) } } }
        }
        p { a.button href=(format!("/audit/{node}")) { "Verify again" } " " a href=(format!("/audit?node={node}")) { "Its entries" } }
    };
    parts::page(&console, &visitor, "/audit", &format!("Ledger of {node}"), body).await
}

fn verdict(verification: &Verification) -> Markup {
    html! { @match (&verification.fault, &verification.halted) {
        (None, None) if verification.entries > 0 => p.note.good {
            strong { "Complete and unchanged. " } "All " (words::count(verification.entries as f64))
            " entries were hashed again; their tree is the one that the node signed and this control plane countersigned. There is no gap."
        },
        (None, None) => p.note { "No entry has come from this node yet." },
        (None, Some(reason)) => p.note.wait { strong { "What is here holds, but nothing more is taken. " } (reason) },
        (Some(fault), _) => p.note.bad role="alert" { strong { "It does not hold. " } (fault) },
    } }
}
