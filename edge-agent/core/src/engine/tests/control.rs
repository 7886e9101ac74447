//! What people want of a run: that it rests, goes on, stops, or is tried again from one of its tasks.

use super::*;

#[test]
fn a_run_at_rest_keeps_outcomes_and_does_nothing_more() {
    let text = "do: [{ a: { call: infer, with: { prompt: p } } }, { b: { set: { got: '${ . }' } } }]";
    let mut run = Driven::start(text, json!({}));
    run.command(Command::Suspend);
    run.command(Command::Suspend);
    run.complete(json!("late"));
    assert!(run.is_running() && run.state.suspended().is_some() && !run.state.has_more());
    run.refold();
    run.command(Command::Resume);
    assert_eq!(run.output(), json!({"got": "late"}));
    assert_eq!(run.records.iter().filter(|record| matches!(record, Record::Suspended { .. })).count(), 1);
}

#[test]
fn an_error_that_came_at_rest_is_caught_when_the_run_goes_on() {
    let text = "do: [{ t: { try: [{ a: { call: infer, with: { prompt: p } } }], catch: { do: [{ h: { set: { s: '${ $error.status }' } } }] } } }]";
    let mut run = Driven::start(text, json!({}));
    run.command(Command::Suspend);
    run.fail(kind::COMMUNICATION);
    run.command(Command::Resume);
    assert_eq!(run.output(), json!({"s": 500}));
}

#[test]
fn a_deadline_does_not_run_while_the_run_rests_but_a_wait_does() {
    let text = "timeout: { after: PT10S }\ndo: [{ w: { wait: PT5S } }, { a: { call: infer, with: { prompt: p } } }]";
    let mut run = Driven::start(text, json!({}));
    run.after(1_000);
    run.command(Command::Suspend);
    assert_eq!(run.state.wake_at(), None);
    run.after(3_600_000);
    assert!(run.state.asked().next().is_none());
    run.command(Command::Resume);
    assert!(run.state.asked().next().is_some(), "the wait is long over");
    run.after(8_999);
    assert!(run.is_running());
    run.after(1);
    assert_eq!(run.error().status, 408);
}

#[test]
fn a_run_at_rest_can_be_cancelled() {
    let mut run = Driven::start("do: [{ a: { call: infer, with: { prompt: p } } }]", json!({}));
    let ask = run.asked().0;
    run.command(Command::Suspend);
    run.command(Command::Cancel);
    assert!(matches!(run.state.phase(), Phase::Ended { ending: Ending::Cancelled, .. }));
    assert_eq!(run.effects.last(), Some(&Effect::Withdraw { ask }));
}

#[test]
fn a_faulted_run_is_tried_again_from_the_task_that_failed() {
    let text = "timeout: { after: PT1M }\ndo: [{ a: { call: infer, with: { prompt: a }, export: { as: '${ { a: . } }' } } }, \
        { b: { call: infer, with: { prompt: '${ \"b after \" + . }' } } }, { c: { set: { a: '${ $context.a }', b: '${ . }' } } }]";
    let mut old = Driven::start(text, json!({}));
    old.complete(json!("A"));
    old.fail(kind::COMMUNICATION);
    let (workflow, now) = (Arc::clone(&old.state.workflow), old.now.plus_micros(3_600_000_000));
    let new = RunId::derive(now, b"again");
    let place = |named| retry::place(old.state.run, &workflow, &old.records, named).map_err(|error| error.to_string());
    let (a, b) = ("/do/0/a".to_owned(), "/do/1/b".to_owned());
    assert_eq!((place("a"), place("/do/0/a"), place("b")), (Ok(a.clone()), Ok(a), Ok(b)));
    for (named, told) in [
        ("/do/7/zebra", "the workflow has no task /do/7/zebra; there are /do/0/a, /do/1/b"),
        ("/do/2/c", "the run has not entered the task /do/2/c: did you mean /do/0/a or /do/1/b?"),
        ("c", "the run has not entered the task c: did you mean /do/0/a or /do/1/b?"),
        ("zebra", "the workflow has no task zebra; there are /do/0/a, /do/1/b"),
    ] {
        assert_eq!(place(named), Err(told.to_owned()));
    }
    let records = retry::records(old.state.run, new, &workflow, &old.records, "/do/1/b", now).unwrap();
    let mut run = Driven { state: State::new(new, workflow), now, effects: Vec::new(), records };
    run.refold();
    run.command(Command::Continue);
    let call = run.asked().1;
    assert_eq!((&call.input, call.run), (&json!({"prompt": "b after A"}), new));
    assert_eq!(call.key.0, format!("{new}:/do/1/b"));
    assert!(call.deadline.is_some_and(|deadline| deadline > now), "the deadline has moved");
    run.complete(json!("B"));
    assert_eq!(run.output(), json!({"a": "A", "b": "B"}));
}

#[test]
fn a_call_is_given_as_much_time_as_its_task_has_left_after_a_rest() {
    let mut run =
        Driven::start("do: [{ a: { call: infer, with: { prompt: p }, timeout: { after: PT1H } } }]", json!({}));
    let (ask, before) = run.asked();
    run.command(Command::Suspend);
    run.now = run.now.plus_micros(7_200_000_000);
    run.command(Command::Resume);
    let after = run.state.performed(ask).expect("it is asked");
    assert_eq!(after.deadline, before.deadline.map(|deadline| deadline.plus_micros(7_200_000_000)));
}

#[test]
fn what_was_held_is_taken_up_where_a_retried_run_begins() {
    let text = "do: [{ f: { fork: { branches: [{ a: { call: infer, with: { prompt: a } } }, { b: { call: infer, with: { prompt: b } } }] } } }]";
    let mut run = Driven::start(text, json!({}));
    let asks: Vec<_> = run.state.asked().map(|(ask, _)| ask).collect();
    run.command(Command::Suspend);
    for ask in asks {
        run.command(Command::Complete { ask, output: json!(1), label: Label::default() });
    }
    // As a retry has it: the records of the rest, and no word that it is over.
    run.records.push(Record::Retried { at: run.now, of: run.state.run, from: String::new(), pause_us: 0 });
    run.records.push(Record::Resumed { at: run.now });
    run.refold();
    assert!(run.state.has_more());
    run.command(Command::Continue);
    assert_eq!(run.output(), json!([1, 1]));
}

#[test]
fn a_wait_without_end_is_read_back() {
    let mut run = Driven::start("do: [{ w: { wait: P200000Y } }]", json!({}));
    run.refold();
    assert!(run.is_running() && run.state.wake_at().is_some());
}
