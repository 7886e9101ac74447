//! `call: asyncapi` with tasks for each message.

use super::*;

const EACH: &str = "do: [{ a: { call: asyncapi, with: { document: { endpoint: 'http://h/a.json' }, operation: o, \
    subscription: { filter: '${ .n > $context.low }', consume: CONSUME, foreach: { item: m, at: i, \
    do: [{ ask: { call: infer, with: { prompt: '${ \"\\($i):\\($m.n)\" }' } } }], \
    output: { as: '${ { n: $m.n, text: .text } }' }, export: { as: '${ { sum: (($context.sum // 0) + $output.n) } }' } } } } } }]";

fn message(n: i64) -> Value {
    json!({"message": {"n": n}, "id": format!("id-{n}")})
}

fn next(run: &Driven) -> Value {
    run.asked().1.input["subscription"]["next"].clone()
}

#[test]
fn each_message_is_worked_on_before_the_next_is_asked_for() {
    let mut run = Driven::start(&EACH.replace("CONSUME", "{ until: '$context.sum > 5' }"), json!({}));
    let (_, call) = run.asked();
    assert_eq!((call.function.as_str(), next(&run)), ("asyncapi", json!({"number": 0})));
    assert_eq!(call.key.0, format!("{}:/do/0/a/message/0", run.state.run));
    assert_eq!(call.input["subscription"].get("foreach"), None);
    run.complete(message(2));
    assert_eq!(run.asked().1.input, json!({"prompt": "0:2"}));
    assert_eq!(run.asked().1.key.0, format!("{}:/do/0/a#0/with/subscription/foreach/do/0/ask", run.state.run));
    run.refold();
    run.complete(json!({"text": "A"}));
    assert_eq!(next(&run), json!({"number": 1, "after": ["id-2"]}), "the one before may be let go of now");
    run.complete(message(4));
    run.complete(json!({"text": "B"}));
    assert_eq!(next(&run), json!({"close": true, "after": ["id-2", "id-4"]}));
    run.refold();
    run.fail(kind::COMMUNICATION);
    assert_eq!(run.output(), json!([{"n": 2, "text": "A"}, {"n": 4, "text": "B"}]));
}

#[test]
fn a_subscription_ends_by_number_time_and_while() {
    let mut amount = Driven::start(&EACH.replace("CONSUME", "{ amount: 1 }"), json!({}));
    amount.complete(message(1));
    amount.complete(json!({"text": "A"}));
    amount.complete(json!({"over": true}));
    assert_eq!(amount.output(), json!([{"n": 1, "text": "A"}]));
    let mut timed = Driven::start(&EACH.replace("CONSUME", "{ amount: 9, for: { seconds: 60 } }"), json!({}));
    assert_eq!(next(&timed)["until"], json!(timed.now.plus_micros(60_000_000)));
    timed.complete(json!({"over": true}));
    assert_eq!(timed.output(), json!([]));
    let mut never = Driven::start(&EACH.replace("CONSUME", "{ while: '$context.messages | length < 2' }"), json!({}));
    for n in 0..2 {
        never.complete(message(n));
        never.complete(json!({"text": "T"}));
    }
    never.complete(json!({"over": true}));
    assert_eq!(never.output().as_array().map(Vec::len), Some(2));
}

#[test]
fn a_list_is_all_there_are() {
    let mut run = Driven::start(
        &EACH.replace("CONSUME", "{ while: true }").replace("while: true", "while: '${ true }'"),
        json!({}),
    );
    run.complete(json!([{"n": 1}, {"n": 2}]));
    run.complete(json!({"text": "A"}));
    run.complete(json!({"text": "B"}));
    assert_eq!(run.output(), json!([{"n": 1, "text": "A"}, {"n": 2, "text": "B"}]));
}

#[test]
fn what_fails_fails_the_task_and_can_be_caught() {
    let each = EACH.replace("CONSUME", "{ amount: 2 }");
    let text = format!(
        "do: [{{ t: {{ try: {}, catch: {{ as: e, do: [{{ s: {{ set: {{ got: '${{ $e.status }}' }} }} }}] }} }} }}]",
        &each["do: ".len()..]
    );
    let mut run = Driven::start(&text, json!({}));
    run.fail(kind::AUTHORIZATION);
    assert_eq!(run.output(), json!({"got": 403}));
    let mut within = Driven::start(&text, json!({}));
    within.complete(message(1));
    within.fail(kind::TIMEOUT);
    assert_eq!(within.output(), json!({"got": 408}));
    let mut broken = Driven::start(&each.replace("sum // 0", "sum // {}"), json!({}));
    broken.complete(message(1));
    broken.complete(json!({"text": "A"}));
    assert_eq!(broken.error().instance.as_deref(), Some("/do/0/a/with/subscription/foreach"));
    let mut endless = Driven::start(&EACH.replace("CONSUME", "{ for: { seconds: 1 } }"), json!({}));
    assert_eq!(endless.error().kind, kind::VALIDATION.0);
    assert!(!endless.is_running());
    endless.refold();
}

#[test]
fn a_message_that_came_while_the_run_rested_is_worked_on_once() {
    let mut run = Driven::start(&EACH.replace("CONSUME", "{ amount: 2 }"), json!({}));
    run.command(Command::Suspend);
    run.complete(message(1));
    run.command(Command::Resume);
    assert_eq!(run.asked().1.input, json!({"prompt": "0:1"}));
    run.command(Command::Suspend);
    run.command(Command::Resume);
    assert_eq!(run.state.asked().count(), 1);
    run.complete(json!({"text": "A"}));
    assert_eq!(next(&run)["number"], 1, "the second is asked for, and nothing was taken twice");
}

#[test]
fn a_subscription_that_nobody_waits_for_is_closed() {
    let run = Driven::start(&EACH.replace("CONSUME", "{ amount: 2 }"), json!({}));
    let closing = closing(&run.asked().1).expect("it asks for a message");
    assert_eq!(closing.input["subscription"]["next"], json!({"close": true}));
    assert_eq!(closing.key.0, format!("{}:/do/0/a/message/end", run.state.run));
}
