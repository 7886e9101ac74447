//! One test for each kind of mistake: the exact words, and the place that they point at.

use crate::workflow::{Missing, Workflow, definition::Definition};

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
    assert_eq!(whole("document: {\n"), "w.yaml:2:1: did not find expected node content, while parsing a flow node");
    let expected = "w.yaml:1:1: expected a workflow: an object with `document` and `do`";
    for text in ["- a\n- b\n", "", "# nothing\n", "---\n", "just text\n"] {
        let told = whole(text);
        assert_eq!(
            told.split_once(": ").map(|(_, said)| said),
            expected.split_once(": ").map(|(_, said)| said),
            "{text}"
        );
        assert!(told.starts_with("w.yaml:"), "{told}");
    }
    assert_eq!(
        whole("do:\n- a: { set: { x: 1 }\n- b: 1\n"),
        "w.yaml:3:1: did not find expected ',' or '}', while parsing a flow mapping"
    );
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
fn a_value_is_told_of_in_the_words_of_the_document() {
    let list = "invalid type: an object, expected a list, each entry begun with `- `";
    let status =
        |given: &str| problems(&format!("do:\n  - a: {{ raise: {{ error: {{ type: x, status: {given} }} }} }}\n"));
    for (rest, told) in [
        ("do:\n  a: { set: { x: 1 } }\n".to_owned(), format!("3:3: /do: {list}")),
        (
            "do:\n  - a: { fork: { branches: { b: { set: { x: 1 } } } } }\n".to_owned(),
            format!("3:28: /do/0/a/fork/branches: {list}"),
        ),
        (
            "timeout: { after: { seconds: -5 } }\ndo: []\n".to_owned(),
            "2:30: /timeout/after/seconds: invalid value: integer `-5`, expected a whole number from 0 to 4294967295"
                .to_owned(),
        ),
        (
            "do:\n  - a: { fork: { compete: yes, branches: [] } }\n".to_owned(),
            "3:27: /do/0/a/fork/compete: invalid type: string \"yes\", expected true or false".to_owned(),
        ),
    ] {
        assert_eq!(problems(&rest), told);
    }
    for (given, found) in [
        ("abc", "invalid type: string \"abc\""),
        ("99999", "invalid value: integer `99999`"),
        ("99", "invalid value: integer `99`"),
        ("-1", "invalid type: integer `-1`"),
    ] {
        let told = format!("3:45: /do/0/a/raise/error/status: {found}, expected a status from 100 to 599");
        assert_eq!(status(given), told);
    }
    assert_eq!(status("599"), "");
}

#[test]
fn what_is_wrong_with_the_tasks_for_each_message_is_told_where_it_stands() {
    let call = |tasks: &str| {
        problems(&format!(
            "do:\n  - a:\n      call: asyncapi\n      with:\n        document: {{ endpoint: 'http://h' }}\n        subscription:\n          \
             consume: {{ amount: 1 }}\n          foreach:\n            do:\n              - b: {tasks}\n"
        ))
    };
    let at = "/do/0/a/with/subscription/foreach/do/0/b";
    assert_eq!(
        call("{ wait: 5M }"),
        format!(
            "11:28: {at}/wait: \"5M\" is not a duration: expected ISO 8601 such as PT5M, or an object such as {{\"minutes\": 5}}"
        )
    );
    assert!(call("{ wait: { minute: 5 } }").starts_with(&format!("11:30: {at}/wait/minute: unknown field `minute`")));
    let nested = call("{ call: asyncapi, with: { subscription: { foreach: { do: [{ c: { wait: 5 } }] } } } }");
    assert!(
        nested.contains(&format!(" {at}/with/subscription/foreach/do/0/c/wait: invalid type: integer `5`")),
        "{nested}"
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
    let unclosed = "missing `}`: an expression begins with ${ and ends with }";
    for (text, told) in [("${ .x", unclosed), ("${ .x } tail", mixed)] {
        assert_eq!(
            problems(&format!("do:\n  - a: {{ set: {{ x: '{text}' }} }}\n")),
            format!("3:20: /do/0/a/set/x: {told}"),
            "{text}"
        );
    }
    assert_eq!(
        problems("do:\n  - a: { set: { x: '${ {a: .x}' } }\n"),
        format!(
            "3:20: /do/0/a/set/x: {unclosed} (expected a closing brace, found the end at character 7 of the expression)"
        )
    );
    let each = "do:\n  - a: { for: { in: '${ .x', each: i }, do: [{ b: { set: { y: 1 } } }] }\n";
    assert_eq!(problems(each), format!("3:21: /do/0/a/for/in: {unclosed}"));
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
fn a_schedule_that_cannot_be() {
    let tasks = "do:\n  - a: { wait: PT1S }\n";
    assert_eq!(
        problems(&format!("schedule: {{ cron: '61 * * * *' }}\n{tasks}")),
        "2:19: /schedule/cron: \"61 * * * *\" is no cron expression: expected five fields such as `15 2 * * *` (minute, \
         hour, day, month, weekday); its minute is `61`, which may be 0 to 59, and `*`, `*/5`, `1-5` or `1,5` of these"
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
    assert_eq!(
        problems(rest),
        "2:38: /input/schema/document/type: this is no JSON schema: found \"thing\", expected one of array, boolean, \
         integer, null, number, object, string, or a list of them"
    );
    let rest = "input: { schema: { format: avro, document: {} } }\ndo:\n  - a: { wait: PT1S }\n";
    assert_eq!(
        problems(rest),
        "2:28: /input/schema/format: schemas of format \"avro\" are not supported: expected json"
    );
}

#[test]
fn what_the_engine_finds_is_told_beside_what_the_language_does() {
    let text = format!("{HEAD}do:\n  - a: {{ set: {{ x: '${{ .a | }}' }} }}\n  - b: {{ call: f, with: {{ n: 1 }} }}\n");
    let further = |_: &Definition, missing: &[Missing]| {
        assert!(missing.is_empty());
        vec![("/do/0/a".to_owned(), "mine".to_owned()), ("/do/1/b/call".to_owned(), "not told twice".to_owned())]
    };
    let told = Workflow::link_for("w.yaml", &text, &|_| None, &further).unwrap_err().to_string();
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 3, "{told}");
    assert_eq!(lines[0], "w.yaml:3:5: /do/0/a: mine");
    assert!(lines[1].contains("does not compile") && lines[2].contains("there is no function `f`"), "{told}");
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

mod functions;
