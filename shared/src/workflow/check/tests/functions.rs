//! Calls of functions that are not there, or do not take what they are given.

use super::*;

#[test]
fn a_function_that_is_not_there() {
    let known = "agent, approve, asyncapi, classify, embed, forget, grpc, guard, http, infer, mcp, openapi, publish, query, remember, rerank, \
                 retrieve, train, upsert";
    assert_eq!(
        problems("do:\n  - a: { call: infr }\n"),
        format!("3:16: /do/0/a/call: there is no function `infr`: expected one of {known}")
    );
    assert_eq!(
        problems("use: { functions: { diagnose: { wait: PT1S } } }\ndo:\n  - a: { call: diagnos }\n"),
        format!(
            "4:16: /do/0/a/call: there is no function `diagnos`: expected one of {known}, or of `use.functions`: diagnose"
        )
    );
    assert_eq!(
        problems("do:\n  - a: { call: 'infer:2.0.0@default', with: { prompt: x } }\n"),
        "3:16: /do/0/a/call: there is no version 2.0.0 of `infer`: expected 1.0.0"
    );
    assert_eq!(
        problems("do:\n  - a: { call: 'infer:1.0.0@mine', with: { prompt: x } }\n"),
        "3:16: /do/0/a/call: catalog `mine` is not defined: expected `default`, or a name under `use.catalogs`"
    );
}

#[test]
fn a_function_that_only_calls_itself() {
    let functions =
        |functions: &str| problems(&format!("use: {{ functions: {{ {functions} }} }}\ndo:\n  - a: {{ call: f }}\n"));
    let endless = "calls itself without end: expected a task that it performs";
    assert_eq!(
        functions("f: { call: f }"),
        format!("2:32: /use/functions/f/call: `f` {endless}\n4:16: /do/0/a/call: `f` {endless}")
    );
    assert!(functions("f: { call: g }, g: { call: f }").contains(endless));
    assert_eq!(functions("f: { call: g }, g: { wait: PT1S }"), "");
    assert_eq!(functions("f: { if: .again, call: f }"), "");
}

#[test]
fn an_agents_tools_are_told_apart() {
    let given = |tool: &str| {
        problems(&format!("do:\n  - a: {{ call: agent, with: {{ name: a, goal: b, tools: [{tool}] }} }}\n"))
    };
    assert_eq!(given("retrieve, { person: { role: boss, limits: { time: PT1H } } }"), "");
    assert_eq!(
        given("{ person: { title: Look } }"),
        "3:67: /do/0/a/with/tools/0/person: `agent`: missing field `role`"
    );
    let told =
        "3:97: /do/0/a/with/tools/0/person/limits/time: `agent`: found \"soon\", expected a duration such as PT5M";
    assert_eq!(given("{ person: { role: boss, limits: { time: soon } } }"), told);
    assert_eq!(given("3"), "3:57: /do/0/a/with/tools/0: `agent`: found 3, expected a string or an object");
}

#[test]
fn arguments_that_a_function_does_not_take() {
    assert_eq!(
        problems("do:\n  - a:\n      call: publish\n      with: { topic: alarms, payloud: 1, qos: 3 }\n"),
        "5:13: /do/0/a/with: `publish`: missing field `payload`\n\
         5:30: /do/0/a/with/payloud: `publish`: unknown field `payloud`, expected one of `topic`, `payload`, `qos`, `retain`\n\
         5:47: /do/0/a/with/qos: `publish`: 3 is not one of 0, 1, 2"
    );
    assert_eq!(
        problems("do:\n  - a: { call: infer, with: { model: x } }\n"),
        "3:29: /do/0/a/with: `infer`: expected exactly one of `prompt`, `messages`; found none"
    );
    for (call, told) in [
        ("rerank, with: { query: x, passages: all }", "passages: `rerank`: found \"all\", expected a list"),
        ("upsert, with: { collection: c, key: k, rows: [1] }", "rows/0: `upsert`: found 1, expected an object"),
        ("publish, with: { topic: 'a/#', payload: 1 }", "topic: `publish`: found \"a/#\", expected a topic that"),
        (
            "mcp, with: { method: tools/list, transport: {}, timeout: soon }",
            "timeout: `mcp`: found \"soon\", expected a dur",
        ),
        (
            "mcp, with: { method: tools/list, transport: {}, timeout: { second: 1 } }",
            "timeout/second: `mcp`: unknown field",
        ),
    ] {
        let found = problems(&format!("do:\n  - a: {{ call: {call} }}\n"));
        assert!(found.lines().any(|line| line.contains(&format!(": /do/0/a/with/{told}"))), "{call}: {found}");
    }
    let schema =
        "input: { schema: { document: { type: object, required: [n], properties: { n: { type: integer } } } } }";
    let given = |with: &str| {
        problems(&format!(
            "use: {{ functions: {{ f: {{ {schema}, set: {{ x: 1 }} }} }} }}\ndo:\n  - a: {{ call: f, with: {with} }}\n"
        ))
    };
    assert_eq!(given("{ n: many }"), "4:30: /do/0/a/with/n: `f`: found \"many\", expected a whole number");
    assert_eq!(given("{ m: 1 }"), "4:25: /do/0/a/with: `f`: missing field `n`");
    assert_eq!(given("{ n: '${ .n }' }"), "");
    // What an expression gives is not known before it runs.
    assert_eq!(
        problems(
            "do:\n  - a: { call: publish, with: { topic: '${ .t }', payload: 1, qos: '${ .q }', retain: '${ .r }' } }\n"
        ),
        ""
    );
}

#[test]
fn functions_and_schemas_of_the_bundle_become_part_of_the_workflow() {
    let text = format!(
        "{HEAD}use: {{ catalogs: {{ mine: {{ endpoint: 'https://c.example/x' }} }} }}\n\
         input: {{ schema: {{ resource: {{ endpoint: schemas/in.json }} }} }}\n\
         do:\n  - a: {{ call: 'log:1.0.0@mine', with: {{ n: 1 }} }}\n  - b: {{ call: 'https://c.example/f.yaml' }}\n"
    );
    let unlinked = Workflow::parse("w.yaml", &text).unwrap();
    let missing: Vec<_> = unlinked.missing().iter().map(|m| (m.pointer.as_str(), m.path.as_str())).collect();
    let expected = [
        ("/input/schema", "schemas/in.json"),
        ("/do/0/a/call", "catalogs/mine/functions/log/1.0.0/function.yaml"),
        ("/do/1/b/call", "catalogs/c.example/f.yaml"),
    ];
    assert_eq!(missing, expected);
    let read = |path: &str| match path {
        "schemas/in.json" => Some("{\"type\": \"object\", \"required\": [\"k\"]}".to_owned()),
        "catalogs/mine/functions/log/1.0.0/function.yaml" => Some("call: 'deep:2.0.0@mine'\n".to_owned()),
        "catalogs/mine/functions/deep/2.0.0/function.yaml" => Some("set: { x: '${ .n }' }\n".to_owned()),
        "catalogs/c.example/f.yaml" => Some("wait: PT1S\n".to_owned()),
        _ => None,
    };
    let linked = Workflow::link("w.yaml", &text, &read).unwrap();
    assert!(linked.missing().is_empty() && linked.digest() != unlinked.digest());
    assert_eq!(linked.definition().linked.len(), 3);
    assert_eq!(linked.schema("/input/schema").unwrap().mismatches(&serde_json::json!({})).len(), 1);
    // The text alone is enough to have all of it again.
    let again = Workflow::parse("w.yaml", linked.text()).unwrap();
    assert_eq!((again.digest(), again.missing().len()), (linked.digest(), 0));
    let broken = |path: &str| read(path).map(|text| text.replace("PT1S", "soon"));
    let problems = Workflow::link("w.yaml", &text, &broken).unwrap_err().to_string();
    assert!(problems.starts_with("catalogs/c.example/f.yaml:1:7: /wait: \"soon\" is not a duration"), "{problems}");
}
