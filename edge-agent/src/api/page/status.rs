//! The first page: how the node is, what waits for a person, what was found.

use axum::{Extension, extract::State};
use maud::{Markup, html};
use shared::look::words;

use super::parts::{self, Unreadable};
use crate::{
    api::{
        Shared, admin,
        auth::Session,
        live::{Link, Live},
    },
    store::runs,
};

const RUNS_SHOWN: usize = 8;
const FINDINGS_SHOWN: usize = 8;

pub(super) async fn show(State(server): Shared, Extension(session): Extension<Session>) -> Result<Markup, Unreadable> {
    let store = &server.handles.store;
    let live = (server.handles.live)();
    let open = store.read("list the open questions", runs::approvals_pending).await?;
    let counts = store.read("count the runs", admin::run_counts).await?;
    let filter = runs::Filter { limit: RUNS_SHOWN, ..runs::Filter::default() };
    let newest = store.read("list the runs", move |c| runs::list(c, &filter)).await?;
    let ledger = *store.ledger_size().borrow();
    let count = |wanted: &[&str]| {
        counts.iter().filter(|(status, _)| wanted.contains(&status.as_str())).map(|(_, n)| n).sum::<u64>()
    };
    let body = html! {
        h1 { (server.handles.node) }
        p.lead #lead data-live { (sentence(&live)) }
        div #complaints data-live { @for complaint in &live.complaints {
            p.note.bad[live.failing()].wait[!live.failing()] { (complaint) }
        } }
        dl.tiles #tiles data-live {
            (parts::tile("Readings a second", &words::number(live.feeds.iter().map(|feed| feed.per_second).sum()),
                &words::counted(live.devices() as f64, "device", "devices")))
            (parts::tile("Readings kept", &words::count(live.figures()["readings_count"]),
                &format!("{} quarantined", words::count(live.figures()["quarantined_count"]))))
            (parts::tile("Open questions", &open.len().to_string(), if open.is_empty() { "nobody is asked" } else { "a person decides" }))
            (parts::tile("Runs", &count(&["running", "waiting", "parked"]).to_string(),
                &format!("open; {} completed, {} faulted", count(&["completed"]), count(&["faulted"]))))
            (parts::tile("Ledger", &words::count(ledger as f64), if ledger == 1 { "entry" } else { "entries" }))
        }
        @for question in &open { (super::approvals::card(question, &session, true)) }
        div.two {
            section.sheet { header { h2 { "Newest runs" } a.end href="/runs" { "All runs" } }
                div #runs data-live { (super::runs::table(&newest)) } }
            section.sheet { header { h2 { "Newest findings" } a.end href="/feeds" { "All feeds" } }
                div #findings data-live { (findings(&live)) } }
        }
        @if super::models::are_used(&live) {
            section.sheet { header { h2 { "Models on this node" } }
                div #models data-live { (super::models::table(&live)) } }
        }
        section.sheet { header { h2 { "This node" } }
            div.pad #node data-live { (facts(&live)) } }
    };
    parts::page(&server, &session, "/", "Status", body).await
}

fn sentence(live: &Live) -> Markup {
    html! {
        (parts::health(live.health)) " "
        @match &live.link {
            Link::None => "This node is on its own: it was never enrolled with a control plane.",
            Link::Up { control, since } => { "Connected to " (control) " since " (parts::when(*since)) "." },
            Link::Down { control, since, reason } => {
                "Cut off from " (control) @if let Some(since) = since { " since " (parts::when(*since)) }
                ": " (reason) ". Work here goes on; what needs the link waits."
            },
        }
    }
}

fn findings(live: &Live) -> Markup {
    html! {
        @if live.findings.is_empty() { p.empty { "Nothing unusual was found." } } @else {
            div.scroll { table.rows {
                thead { tr { th { "Device" } th { "Channel" } th.n { "Value" } th { "Detector" } th { "Time" } } }
                tbody { @for finding in live.findings.iter().take(FINDINGS_SHOWN) { tr {
                    td { (finding.device) }
                    td { (finding.channel) }
                    td.n { (words::number(finding.value)) " " span.faint { (words::unit(&finding.unit)) } }
                    td { (parts::pill(if finding.severity == "critical" { "bad" } else { "wait" }, &finding.detector)) }
                    td.t { (parts::when(finding.at)) }
                } } }
            } }
        }
    }
}

fn facts(live: &Live) -> Markup {
    html! { dl.facts {
        dt { "Version" } dd { (env!("CARGO_PKG_VERSION")) ", started " (parts::when(live.started)) }
        dt { "Sensors connect to" } dd { code { (live.broker) } }
        dt { "Bundle" } dd {
            @match &live.bundle {
                Some(bundle) => { "version " (bundle.version) ", applied " (parts::when(bundle.at)) ", " code { (bundle.digest) } },
                None => "none from a control plane; the node runs its own folder",
            }
        }
        dt { "Models" } dd { @for target in &live.targets {
            (target.name) " "
            @if target.reachable { (parts::pill("good", "reachable")) } @else { (parts::pill("wait", "out of reach")) }
            @if let Some(code) = &target.jurisdiction { " " span.faint { (code) } }
            br;
        } }
    } }
}
