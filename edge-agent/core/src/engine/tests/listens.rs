//! Listening: which events a task takes, when it has enough, and what it makes of them.

use super::*;

/// A run that listens so (`rest` follows `listen:`), and was sent these events `(id, type, data)`.
fn heard(rest: &str, events: &[(&str, &str, Value)]) -> Driven {
    let mut run = Driven::start(&format!("do: [{{ l: {{ listen: {rest} }} }}]"), json!({"k": 7}));
    for (id, kind, data) in events {
        run.hear(id, kind, data.clone());
    }
    run
}

#[test]
fn one_event_that_fits_ends_the_listening_and_is_its_output() {
    let one = "{ to: { one: { with: { type: t, data: '${ .n > 2 }' } } } }";
    let run = heard(one, &[("1", "u", json!({"n": 9})), ("2", "t", json!({"n": 1})), ("3", "t", json!({"n": 3}))]);
    assert_eq!(run.output(), json!([{"n": 3}]));
    let envelope = heard("{ to: { one: { with: { type: t } } }, read: envelope }", &[("1", "t", json!(5))]);
    let output = &envelope.output()[0];
    assert_eq!((&output["id"], &output["data"], &output["source"]), (&json!("1"), &json!(5), &json!("https://here")));
    let waiting = heard(one, &[]);
    assert!(waiting.is_running() && waiting.state.is_listening());
}

#[test]
fn any_takes_the_first_that_fits_one_of_its_filters() {
    let any = "{ to: { any: [{ with: { type: a } }, { with: { type: b } }] } }";
    assert_eq!(heard(any, &[("1", "c", json!(1)), ("2", "b", json!(2))]).output(), json!([2]));
    assert_eq!(heard("{ to: { any: [] } }", &[("1", "whatever", json!(1))]).output(), json!([1]));
}

#[test]
fn a_pattern_must_fit_the_whole_attribute() {
    let pattern = "{ to: { one: { with: { type: '^io[.]plant[.](start|stop)' } } } }";
    let events =
        [("1", "io.plant.stopped", json!(1)), ("2", "io-plant-stop", json!(2)), ("3", "io.plant.stop", json!(3))];
    assert_eq!(heard(pattern, &events).output(), json!([3]));
    assert_eq!(heard(pattern, &[]).state.interests()[0].kind, None, "no literal to look for");
}

#[test]
fn all_needs_one_of_each_in_whatever_order() {
    let all = "{ to: { all: [{ with: { type: a } }, { with: { type: b } }] } }";
    let run = heard(all, &[("1", "b", json!(1)), ("2", "b", json!(2))]);
    assert!(run.is_running());
    assert_eq!(run.state.interests().len(), 1, "only one kind is still wanted: {:?}", run.state.interests());
    let run = heard(all, &[("1", "b", json!(1)), ("2", "b", json!(2)), ("3", "a", json!(3))]);
    assert_eq!(run.output(), json!([1, 3]));
}

#[test]
fn any_until_a_condition_or_an_event_that_is_not_part_of_the_output() {
    let count = "{ to: { any: [], until: 'length == 3' } }";
    let events = [("1", "a", json!(1)), ("2", "b", json!(2)), ("3", "stop", json!(3)), ("4", "d", json!(4))];
    assert_eq!(heard(count, &events).output(), json!([1, 2, 3]));
    let until = "{ to: { any: [], until: { one: { with: { type: stop } } } } }";
    assert_eq!(heard(until, &events).output(), json!([1, 2]));
    let both =
        "{ to: { any: [{ with: { type: a } }], until: { all: [{ with: { type: b } }, { with: { type: d } }] } } }";
    assert_eq!(heard(both, &events).output(), json!([1]));
}

#[test]
fn correlated_events_must_have_the_expected_value_or_that_of_the_first() {
    let expected =
        "{ to: { one: { with: { type: t }, correlate: { k: { from: .data.k, expect: '${ $input.k }' } } } } }";
    let run = heard(expected, &[("1", "t", json!({"k": 6})), ("2", "t", json!({"k": 7}))]);
    assert_eq!(run.output(), json!([{"k": 7}]));
    let interest = &heard(expected, &[]).state.interests()[0];
    assert_eq!(interest.correlate, Some((".data.k".to_owned(), json!(7))));
    assert_eq!((interest.kind.as_deref(), interest.source.as_deref()), (Some("t"), None));
    let same = "{ to: { all: [{ with: { type: a }, correlate: { room: { from: .room } } }, \
        { with: { type: b }, correlate: { room: { from: .room } } }] } }";
    let events = [("1", "a", json!({"room": 1})), ("2", "b", json!({"room": 2})), ("3", "b", json!({"room": 1}))];
    assert_eq!(heard(same, &events).output(), json!([{"room": 1}, {"room": 1}]));
}

#[test]
fn an_event_comes_to_a_run_once_however_often_it_is_sent() {
    let twice = "do: [{ a: { listen: { to: { one: { with: { type: t } } } } } }, { b: { listen: { to: { one: { with: { type: t } } } } } }]";
    let mut run = Driven::start(twice, json!({}));
    run.hear("1", "t", json!("first"));
    let before = run.records.len();
    run.hear("1", "t", json!("first"));
    assert_eq!(run.records.len(), before, "nothing is remembered of the repeat");
    run.hear("2", "t", json!("second"));
    assert_eq!(run.output(), json!(["second"]));
    let fork = "do: [{ f: { fork: { branches: [{ a: { listen: { to: { any: [] } } } }, { b: { listen: { to: { any: [] } } } }] } } }]";
    let mut run = Driven::start(fork, json!({}));
    run.hear("1", "t", json!(1));
    assert_eq!(run.output(), json!([[1], [1]]), "tasks that listen at the same time all get it");
}

#[test]
fn foreach_works_on_one_event_after_the_other() {
    let text = "do: [{ l: { listen: { to: { any: [{ with: { type: t } }], until: '$context.sum > 5' } }, foreach: { item: e, at: i, \
        do: [{ ask: { call: infer, with: { prompt: '${ \"\\($i):\\($e.n)\" }' } } }], \
        output: { as: '${ { text: .text, n: $e.n } }' }, export: { as: '${ { sum: (($context.sum // 0) + $output.n) } }' } } } }]";
    let mut run = Driven::start(text, json!({}));
    run.hear("1", "t", json!({"n": 2}));
    run.hear("2", "t", json!({"n": 4}));
    run.hear("3", "t", json!({"n": 9}));
    assert_eq!(run.state.asked().count(), 1, "the others wait for their turn");
    assert_eq!(run.asked().1.input, json!({"prompt": "0:2"}));
    assert_eq!(run.asked().1.key.0, format!("{}:/do/0/l#0/foreach/do/0/ask", run.state.run));
    run.complete(json!({"text": "A"}));
    assert_eq!(run.asked().1.input, json!({"prompt": "1:4"}));
    run.complete(json!({"text": "B"}));
    assert_eq!(
        run.output(),
        json!([{"text": "A", "n": 2}, {"text": "B", "n": 4}]),
        "the third came when it was enough"
    );
}

#[test]
fn foreach_without_tasks_only_shapes_the_events() {
    let text = "do: [{ l: { listen: { to: { any: [], until: { one: { with: { type: stop } } } } }, \
        foreach: { output: { as: '${ . * 10 }' } } } }]";
    let mut run = Driven::start(text, json!({}));
    run.hear("1", "t", json!(1));
    run.hear("2", "t", json!(2));
    run.hear("3", "stop", json!(0));
    assert_eq!(run.output(), json!([10, 20]));
}

#[test]
fn listening_ends_by_its_timeout_and_with_what_it_stands_in() {
    let text = "do: [{ t: { try: [{ l: { listen: { to: { one: { with: { type: t } } } }, timeout: { after: PT1H } } }], \
        catch: { errors: { with: { status: 408 } }, do: [{ late: { set: { late: true } } }] } } }]";
    let mut run = Driven::start(text, json!({}));
    run.after(3_600_000);
    assert_eq!(run.output(), json!({"late": true}));
    let race = "do: [{ f: { fork: { compete: true, branches: [{ l: { listen: { to: { any: [] } } } }, { w: { wait: PT1S } }] } } }]";
    let mut run = Driven::start(race, json!({"x": 1}));
    run.after(1_000);
    assert_eq!(run.output(), json!({"x": 1}));
    assert!(run.state.interests().is_empty());
}

#[test]
fn a_listening_run_folded_from_its_records_goes_on_where_it_was() {
    let text = "do: [{ l: { listen: { to: { all: [{ with: { type: a }, correlate: { r: { from: .r } } }, { with: { type: b }, \
        correlate: { r: { from: .r } } }] } }, foreach: { do: [{ s: { set: { got: '${ $item.r }' } } }], output: { as: .got } } } }]";
    let mut run = Driven::start(text, json!({}));
    let events = [("1", "a", json!({"r": 1})), ("2", "b", json!({"r": 2})), ("3", "b", json!({"r": 1}))];
    for (id, kind, data) in events {
        run.refold();
        run.hear(id, kind, data);
    }
    assert_eq!(run.output(), json!([1, 1]));
}

const CATCHING: &str = "do: [{ t: { try: [{ l: { listen: { to: { any: [{ with: { type: t } }], until: 'false' } }, foreach: {} } }], \
    catch: { as: e, do: [{ h: { set: { status: '${ $e.status }', at: '${ $e.instance }', why: '${ $e.detail }' } } }] } } }]";

#[test]
fn a_task_holds_so_many_bytes_of_events_and_no_more() {
    let mut run = Driven::start(CATCHING, json!({}));
    for id in 0..9 {
        assert!(run.is_running(), "after {id} events");
        run.hear(&id.to_string(), "t", json!("x".repeat(500_000)));
        run.refold();
    }
    let output = run.output();
    assert_eq!((&output["status"], &output["at"]), (&json!(413), &json!("/do/0/t/try/0/l")));
    assert!(output["why"].as_str().unwrap().contains("8388608 bytes together"), "{output}");
}

#[test]
fn events_that_could_not_wait_fail_what_listens_and_nothing_else() {
    let mut run = Driven::start(CATCHING, json!({}));
    run.hear("1", "t", json!(1));
    run.command(Command::Miss { events: 7 });
    let output = run.output();
    assert_eq!(output["status"], 413);
    assert!(output["why"].as_str().unwrap().starts_with("7 events that may have been for this task"), "{output}");
    let mut run = Driven::start("do: [{ w: { wait: PT1S } }]", json!({}));
    run.command(Command::Miss { events: 7 });
    run.after(1_000);
    assert!(!run.is_running());
}

#[test]
fn the_label_of_an_error_joins_that_of_the_run() {
    let mut run = Driven::start("do: [{ t: { call: embed, with: { text: x } } }]", json!({}));
    let label = Label { class: shared::label::DataClass::Restricted, ..Label::default() };
    let (ask, error) = (run.asked().0, effect::Error::new(kind::RUNTIME, "quotes what is restricted"));
    run.command(Command::Fail { ask, error, label: label.clone() });
    assert_eq!(*run.state.label(), label);
}
