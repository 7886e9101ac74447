//! Whether an event is one that a filter means, and by which values it belongs to others.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;
use shared::{
    event::Event,
    workflow::{
        definition::EventFilter,
        expression::{Expressions, Variables, body},
    },
};

/// The values by which an event belongs to a run or to other events, by the name of the correlation.
pub type Correlated = BTreeMap<String, Value>;

/// Whether the event has every attribute that the filter names: equal to a literal, such that a regular expression (a
/// text that begins with `^`) fits the whole of it, or such that the expression over it holds. Literals are compared first,
/// because that costs nothing. An expression that gives something else than true or
/// false must give the attribute itself. What it cannot make sense of does not match: an event of another shape is no
/// mistake of the workflow's author.
#[must_use]
pub fn matches(expressions: &Expressions, filter: &EventFilter, event: &Event, variables: &Variables<'_>) -> bool {
    let expression = |wanted: &Value| wanted.as_str().is_some_and(|text| body(text).is_some());
    let literal = |(name, wanted): (&String, &Value)| {
        expression(wanted) || pattern(wanted).is_some() || attribute(event, name).is_some_and(|found| found == *wanted)
    };
    let holds = |(name, wanted): (&String, &Value)| match wanted.as_str() {
        Some(text) if expression(wanted) => {
            let found = attribute(event, name).unwrap_or(Value::Null);
            match expressions.evaluate(text, &found, variables) {
                Ok(Value::Bool(holds)) => holds,
                Ok(Value::Null) | Err(_) => false,
                Ok(value) => value == found,
            }
        }
        _ => pattern(wanted).is_none_or(|pattern| {
            let found = attribute(event, name);
            found.as_ref().and_then(Value::as_str).is_some_and(|found| fits(pattern, found))
        }),
    };
    filter.with.iter().all(literal) && filter.with.iter().all(holds)
}

/// A text that begins with `^` is a regular expression: no type, source or subject does.
fn pattern(wanted: &Value) -> Option<&str> {
    wanted.as_str().filter(|text| text.starts_with('^'))
}

fn fits(pattern: &str, found: &str) -> bool {
    // That it compiles was checked when the workflow was read. It stands for the whole: the first of its branches that
    // fits a part is not the one that is meant.
    Regex::new(&format!("^(?:{pattern})$")).is_ok_and(|regex| regex.is_match(found))
}

/// The values that the filter's correlations take from the event; `None` when it lacks one. `from` is asked of the whole
/// event, and if that gives nothing of its data.
#[must_use]
pub fn correlated(
    expressions: &Expressions,
    filter: &EventFilter,
    event: &Event,
    variables: &Variables<'_>,
) -> Option<Correlated> {
    let Some(correlations) = &filter.correlate else { return Some(Correlated::new()) };
    let take = |(name, correlation): (&String, &shared::workflow::definition::Correlation)| {
        Some((name.clone(), value_of(expressions, &correlation.from, event, variables)?))
    };
    correlations.iter().map(take).collect()
}

/// What the expression `from` takes from an event; `None` when that is nothing.
#[must_use]
pub fn value_of(expressions: &Expressions, from: &str, event: &Event, variables: &Variables<'_>) -> Option<Value> {
    let whole = envelope(event);
    let evaluate = |of: &Value| expressions.evaluate(from, of, variables).ok().filter(|value| !value.is_null());
    evaluate(&whole).or_else(|| evaluate(event.data.as_ref()?))
}

/// The event as JSON, in the form of the CloudEvents specification.
#[must_use]
pub fn envelope(event: &Event) -> Value {
    serde_json::to_value(event).expect("an event is plain data")
}

/// A literal that the filter asks of an attribute, for finding who might want an event before any expression is asked.
#[must_use]
pub fn literal<'f>(filter: &'f EventFilter, attribute: &str) -> Option<&'f str> {
    filter.with.get(attribute)?.as_str().filter(|text| body(text).is_none() && !text.starts_with('^'))
}

fn attribute(event: &Event, name: &str) -> Option<Value> {
    let text = |text: &Option<String>| text.clone().map(Value::String);
    match name {
        "id" => Some(event.id.clone().into()),
        "source" => Some(event.source.clone().into()),
        "type" => Some(event.kind.clone().into()),
        "specversion" => Some(event.specversion.clone().into()),
        "subject" => text(&event.subject),
        "time" => event.time.map(|time| time.to_string().into()),
        "datacontenttype" => text(&event.datacontenttype),
        "dataschema" => text(&event.dataschema),
        "data" => event.data.clone(),
        other => event.extensions.get(other).cloned(),
    }
}
