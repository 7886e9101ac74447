//! Which events a workflow or task waits for, and when a workflow starts.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::{
    duration::Duration,
    form::{count_set, text_or_object},
};

/// When a workflow starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// At this interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Duration>,
    /// A cron expression of five fields, in UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// This long after the last run ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Duration>,
    /// When these events came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<Strategy>,
    /// What of the events becomes the run's input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<Read>,
}

/// What of an event is handed on: its data (the default), or the whole event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Read {
    #[default]
    Data,
    Envelope,
    Raw,
}

/// Which events, and how many of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "StrategyForm", into = "StrategyForm")]
pub enum Strategy {
    One(EventFilter),
    /// An empty list means every event.
    Any {
        filters: Vec<EventFilter>,
        until: Option<Until>,
    },
    All(Vec<EventFilter>),
}

impl Strategy {
    /// The filters of the strategy itself, without those of `until`.
    #[must_use]
    pub fn filters(&self) -> &[EventFilter] {
        match self {
            Self::One(filter) => std::slice::from_ref(filter),
            Self::Any { filters, .. } | Self::All(filters) => filters,
        }
    }
}

/// What ends listening to any of several events.
#[derive(Debug, Clone, PartialEq)]
pub enum Until {
    /// An expression over the events so far.
    Condition(String),
    Consumed(Box<Strategy>),
}

impl Serialize for Until {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Condition(condition) => serializer.serialize_str(condition),
            Self::Consumed(strategy) => strategy.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Until {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "an expression or an object with `one`, `any` or `all`";
        text_or_object(deserializer, expected, |text| Ok(Self::Condition(text)), |s| Self::Consumed(Box::new(s)))
    }
}

/// Which events are meant, and how they are tied to the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventFilter {
    /// Attributes that the event must have: a literal, or an expression that is evaluated over the attribute.
    pub with: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlate: Option<BTreeMap<String, Correlation>>,
}

/// A value taken from the event that must be the expected one, or the same in all events when none is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Correlation {
    pub from: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<String>,
}

#[derive(Default, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StrategyForm {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    one: Option<EventFilter>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    any: Option<Vec<EventFilter>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<Until>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    all: Option<Vec<EventFilter>>,
}

impl TryFrom<StrategyForm> for Strategy {
    type Error = &'static str;

    fn try_from(form: StrategyForm) -> Result<Self, Self::Error> {
        let wrong = "the events to wait for need exactly one of `one`, `any` and `all`";
        if count_set(&[form.one.is_some(), form.any.is_some(), form.all.is_some()]) != 1 {
            return Err(wrong);
        }
        if form.until.is_some() && form.any.is_none() {
            return Err("`until` goes with `any` only");
        }
        let until = form.until;
        let any = form.any.map(|filters| Self::Any { filters, until });
        form.one.map(Self::One).or(form.all.map(Self::All)).or(any).ok_or(wrong)
    }
}

impl From<Strategy> for StrategyForm {
    fn from(strategy: Strategy) -> Self {
        match strategy {
            Strategy::One(filter) => Self { one: Some(filter), ..Self::default() },
            Strategy::Any { filters, until } => Self { any: Some(filters), until, ..Self::default() },
            Strategy::All(filters) => Self { all: Some(filters), ..Self::default() },
        }
    }
}
