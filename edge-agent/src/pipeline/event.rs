//! Findings and messages as CloudEvents. Ids depend on nothing but what happened, so that a repeat is known.

use edge_core::signal::Finding;
use serde_json::{Value, json};
use shared::{
    digest::Digest,
    event::{Event, FINDING_TYPE, MESSAGE_TYPE},
    id::NodeName,
};

use crate::feed::journal::Row;

/// The event of a finding that this row led to.
pub(super) fn of_finding(node: &NodeName, row: &Row, finding: &Finding) -> Event {
    let (feed, device, channel) = (&row.feed.name, &row.reading.device, &row.reading.channel);
    let seed = json!([feed, device, channel, finding.detector, finding.at.as_micros()]).to_string();
    let id = hex::encode(&Digest::of(seed.as_bytes()).as_bytes()[..16]);
    let window = &finding.window;
    let data = json!({
        "feed": feed,
        "device": device,
        "channel": channel,
        "detector": finding.detector,
        "kind": finding.verdict.kind,
        "severity": finding.severity,
        "score": finding.verdict.score,
        "value": finding.value,
        "unit": row.reading.unit,
        "expected": { "low": finding.verdict.low, "high": finding.verdict.high },
        "window": {
            "from": window.from, "to": window.to, "count": window.count,
            "mean": window.mean, "min": window.min, "max": window.max,
        },
        "at": finding.at,
    });
    let mut event = Event::new(id, source(node, feed), FINDING_TYPE, data);
    event.subject = Some(format!("{device}/{channel}"));
    event.time = Some(finding.at);
    event
}

/// The event of a message whose first reading is this row.
pub(super) fn of_message(node: &NodeName, row: &Row, topic: &str, payload: &Value) -> Event {
    let mut event = Event::new(format!("m{}", row.seq), source(node, &row.feed.name), MESSAGE_TYPE, payload.clone());
    event.subject = Some(topic.to_owned());
    event.time = Some(row.reading.at);
    event
}

fn source(node: &NodeName, feed: &str) -> String {
    format!("skerry://{node}/{feed}")
}
