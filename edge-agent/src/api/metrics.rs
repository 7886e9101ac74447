//! Metrics in Prometheus' text format (version 0.0.4).

mod models;

use std::fmt::Write as _;

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{
    Shared,
    live::{Feed, Link, Live},
};
use crate::store::withheld::{self, Withheld};

/// A feed's counter.
type Count = fn(&Feed) -> u64;

pub(super) async fn show(State(server): Shared, headers: HeaderMap) -> Response {
    if !server.is_trusted(&headers) {
        return super::auth::refuse(
            "beyond this machine, metrics ask for `authorization: Bearer` with the key in key_file",
        );
    }
    let live = (server.handles.live)();
    let ledger = *server.handles.store.ledger_size().borrow();
    let count = |c: &rusqlite::Connection| Ok((super::admin::run_counts(c)?, withheld::all(c)?));
    match server.handles.store.read("count the runs", count).await {
        Ok((runs, withheld)) => {
            let text = text(&live, ledger, &runs, &withheld);
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
        }
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
    }
}

fn text(live: &Live, ledger: u64, runs: &[(String, u64)], withheld: &[Withheld]) -> String {
    let mut out = String::new();
    let counters: [(&str, &str, Count); 5] = [
        ("messages", "Messages received from the broker.", |feed| feed.messages),
        ("readings", "Readings in the journal.", |feed| feed.readings),
        ("quarantined", "Messages that did not fit their feed.", |feed| feed.quarantined),
        ("duplicates", "Redeliveries that were already in the journal.", |feed| feed.duplicates),
        ("shed", "Messages dropped under load; each is recorded in the ledger.", |feed| feed.shed),
    ];
    for (name, help, of) in counters {
        family(&mut out, &format!("skerry_feed_{name}_total"), "counter", help);
        for feed in &live.feeds {
            line(&mut out, &format!("skerry_feed_{name}_total"), &[("feed", &feed.name)], of(feed) as f64);
        }
    }
    latency(&mut out, &live.feeds);
    family(&mut out, "skerry_findings_total", "counter", "Findings of all detectors since the agent started.");
    line(&mut out, "skerry_findings_total", &[], live.findings_count as f64);
    let gauges = [
        (
            "skerry_link_up",
            "Whether the control plane is in reach.",
            f64::from(u8::from(matches!(live.link, Link::Up { .. }))),
        ),
        ("skerry_healthy", "Whether the node does its work.", f64::from(u8::from(!live.failing()))),
        (
            "skerry_start_time_seconds",
            "When the agent started, in seconds since 1970.",
            live.started.as_micros() as f64 / 1e6,
        ),
        ("skerry_ledger_entries", "Entries in the ledger.", ledger as f64),
    ];
    for (name, help, value) in gauges {
        family(&mut out, name, "gauge", help);
        line(&mut out, name, &[], value);
    }
    family(&mut out, "skerry_runs", "gauge", "Runs by status.");
    for (status, count) in runs {
        line(&mut out, "skerry_runs", &[("status", status)], *count as f64);
    }
    models::tell(&mut out, live);
    let name = "skerry_events_withheld_total";
    family(
        &mut out,
        name,
        "counter",
        "Events that did not come to whom they were for; each is recorded in the ledger.",
    );
    for Withheld { workflow, reason, events, .. } in withheld {
        line(&mut out, name, &[("workflow", workflow), ("reason", reason)], *events as f64);
    }
    out
}

fn latency(out: &mut String, feeds: &[Feed]) {
    let name = "skerry_feed_latency_seconds";
    family(out, name, "histogram", "From a reading's own time to the moment when the detectors have seen it.");
    for feed in feeds.iter().filter(|feed| !feed.latency.is_empty()) {
        for (bound, count) in &feed.latency {
            let bound = if bound.is_finite() { bound.to_string() } else { "+Inf".to_owned() };
            line(out, &format!("{name}_bucket"), &[("feed", &feed.name), ("le", &bound)], *count as f64);
        }
        let count = feed.latency.last().map_or(0, |(_, count)| *count);
        line(out, &format!("{name}_sum"), &[("feed", &feed.name)], feed.latency_sum_s);
        line(out, &format!("{name}_count"), &[("feed", &feed.name)], count as f64);
    }
}

fn family(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn line(out: &mut String, name: &str, labels: &[(&str, &str)], value: f64) {
    out.push_str(name);
    for (index, (label, text)) in labels.iter().enumerate() {
        let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = write!(out, "{}{label}=\"{text}\"", if index == 0 { "{" } else { "," });
    }
    let _ = writeln!(out, "{} {value}", if labels.is_empty() { "" } else { "}" });
}

#[cfg(test)]
pub(super) mod tests {
    use shared::{time::Timestamp, wire::v1::Health};

    use super::*;
    use crate::api::live::Serving;

    pub fn live() -> Live {
        Live {
            started: Timestamp::from_millis(1_500),
            health: Health::Healthy,
            complaints: Vec::new(),
            link: Link::None,
            bundle: None,
            broker: String::new(),
            feeds: Vec::new(),
            findings: Vec::new(),
            findings_count: 4,
            targets: Vec::new(),
            encoders: Vec::new(),
            serving: Serving::default(),
        }
    }

    #[test]
    fn every_family_has_its_type_and_labels_are_escaped() {
        let feed = Feed {
            name: "a\"b".to_owned(),
            messages: 3,
            latency: vec![(0.01, 2), (f64::INFINITY, 3)],
            latency_sum_s: 0.5,
            ..Feed::default()
        };
        let serving = Serving { temperature: Some(48.5), cache_bytes: 7, cache_bytes_max: 9 };
        let live = Live { feeds: vec![feed], targets: vec![models::tests::target()], serving, ..live() };
        let (workflow, reason) = ("a/b".to_owned(), "loop".to_owned());
        let withheld = [Withheld { workflow, reason, events: 3, last: Timestamp::default() }];
        let text = text(&live, 7, &[("waiting".to_owned(), 2)], &withheld);
        for expected in [
            "# TYPE skerry_feed_messages_total counter\nskerry_feed_messages_total{feed=\"a\\\"b\"} 3\n",
            "skerry_feed_latency_seconds_bucket{feed=\"a\\\"b\",le=\"+Inf\"} 3\n",
            "skerry_feed_latency_seconds_count{feed=\"a\\\"b\"} 3\n",
            "skerry_start_time_seconds 1.5\n",
            "skerry_runs{status=\"waiting\"} 2\n",
            "skerry_events_withheld_total{workflow=\"a/b\",reason=\"loop\"} 3\n",
            "skerry_link_up 0\n",
            "skerry_findings_total 4\n",
            "skerry_model_waiting{target=\"local/a\"} 2\n",
            "skerry_model_memory_bytes{target=\"local/a\",of=\"keys_and_values\"} 64\n",
            "skerry_model_answer_tokens_per_second{target=\"local/a\"} 12.5\n",
            "skerry_model_tokens_total{target=\"local/a\",of=\"prompt\"} 300\n",
            "skerry_keys_and_values_bytes 7\n",
            "skerry_temperature_celsius 48.5\n",
        ] {
            assert!(text.contains(expected), "{expected:?} is missing in\n{text}");
        }
    }
}
