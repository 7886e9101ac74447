//! The first page: every node, what waits for a person, what runs, how far the bundles have come.

use axum::{Extension, extract::State};
use maud::{Markup, html};
use shared::look::words;

use super::{
    Console, Shared, approvals as questions,
    door::Visitor,
    parts::{self, Page},
    runs as run_pages,
};
use crate::{
    fleet::rollout,
    store::{
        approvals::{self, Approval},
        bundles::{self, Bundle, Group},
        ledger,
        nodes::{self, Node},
        runs,
    },
};

const RUNS_SHOWN: usize = 10;
const QUESTIONS_SHOWN: usize = 5;
const ALARMS_SHOWN: usize = 5;

pub(super) async fn show(State(console): Shared, Extension(visitor): Extension<Visitor>) -> Page {
    let control = &console.control;
    let all = control.read("list the nodes", nodes::list).await?;
    let open = control.read("list the questions", |c| approvals::list(c, true, QUESTIONS_SHOWN)).await?;
    let filter = runs::Filter { limit: RUNS_SHOWN, ..runs::Filter::default() };
    let newest = control.read("list the runs", move |c| runs::list(c, &filter)).await?;
    let groups = control.read("list the groups", |c| Ok((bundles::groups(c)?, bundles::list(c)?))).await?;
    let alarms = control.read("list the alarms", |c| ledger::alarms(c, ALARMS_SHOWN)).await?;
    let body = html! {
        h1 { "Fleet" }
        p.lead #lead data-live { (sentence(&console, &all)) }
        div #alarms data-live { @for alarm in alarms.iter().filter(|alarm| alarm.cleared.is_none()) {
            p.note.bad { strong { "Ledger of " (alarm.node) ": " (alarm.kind) ". " } (alarm.message) " " (parts::when(alarm.at)) }
        } }
        dl.tiles #tiles data-live { (tiles(&console, &all, &open)) }
        div #questions data-live { @for question in &open { (questions::card(question, &visitor, true)) } }
        section.sheet { header { h2 { "Nodes" } }
            div #nodes data-live { (table(&console, &all)) } }
        section.sheet { header { h2 { "Newest runs" } a.end href="/runs" { "All runs" } }
            div #runs data-live { (run_pages::table(&newest)) } }
        section.sheet { header { h2 { "Bundles" } p { "signed here, applied whole or not at all" } }
            div #groups data-live { (rollouts(&all, &groups.0, &groups.1)) } }
    };
    parts::page(&console, &visitor, "/", "Fleet", body).await
}

fn sentence(console: &Console, all: &[Node]) -> Markup {
    let up = all.iter().filter(|node| console.control.link(&node.name).is_up()).count();
    html! {
        @match (all.len(), up) {
            (0, _) => { "No node has enrolled yet. Make a join token with " code { "cloud-control token create" } "." },
            (count, up) if up == count => { "All " (count) " nodes are connected." },
            (count, up) => { (up) " of " (count) " nodes are connected. The others go on with their work on their own." },
        }
    }
}

fn tiles(console: &Console, all: &[Node], open: &[Approval]) -> Markup {
    let figure = |name: &str| {
        let of = |node: &Node| node.status.as_ref().and_then(|status| status.figures.get(name).copied());
        all.iter().filter_map(of).sum::<f64>()
    };
    let up = all.iter().filter(|node| console.control.link(&node.name).is_up()).count();
    let archived: u64 = all.iter().map(|node| node.archived).sum();
    let known: u64 = all.iter().map(|node| node.status.as_ref().map_or(0, |status| status.ledger_size)).sum();
    let behind = match known.saturating_sub(archived) {
        0 => "nothing is missing".to_owned(),
        missing => format!("{} on their way", words::count(missing as f64)),
    };
    html! {
        (parts::tile("Nodes connected", &format!("{up} / {}", all.len()), &format!("{} devices", words::count(figure("devices_count")))))
        (parts::tile("Readings a second", &words::number(figure("readings_per_second")),
            &format!("{} kept so far", words::count(figure("readings_count")))))
        (parts::tile("Findings", &words::count(figure("findings_count")),
            &words::counted(figure("quarantined_count"), "message quarantined", "messages quarantined")))
        (parts::tile("Open questions", &open.len().to_string(), if open.is_empty() { "nobody is asked" } else { "a person decides" }))
        (parts::tile("Audit archive", &words::count(archived as f64), &behind))
    }
}

fn table(console: &Console, all: &[Node]) -> Markup {
    html! {
        @if all.is_empty() { p.empty { "No node yet. Make a token with " code { "cloud-control token create" } " and give it to a gateway: " code { "edge-agent enroll TOKEN" } } } @else {
            div.scroll { table {
                thead { tr {
                    th { "Node" } th { "Link" } th { "Health" } th { "Bundle" } th.n { "Readings / s" } th.n { "Devices" }
                    th.n { "Ledger here" } th { "Heard" }
                } }
                tbody { @for node in all { (row(console, node)) } }
            } }
        }
    }
}

fn row(console: &Console, node: &Node) -> Markup {
    let status = node.status.as_ref();
    let figure = |name: &str| status.and_then(|status| status.figures.get(name).copied()).unwrap_or(0.0);
    let size = status.map_or(0, |status| status.ledger_size);
    html! {
        tr {
            td { a href=(format!("/nodes/{}", node.name)) { strong { (node.name) } }
                div.faint { (node.jurisdiction) " · group " (node.group) } }
            td { (parts::link(console.control.link(&node.name))) }
            td { (parts::health(status.map(|status| status.health).unwrap_or_default()))
                @if node.halted.is_some() { " " (parts::pill("bad", "ledger halted")) }
                @if let Some(first) = status.and_then(|status| status.complaints.first()) { div.faint { (first) } } }
            td { (parts::stage(&rollout::stage(node)))
                @if let Some(applied) = status.and_then(|status| status.applied) { div.faint { "version " (applied.version) } } }
            td.n { (words::number(figure("readings_per_second"))) }
            td.n { (words::count(figure("devices_count"))) }
            td.n { (words::count(node.archived as f64))
                div.faint { @if node.halted.is_some() { "halted" } @else if size > node.archived { "of " (words::count(size as f64)) } @else { "complete" } } }
            td.t { @if let Some(seen) = node.seen { (parts::when(seen)) } @else { "never" } }
        }
    }
}

fn rollouts(all: &[Node], groups: &[Group], bundles: &[Bundle]) -> Markup {
    html! {
        @if groups.is_empty() { p.empty { "No group yet: one comes with its first token, or with " code { "cloud-control bundle push" } } } @else {
            div.scroll { table {
                thead { tr { th { "Group" } th { "Shall run" } th { "Nodes" } } }
                tbody { @for group in groups { tr {
                    @let progress = rollout::progress(all, &group.name);
                    @let bundle = group.desired.and_then(|digest| bundles.iter().find(|bundle| bundle.digest == digest));
                    td { strong { (group.name) } }
                    td { @if let Some(bundle) = bundle {
                        (bundle.name) " " span.soft { "version " (bundle.version) } " " (parts::digest(bundle.digest))
                        div.faint { "pushed by " (bundle.by) ", " (parts::when(bundle.pushed)) }
                    } @else { span.faint { "nothing yet" } } }
                    td { (progress.current) " of " (progress.nodes) " run it"
                        @if progress.rejected > 0 { " " (parts::pill("bad", &format!("{} went back", progress.rejected))) } }
                } } }
            } }
        }
    }
}
