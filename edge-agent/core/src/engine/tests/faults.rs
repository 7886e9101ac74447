//! Tasks that come to a bad end: raised, caught, tried again, too late.

use super::*;

const TRY: &str = "do: [{ t: { try: [{ ask: { call: infer, with: { prompt: p } } }], catch: CATCH } }]";

fn tried(catch: &str) -> Driven {
    Driven::start(&TRY.replace("CATCH", catch), json!({"k": 1}))
}

#[test]
fn raise_names_its_place() {
    let text = "use: { errors: { gone: { type: 'https://e/gone', status: 410, title: '${ \"no \" + .what }' } } }\n\
        do: [{ d: { do: [{ r: { raise: { error: gone } } }] } }]";
    let error = Driven::start(text, json!({"what": "pump"})).error();
    assert_eq!((error.kind.as_str(), error.status, error.title.as_deref()), ("https://e/gone", 410, Some("no pump")));
    assert_eq!(error.instance.as_deref(), Some("/do/0/d/do/0/r"));
}

#[test]
fn a_caught_error_is_a_variable_of_the_handlers() {
    let mut run =
        tried("{ as: e, do: [{ h: { set: { got: '${ $e.status }', at: '${ $e.instance }', k: '${ .k }' } } }] }");
    run.fail(kind::COMMUNICATION);
    assert_eq!(run.output(), json!({"got": 500, "at": "/do/0/t/try/0/ask", "k": 1}));
    let mut swallowed = tried("{}");
    swallowed.fail(kind::COMMUNICATION);
    assert_eq!(swallowed.output(), json!({"k": 1}));
    let mut then = Driven::start(
        "do: [{ t: { try: [{ a: { call: infer, with: { prompt: p } } }], catch: { then: c } } }, \
         { b: { set: { is: b }, then: end } }, { c: { set: { is: c } } }]",
        json!({}),
    );
    then.fail(kind::COMMUNICATION);
    assert_eq!(then.output(), json!({"is": "c"}));
}

#[test]
fn an_error_that_the_filter_does_not_fit_goes_on() {
    for (catch, caught) in [
        ("{ errors: { with: { status: 500 } } }", true),
        ("{ errors: { with: { status: 404 } } }", false),
        (
            "{ errors: { with: { type: 'https://open-workflow-specification.org/dsl/errors/types/communication' } } }",
            true,
        ),
        ("{ errors: { with: { type: 'https://elsewhere.org/communication' } } }", false),
        ("{ errors: { with: { type: 'https://serverlessworkflow.io/spec/1.0.0/errors/timeout' } } }", false),
        ("{ when: '$error.status >= 500' }", true),
        ("{ when: '$error.status < 500' }", false),
        ("{ exceptWhen: '$error.status == 500' }", false),
    ] {
        let mut run = tried(catch);
        run.fail(kind::COMMUNICATION);
        let completed = matches!(run.state.phase(), Phase::Ended { ending: Ending::Completed, .. });
        assert_eq!(completed, caught, "{catch}");
    }
}

#[test]
fn an_error_of_a_handler_is_not_caught_by_its_own_try() {
    let mut run = tried("{ do: [{ h: { raise: { error: { type: 'https://e/h', status: 418 } } } }] }");
    run.fail(kind::COMMUNICATION);
    assert_eq!(run.error().instance.as_deref(), Some("/do/0/t/catch/do/0/h"));
}

#[test]
fn retries_come_first_with_growing_delays_then_the_handlers() {
    let mut run = tried(
        "{ retry: { delay: PT1S, backoff: { exponential: {} }, limit: { attempt: { count: 2 } } }, \
         do: [{ h: { set: { gave: up } } }] }",
    );
    let key = run.asked().1.key.clone();
    run.fail(kind::COMMUNICATION);
    assert_eq!(run.state.wake_at(), Some(run.now.plus_micros(1_000_000)));
    run.after(1_000);
    assert_eq!(run.asked().1.key, key, "a retry is the same effect");
    run.fail(kind::COMMUNICATION);
    assert_eq!(run.state.wake_at(), Some(run.now.plus_micros(2_000_000)));
    run.after(2_000);
    run.fail(kind::COMMUNICATION);
    assert_eq!(run.output(), json!({"gave": "up"}));
}

#[test]
fn an_error_goes_on_when_no_retry_is_left_and_nothing_handles_it() {
    let mut run = tried("{ retry: { delay: PT1S, backoff: { linear: {} }, limit: { attempt: { count: 1 } } } }");
    run.fail(kind::COMMUNICATION);
    run.after(1_000);
    run.fail(kind::COMMUNICATION);
    assert_eq!(run.error().kind, kind::COMMUNICATION.0);
    let mut unwanted = tried("{ retry: { when: '$error.status == 503', limit: { attempt: { count: 9 } } } }");
    unwanted.fail(kind::COMMUNICATION);
    assert_eq!(unwanted.error().kind, kind::COMMUNICATION.0);
    let mut bounded = tried("{ retry: { delay: PT10S, limit: { duration: PT15S } } }");
    bounded.fail(kind::COMMUNICATION);
    bounded.after(10_000);
    bounded.fail(kind::COMMUNICATION);
    assert_eq!(bounded.error().kind, kind::COMMUNICATION.0, "the second retry would begin after the limit");
}

#[test]
fn jitter_lies_in_its_range_and_is_the_same_when_decided_again() {
    let catch = "{ retry: { delay: PT1S, jitter: { from: PT1S, to: PT3S } } }";
    let wake = |mut run: Driven| {
        run.fail(kind::COMMUNICATION);
        run.state.wake_at().expect("a retry is due").since(run.now).as_millis()
    };
    let first = wake(tried(catch));
    assert!((2_000..=4_000).contains(&first), "{first}");
    assert_eq!(first, wake(tried(catch)));
}

#[test]
fn a_task_that_takes_too_long_is_interrupted_and_can_be_caught() {
    let text = "do: [{ t: { try: [{ slow: { call: infer, with: { prompt: p }, timeout: { after: PT5S } } }], \
        catch: { errors: { with: { status: 408 } }, do: [{ h: { set: { late: '${ $error.instance }' } } }] } } }]";
    let mut run = Driven::start(text, json!({}));
    let (ask, call) = run.asked();
    assert_eq!(call.deadline, Some(run.now.plus_micros(5_000_000)));
    run.after(5_000);
    assert_eq!(run.output(), json!({"late": "/do/0/t/try/0/slow"}));
    assert_eq!(run.effects.last(), Some(&Effect::Withdraw { ask }));
}

#[test]
fn an_attempt_that_takes_too_long_is_tried_again() {
    let mut run = tried("{ retry: { delay: PT1S, limit: { attempt: { count: 1, duration: PT5S } } } }");
    run.after(5_000);
    run.after(1_000);
    run.complete(json!("at last"));
    assert_eq!(run.output(), json!("at last"));
}

#[test]
fn a_workflow_that_takes_too_long_faults() {
    let text = "use: { timeouts: { short: { after: { seconds: 3 } } } }\ntimeout: short\ndo: [{ w: { wait: PT1H } }]";
    let mut run = Driven::start(text, json!({}));
    run.after(3_000);
    assert_eq!(run.error().status, 408);
}

#[test]
fn waking_late_lets_what_was_done_in_time_be_done_in_time() {
    let text = "do: [{ d: { timeout: { after: PT2S }, do: [{ w: { wait: PT1S } }, { s: { set: { ok: true } } }] } }]";
    let mut run = Driven::start(text, json!({}));
    run.after(3_600_000);
    assert_eq!(run.output(), json!({"ok": true}));
}

#[test]
fn broken_expressions_are_errors_of_their_task() {
    let error = Driven::start("do: [{ a: { set: { x: '${ .n + {} }' } } }]", json!({"n": 1})).error();
    assert_eq!((error.kind.as_str(), error.instance.as_deref()), (kind::EXPRESSION.0, Some("/do/0/a")));
    let error =
        Driven::start("do: [{ a: { for: { in: .n }, do: [{ b: { set: { x: 1 } } }] } }]", json!({"n": 1})).error();
    assert_eq!(error.detail.as_deref(), Some("`for.in` gave a number, expected an array"));
}

#[test]
fn input_that_does_not_fit_the_schema_is_refused() {
    let schema = "input: { schema: { document: { type: object, required: [n] } } }";
    let error = Driven::start(&format!("{schema}\ndo: [{{ a: {{ set: {{ x: 1 }} }} }}]"), json!({})).error();
    assert_eq!(error.kind, kind::VALIDATION.0);
    assert_eq!(error.detail.as_deref(), Some("the input does not fit its schema: missing field `n`"));
    let typed =
        "input: { schema: { document: { properties: { n: { type: integer } } } } }\ndo: [{ a: { set: { x: 1 } } }]";
    let error = Driven::start(typed, json!({"n": "x"})).error();
    assert_eq!(
        error.detail.as_deref(),
        Some("the input does not fit its schema: /n: found \"x\", expected a whole number")
    );
    let error = Driven::start(&format!("do: [{{ a: {{ {schema}, set: {{ x: 1 }} }} }}]"), json!({})).error();
    assert_eq!((error.kind.as_str(), error.instance.as_deref()), (kind::VALIDATION.0, Some("/do/0/a")));
}

#[test]
fn a_value_beyond_the_limit_is_an_error_and_is_not_remembered() {
    let large = json!({"text": "x".repeat(limit::VALUE_BYTES_MAX)});
    let run = Driven::start("do: [{ a: { set: { x: 1 } } }]", large.clone());
    assert_eq!(run.error().kind, kind::LIMIT.0);
    let mut run = Driven::start("do: [{ a: { call: infer, with: { prompt: p } } }]", json!({}));
    run.complete(large);
    assert_eq!(run.error().kind, kind::LIMIT.0);
    let kept: usize = run.records.iter().map(|record| serde_json::to_string(record).expect("plain data").len()).sum();
    assert!(kept < 10_000, "{kept}");
}

#[test]
fn everything_bad_is_a_typed_error_of_the_language_that_catch_takes() {
    let spec = "https://serverlessworkflow.io/spec/1.0.0/errors";
    let large = "x".repeat(limit::VALUE_BYTES_MAX);
    let deep = "use: { functions: { f: { do: [{ again: { call: f } }] } } }\n";
    for (head, task, kind) in [
        ("", "{ input: { schema: { document: { required: [none] } } }, set: { x: 1 } }", "validation"),
        ("", "{ output: { schema: { document: { type: array } } }, set: { x: 1 } }", "validation"),
        ("", "{ export: { as: '${ 5 }', schema: { document: { type: object } } }, set: { x: 1 } }", "validation"),
        ("", "{ set: { x: '${ [range(.n)] | length }' } }", "expression"),
        ("", "{ set: { x: '${ .large + .large }' } }", "runtime"),
        ("", "{ set: { x: '${ .n.deep }' } }", "expression"),
        (deep, "{ call: f }", "runtime"),
        ("", "{ wait: '${ .n }' }", "expression"),
    ] {
        let text = format!(
            "{head}do: [{{ t: {{ try: [{{ bad: {task} }}], catch: {{ errors: {{ with: {{ type: '{spec}/{kind}' }} }}, \
            do: [{{ h: {{ set: {{ status: '${{ $error.status }}' }} }} }}] }} }} }}]"
        );
        let input = json!({"n": 1_000_000_000, "large": large[..limit::VALUE_BYTES_MAX - 100]});
        let output = Driven::start(&text, input).output();
        assert!(output["status"].as_u64().is_some_and(|status| status >= 400), "{task}: {output}");
    }
}

#[test]
fn one_failed_branch_fails_the_fork_but_only_drops_out_of_a_race() {
    let text = "do: [{ f: { fork: { compete: RACE, branches: [{ a: { call: infer, with: { prompt: a } } }, \
        { b: { call: infer, with: { prompt: b } } }] } } }]";
    let mut plain = Driven::start(&text.replace("RACE", "false"), json!({}));
    plain.fail(kind::COMMUNICATION);
    assert_eq!(plain.error().instance.as_deref(), Some("/do/0/f/fork/branches/1/b"));
    let mut race = Driven::start(&text.replace("RACE", "true"), json!({}));
    race.fail(kind::COMMUNICATION);
    race.complete(json!("A"));
    assert_eq!(race.output(), json!("A"));
    let mut lost = Driven::start(&text.replace("RACE", "true"), json!({}));
    lost.fail(kind::COMMUNICATION);
    lost.fail(kind::TIMEOUT);
    assert_eq!(lost.error().kind, kind::TIMEOUT.0);
}

#[test]
fn what_the_engine_cannot_perform_is_refused_by_name_and_place() {
    let text = "do: [{ a: { call: a2a, with: { method: tasks/list } } }, { d: { do: [{ c: { call: a2a, with: { method: tasks/list } } }] } }]";
    let problems = support::check("w.yaml", &workflow(text)).unwrap_err().0;
    let places: Vec<_> = problems.iter().map(|p| (p.field.as_str(), p.line, p.column)).collect();
    assert_eq!(places, [("/do/0/a/call", Some(2), Some(13)), ("/do/1/d/do/0/c/call", Some(2), Some(77))]);
}

#[test]
fn a_script_in_another_language_is_refused_before_it_runs() {
    let script = |language: &str| {
        let text = format!("do: [{{ a: {{ run: {{ script: {{ language: {language}, code: x }} }} }} }}]");
        support::check("w.yaml", &workflow(&text)).err().map(|problems| problems.to_string())
    };
    for language in ["js", "JavaScript", "python", "sh", "'${ .language }'"] {
        assert_eq!(script(language), None, "{language}");
    }
    assert_eq!(
        script("cobol").as_deref(),
        Some("w.yaml:2:30: /do/0/a/run/script/language: scripts in \"cobol\" are not run: expected js, python or sh")
    );
}

#[test]
fn a_run_that_outgrows_what_one_may_do_says_where() {
    let text = "do: [{ all: { for: { in: '${ [range(200)] }' }, do: [{ each: { for: { in: '${ [range(600)] }' }, do: [{ s: { set: { x: 1 } } }] } }] } }]";
    let caught = format!("do: [{{ t: {{ try: {}, catch: {{}} }} }}]", text.trim_start_matches("do: "));
    let error = Driven::start(&caught, json!({})).error();
    assert_eq!((error.status, error.instance.as_deref()), (413, Some("/do/0/t/try/0/all/do/0/each")));
    assert_eq!(
        error.detail.as_deref(),
        Some("the run has entered 100000 tasks, the most that one run may; no `catch` takes this")
    );
}

#[test]
fn a_cancelled_run_wants_nothing_any_more() {
    let mut run = Driven::start("do: [{ a: { call: infer, with: { prompt: p } } }]", json!({}));
    let ask = run.asked().0;
    run.command(Command::Cancel);
    assert_eq!(run.effects.last(), Some(&Effect::Withdraw { ask }));
    assert!(matches!(run.state.phase(), Phase::Ended { ending: Ending::Cancelled, .. }));
    assert_eq!(run.state.wake_at(), None);
}
