//! What stands before and after the tasks of a kind.

use super::*;

const MOCK: &str = "use: { extensions: [{ mock: { extend: call, when: '$task.definition.with.prompt == \"mocked\"', \
    before: [{ m: { set: { text: '${ \"no \" + $task.name }' }, then: exit } }] } }] }\n";

#[test]
fn a_task_before_can_take_the_place_of_the_task() {
    let call = "do: [{ a: { call: infer, with: { prompt: PROMPT }, output: { as: .text } } }]";
    check(&format!("{MOCK}{}", call.replace("PROMPT", "mocked")), json!({}), json!("no a"));
    let mut real = Driven::start(&format!("{MOCK}{}", call.replace("PROMPT", "real")), json!({}));
    real.complete(json!({"text": "yes"}));
    assert_eq!(real.output(), json!("yes"));
}

#[test]
fn what_stands_around_a_task_changes_nothing_of_its_data() {
    let text = "use: { extensions: [{ log: { extend: set, before: [{ b: { call: infer, with: { prompt: '${ \"before \" + $task.reference }' } } }], \
        after: [{ c: { call: infer, with: { prompt: '${ \"after \\(.x) \\($task.output.x)\" }' } } }] } }, \
        { second: { extend: all, after: [{ d: { emit: { event: { with: { type: t } } } } }] } }] }\n\
        do: [{ s: { set: { x: '${ .n + 1 }' } } }, { u: { wait: PT0S } }]";
    let mut run = Driven::start(text, json!({"n": 1}));
    assert_eq!(run.asked().1.input, json!({"prompt": "before /do/0/s"}));
    assert_eq!(run.asked().1.key.0, format!("{}:/do/0/s/before/log/0/b", run.state.run));
    run.complete(json!("ignored"));
    assert_eq!(run.asked().1.input, json!({"prompt": "after 2 2"}));
    run.complete(json!("ignored"));
    run.after(0);
    assert_eq!(run.output(), json!({"x": 2}));
    let events = run.effects.iter().filter(|effect| matches!(effect, Effect::Emit { .. })).count();
    assert_eq!(events, 2, "of `second`, once after each task");
}

#[test]
fn an_error_around_a_task_is_an_error_of_the_task() {
    let text = "use: { extensions: [{ guard: { extend: set, after: [{ check: { if: '.x > 1', raise: { error: { type: 'https://e/g', status: 451 } } } }] } }] }\n\
        do: [{ t: { try: [{ s: { set: { x: '${ .n }' } } }], catch: { do: [{ h: { set: { why: '${ $error.status }' } } }] } } }]";
    // The handler's own output is checked too, and has no x.
    check(text, json!({"n": 2}), json!({"why": 451}));
    check(text, json!({"n": 1}), json!({"x": 1}));
}
