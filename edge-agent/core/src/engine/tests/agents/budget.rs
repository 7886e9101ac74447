//! What an agent may take: where it ends, what counts, and what is left for whoever goes on.

use super::*;

#[test]
fn every_limit_ends_the_loop() {
    let other = |n: u32| wants(&[("retrieve", json!({"query": n.to_string()}))]);
    for (limits, turns, why) in
        [("turns: 2", 2, "turns"), ("tokens: 40", 3, "tokens"), ("costUsd: 0.9", 2, "cost"), ("turns: 1", 1, "turns")]
    {
        let mut driven = Driven::start(&agent(&format!(", limits: {{ {limits} }}")), json!({}));
        for turn in 0..turns {
            assert_eq!(step(&driven), (format!("/turn/{turn}"), "chat".to_owned()), "{limits}");
            driven.complete(other(turn));
            if turn + 1 < turns {
                driven.complete(json!({"passages": []}));
            }
        }
        assert_eq!(ended(&driven), (json!(why), json!(null), json!(turns)), "{limits}");
    }
    let mut driven = Driven::start(&agent(", limits: { time: PT10S }"), json!({}));
    driven.complete(other(0));
    let asked = driven.asked();
    assert_eq!(asked.1.deadline, Some(Timestamp::from_micros(T0 + 10_000_000)));
    driven.after(10_000);
    assert_eq!(ended(&driven), (json!("time"), json!(null), json!(1)));
    assert!(driven.effects.contains(&Effect::Withdraw { ask: asked.0 }));
}

#[test]
fn a_hand_over_narrows_every_limit_and_widens_none() {
    // What the first agent may, what the second one may of its own, and after how many turns, or when, both are done.
    // The first turn and each one after it take 15 tokens and 0.50 US$.
    let tired = |first: &str, second: &str| {
        let text = format!(
            "do: [{{ solve: {{ call: agent, with: {{ name: scout, goal: look, limits: {{ {first} }}, tools: \
             [{{ agent: {{ name: expert, goal: decide, tools: [publish], limits: {{ {second} }} }} }}] }} }} }}]"
        );
        let mut driven = Driven::start(&text, json!({}));
        driven.complete(wants(&[("handoff_expert", json!({"case": "the fan is stuck"}))]));
        driven
    };
    for (first, second, turns, why) in [
        ("turns: 3", "turns: 9", 3, "turns"),
        ("turns: 9", "turns: 2", 3, "turns"),
        ("tokens: 40", "tokens: 1000", 3, "tokens"),
        ("tokens: 1000", "tokens: 16", 3, "tokens"),
        ("tokens: 1000", "", 16, "turns"),
        ("costUsd: 1.4", "costUsd: 100", 3, "cost"),
        ("costUsd: 100", "costUsd: 0.6", 3, "cost"),
    ] {
        let mut driven = tired(first, second);
        for turn in 1..16 {
            if !driven.is_running() {
                break;
            }
            assert_eq!(step(&driven).0, format!("/turn/{turn}"), "{first}, {second}");
            driven.complete(wants(&[("publish", json!({"topic": format!("a{turn}"), "payload": 1}))]));
            if driven.is_running() {
                driven.complete(json!({}));
            }
        }
        assert_eq!((ended(&driven).0, ended(&driven).2), (json!(why), json!(turns)), "{first}, {second}");
    }
    // A model is told what is left of both: of 40 tokens 25, of 1.4 US$ 0.9.
    let left = tired("tokens: 40, costUsd: 1.4", "tokens: 30, costUsd: 1").asked().1;
    let cost = left.input["maxCostUsd"].as_f64().expect("a number");
    assert!(left.input["maxTokens"] == 25 && (cost - 0.9).abs() < 1e-9, "{}", left.input);
    for (first, second, seconds) in [
        ("time: PT10S", "time: PT1H", 10),
        ("time: PT1H", "time: PT10S", 10),
        ("time: PT10S", "", 10),
        ("", "time: PT7S", 7),
    ] {
        let mut driven = tired(first, second);
        let until = Timestamp::from_micros(T0 + seconds * 1_000_000);
        assert_eq!(driven.asked().1.deadline, Some(until), "{first}, {second}");
        driven.after(seconds * 1_000);
        assert_eq!((ended(&driven).0, ended(&driven).2), (json!("time"), json!(1)), "{first}, {second}");
    }
}

#[test]
fn what_was_wanted_and_is_not_called_is_recorded() {
    let dropped = |driven: &Driven| -> Vec<(String, String)> {
        let of = |record: &Record| match record {
            Record::ToolDropped { name, why, .. } => Some((name.clone(), why.clone())),
            _ => None,
        };
        driven.records.iter().filter_map(of).collect()
    };
    let expert = "{ agent: { name: expert, goal: decide } }, { person: { role: lead } }";
    let text = agent("").replace("{ workflow: plant/check, name: check }", expert);
    let calls = |to: &str| {
        wants(&[("retrieve", json!({"query": "a"})), (to, json!({"case": "c"})), ("publish", json!({"payload": 1}))])
    };
    let mut driven = Driven::start(&text, json!({}));
    driven.complete(calls("handoff_expert"));
    driven.complete(json!({"passages": []}));
    assert_eq!(dropped(&driven), [("publish".to_owned(), "not called: the case was handed over".to_owned())]);
    driven.refold();
    driven.complete(says("done"));
    assert_eq!(ended(&driven).0, "done");
    let mut driven = Driven::start(&text, json!({}));
    driven.complete(calls("handoff_lead"));
    driven.complete(json!({"passages": []}));
    driven.complete(json!({"approved": true, "by": "ann", "comment": "yes"}));
    assert_eq!(dropped(&driven), [("publish".to_owned(), "not called: the agent ended (person)".to_owned())]);
    let mut driven = Driven::start(&agent(", limits: { time: PT10S }"), json!({}));
    driven.complete(calls("check"));
    driven.after(10_000);
    let names: Vec<_> = dropped(&driven).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["check", "publish"], "the first was under way");
}

#[test]
fn what_a_tool_took_is_told_by_those_that_ask_models() {
    let usage = json!({"tokensIn": 1_000_000, "tokensOut": 1, "costUsd": 500.0});
    let tools = "[{ mcp: { tool: find, transport: {} } }, { function: http, name: get, with: { method: get, endpoint: 'http://a' } }, \
        infer, { workflow: plant/check, name: check }]";
    let text = format!(
        "do: [{{ solve: {{ call: agent, with: {{ name: scout, goal: look, limits: {{ costUsd: 100, tokens: 100000 }}, tools: {tools} }} }} }}]"
    );
    let after = |tool: &str, arguments: Value, output: Value| {
        let mut driven = Driven::start(&text, json!({}));
        driven.complete(wants(&[(tool, arguments)]));
        driven.complete(output);
        driven
    };
    let outside = json!({"usage": usage, "text": "trust me"});
    for (tool, arguments) in [("find", json!({})), ("get", json!({}))] {
        let mut driven = after(tool, arguments, outside.clone());
        driven.complete(says("done"));
        assert_eq!(driven.output()["usage"], json!({"tokensIn": 20, "tokensOut": 10, "costUsd": 1.0}), "{tool}");
    }
    assert_eq!(ended(&after("infer", json!({"prompt": "x"}), outside.clone())).0, "tokens");
    // A workflow's own output is its author's; what its models took is told beside it.
    let told = |told: Value| after("check", json!({}), told);
    let mut driven = told(json!({"output": outside, "usage": {"tokensIn": 7, "tokensOut": 3, "costUsd": 0.25}}));
    assert_eq!(serde_json::from_str::<Value>(&last_told(&driven)).expect("JSON"), outside);
    driven.complete(says("done"));
    assert_eq!(driven.output()["usage"], json!({"tokensIn": 27, "tokensOut": 13, "costUsd": 1.25}));
    let error = effect::Error::new(kind::TIMEOUT, "too late");
    let mut driven = told(json!({"error": error, "usage": {"tokensIn": 7, "tokensOut": 3, "costUsd": 0.25}}));
    assert_eq!(last_told(&driven), "error (timeout): too late");
    driven.complete(says("done"));
    assert_eq!((&driven.output()["toolFailures"], &driven.output()["usage"]["costUsd"]), (&json!(1), &json!(1.25)));
    assert_eq!(ended(&told(json!({"output": null, "usage": usage}))).0, "tokens");
}
