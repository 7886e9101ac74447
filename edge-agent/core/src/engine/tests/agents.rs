//! Agents: what is asked of the model and of tools, where a loop ends, and that a restart repeats nothing.

use shared::label::DataClass;

use super::*;

const TOOLS: &str =
    "[retrieve, { function: publish, with: { topic: alarms/a } }, { workflow: plant/check, name: check }]";

fn agent(more: &str) -> String {
    format!(
        "do: [{{ solve: {{ call: agent, with: {{ name: scout, owner: ops, goal: 'find it', tools: {TOOLS}{more} }} }} }}]"
    )
}

fn says(text: &str) -> Value {
    json!({"text": text, "usage": {"tokensIn": 10, "tokensOut": 5, "costUsd": 0.5}})
}

fn wants(calls: &[(&str, Value)]) -> Value {
    let call = |(n, (name, arguments)): (usize, &(&str, Value))| json!({"id": format!("c{n}"), "name": name, "arguments": arguments});
    let calls: Vec<Value> = calls.iter().enumerate().map(call).collect();
    json!({"text": "", "toolCalls": calls, "usage": {"tokensIn": 10, "tokensOut": 5, "costUsd": 0.5}})
}

/// The part of the key after the task's place, and the function.
fn step(driven: &Driven) -> (String, String) {
    let (_, call) = driven.asked();
    let key = call.key.0.split_once("/solve").expect("of the task").1.to_owned();
    (key, call.function.clone())
}

/// What the model was told last.
fn last_told(driven: &Driven) -> String {
    let (_, call) = driven.asked();
    let messages = call.input["messages"].as_array().expect("a conversation");
    messages.last().expect("not empty")["content"].as_str().expect("text").to_owned()
}

fn ended(driven: &Driven) -> (Value, Value, Value) {
    let output = driven.output();
    (output["ended"].clone(), output["output"].clone(), output["turns"].clone())
}

#[test]
fn a_turn_and_a_tool_call_are_effects_with_keys_of_their_own() {
    let mut driven = Driven::start(&agent(""), json!({}));
    assert_eq!(step(&driven), ("/turn/0".to_owned(), "chat".to_owned()));
    let (_, call) = driven.asked();
    assert_eq!(call.agent, Some(effect::Agent { name: "scout".to_owned(), owner: Some("ops".to_owned()) }));
    let names: Vec<_> =
        call.input["tools"].as_array().expect("tools").iter().map(|tool| tool["name"].clone()).collect();
    assert_eq!(names, ["retrieve", "publish", "check"]);
    // What the document fixes is not the model's to give.
    assert_eq!(call.input["tools"][1]["parameters"]["properties"].get("topic"), None);
    driven.complete(wants(&[
        ("publish", json!({"payload": 1, "qos": 1})),
        ("retrieve", json!({"query": "fan"})),
        ("check", json!({"unit": 7})),
    ]));
    let (key, function) = step(&driven);
    assert!(key.starts_with("/turn/0/tool/0/"), "{key}");
    assert_eq!((function.as_str(), &driven.asked().1.input["topic"]), ("publish", &json!("alarms/a")));
    driven.complete(json!({"topic": "alarms/a"}));
    assert!(step(&driven).0.starts_with("/turn/0/tool/1/"));
    driven.fail(kind::AUTHORIZATION);
    let (_, child) = driven.asked();
    assert_eq!(
        (child.function.as_str(), &child.input["name"], &child.input["input"]),
        ("workflow", &json!("check"), &json!({"unit": 7}))
    );
    driven.complete(json!("fine"));
    assert_eq!(step(&driven), ("/turn/1".to_owned(), "chat".to_owned()));
    let (_, call) = driven.asked();
    let told: Vec<_> =
        call.input["messages"].as_array().expect("messages")[3..].iter().map(|m| m["content"].clone()).collect();
    assert_eq!(told, [json!(r#"{"topic":"alarms/a"}"#), json!("error (authorization): on purpose"), json!("fine")]);
    driven.complete(says("It was the fan."));
    let output = driven.output();
    assert_eq!(ended(&driven), (json!("done"), json!("It was the fan."), json!(2)));
    assert_eq!(
        (&output["toolCalls"], &output["toolFailures"], &output["usage"]["tokensIn"]),
        (&json!(3), &json!(1), &json!(20))
    );
    let told: Vec<_> = history::tasks(&driven.records)[0].acts.iter().map(history::Act::words).collect();
    let told: Vec<_> = told.iter().map(|(what, with, came)| (what.as_str(), with.as_str(), came.as_str())).collect();
    let expected = [
        ("turn", "", "wants 3 tools called"),
        ("tool publish", r#"{"payload":1,"qos":1}"#, r#"{"topic":"alarms/a"}"#),
        ("failed tool retrieve", r#"{"query":"fan"}"#, "error (authorization): on purpose"),
        ("tool check", r#"{"unit":7}"#, "fine"),
        ("turn", "", "It was the fan."),
    ];
    assert_eq!(told, expected);
}

#[test]
fn what_is_not_on_the_list_is_refused_and_told() {
    let mut driven = Driven::start(&agent(""), json!({}));
    driven.complete(wants(&[
        ("http", json!({"method": "get", "endpoint": "http://a"})),
        ("retrieve", json!({"qury": 1})),
    ]));
    // Nothing but the model's next turn was asked for.
    assert_eq!(step(&driven), ("/turn/1".to_owned(), "chat".to_owned()));
    let (_, call) = driven.asked();
    let told: Vec<_> = call.input["messages"].as_array().expect("messages").iter().rev().take(2).collect();
    assert!(
        told[1]["content"]
            .as_str()
            .expect("text")
            .contains("there is no tool \"http\"; there is retrieve, publish, check")
    );
    assert!(told[0]["content"].as_str().expect("text").contains("unknown field `qury`"), "{}", told[0]);
    driven.complete(says("no"));
    assert_eq!(driven.output()["toolFailures"], 2);
}

#[test]
fn the_third_equal_call_stops_the_loop() {
    let mut driven = Driven::start(&agent(""), json!({}));
    let same = || wants(&[("retrieve", json!({"query": "fan", "topK": 3}))]);
    driven.complete(same());
    driven.complete(json!({"passages": []}));
    driven.complete(wants(&[("retrieve", json!({"topK": 3, "query": "fan"}))]));
    assert_eq!(step(&driven), ("/turn/2".to_owned(), "chat".to_owned()), "it was not called again");
    assert!(last_told(&driven).contains(r#"The result was: {"passages":[]}"#));
    driven.complete(same());
    assert_eq!(ended(&driven), (json!("repetition"), json!(null), json!(3)));
}

#[test]
fn an_answer_that_does_not_fit_is_asked_for_again_or_an_error() {
    let schema = ", schema: { type: object, required: [cause], properties: { cause: { type: string } } }";
    let mut driven = Driven::start(&agent(schema), json!({}));
    driven.complete(says("the fan"));
    assert_eq!(last_told(&driven), "That answer does not fit: it is not JSON. Give the whole answer again as JSON.");
    driven.complete(says("Here: {\"cause\": \"fan\"}"));
    assert_eq!(ended(&driven), (json!("done"), json!({"cause": "fan"}), json!(2)));
    let mut driven = Driven::start(&agent(&format!("{schema}, limits: {{ turns: 1 }}")), json!({}));
    driven.complete(says("the fan"));
    let error = driven.error();
    assert_eq!((error.status, error.instance.as_deref()), (413, Some("/do/0/solve")));
    assert!(error.detail.expect("told").contains("stopped (turns) after 1 turns"));
}

#[test]
fn a_case_is_handed_over_with_the_rest_of_the_budget() {
    let text = "do: [{ solve: { call: agent, with: { name: scout, owner: ops, goal: look, limits: { turns: 3 }, tools: \
        [{ agent: { name: expert, goal: decide, tools: [publish], limits: { turns: 9 } } }] } } }]";
    let mut driven = Driven::start(text, json!({}));
    driven.complete(wants(&[("handoff_expert", json!({"case": "the fan is stuck"}))]));
    let (_, call) = driven.asked();
    assert_eq!(call.agent, Some(effect::Agent { name: "expert".to_owned(), owner: Some("ops".to_owned()) }));
    assert_eq!(step(&driven).0, "/turn/1");
    assert!(last_told(&driven).contains("the fan is stuck"));
    assert_eq!(call.input["tools"][0]["name"], "publish");
    driven.complete(wants(&[("publish", json!({"topic": "a", "payload": 1}))]));
    driven.complete(json!({}));
    driven.complete(wants(&[("publish", json!({"topic": "b", "payload": 1}))]));
    assert_eq!(ended(&driven).0, "turns");
    assert_eq!(driven.output()["agent"], "expert");
}

/// An agent that may give its case to a person of maintenance, who has ten minutes, and what is said of it then.
fn given_to_a_person(more: &str) -> Driven {
    let person = "{ person: { role: maintenance, title: Look at the fan, limits: { time: PT10M }, \
        label: { class: confidential, origins: [CH] } } }";
    let text = agent(more).replace("{ workflow: plant/check, name: check }", person);
    let mut driven = Driven::start(&text, json!({}));
    driven.complete(wants(&[("handoff_maintenance", json!({"case": "the fan is stuck"}))]));
    driven
}

#[test]
fn a_case_is_a_persons_for_good_with_a_stricter_label_and_less_time() {
    let answer = |comment: &str| json!({"approved": true, "verdict": "approved", "by": "ann", "at": "2026-01-01T00:00:00Z", "comment": comment});
    let mut driven = given_to_a_person(", limits: { time: PT1H }");
    driven.refold();
    let (ask, call) = driven.asked();
    assert_eq!(call.function, "approve");
    assert_eq!(call.input["role"], "maintenance");
    let shown = json!({"agent": "scout", "goal": "find it", "case": "the fan is stuck",
        "answer": "the comment becomes what the agent came to"});
    assert_eq!(call.input["proposal"], shown);
    assert_eq!((call.label.class, &call.label.origins), (DataClass::Confidential, &["CH".to_owned()].into()));
    assert_eq!(call.deadline, Some(Timestamp::from_micros(T0 + 600_000_000)), "not the agent's hour");
    assert_eq!(call.agent.as_ref().map(|agent| &*agent.name), Some("scout"), "who asks");
    let mut late = given_to_a_person(", limits: { time: PT1H }");
    late.after(600_000);
    assert_eq!(ended(&late), (json!("time"), json!(null), json!(1)));
    assert_eq!(late.output()["person"], json!({"role": "maintenance", "verdict": "expired"}));
    assert!(late.effects.contains(&Effect::Withdraw { ask }));
    assert_eq!(
        given_to_a_person(", limits: { time: PT1M }").asked().1.deadline,
        Some(Timestamp::from_micros(T0 + 60_000_000))
    );

    driven.complete(answer("replace the bearing"));
    assert_eq!(ended(&driven), (json!("person"), json!("replace the bearing"), json!(1)));
    let output = driven.output();
    assert_eq!((&output["person"]["by"], &output["toolCalls"]), (&json!("ann"), &json!(1)));
    assert_eq!(driven.state.label().class, DataClass::Confidential, "what they said is as confidential");
    let schema = ", schema: { type: object, required: [cause] }";
    let mut driven = given_to_a_person(schema);
    assert_eq!(driven.asked().1.input["proposal"]["answer"]["schema"]["required"], json!(["cause"]));
    driven.complete(answer("{\"cause\": \"bearing\"}"));
    assert_eq!(ended(&driven).1, json!({"cause": "bearing"}));
    let mut driven = given_to_a_person(schema);
    driven.complete(answer("the bearing"));
    let error = driven.error();
    assert_eq!(
        (error.status, error.detail.as_deref()),
        (400, Some("ann's answer to the case of the agent scout does not fit its schema: it is not JSON"))
    );
}

#[test]
fn a_run_that_rests_puts_off_what_a_person_and_the_agent_have_until() {
    let mut driven = given_to_a_person(", limits: { time: PT1H }");
    driven.after(60_000);
    driven.command(Command::Suspend);
    driven.after(3_600_000);
    driven.command(Command::Resume);
    let (_, call) = driven.asked();
    let performed = driven.state.performed(driven.asked().0).expect("it waits");
    assert_eq!(
        (call.function.as_str(), performed.deadline),
        ("approve", Some(Timestamp::from_micros(T0 + 4_200_000_000)))
    );
    driven.fail(kind::AUTHORIZATION);
    assert_eq!(driven.asked().1.deadline, Some(Timestamp::from_micros(T0 + 7_200_000_000)), "the agent's own hour");
}

#[test]
fn the_last_turn_may_give_the_case_to_a_person() {
    let driven = given_to_a_person(", limits: { turns: 1 }");
    assert_eq!(step(&driven).1, "approve");
    let mut driven = given_to_a_person(", limits: { turns: 1 }");
    driven.fail(kind::AUTHORIZATION);
    assert_eq!(ended(&driven).0, "turns", "for a model there is nothing left");
}

#[test]
fn an_agent_that_may_not_give_its_case_to_a_person_goes_on_with_it() {
    let mut driven = given_to_a_person("");
    driven.fail(kind::AUTHORIZATION);
    assert_eq!(step(&driven).1, "chat");
    assert!(last_told(&driven).starts_with("error"), "{}", last_told(&driven));
    assert_eq!(driven.asked().1.deadline, None, "the person's ten minutes are not the agent's");
    assert_eq!(driven.state.label().class, DataClass::Public, "it was never a person's");
    driven.complete(says("I cannot tell"));
    assert_eq!(ended(&driven).0, "done");
}

#[test]
fn a_list_that_cannot_be_is_an_error_before_anything_is_asked() {
    for (tools, wanted) in [
        ("[retriev]", "tools[0]: \"retriev\" is no built-in function"),
        ("[agent]", "no built-in function that an agent may call"),
        ("[retrieve, retrieve]", "two tools are called \"retrieve\""),
        ("[{ workflow: check }]", "expected `namespace/name`"),
        ("[{ mcp: { tool: a } }]", "missing `transport`"),
        ("[{ function: retrieve, workflow: a/b }]", "exactly one of"),
    ] {
        let text = format!("do: [{{ solve: {{ call: agent, with: {{ name: a, goal: b, tools: {tools} }} }} }}]");
        let driven = Driven::start(&text, json!({}));
        let detail = driven.error().detail.expect("told");
        assert!(detail.contains(wanted), "{tools}: {detail}");
        assert!(driven.effects.is_empty());
    }
}

#[test]
fn all_that_is_wrong_with_a_list_is_told_before_it_is_used() {
    for (tools, wanted) in [
        ("[retrieve, { function: nosuch }]", "/with/tools/1: \"nosuch\" is no built-in function"),
        ("[retrieve, retrieve]", "/with/tools/1: two tools are called \"retrieve\""),
        ("[{ person: { role: a }, function: embed }]", "/with/tools/0: expected exactly one of"),
        (
            "[{ agent: { name: b, goal: '${ .g }', tools: [{ workflow: plain }] } }]",
            "/with/tools/0/agent/tools/0: \"plain\" is no workflow",
        ),
        ("[{ agent: { name: b, goal: c, tools: [nosuch] } }]", "/with/tools/0/agent/tools/0: \"nosuch\""),
        ("[{ agent: { name: b, goal: c, tool: [] } }]", "/with/tools/0/agent/tool: unknown field `tool`"),
        ("[{ person: { role: a }, parameters: { type: object } }]", "missing the property `case`"),
    ] {
        for goal in ["g", "${ .goal }"] {
            let text =
                format!("do: [{{ solve: {{ call: agent, with: {{ name: a, goal: '{goal}', tools: {tools} }} }} }}]");
            let found = support::check("w.yaml", &workflow(&text)).expect_err("told").to_string();
            assert!(found.contains(wanted), "{tools}: {found}");
            assert_eq!(found.lines().count(), 1, "{tools}: {found}");
        }
    }
    let fine = "do: [{ solve: { call: agent, with: { name: a, goal: '${ .goal }', tools: [retrieve, '${ .tool }', { person: { role: '${ .r }' } }] } } }]";
    assert_eq!(support::check("w.yaml", &workflow(fine)), Ok(()));
    // What the language finds does not hide it.
    let head = "document: { dsl: '1.0.3', namespace: t, name: w, version: '0.1.0' }\n";
    let told = |with: &str| {
        let text = format!("{head}do:\n- a: {{ call: agent, with: {{ name: s, goal: g, {with} }} }}\n");
        support::read("w.yaml", &text, &|_| None).expect_err("told").to_string()
    };
    let found = told("tools: [retriev, { mcp: { tool: a } }, 5]");
    let places: Vec<_> = found.lines().map(|line| line.split(": ").nth(1).unwrap_or_default()).collect();
    assert_eq!(places, ["/do/0/a/with/tools/0", "/do/0/a/with/tools/1", "/do/0/a/with/tools/2"], "{found}");
    let found = told("tools: [retriev], limits: { turns: 0, time: PT }");
    assert_eq!(found.lines().count(), 3, "{found}");
}

#[test]
fn an_agent_stands_in_loops_and_branches_and_its_failure_is_caught() {
    let text = "do: [{ all: { for: { in: '${ [1, 2] }' }, do: [{ attempt: { try: [{ solve: { call: agent, with: { name: a, goal: b } } }], \
        catch: { do: [{ give: { set: { gave: up } } }] } } }] } }]";
    let mut driven = Driven::start(text, json!({}));
    driven.fail(kind::COMMUNICATION);
    assert_eq!(
        driven.asked().1.key.0.split_once(':').expect("a place").1,
        "/do/0/all#1/do/0/attempt/try/0/solve/turn/0"
    );
    driven.complete(says("well"));
    assert_eq!(ended(&driven).1, "well");
}

/// One run to its end; with `cut` the state is folded anew after every single record, as a kill there would.
fn whole(cut: bool) -> (Vec<Record>, Vec<Effect>) {
    let answers = [
        wants(&[("retrieve", json!({"query": "a"})), ("nothing", json!({})), ("publish", json!({"payload": 2}))]),
        json!({"passages": [{"text": "x"}]}),
        json!({"topic": "t"}),
        wants(&[("retrieve", json!({"query": "a"}))]),
        wants(&[("check", json!({}))]),
        json!({"fine": true}),
        says("not JSON"),
        says("{\"a\": 1}"),
    ];
    let mut driven = Driven::start(&agent(", schema: { type: object }"), json!({}));
    for answer in answers {
        if cut {
            driven.refold();
        }
        driven.complete(answer);
    }
    assert_eq!(ended(&driven), (json!("done"), json!({"a": 1}), json!(5)));
    (driven.records, driven.effects)
}

#[test]
fn whatever_was_kept_the_run_goes_on_from_there_and_asks_nothing_twice() {
    let (records, effects) = whole(false);
    assert_eq!((&records, &effects), (&whole(true).0, &whole(true).1));
    let keys: Vec<_> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Call { call, .. } => Some(call.key.0.clone()),
            _ => None,
        })
        .collect();
    let mut unique = keys.clone();
    unique.sort();
    unique.dedup();
    assert_eq!((keys.len(), unique.len()), (8, 8), "{keys:?}");
    // Every step is one transaction, so a kill leaves a prefix of whole steps; the fold itself takes any prefix.
    let text = serde_json::to_string(&records).expect("records are plain data");
    let read: Vec<Record> = serde_json::from_str(&text).expect("they read as they were written");
    let workflow = workflow(&agent(", schema: { type: object }"));
    for end in 0..=read.len() {
        let mut state = State::new(RunId::derive(Timestamp::from_micros(T0), b"test"), Arc::clone(&workflow));
        read[..end].iter().for_each(|record| state.apply(record));
        assert!(state.asked().count() <= 1, "after {end} records");
    }
}

#[test]
fn what_an_agent_works_on_may_be_treated_more_strictly_and_never_less() {
    let confidential = "{ class: confidential, origins: [CH] }";
    let mut driven = Driven::start(&agent(&format!(", label: {confidential}")), json!({}));
    assert_eq!(driven.asked().1.label.class, DataClass::Confidential);
    driven.refold();
    assert_eq!(driven.asked().1.label.origins, ["CH".to_owned()].into());
    let expert = format!("{{ agent: {{ name: expert, goal: 'look closer', label: {confidential} }} }}");
    let text = agent("").replace("{ workflow: plant/check, name: check }", &expert);
    let mut driven = Driven::start(&text, json!({}));
    assert_eq!(driven.asked().1.label.class, DataClass::Public);
    driven.complete(wants(&[("handoff_expert", json!({"case": "the fan is stuck"}))]));
    assert_eq!(driven.asked().1.label.class, DataClass::Confidential, "from the hand-over on");
    driven.complete(says("done"));
    assert_eq!(driven.state.label().class, DataClass::Confidential);
}

#[test]
fn what_was_said_is_recorded_once_and_asked_as_a_whole() {
    let long = "x".repeat(4_000);
    let journal = |turns: usize| {
        let mut driven = Driven::start(&agent(", limits: { turns: 64 }"), json!({}));
        for turn in 0..turns {
            driven.complete(wants(&[("retrieve", json!({"query": format!("q{turn}")}))]));
            driven.complete(json!(long));
        }
        let before = driven.asked().1;
        assert_eq!(before.input["messages"].as_array().map(Vec::len), Some(2 + 2 * turns));
        driven.refold();
        assert_eq!(driven.asked().1, before, "after a restart too");
        serde_json::to_string(&driven.records).unwrap().len()
    };
    let (few, many) = (journal(8), journal(32));
    assert!(many < 5 * few, "{few} bytes for 8 turns, {many} for 32: each turn adds what was said in it");
}

mod budget;
