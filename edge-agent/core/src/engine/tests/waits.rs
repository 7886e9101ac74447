//! Why a run waits, for every kind of waiting.

use super::*;

fn told(run: &Driven) -> String {
    crate::engine::waits::waits(&run.state).unwrap_or_default()
}

#[test]
fn every_kind_of_waiting_has_its_words() {
    for (tasks, words) in [
        ("w: { wait: PT1H }", "waits until 2023-11-14T23:13:20Z"),
        ("q: { call: approve, with: { role: lead, title: secret, proposal: 1 } }", "waits for lead"),
        ("i: { call: infer, with: { prompt: p } }", "waits for a model: `infer` is asked and has no answer yet"),
        ("h: { call: http, with: { method: get, endpoint: 'http://h/' } }", "waits for an answer: `http` is asked"),
        ("c: { run: { workflow: { namespace: a, name: b, version: '1.0.0' } } }", "waits for its run of a/b"),
        (
            "l: { listen: { to: { any: [{ with: { type: x } }, { with: { type: y } }] } } }",
            "listens for events of x, y",
        ),
        (
            "t: { listen: { to: { one: { with: { type: x } } } }, timeout: { after: PT1M } }",
            "listens for events of x, until 2023-11-14T22:14:20Z at the longest",
        ),
        (
            "f: { fork: { branches: [{ a: { wait: PT1H } }, { b: { call: approve, with: { role: lead, title: t, proposal: 1 } } }] } }",
            "waits until 2023-11-14T23:13:20Z; waits for lead",
        ),
    ] {
        let mut run = Driven::start(&format!("do: [{{ {tasks} }}]"), json!({}));
        assert_eq!(told(&run), words, "{tasks}");
        run.command(Command::Suspend);
        assert_eq!(told(&run), "rests until somebody resumes it");
    }
}

#[test]
fn a_task_that_failed_says_when_it_is_tried_again() {
    let text = "do: [{ t: { try: [{ i: { call: infer, with: { prompt: p } } }], \
        catch: { retry: { delay: PT10S, limit: { attempt: { count: 3 } } } } } }]";
    let mut run = Driven::start(text, json!({}));
    run.fail(kind::COMMUNICATION);
    assert_eq!(told(&run), "failed once and is tried again at 2023-11-14T22:13:30Z");
    run.after(10_000);
    run.fail(kind::COMMUNICATION);
    assert!(told(&run).starts_with("failed 2 times and is tried again at "), "{}", told(&run));
}
