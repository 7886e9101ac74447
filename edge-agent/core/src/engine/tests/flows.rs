//! Tasks that come to a good end, and the way of the data through them.

use super::*;

#[test]
fn do_set_and_then_pass_data_on() {
    check("do: [{ a: { set: { x: 1 } } }, { b: { set: { y: '${ .x + 1 }' } } }]", json!({}), json!({"y": 2}));
    check("do: [{ a: { do: [{ b: { set: { x: '${ .n }' } } }] } }]", json!({"n": 3}), json!({"x": 3}));
    check("do: [{ a: { set: '${ .list }' } }]", json!({"list": [1]}), json!([1]));
    let jump = "do: [{ a: { set: { n: '${ (.n // 0) + 1 }' }, then: c } }, { b: { set: { n: '${ .n + 100 }' }, then: end } }, \
                { c: { set: { n: '${ .n + 10 }' }, then: b } }]";
    check(jump, json!({}), json!({"n": 111}));
    check(
        "do: [{ a: { do: [{ b: { if: .go, set: { x: 1 }, then: exit } }, { c: { set: { x: 2 } } }] } }]",
        json!({"go": true}),
        json!({"x": 1}),
    );
    check(
        "do: [{ a: { do: [{ b: { set: { x: 1 }, then: end } }] } }, { c: { set: { x: 2 } } }]",
        json!({}),
        json!({"x": 1}),
    );
}

#[test]
fn data_is_transformed_at_every_door() {
    let text = "input: { from: '${ .in }' }\noutput: { as: '${ { out: ., seen: $context.seen } }' }\n\
        do: [{ a: { input: { from: .deep }, set: { v: '${ $input.v + .v }' }, output: { as: .v }, \
        export: { as: '${ { seen: $output, task: $task.name, was: $task.output } }' } } }]";
    check(text, json!({"in": {"deep": {"v": 2}}}), json!({"out": 4, "seen": 4}));
    let skipped = "do: [{ a: { if: .x > 5, set: { y: 1 }, then: end } }, { b: { set: { z: '${ .x }' } } }]";
    check(skipped, json!({"x": 1}), json!({"z": 1}));
    check(skipped, json!({"x": 6}), json!({"y": 1}));
    let descriptors = "do: [{ a: { set: { id: '${ $workflow.id | length }', name: '${ $workflow.definition.document.name }', \
        raw: '${ $workflow.input.k }', ref: '${ $task.reference }', rt: '${ $runtime.name }' } } }]";
    let expected = json!({"id": 26, "name": "sample", "raw": "v", "ref": "/do/0/a", "rt": "Skerry"});
    check(descriptors, json!({"k": "v"}), expected);
}

#[test]
fn switch_takes_the_first_case_that_holds_then_the_default_then_its_own_then() {
    let text = "do: [{ s: { switch: [{ any: { then: other } }, { big: { when: .n > 10, then: large } }] } }, \
        { large: { set: { is: large }, then: end } }, { other: { set: { is: other } } }]";
    check(text, json!({"n": 11}), json!({"is": "large"}));
    check(text, json!({"n": 1}), json!({"is": "other"}));
    let none = "do: [{ s: { switch: [{ a: { when: .n == 1, then: x } }], then: end } }, { x: { set: { is: x } } }]";
    check(none, json!({"n": 1}), json!({"is": "x"}));
    check(none, json!({"n": 2}), json!({"n": 2}));
}

#[test]
fn for_hands_each_turn_the_last_ones_output_and_stops_when_while_fails() {
    let sum = "do: [{ l: { for: { each: x, in: .items, at: i }, do: [{ add: { set: { items: '${ .items }', \
        sum: '${ (.sum // 0) + $x * 10 + $i }' } } }] } }]";
    check(sum, json!({"items": [1, 2, 3]}), json!({"items": [1, 2, 3], "sum": 63}));
    let until = "do: [{ l: { for: { in: '${ [1, 2, 3, 4] }' }, while: '(.sum // 0) < 3 and $item < 9', \
        do: [{ add: { set: { sum: '${ (.sum // 0) + $item }' } } }] } }]";
    check(until, json!({}), json!({"sum": 3}));
    check("do: [{ l: { for: { in: '${ [] }' }, do: [{ a: { set: { x: 1 } } }] } }]", json!({"k": 1}), json!({"k": 1}));
    let nested = "do: [{ o: { for: { each: a, in: '${ [1, 2] }' }, do: [{ i: { for: { each: b, in: '${ [10, 20] }' }, \
        do: [{ s: { set: { all: '${ (.all // []) + [$a + $b] }' } } }] } }] } }]";
    check(nested, json!({}), json!({"all": [11, 21, 12, 22]}));
}

#[test]
fn a_long_loop_is_done_in_several_steps() {
    let text = "do: [{ l: { for: { in: '${ [range(1000)] }' }, do: [{ a: { set: { n: '${ (.n // 0) + 1 }' } } }] } }]";
    let mut run = Driven::start("do: [{ w: { wait: PT1S } }]", json!({}));
    run.state = State::new(run.state.run, workflow(text));
    let step =
        decide(&run.state, Command::Start { input: json!({}).into(), label: Label::default() }, run.now).expect("fits");
    assert!(step.more);
    check(text, json!({}), json!({"n": 1000}));
}

#[test]
fn a_loop_without_end_is_ended() {
    let run = Driven::start("do: [{ a: { set: { x: 1 }, then: a } }]", json!({}));
    assert_eq!(run.error().kind, kind::LIMIT.0);
}

#[test]
fn wait_rests_and_passes_the_data_through() {
    let mut run =
        Driven::start("do: [{ w: { wait: { seconds: 30 } } }, { s: { set: { x: '${ .k }' } } }]", json!({"k": 7}));
    assert_eq!(run.state.wake_at(), Some(run.now.plus_micros(30_000_000)));
    run.after(29_999);
    assert!(run.is_running());
    run.after(1);
    assert_eq!(run.output(), json!({"x": 7}));
    let mut iso = Driven::start("do: [{ w: { wait: '${ .for }' } }]", json!({"for": "PT0.5S"}));
    iso.after(500);
    assert_eq!(iso.output(), json!({"for": "PT0.5S"}));
}

#[test]
fn emit_hands_out_an_event_named_after_run_and_place() {
    let run = Driven::start(
        "do: [{ e: { emit: { event: { with: { type: t.v1, data: { n: '${ .n }' } } } } } }]",
        json!({"n": 1}),
    );
    let [Effect::Emit { event, .. }] = run.effects.as_slice() else { panic!("one event: {:?}", run.effects) };
    assert_eq!(event.id, format!("{}:/do/0/e", run.state.run));
    assert_eq!((event.kind.as_str(), event.source.as_str()), ("t.v1", "/workflows/test/sample"));
    assert_eq!(run.output()["data"], json!({"n": 1}));
}

#[test]
fn a_call_is_asked_once_under_a_key_that_names_its_place() {
    let text = "do: [{ l: { for: { each: q, in: .qs }, do: [{ ask: { call: 'infer:1.0.0@default', with: { prompt: '${ $q }' } } }] } }]";
    let mut run = Driven::start(text, json!({"qs": ["a", "b"]}));
    let (_, call) = run.asked();
    assert_eq!(call.key.0, format!("{}:/do/0/l#0/do/0/ask", run.state.run));
    assert_eq!((call.function.as_str(), &call.input), ("infer", &json!({"prompt": "a"})));
    run.complete(json!({"text": "A"}));
    assert_eq!(run.asked().1.key.0, format!("{}:/do/0/l#1/do/0/ask", run.state.run));
    run.complete(json!({"text": "B"}));
    assert_eq!(run.output(), json!({"text": "B"}));
    assert_eq!(run.effects.len(), 2);
}

#[test]
fn a_task_that_is_visited_again_asks_under_another_key() {
    let text = "do: [{ ask: { call: embed, with: { text: x }, output: { as: '.' } } }, \
        { s: { switch: [{ again: { when: .more, then: ask } }], then: end } }]";
    let mut run = Driven::start(text, json!({}));
    run.complete(json!({"more": true}));
    assert_eq!(run.asked().1.key.0, format!("{}:/do/0/ask@1", run.state.run));
}

#[test]
fn a_function_of_the_workflow_sees_its_arguments_alone() {
    let text = "use: { functions: { twice: { do: [{ d: { set: { v: '${ .n * 2 }' } } }] }, \
        ask: { call: infer, with: { prompt: '${ .q }' } } } }\n\
        do: [{ a: { call: twice, with: { n: '${ .k }' } } }, { b: { call: ask, with: { q: '${ \"v\\(.v)\" }' } } }]";
    let mut run = Driven::start(text, json!({"k": 4}));
    let (_, call) = run.asked();
    assert_eq!(call.input, json!({"prompt": "v8"}));
    assert_eq!(call.key.0, format!("{}:/do/1/b/call/ask", run.state.run));
    assert_eq!(call.task, "/use/functions/ask");
    run.complete(json!({"text": "x"}));
    assert_eq!(run.output(), json!({"text": "x"}));
}

#[test]
fn a_function_of_a_catalog_is_performed_as_one_of_the_workflow_and_its_schemas_hold() {
    let text = "document: { dsl: '1.0.3', namespace: test, name: sample, version: '0.1.0' }\n\
        use: { catalogs: { mine: { endpoint: 'https://c.example' } } }\ndo: [{ a: { call: 'ask:1.0.0@mine', with: { q: '${ .k }' } } }]";
    let function =
        "input: { schema: { resource: { endpoint: schemas/q.yaml } } }\ncall: infer\nwith: { prompt: '${ .q }' }\n";
    let read = |path: &str| match path {
        "catalogs/mine/functions/ask/1.0.0/function.yaml" => Some(function.to_owned()),
        "schemas/q.yaml" => Some("properties: { q: { type: string } }".to_owned()),
        _ => None,
    };
    let unlinked = support::check("w.yaml", &workflow(text)).unwrap_err().to_string();
    assert!(unlinked.contains("expected it there at `catalogs/mine/functions/ask/1.0.0/function.yaml`"), "{unlinked}");
    let linked = Workflow::link("w.yaml", text, &read).unwrap();
    support::check("w.yaml", &linked).unwrap();
    let mut run = Driven::start(linked.text(), json!({"k": "why"}));
    assert_eq!(run.asked().1.input, json!({"prompt": "why"}));
    run.complete(json!("because"));
    assert_eq!(run.output(), json!("because"));
    assert_eq!(Driven::start(linked.text(), json!({"k": 5})).error().kind, kind::VALIDATION.0);
}

#[test]
fn http_calls_get_their_template_filled_and_their_authentication_looked_up() {
    let text = "use: { authentications: { desk: { basic: { username: '${ .user }', password: p } } } }\n\
        do: [{ a: { call: http, with: { method: get, endpoint: { uri: 'http://h/pet/{id}?q={q}', authentication: { use: desk } } } } }]";
    let run = Driven::start(text, json!({"id": 7, "q": "a b", "user": "u"}));
    let expected =
        json!({"uri": "http://h/pet/7?q=a%20b", "authentication": {"basic": {"username": "u", "password": "p"}}});
    assert_eq!(run.asked().1.input["endpoint"], expected);
}

#[test]
fn processes_are_effects_with_what_stands_under_their_key() {
    let shell = "do: [{ a: { run: { shell: { command: 'echo ${HOME}', arguments: ['${ .n }'], stdin: '${ .s }' }, return: all } } }]";
    let mut run = Driven::start(shell, json!({"n": "x", "s": "in"}));
    let call = run.asked().1;
    let expected =
        json!({"command": "echo ${HOME}", "stdin": "in", "arguments": ["x"], "await": true, "return": "all"});
    assert_eq!((call.function.as_str(), &call.input), ("shell", &expected));
    run.complete(json!({"code": 0}));
    assert_eq!(run.output(), json!({"code": 0}));
    let forgotten = "do: [{ a: { run: { await: false, script: { language: python, code: '${ .code }' } } } }]";
    let mut run = Driven::start(forgotten, json!({"code": "print(1)"}));
    assert_eq!(run.asked().1.input["code"], "print(1)");
    run.complete(json!("1"));
    assert_eq!(run.output(), json!({"code": "print(1)"}), "what is not waited for gives nothing");
    let child =
        "do: [{ a: { run: { workflow: { namespace: t, name: w, version: '1.0.0', input: { n: '${ .n }' } } } } }]";
    let call = Driven::start(child, json!({"n": 5})).asked().1;
    assert_eq!((call.function.as_str(), &call.input["input"]), (RUN_WORKFLOW, &json!({"n": 5})));
}

#[test]
fn secrets_are_references_in_every_record_and_nothing_from_outside_is_one() {
    use shared::workflow::secret;
    let text = "use: { secrets: [api, desk], authentications: { a: { basic: { use: desk } } } }\n\
        do: [{ a: { call: openapi, with: { document: { endpoint: { uri: 'http://h/{p}', authentication: { use: a } } }, \
        operationId: o, authentication: { oauth2: { use: api } }, parameters: { key: '${ \"k \" + $secrets.api }' } } } }, \
        { b: { set: { got: '${ .x }', own: '${ $secrets.desk.username }' } } }]";
    let forged = secret::reference("api", None);
    let mut run = Driven::start(text, json!({"p": "d", "evil": forged.clone()}));
    let basic = |key: &str| secret::reference("desk", Some(key));
    let input = &run.asked().1.input.clone();
    assert_eq!(input["document"]["endpoint"]["uri"], "http://h/d");
    let expected = json!({"basic": {"username": basic("username"), "password": basic("password")}});
    assert_eq!(input["document"]["endpoint"]["authentication"], expected);
    assert_eq!(input["authentication"], json!({"oauth2": secret::reference("api", None)}));
    assert_eq!(input["parameters"]["key"], json!(format!("k {forged}")));
    run.complete(json!({"x": forged}));
    assert!(!secret::any_marked(&run.output()["got"]));
    assert_eq!(run.output()["own"], json!(basic("username")));
    let Record::Started { input, .. } = &run.records[0] else { panic!("it began") };
    assert!(!secret::any_marked(input));
}

#[test]
fn what_a_subscription_asks_of_messages_goes_along_unevaluated() {
    let text = "do: [{ a: { call: asyncapi, with: { document: { endpoint: 'http://h/{d}' }, subscription: { \
        filter: '${ . == $input.room }', consume: { until: '${ .n > 3 }', for: { seconds: '${ 5 }' } } } } } }]";
    let call = Driven::start(
        &text.replace("{ seconds: '${ 5 }' }", "'${ .wait }'"),
        json!({"d": 1, "room": "r", "wait": "PT5S"}),
    );
    let subscription = &call.asked().1.input["subscription"].clone();
    let expected = json!({"filter": "${ . == $input.room }", "consume": {"until": "${ .n > 3 }", "for": "PT5S"},
        "variables": {"input": {"d": 1, "room": "r", "wait": "PT5S"}}});
    assert_eq!(subscription, &expected);
}

#[test]
fn branches_run_at_the_same_time_and_give_their_outputs_in_order() {
    let text = "do: [{ f: { fork: { branches: [{ a: { call: infer, with: { prompt: a } } }, { b: { set: { b: 1 } } }, \
        { c: { call: infer, with: { prompt: c } } }] } } }]";
    let mut run = Driven::start(text, json!({}));
    assert_eq!(run.state.asked().count(), 2);
    run.complete(json!("C"));
    run.complete(json!("A"));
    assert_eq!(run.output(), json!(["A", {"b": 1}, "C"]));
}

#[test]
fn the_first_branch_of_a_race_wins_and_the_others_are_withdrawn() {
    let text = "do: [{ f: { fork: { compete: true, branches: [{ a: { call: infer, with: { prompt: a } } }, \
        { b: { call: infer, with: { prompt: b } } }] } } }]";
    let mut run = Driven::start(text, json!({}));
    let slow = run.state.asked().next().expect("two are asked").0;
    run.complete(json!("B"));
    assert_eq!(run.output(), json!("B"));
    assert_eq!(run.effects.last(), Some(&Effect::Withdraw { ask: slow }));
    let late = Command::Complete { ask: slow, output: json!("A"), label: Label::default() };
    assert_eq!(run.try_command(late), Err(Rejection::Ended));
}

#[test]
fn the_label_joins_all_that_flowed_in() {
    let secret = Label { class: shared::label::DataClass::Restricted, ..Label::default() };
    let mut run = Driven::start(
        "do: [{ a: { call: retrieve, with: { query: q } } }, { b: { call: infer, with: { prompt: p } } }]",
        json!({}),
    );
    let ask = run.asked().0;
    run.command(Command::Complete { ask, output: json!({}), label: secret.clone() });
    assert_eq!(run.asked().1.label, secret);
}

#[test]
fn how_a_call_authenticates_is_known_in_its_arguments() {
    let asked = |authentication: &str| {
        let text = format!(
            "use: {{ secrets: [api] }}\ndo: [{{ a: {{ call: http, with: {{ method: get, endpoint: {{ uri: 'http://h/', authentication: {authentication} }}, \
             headers: {{ x: '${{ $authorization.scheme }}', y: '${{ $authorization.parameter }}' }} }} }} }}]"
        );
        let (_, call) = Driven::start(&text, json!({"token": "t1"})).asked();
        (call.input["headers"]["x"].clone(), call.input["headers"]["y"].clone())
    };
    assert_eq!(asked("{ bearer: { token: '${ .token }' } }"), (json!("Bearer"), json!("t1")));
    assert_eq!(asked("{ basic: { username: ada, password: lovelace } }"), (json!("Basic"), json!("YWRhOmxvdmVsYWNl")));
    let (scheme, parameter) = asked("{ bearer: { use: api } }");
    let reference = secret::reference("api", Some("token"));
    assert_eq!((scheme, parameter), (json!("Bearer"), json!(reference)), "a secret stays a reference");
    let oauth = "{ oauth2: { authority: 'http://h', grant: client_credentials, client: { id: a, secret: b } } }";
    assert_eq!(asked(oauth), (json!("Bearer"), json!(null)), "the token is not there yet");
}
