//! The feeds with their counters and live values.

use axum::{Extension, extract::State};
use maud::{Markup, PreEscaped, html};
use shared::look::words;

use super::parts::{self, Unreadable};
use crate::{
    api::{Shared, auth::Session, live::Feed},
    store::quarantine::{self, Misfit, printable},
};

/// Rows of one feed's table; what is beyond is counted.
const SERIES_SHOWN: usize = 200;
/// Misfits shown; `edge-agent quarantine list` shows more.
const MISFITS_SHOWN: u32 = 20;

pub(super) async fn show(State(server): Shared, Extension(session): Extension<Session>) -> Result<Markup, Unreadable> {
    let mut live = (server.handles.live)();
    server.trends.look(&mut live);
    let read = server.handles.store.read("read the quarantine", |connection| {
        Ok((quarantine::newest(connection, None, MISFITS_SHOWN)?, quarantine::count(connection, None)?))
    });
    let (misfits, (all, _)) = read.await?;
    let body = html! {
        h1 { "Feeds" }
        p.lead { "Every reading is in the journal before its sender is told that it arrived. What does not fit its feed is quarantined and counted." }
        @if live.feeds.is_empty() { section.sheet { p.empty { "This node has no feed. Describe one in the bundle's " code { "feeds.yaml" } "." } } }
        @for feed in &live.feeds {
            section.sheet { header { h2 { (feed.name) } p { code { (feed.topic) } } }
                div #(format!("feed-{}", feed.name)) data-live { (one(feed)) } }
        }
        section.sheet { header { h2 { "Quarantine" } } div #quarantine data-live { (quarantined(&misfits, all)) } }
    };
    parts::page(&server, &session, "/feeds", "Feeds", body).await
}

/// Messages that did not fit, newest first. What they hold came from anywhere: it is shown as text, escaped.
fn quarantined(misfits: &[Misfit], all: i64) -> Markup {
    html! {
        @if misfits.is_empty() { p.empty { "Every message has fitted its feed." } } @else {
            div.scroll { table {
                thead { tr { th { "Received" } th { "Topic" } th { "Why" } th.n { "Bytes" } th { "Begins" } } }
                tbody { @for misfit in misfits { tr {
                    td.t { time datetime=(misfit.received) { (words::second(misfit.received)) } }
                    td { code { (printable(&misfit.topic, 120)) } }
                    td { (printable(&misfit.reason, 200)) }
                    td.n { (misfit.bytes) }
                    td { code { (printable(&misfit.beginning, 60)) } }
                } } }
            } }
            p.empty { "The newest " (misfits.len()) " of " (all) ". More: " code { "edge-agent quarantine list" } }
        }
    }
}

fn one(feed: &Feed) -> Markup {
    html! {
        div.pad { span.soft {
            (words::number(feed.per_second)) " readings a second · " (words::count(feed.messages as f64)) " messages · "
            (words::count(feed.readings as f64)) " readings kept "
            @if feed.quarantined > 0 { (parts::pill("wait", &format!("{} quarantined", feed.quarantined))) " " }
            @if feed.shed > 0 { (parts::pill("bad", &format!("{} shed", feed.shed))) }
        } }
        @if !feed.series.is_empty() {
            div.scroll { table {
                thead { tr { th { "Device" } th { "Channel" } th.n { "Value" } th { "Lately" } th { "Measured" } } }
                tbody { @for series in feed.series.iter().take(SERIES_SHOWN) { tr {
                    td { (series.device) @if series.anomalous { " " (parts::pill("bad", "unusual")) } }
                    td { (series.channel) }
                    td.n { (words::number(series.value)) " " span.faint { (words::unit(&series.unit)) } }
                    td { (PreEscaped(words::spark(&series.trend, if series.anomalous { "spark hot" } else { "spark" }))) }
                    td.t { time datetime=(series.at) { (words::second(series.at)) } }
                } } }
            } }
            @if feed.series.len() > SERIES_SHOWN { p.empty { "and " (feed.series.len() - SERIES_SHOWN) " more" } }
        }
    }
}
