//! Events that somebody waits for: whether an event is one that a filter means, which of several belong together, and
//! what is handed on of them. The same rules hold for `listen` and for `schedule.on`.

pub mod filter;
pub mod gather;

use serde_json::Value;
use shared::{
    digest::Digest,
    event::Event,
    label::Label,
    workflow::{definition::Read, secret},
};

/// An event with what travels with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Arrival {
    pub event: Event,
    pub label: Label,
    /// How many lifecycle events lie between it and what came from outside.
    pub generation: u32,
}

/// Names an event for ever: two with one source and id are the same.
#[must_use]
pub fn identity(event: &Event) -> Digest {
    Digest::of(format!("{}\n{}", event.source, event.id).as_bytes())
}

/// What `listen` and `schedule.on` hand on of an event.
#[must_use]
pub fn read(how: Read, event: &Event) -> Value {
    secret::neutralised(match how {
        Read::Data | Read::Raw => event.data.clone().unwrap_or(Value::Null),
        Read::Envelope => filter::envelope(event),
    })
}
