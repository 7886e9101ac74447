//! What every page is made of.

use axum::http::StatusCode;
use maud::{DOCTYPE, Markup, html};
use shared::{
    label::{DataClass, Label},
    time::Timestamp,
};

use super::super::{Server, auth::Session, live::Link};
use crate::{
    clock,
    store::{self, runs},
};

impl From<store::Error> for Unreadable {
    fn from(error: store::Error) -> Self {
        Self(error)
    }
}

/// The store did not answer.
pub struct Unreadable(store::Error);

impl axum::response::IntoResponse for Unreadable {
    fn into_response(self) -> axum::response::Response {
        let page = plain("Out of order", &html! { p.note.bad { "The node " (self.0) "." } });
        (StatusCode::SERVICE_UNAVAILABLE, page).into_response()
    }
}

/// A document without head and navigation.
pub fn plain(title: &str, body: &Markup) -> Markup {
    document(title, &html! { main #main { (body) } }, false)
}

fn document(title: &str, body: &Markup, live: bool) -> Markup {
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
            @if live { body data-events="/events" { (body) } } @else { body { (body) } }
        }
    }
}

/// A rock in the waves.
pub fn mark() -> Markup {
    html! {
        svg viewBox="0 0 32 32" aria-hidden="true" {
            path.rock d="M6 21 L12.5 9.5 Q13.6 7.8 15 9.4 L18.4 13.6 L20.6 11.6 Q21.8 10.6 22.8 12.2 L27 21 Z" {}
            path.wave d="M2 22.5 q3.5 -3 7 0 t7 0 t7 0 t7 0" {}
            path.wave d="M5 27.5 q3.2 -2.6 6.4 0 t6.4 0 t6.4 0" {}
        }
    }
}

/// A page with head and navigation. `here` is the path of its place in the navigation.
pub async fn page(
    server: &Server,
    session: &Session,
    here: &str,
    title: &str,
    body: Markup,
) -> Result<Markup, Unreadable> {
    let waiting = server.handles.store.read("list the open questions", runs::approvals_pending).await?.len();
    let places =
        [("/", "Status"), ("/feeds", "Feeds"), ("/runs", "Runs"), ("/approvals", "Approvals"), ("/ledger", "Ledger")];
    let head = html! {
        a.skip href="#main" { "Skip to content" }
        div.top { div {
            a.brand href="/" { (mark()) span { (server.handles.node) " " small { (server.handles.jurisdiction) } } }
            nav aria-label="Pages" #nav data-live {
                @for (path, name) in places {
                    a href=(path) aria-current=[(path == here).then_some("page")] {
                        (name)
                        @if path == "/approvals" && waiting > 0 { span.count title="waiting" { (waiting) } }
                    }
                }
            }
            div.end {
                span #link data-live { (link((server.handles.live)().link)) }
                span #live role="status" { "not live" }
                form method="post" action="/logout" {
                    input type="hidden" name="form" value=(session.form);
                    button.plain { "Log out" }
                }
            }
        } }
        main #main { (body) }
    };
    Ok(document(title, &head, true))
}

fn link(link: Link) -> Markup {
    match link {
        Link::None => pill("", "on its own"),
        Link::Up { .. } => pill("good", "uplink up"),
        Link::Down { .. } => pill("wait", "uplink down"),
    }
}

/// A word with a colour and a form: `good`, `wait`, `bad`, `sea` or nothing.
pub fn pill(kind: &str, word: &str) -> Markup {
    html! { span class=(format!("pill {kind}")) { (word) } }
}

/// A run's status as a pill.
pub fn status(word: &str) -> Markup {
    let kind = match word {
        "completed" => "good",
        "faulted" | "cancelled" => "bad",
        "waiting" | "parked" | "suspended" => "wait",
        "running" => "sea",
        _ => "",
    };
    pill(kind, word)
}

/// A label in words.
pub fn label(label: &Label) -> Markup {
    let class = match label.class {
        DataClass::Public => "public",
        DataClass::Internal => "internal",
        DataClass::Confidential => "confidential",
        DataClass::Restricted => "restricted",
    };
    let origins: Vec<&str> = label.origins.iter().map(String::as_str).collect();
    html! {
        span.soft {
            (class)
            @if label.personal { ", personal" }
            @if !origins.is_empty() { ", from " (origins.join(", ")) }
        }
    }
}

/// An instant, as an age when it is near.
pub fn when(at: Timestamp) -> Markup {
    html! { time datetime=(at) title=(at) { (age(at, clock::now())) } }
}

fn age(at: Timestamp, now: Timestamp) -> String {
    let seconds = now.since(at).as_secs();
    match seconds {
        0 if at > now => at.to_string().replace('T', " "),
        0..=1 => "just now".to_owned(),
        2..=119 => format!("{seconds} s ago"),
        120..=7_199 => format!("{} min ago", seconds / 60),
        7_200..=172_799 => format!("{} h ago", seconds / 3_600),
        _ => at.to_string()[..16].replace('T', " "),
    }
}

/// A number that people can read.
pub fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 10_000.0 => group(value.round()),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A whole number with thin spaces between thousands.
pub fn group(value: f64) -> String {
    let digits = format!("{value:.0}");
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits.as_str()), |rest| ("-", rest));
    let mut out = String::from(sign);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// A small drawing of the last values.
pub fn spark(values: &[f64], hot: bool) -> Markup {
    if values.len() < 2 {
        return html! {};
    }
    let (low, high) = values.iter().fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(*v), high.max(*v)));
    let span = if high > low { high - low } else { 1.0 };
    let place = |(index, value): (usize, &f64)| {
        let x = index as f64 / (values.len() - 1) as f64 * 128.0 + 2.0;
        (x, 25.0 - (value - low) / span * 22.0)
    };
    let points: Vec<String> = values
        .iter()
        .enumerate()
        .map(|point| {
            let (x, y) = place(point);
            format!("{x:.1},{y:.1}")
        })
        .collect();
    let (x, y) = place((values.len() - 1, &values[values.len() - 1]));
    html! {
        svg class=(if hot { "spark hot" } else { "spark" }) viewBox="0 0 132 28" role="img"
            aria-label=(format!("from {} to {}", number(low), number(high))) {
            polyline points=(points.join(" ")) {}
            circle cx=(format!("{x:.1}")) cy=(format!("{y:.1}")) r="2.4" {}
        }
    }
}

/// JSON as people read it.
pub fn pretty(value: &serde_json::Value) -> Markup {
    html! { pre { (serde_json::to_string_pretty(value).unwrap_or_default()) } }
}
