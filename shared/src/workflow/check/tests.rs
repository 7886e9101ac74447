//! One test for each kind of mistake: the exact words, and the place that they point at.

use crate::workflow::Workflow;

const HEAD: &str = "document: { dsl: '1.0.3', namespace: plant, name: pumps, version: '1.0.0' }\n";

/// The problems of a document that begins with `HEAD`, one a line.
fn problems(rest: &str) -> String {
    match Workflow::parse("workflows/pumps.yaml", &format!("{HEAD}{rest}")) {
        Ok(_) => String::new(),
        Err(problems) => problems.to_string().replace("workflows/pumps.yaml:", ""),
    }
}

fn whole(text: &str) -> String {
    Workflow::parse("w.yaml", text).unwrap_err().to_string()
}

#[test]
fn a_good_workflow_has_its_expressions_compiled() {
    let text = format!("{HEAD}do:\n  - a: {{ set: {{ x: '${{ .y + $context.z }}' }} }}\n");
    let workflow = Workflow::parse("w.yaml", &text).unwrap();
    let variable = |name: &str| (name == "context").then(|| serde_json::json!({"z": 2}));
    let filled = workflow.expressions().evaluate("${ .y + $context.z }", &serde_json::json!({"y": 1}), &variable);
    assert_eq!(filled, Ok(serde_json::json!(3)));
}

#[test]
fn text_that_is_no_yaml() {
    assert_eq!(whole("document: {\n"), "w.yaml:2:1: did not find expected node content");
    assert_eq!(whole("- a\n- b\n"), "w.yaml:1:1: expected a workflow: an object with `document` and `do`");
}

#[test]
fn a_key_that_is_missing_unknown_or_there_twice() {
    assert_eq!(problems(""), "1:1: missing field `do`");
    assert_eq!(
        problems("do:\n  - a: { set: { x: 1 } }\nretries: {}\n"),
        "4:1: /retries: unknown field `retries`, expected one of `document`, `input`, `use`, `do`, `timeout`, `output`, \
         `schedule`, `evaluate`"
    );
    assert_eq!(problems("do: []\ndo: []\n"), "3:1: `do` is here twice: keep one");
    assert_eq!(
        problems("do:\n  - a: { set: { x: 1 }, then: }\n"),
        "3:25: /do/0/a/then: `null` is not allowed here: leave the key out"
    );
}

#[test]
fn a_list_where_an_object_belongs() {
    let rest = "do:\n  - a: { set: { x: 1 }, output: [] }\n";
    assert_eq!(problems(rest), "3:25: /do/0/a/output: expected an object");
}

#[test]
fn a_task_that_is_no_task() {
    let keys = "call, do, emit, for, fork, listen, raise, run, set, switch, try, wait";
    assert_eq!(
        problems("do:\n  - a: { then: end }\n"),
        format!("3:8: /do/0/a: a task needs exactly one of the keys {keys}; found none")
    );
    assert_eq!(
        problems("do:\n  - a:\n      set: { x: 1 }\n      wait: PT1S\n"),
        format!("4:7: /do/0/a: a task needs exactly one of the keys {keys}; found set and wait")
    );
    assert_eq!(
        problems("do:\n  - a: { set: { x: 1 }, with: { y: 1 } }\n"),
        "3:8: /do/0/a: `with` goes with `call` only, and this task is a `set`"
    );
    assert_eq!(
        problems("do:\n  - a: { set: { x: 1 } }\n    b: { set: { x: 1 } }\n"),
        "3:5: /do/0: expected an object with one key, the name; found `a` and `b`: is the second one meant to be an entry \
         of its own (`- b:`) or to be indented under `a`?"
    );
    assert_eq!(
        problems("do:\n  - a: { try: [] }\n"),
        "3:8: /do/0/a: `try` needs `catch`, what to do with errors (`catch: {}` takes them all)"
    );
    assert_eq!(
        problems("do:\n  - a: { listen: { to: { one: { with: { type: a } }, all: [] } } }\n"),
        "3:24: /do/0/a/listen/to: the events to wait for need exactly one of `one`, `any` and `all`"
    );
}

#[test]
fn a_value_of_the_wrong_kind() {
    assert_eq!(
        problems("do:\n  - a: { wait: 5 }\n"),
        "3:16: /do/0/a/wait: invalid type: integer `5`, expected a duration: an object such as { minutes: 5 }, ISO 8601 such as PT5M, or an expression"
    );
    assert_eq!(
        problems("do:\n  - a: { wait: 5M }\n"),
        "3:16: /do/0/a/wait: \"5M\" is not a duration: expected ISO 8601 such as PT5M, or an object such as {\"minutes\": 5}"
    );
    assert_eq!(
        problems("do:\n  - a: { wait: { minute: 5 } }\n"),
        "3:18: /do/0/a/wait/minute: unknown field `minute`, expected one of `days`, `hours`, `minutes`, `seconds`, `milliseconds`"
    );
    assert_eq!(
        problems("do:\n  - a: { if: true, set: { x: 1 } }\n"),
        "3:14: /do/0/a/if: invalid type: boolean `true`, expected a string"
    );
}

#[test]
fn what_the_document_says_of_itself() {
    let document = |fields: &str| whole(&format!("document: {{ {fields} }}\ndo: []\n"));
    assert_eq!(
        document("dsl: '2.0.0', namespace: a, name: b, version: '1.0.0'"),
        "w.yaml:1:18: /document/dsl: version \"2.0.0\" of the language is not supported: expected 1.0.x, such as 1.0.3"
    );
    assert_eq!(
        document("dsl: '1.0.3', namespace: a, name: b c, version: '1'"),
        "w.yaml:1:47: /document/name: \"b c\" is no name: expected 1 to 63 letters, digits and -, with none of - at the ends\n\
         w.yaml:1:61: /document/version: \"1\" is no version: expected a semantic version such as 1.0.0"
    );
    assert_eq!(
        document("dsl: '1.0.3', namespace: a, name: b, version: 1.0"),
        "w.yaml:1:59: /document/version: invalid type: floating point `1.0`, expected a string"
    );
}

#[test]
fn a_target_that_is_not_there() {
    assert_eq!(
        problems("do:\n  - a: { set: { x: 1 }, then: c }\n  - b: { set: { x: 1 } }\n"),
        "3:31: /do/0/a/then: there is no task `c` in this list: expected continue, exit, end or a task of this list (a, b)\n\
         4:5: /do/1/b: nothing leads to this task: expected a `then` that names it, or a task before it that goes on"
    );
    assert_eq!(
        problems(
            "do:\n  - a:\n      switch:\n        - one: { when: .x, then: inner }\n        - two: { then: b }\n  - b: { do: [ inner: { set: { x: 1 } } ] }\n"
        ),
        "5:34: /do/0/a/switch/0/one/then: there is no task `inner` in this list: expected continue, exit, end or a task of this list (a, b)"
    );
}

#[test]
fn a_task_that_nothing_reaches() {
    let unreached = "nothing leads to this task: expected a `then` that names it, or a task before it that goes on";
    assert_eq!(
        problems("do:\n  - a: { set: { x: 1 }, then: end }\n  - b: { set: { x: 1 } }\n"),
        format!("4:5: /do/1/b: {unreached}")
    );
    assert_eq!(problems("do:\n  - a: { if: .x, set: { x: 1 }, then: end }\n  - b: { set: { x: 1 } }\n"), "");
    assert_eq!(
        problems(
            "do:\n  - a: { switch: [ x: { when: .x, then: c }, d: { then: end } ] }\n  - b: { wait: PT1S }\n  - c: { wait: PT1S }\n"
        ),
        format!("4:5: /do/1/b: {unreached}")
    );
    assert_eq!(
        problems(
            "do:\n  - a: { switch: [ x: { when: .x, then: c } ] }\n  - b: { wait: PT1S }\n  - c: { wait: PT1S }\n"
        ),
        ""
    );
}

#[test]
fn two_tasks_of_one_name() {
    assert_eq!(
        problems("do:\n  - a: { wait: PT1S }\n  - a: { wait: PT1S }\n  - exit: { wait: PT1S }\n"),
        "4:5: /do/1/a: another task of this list has the same name: expected a name of its own\n\
         5:5: /do/2/exit: this name is a word of the language: expected another"
    );
}

#[test]
fn an_expression_that_does_not_compile() {
    assert_eq!(
        problems("do:\n  - a:\n      set:\n        x: '${ .a | }'\n"),
        "5:12: /do/0/a/set/x: the expression does not compile: expected a term, found the end at character 5 of the expression"
    );
    assert_eq!(
        problems("do:\n  - a: { if: nope, set: { x: 1 } }\n"),
        "3:14: /do/0/a/if: the expression does not compile: `nope` with 0 arguments is no function of jq"
    );
    assert_eq!(
        problems("do:\n  - a: { set: { x: '${ now }', y: '${ [range(1e9)] }' } }\n"),
        "3:20: /do/0/a/set/x: the expression does not compile: `now` may not be used: the time must come from the run, as \
         `$workflow.startedAt` or `$task.startedAt`\n\
         3:35: /do/0/a/set/y: the expression does not compile: `range` never ends here: expected at most 100000 numbers"
    );
}

#[test]
fn an_expression_in_the_middle_of_a_text() {
    let mixed = "an expression must be the whole text: expected ${ .. } with the text around it inside, as in ${ \"value \\(.x)\" }";
    assert_eq!(
        problems("do:\n  - a: { set: { x: 'pump ${ .name } stands' } }\n"),
        format!("3:20: /do/0/a/set/x: {mixed}")
    );
    assert!(
        problems("do:\n  - a: { set: { x: '${ .a } and ${ .b }' } }\n")
            .starts_with(&format!("3:20: /do/0/a/set/x: {mixed}"))
    );
    assert_eq!(problems("do:\n  - a: { run: { shell: { command: 'echo ${HOME}' } } }\n"), "");
}

#[test]
fn a_variable_that_is_not_known_where_it_stands() {
    assert_eq!(
        problems("do:\n  - a: { if: $input.x, set: { x: '${ $item }' } }\n"),
        "3:14: /do/0/a/if: `$input` is not known here: expected one of $authorization, $context, $runtime, $secrets, $task, \
         $workflow\n\
         3:34: /do/0/a/set/x: `$item` is not known here: expected one of $authorization, $context, $input, $runtime, \
         $secrets, $task, $workflow"
    );
    let in_loop =
        "do:\n  - a: { for: { each: pump, in: .pumps }, while: $index < 3, do: [ b: { set: { x: '${ $pump }' } } ] }\n";
    assert_eq!(problems(in_loop), "");
    let in_catch = "do:\n  - a: { try: [ b: { wait: PT1S } ], catch: { as: e, when: $e.status == 1, do: [ c: { set: '${ $e }' } ] } }\n";
    assert_eq!(problems(in_catch), "");
    assert!(problems(&in_catch.replace("$e }", "$error }")).contains("`$error` is not known here"));
}

#[test]
fn a_name_under_use_that_is_not_there() {
    let rest = "use: { errors: { late: { type: x, status: 408 } } }\ndo:\n  - a: { raise: { error: lat } }\n";
    assert_eq!(problems(rest), "4:26: /do/0/a/raise/error: error `lat` is not defined: `use.errors` has late");
    let rest = "do:\n  - a: { try: [ b: { wait: PT1S, timeout: long } ], catch: { retry: soon } }\n";
    assert_eq!(
        problems(rest),
        "3:43: /do/0/a/try/0/b/timeout: timeout `long` is not defined: `use.timeouts` has none\n\
         3:69: /do/0/a/catch/retry: retry `soon` is not defined: `use.retries` has none"
    );
}

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
fn an_agents_tools_are_told_apart() {
    let given = |tool: &str| {
        problems(&format!("do:\n  - a: {{ call: agent, with: {{ name: a, goal: b, tools: [{tool}] }} }}\n"))
    };
    assert_eq!(given("retrieve, { person: { role: boss, limits: { time: PT1H } } }"), "");
    assert_eq!(given("{ person: { title: Look } }"), "3:67: /do/0/a/with/tools/0/person: `agent`: missing key `role`");
    let told = "3:97: /do/0/a/with/tools/0/person/limits/time: `agent`: \"soon\" is not a \"duration\"";
    assert_eq!(given("{ person: { role: boss, limits: { time: soon } } }"), told);
    assert_eq!(given("3"), "3:57: /do/0/a/with/tools/0: `agent`: 3 is not of types \"string\", \"object\"");
}

#[test]
fn arguments_that_a_function_does_not_take() {
    assert_eq!(
        problems("do:\n  - a:\n      call: publish\n      with: { topic: alarms, payloud: 1, qos: 3 }\n"),
        "5:13: /do/0/a/with: `publish`: missing key `payload`\n\
         5:30: /do/0/a/with/payloud: `publish`: unknown key `payloud`, expected one of `topic`, `payload`, `qos`, `retain`\n\
         5:47: /do/0/a/with/qos: `publish`: 3 is not one of 0, 1, 2"
    );
    assert_eq!(
        problems("do:\n  - a: { call: infer, with: { model: x } }\n"),
        "3:29: /do/0/a/with: `infer`: expected exactly one of `prompt`, `messages`; found none"
    );
    // What an expression gives is not known before it runs.
    assert_eq!(
        problems(
            "do:\n  - a: { call: publish, with: { topic: '${ .t }', payload: 1, qos: '${ .q }', retain: '${ .r }' } }\n"
        ),
        ""
    );
}

#[test]
fn a_schedule_that_cannot_be() {
    let tasks = "do:\n  - a: { wait: PT1S }\n";
    assert_eq!(
        problems(&format!("schedule: {{ cron: '61 * * * *' }}\n{tasks}")).split(';').next(),
        Some(
            "2:19: /schedule/cron: \"61 * * * *\" is no cron expression: expected five fields such as `15 2 * * *` (minute, hour, day, month, weekday)"
        )
    );
    assert_eq!(
        problems(&format!("schedule: {{}}\n{tasks}")),
        "2:11: /schedule: a schedule needs at least one of `every`, `cron`, `after` and `on`"
    );
    assert_eq!(
        problems(&format!("schedule: {{ every: PT0S }}\n{tasks}")),
        "2:20: /schedule/every: expected a duration longer than zero"
    );
    assert_eq!(
        problems(&format!(
            "schedule: {{ on: {{ one: {{ with: {{ type: a, data: '${{ .x > $context.y }}' }} }} }} }}\n{tasks}"
        )),
        "2:49: /schedule/on/one/with/data: `$context` is not known here: expected no variable"
    );
}

#[test]
fn a_pattern_of_an_event_that_is_none() {
    let listen =
        |kind: &str| format!("do:\n  - a: {{ listen: {{ to: {{ one: {{ with: {{ type: '{kind}' }} }} }} }} }}\n");
    assert!(
        problems(&listen("^a("))
            .starts_with("3:47: /do/0/a/listen/to/one/with/type: this begins with ^ and is no regular")
    );
    assert_eq!(problems(&listen("^com[.]plant[.].*")), "");
}

#[test]
fn a_schema_that_is_none() {
    let rest = "input: { schema: { document: { type: thing } } }\ndo:\n  - a: { wait: PT1S }\n";
    assert!(problems(rest).starts_with("2:30: /input/schema/document: this is no JSON schema: "), "{}", problems(rest));
    let rest = "input: { schema: { format: avro, document: {} } }\ndo:\n  - a: { wait: PT1S }\n";
    assert_eq!(
        problems(rest),
        "2:28: /input/schema/format: schemas of format \"avro\" are not supported: expected json"
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

#[test]
fn everything_wrong_is_told_at_once_up_to_a_limit() {
    let tasks: String = (0..80).map(|n| format!("  - t{n}: {{ if: nope, wait: PT1S }}\n")).collect();
    assert_eq!(problems(&format!("do:\n{tasks}")).lines().count(), 50);
}

#[test]
fn a_secret_that_is_not_declared_and_one_that_is_used_as_a_value() {
    let task = "do:\n  - a: { set: { x: '${ \"Bearer \" + $secrets.api.key }' } }\n";
    assert_eq!(problems(task), "3:20: /do/0/a/set/x: secret `api` is not defined: `use.secrets` has none");
    assert_eq!(problems(&format!("use: {{ secrets: [ api ] }}\n{task}")), "");
    let whole = "use: { secrets: [ api ] }\ndo:\n  - a: { set: { x: '${ $secrets | tojson }' } }\n";
    assert!(
        problems(whole)
            .starts_with("4:20: /do/0/a/set/x: the expression does not compile: `$secrets` is not a value of its own")
    );
    let call = "use: { secrets: [ api ] }\ndo:\n  - a: { call: mcp, with: { method: tools/list, transport: { http: { endpoint: { uri: 'http://h', \
                authentication: { bearer: { use: other } } } } } } }\n";
    assert_eq!(
        problems(call),
        "4:132: /do/0/a/with/transport/http/endpoint/authentication/bearer/use: secret `other` is not defined: `use.secrets` has api"
    );
    assert!(problems("do:\n  - a: { set: { x: \"\\U0010FFF8api\\U0010FFF9\" } }\n").contains("reserved"));
}
