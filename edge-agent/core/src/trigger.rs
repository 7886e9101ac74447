//! Finding -> command: which workflows an event starts, with which input, as which run.

use std::collections::{BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::{
    digest::Digest,
    event::Event,
    id::RunId,
    label::Label,
    time::Timestamp,
    workflow::{
        Workflow,
        definition::{Strategy, Until},
        expression::body,
    },
};

use crate::{
    engine::limit,
    hear::{
        self, Arrival,
        filter::{self, Correlated},
        gather::{self, Gathered},
        identity,
    },
};

/// Groups of events that wait for the rest of their kind, of one workflow. Beyond it the oldest is given up: one whose
/// other events never come would otherwise wait for ever.
pub const GROUPS_MAX: usize = 256;

/// Bytes of all events that wait so, for one workflow; they are written again with each that comes. Beyond it the oldest
/// group is given up.
pub const GROUPS_BYTES_MAX: usize = 8 << 20;

/// Events of one group; with `until` there may be many. Beyond it, or beyond what a run's input may hold, the group starts
/// the workflow as it is.
const GROUP_EVENTS_MAX: usize = 1_000;

/// Events of which a workflow knows that it has taken them.
const TAKEN_MAX: usize = 1_024;

/// Whether one event alone starts the workflow, and this is such an event.
#[must_use]
pub fn starts(workflow: &Workflow, event: &Event) -> bool {
    let Some(strategy) = strategy(workflow).filter(|strategy| !gathers(strategy)) else { return false };
    takes(workflow, strategy, &Gathered::default(), event).is_some()
}

/// Whether the workflow starts when several events have come: `all` of some, or `any` until something.
#[must_use]
pub fn waits_for_several(workflow: &Workflow) -> bool {
    strategy(workflow).is_some_and(gathers)
}

/// Whether the event may be one of those that start the workflow, as far as its type and source say.
#[must_use]
pub fn may_start(workflow: &Workflow, event: &Event) -> bool {
    let fits = |wanted: Option<&str>, found: &str| wanted.is_none_or(|wanted| wanted == found);
    strategy(workflow).is_some_and(|strategy| {
        strategy.filters().is_empty()
            || gather::filters(strategy).any(|filter| {
                fits(filter::literal(filter, "type"), &event.kind)
                    && fits(filter::literal(filter, "source"), &event.source)
            })
    })
}

fn strategy(workflow: &Workflow) -> Option<&Strategy> {
    workflow.definition().schedule.as_ref()?.on.as_ref()
}

fn gathers(strategy: &Strategy) -> bool {
    matches!(strategy, Strategy::All(_) | Strategy::Any { until: Some(_), .. })
}

fn takes(workflow: &Workflow, strategy: &Strategy, gathered: &Gathered, event: &Event) -> Option<gather::Taken> {
    let expressions = workflow.expressions();
    let expected: Vec<Correlated> = gather::filters(strategy)
        .map(|filter| {
            let expect = |(name, c): (&String, &shared::workflow::definition::Correlation)| {
                let text = c.expect.as_ref()?;
                let value = match body(text) {
                    Some(_) => expressions.evaluate(text, &Value::Null, &|_| None).ok()?,
                    None => Value::String(text.clone()),
                };
                Some((name.clone(), value))
            };
            filter.correlate.iter().flatten().filter_map(expect).collect()
        })
        .collect();
    gathered.offer(strategy, &expected, &|filter| {
        filter::matches(expressions, filter, event, &|_| None)
            .then(|| filter::correlated(expressions, filter, event, &|_| None))
            .flatten()
    })
}

/// What a workflow has of the events that start it together. It is kept between the events.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Groups {
    open: VecDeque<Group>,
    /// The events that were taken lately, so that one that comes twice counts once.
    taken: VecDeque<Digest>,
}

/// Events that belong together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Group {
    gathered: Gathered,
    pub events: Vec<Event>,
    /// The join of the events' labels.
    pub label: Label,
    /// The latest of the events' generations.
    pub generation: u32,
    bytes: usize,
}

impl Group {
    /// An event that belongs to no other.
    #[must_use]
    pub fn of(arrival: &Arrival) -> Self {
        let Arrival { event, label, generation } = arrival;
        let (events, label, generation) = (vec![event.clone()], label.clone(), *generation);
        Self { events, label, generation, ..Self::default() }
    }
}

/// What an event makes of the groups that wait.
#[derive(Debug, Default, PartialEq)]
pub struct Taken {
    /// It is enough: the workflow starts.
    pub complete: Option<Group>,
    /// What had to make room, the oldest first.
    pub given_up: Vec<Group>,
}

impl Groups {
    /// Takes an event if the workflow waits for it.
    pub fn take(&mut self, workflow: &Workflow, arrival: &Arrival) -> Taken {
        let Some(group) = self.grow(workflow, arrival) else { return Taken::default() };
        let complete = group.and_then(|index| self.open.remove(index));
        let mut given_up = Vec::new();
        while self.open.len() > GROUPS_MAX || self.bytes() > GROUPS_BYTES_MAX {
            given_up.extend(self.open.pop_front());
        }
        Taken { complete, given_up }
    }

    fn bytes(&self) -> usize {
        self.open.iter().map(|group| group.bytes).sum()
    }

    /// Puts the event where it belongs. `None`: nowhere; `Some(Some(_))`: this group has enough now.
    fn grow(&mut self, workflow: &Workflow, arrival: &Arrival) -> Option<Option<usize>> {
        let Arrival { event, label, generation } = arrival;
        let strategy = strategy(workflow)?;
        let name = identity(event);
        if self.taken.contains(&name) {
            return None;
        }
        let fresh = Group::default();
        let groups = self.open.iter().chain([&fresh]);
        let (index, taken) =
            groups.enumerate().find_map(|(n, g)| Some((n, takes(workflow, strategy, &g.gathered, event)?)))?;
        // What only ends the waiting begins none.
        if index == self.open.len() && !taken.is_item {
            return None;
        }
        if index == self.open.len() {
            self.open.push_back(fresh);
        }
        self.taken.push_back(name);
        if self.taken.len() > TAKEN_MAX {
            self.taken.pop_front();
        }
        let group = self.open.get_mut(index)?;
        group.gathered.take(taken.filter, &taken.fixes, taken.closes);
        group.label = group.label.join(label);
        group.generation = group.generation.max(*generation);
        if taken.is_item {
            group.bytes += limit::size(&filter::envelope(event));
            group.events.push(event.clone());
        }
        let enough = group.gathered.closed
            || group.events.len() >= GROUP_EVENTS_MAX
            || group.bytes >= limit::VALUE_BYTES_MAX
            || holds(workflow, strategy, group);
        Some(enough.then_some(index))
    }
}

/// Whether the condition holds that ends the gathering.
fn holds(workflow: &Workflow, strategy: &Strategy, group: &Group) -> bool {
    let Strategy::Any { until: Some(Until::Condition(condition)), .. } = strategy else { return false };
    workflow.expressions().holds(condition, &input(workflow, &group.events), &|_| None).unwrap_or(false)
}

/// The raw input of a run that these events start: an array, because the language lets several events start one.
#[must_use]
pub fn input(workflow: &Workflow, events: &[Event]) -> Value {
    let how = workflow.definition().schedule.as_ref().and_then(|schedule| schedule.read).unwrap_or_default();
    Value::Array(events.iter().map(|event| hear::read(how, event)).collect())
}

/// The run that the event starts of this workflow: always the same one, so that a repeat starts nothing.
#[must_use]
pub fn run_of_event(workflow: &str, event: &Event) -> RunId {
    let seed = format!("{workflow}\n{}\n{}", event.source, event.id);
    RunId::derive(event.time.unwrap_or_default(), seed.as_bytes())
}

/// The run that these events start together.
#[must_use]
pub fn run_of_events(workflow: &str, events: &[Event]) -> RunId {
    let names: BTreeSet<String> = events.iter().map(|event| identity(event).to_string()).collect();
    let names = names.into_iter().collect::<Vec<_>>().join("\n");
    let at = events.iter().filter_map(|event| event.time).max().unwrap_or_default();
    RunId::derive(at, format!("{workflow}\ntogether\n{names}").as_bytes())
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

    fn several(on: &str) -> Workflow {
        let text = format!(
            "document: {{ dsl: '1.0.3', namespace: test, name: sample, version: '0.1.0' }}\n\
             schedule: {{ 'on': {on} }}\ndo: [{{ a: {{ set: {{ x: 1 }} }} }}]"
        );
        Workflow::parse("w.yaml", &text).unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn arrival(event: Event) -> Arrival {
        Arrival { event, label: Label::default(), generation: 0 }
    }

    /// Offers events `(id, type, room)`; gives the ids of each group that became complete.
    fn groups(on: &str, events: &[(&str, &str, u32)]) -> Vec<Vec<String>> {
        let workflow = several(on);
        let mut state = Groups::default();
        let mut complete = Vec::new();
        for (id, kind, room) in events {
            // Kept between the events, as the store does.
            let text = serde_json::to_string(&state).unwrap();
            state = serde_json::from_str(&text).unwrap();
            let event = Event::new(*id, "here", *kind, json!({"room": room}));
            let taken = state.take(&workflow, &arrival(event));
            assert_eq!(taken.given_up, []);
            complete.extend(taken.complete.map(|group| group.events.into_iter().map(|event| event.id).collect()));
        }
        complete
    }

    #[test]
    fn what_an_event_may_start_is_told_by_type_and_source_alone() {
        let event = |kind: &str| Event::new("1", "here", kind, json!({}));
        let workflow =
            several("{ any: [{ with: { type: a, data: '${ false }' } }], until: { one: { with: { type: stop } } } }");
        assert!(
            waits_for_several(&workflow) && may_start(&workflow, &event("a")) && may_start(&workflow, &event("stop"))
        );
        assert!(!may_start(&workflow, &event("b")));
        assert!(!may_start(&several("{ one: { with: { source: there } } }"), &event("a")));
        assert!(may_start(&several("{ any: [] }"), &event("a")));
    }

    #[test]
    fn all_of_several_events_start_a_run_when_the_last_has_come() {
        let on = "{ all: [{ with: { type: a } }, { with: { type: b } }] }";
        assert_eq!(groups(on, &[("1", "a", 1), ("2", "c", 1), ("3", "a", 1), ("4", "b", 1)]), [["1", "4"]]);
        assert_eq!(
            groups(on, &[("1", "a", 1), ("1", "a", 1), ("2", "b", 1), ("1", "a", 1), ("2", "b", 1)]),
            [["1", "2"]],
            "one that comes twice counts once"
        );
    }

    #[test]
    fn events_are_tied_to_those_of_the_same_value() {
        let on = "{ all: [{ with: { type: a }, correlate: { room: { from: .data.room } } }, \
            { with: { type: b }, correlate: { room: { from: .room } } }] }";
        let events = [("1", "a", 1), ("2", "a", 2), ("3", "b", 2), ("4", "b", 3), ("5", "b", 1)];
        assert_eq!(groups(on, &events), [["2", "3"], ["1", "5"]]);
        let expected = "{ all: [{ with: { type: a }, correlate: { room: { from: .room, expect: '${ 2 }' } } }, { with: { type: b } }] }";
        assert_eq!(groups(expected, &events), [["2", "3"]]);
    }

    #[test]
    fn any_until_gathers_until_the_condition_or_the_event() {
        let count = "{ any: [{ with: { type: a } }], until: 'length == 2' }";
        assert_eq!(groups(count, &[("1", "a", 1), ("2", "b", 1), ("3", "a", 1), ("4", "a", 1)]), [["1", "3"]]);
        let stop = "{ any: [{ with: { type: a } }], until: { one: { with: { type: stop } } } }";
        assert_eq!(groups(stop, &[("1", "a", 1), ("2", "a", 1), ("3", "stop", 1)]), [["1", "2"]]);
    }

    #[test]
    fn what_makes_room_for_newer_groups_is_said() {
        let on = "{ all: [{ with: { type: a }, correlate: { room: { from: .room } } }, \
            { with: { type: b }, correlate: { room: { from: .room } } }] }";
        let (workflow, mut state) = (several(on), Groups::default());
        let mut first = |room: usize, text: &str| {
            let event = Event::new(room.to_string(), "here", "a", json!({"room": room, "text": text}));
            state.take(&workflow, &arrival(event)).given_up
        };
        let ids = |groups: &[Group]| -> Vec<String> {
            groups.iter().flat_map(|group| &group.events).map(|event| event.id.clone()).collect()
        };
        assert!((0..GROUPS_MAX).all(|room| first(room, "").is_empty()));
        assert_eq!(ids(&first(GROUPS_MAX, "")), ["0"]);
        let large = "x".repeat(1_000_000);
        let given_up: Vec<_> = (1_000..1_010).flat_map(|room| first(room, &large)).collect();
        assert!(ids(&given_up).len() > 10 && ids(&given_up).contains(&"1001".to_owned()), "bytes are bounded too");
    }

    #[test]
    fn events_together_larger_than_an_input_start_the_workflow_as_they_are() {
        let (workflow, mut state) = (several("{ any: [{ with: { type: a } }], until: 'false' }"), Groups::default());
        let mut take = |id: &str| {
            let event = Event::new(id, "here", "a", json!("x".repeat(600_000)));
            state.take(&workflow, &arrival(event)).complete
        };
        assert!(take("1").is_none());
        assert_eq!(take("2").map(|group| group.events.len()), Some(2));
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
