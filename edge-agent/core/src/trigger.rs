//! Finding -> command: which workflows an event starts, with which input, as which run.

use serde_json::Value;
use shared::{
    event::Event,
    id::RunId,
    time::Timestamp,
    workflow::{
        Workflow,
        definition::{EventFilter, Read, Strategy},
    },
};

/// Whether the event starts the workflow. What an expression of the filter cannot make sense of does not match: an event
/// of another shape is no mistake of the workflow's author.
#[must_use]
pub fn starts(workflow: &Workflow, event: &Event) -> bool {
    let Some(on) = workflow.definition().schedule.as_ref().and_then(|schedule| schedule.on.as_ref()) else {
        return false;
    };
    match on {
        Strategy::One(filter) => matches(workflow, filter, event),
        Strategy::Any { filters, .. } => filters.is_empty() || filters.iter().any(|f| matches(workflow, f, event)),
        // Several events that belong together need a memory between them: refused by `engine::support`.
        Strategy::All(_) => false,
    }
}

/// Whether the event has every attribute that the filter names: equal to a literal, or such that the expression over it
/// holds. Literals are compared first, because that costs nothing.
#[must_use]
pub fn matches(workflow: &Workflow, filter: &EventFilter, event: &Event) -> bool {
    let expression = |wanted: &Value| wanted.as_str().is_some_and(|text| text.trim_start().starts_with("${"));
    let literal = |(name, wanted): (&String, &Value)| {
        expression(wanted) || attribute(event, name).is_some_and(|found| found == *wanted)
    };
    let holds = |(name, wanted): (&String, &Value)| match wanted.as_str() {
        Some(text) if expression(wanted) => {
            let found = attribute(event, name).unwrap_or(Value::Null);
            workflow.expressions().holds(text, &found, &|_| None).unwrap_or(false)
        }
        _ => true,
    };
    filter.with.iter().all(literal) && filter.with.iter().all(holds)
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

/// The raw input of a run that the event starts: an array, because the language lets several events start one.
#[must_use]
pub fn input(workflow: &Workflow, event: &Event) -> Value {
    let read = workflow.definition().schedule.as_ref().and_then(|schedule| schedule.read).unwrap_or_default();
    let item = match read {
        Read::Data | Read::Raw => event.data.clone().unwrap_or(Value::Null),
        Read::Envelope => serde_json::to_value(event).expect("an event is plain data"),
    };
    Value::Array(vec![item])
}

/// The run that the event starts of this workflow: always the same one, so that a repeat starts nothing.
#[must_use]
pub fn run_of_event(workflow: &str, event: &Event) -> RunId {
    let seed = format!("{workflow}\n{}\n{}", event.source, event.id);
    RunId::derive(event.time.unwrap_or_default(), seed.as_bytes())
}

/// The run that starts at this scheduled instant.
#[must_use]
pub fn run_of_schedule(workflow: &str, at: Timestamp) -> RunId {
    RunId::derive(at, format!("{workflow}\nschedule\n{at}").as_bytes())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Whether `schedule.on` (YAML flow text) takes an event of type `t` about `s` with data `{n: 5, state: "on"}`.
    fn takes(on: &str) -> bool {
        let text = format!(
            "document: {{ dsl: '1.0.3', namespace: test, name: sample, version: '0.1.0' }}\n\
             schedule: {{ 'on': {on} }}\ndo: [{{ a: {{ set: {{ x: 1 }} }} }}]"
        );
        let workflow = Workflow::parse("w.yaml", &text).unwrap_or_else(|problems| panic!("{problems}"));
        let mut event = Event::new("1", "here", "t", json!({"n": 5, "state": "on"}));
        event.subject = Some("s".to_owned());
        event.extensions.insert("site".to_owned(), json!("basel"));
        starts(&workflow, &event)
    }

    #[test]
    fn an_event_starts_what_its_attributes_fit() {
        assert!(takes("{ one: { with: { type: t } } }"));
        assert!(!takes("{ one: { with: { type: u } } }"));
        assert!(takes("{ one: { with: { type: t, subject: s, site: basel } } }"));
        assert!(!takes("{ one: { with: { type: t, site: zug } } }"));
        assert!(takes("{ one: { with: { type: t, data: '${ .n > 4 and .state == \"on\" }' } } }"));
        assert!(!takes("{ one: { with: { type: t, data: '${ .n > 5 }' } } }"));
        assert!(!takes("{ one: { with: { type: t, data: '${ .n.deep }' } } }"), "an event of another shape");
        assert!(takes("{ one: { with: { subject: '${ startswith(\"s\") }' } } }"));
        assert!(takes("{ any: [{ with: { type: u } }, { with: { type: t } }] }"));
        assert!(takes("{ any: [] }"));
    }

    #[test]
    fn a_repeated_event_is_the_same_run_of_the_same_workflow_only() {
        let event = Event::new("1", "here", "t", json!({}));
        assert_eq!(run_of_event("a/b", &event), run_of_event("a/b", &event.clone()));
        assert_ne!(run_of_event("a/b", &event), run_of_event("a/c", &event));
        let other = Event { source: "there".to_owned(), ..event.clone() };
        assert_ne!(run_of_event("a/b", &event), run_of_event("a/b", &other));
    }
}
