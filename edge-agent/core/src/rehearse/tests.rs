//! A case that holds says nothing, and one that does not says where and what instead.

use std::sync::Arc;

use shared::workflow::Workflow;

use super::*;

const ORDER: &str = r"
document: { dsl: '1.0.3', namespace: test, name: order, version: '0.1.0' }
do:
  - ask:
      try:
        - price: { call: http, with: { method: get, endpoint: 'http://shop/price' } }
      catch:
        errors: { with: { type: 'https://serverlessworkflow.io/spec/1.0.0/errors/communication' } }
        retry: { delay: PT1H, backoff: { constant: {} }, limit: { attempt: { count: 2 } } }
  - sleep: { wait: P7D }
  - which: { switch: [{ dear: { when: .price > 100, then: person } }], then: buy }
  - person:
      listen: { to: { one: { with: { type: yes } } } }
      output: { as: '${ { price: .[0].price } }' }
  - buy: { call: publish, with: { topic: orders, payload: { price: '${ .price }', who: me } } }
";

/// Plays the case `mocks.. expect..`; what differs.
fn wrong(case: &str) -> Vec<String> {
    let workflow = Arc::new(Workflow::parse("order.yaml", ORDER).expect("a good document"));
    let text = format!("- name: one\n{case}");
    let cases = parse("order.test.yaml", &text, &workflow).unwrap_or_else(|problems| panic!("{problems}"));
    judge(&cases[0], &play(&workflow, &cases[0]))
}

#[test]
fn a_run_is_played_with_its_waits_retries_and_events() {
    let holds = "
  events: [{ type: no }, { type: 'yes', data: { price: 120 } }]
  mocks:
    price: [{ error: { type: communication } }, { output: { price: 150 } }]
    publish: { output: {} }
  expect:
    path: [ask, price, price, sleep, which, person, buy]
    calls: { publish: [{ payload: { price: 120 } }] }
    output: {}";
    assert_eq!(wrong(holds), [] as [String; 0]);
    let cheap = "
  mocks: { http: { output: { price: 5.0 } }, /do/4/buy: { output: { done: true }, after: PT5S } }
  expect: { visits: [price, buy], output: '${ .done }' }";
    assert_eq!(wrong(cheap), [] as [String; 0]);
}

#[test]
fn what_differs_is_told_with_both_sides() {
    let mocks = "  mocks: { http: { output: { price: 5 } }, publish: { output: { id: 7, to: [a] } } }\n";
    let told = wrong(&format!("{mocks}  expect: {{ path: [ask, buy], output: {{ id: 8, to: [a], at: 1 }} }}"));
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told[0].contains("expected: ask → buy\n") && told[0].contains("ask → price → sleep → which → buy"),
        "{told:?}"
    );
    assert!(
        told[1].contains("/id: expected 8, got 7") && told[1].contains("/at: expected 1, and it is not"),
        "{told:?}"
    );
    let told =
        wrong(&format!("{mocks}  expect: {{ calls: {{ publish: [{{ payload: {{ price: 6 }} }}] }}, error: timeout }}"));
    assert!(told[0].contains("call 1 of `publish` differs\n  /payload/price: expected 6, got 5"), "{told:?}");
    assert!(told[1].contains("came to a good end"), "{told:?}");
    for condition in ["${ .id == 8 }", "${.id == 8}", " ${  .id == 8  } "] {
        let told = wrong(&format!("{mocks}  expect: {{ output: '{condition}' }}"));
        assert_eq!(
            told,
            ["of the output, `.id == 8` is false: expected true\n  got:      {\"id\":7,\"to\":[\"a\"]}"],
            "{condition}"
        );
    }
}

#[test]
fn a_run_that_cannot_go_on_says_what_is_missing() {
    assert!(wrong("  expect: {}")[0].contains("/do/0/ask/try/0/price calls `http`"));
    let listens = wrong("  mocks: { http: { output: { price: 150 } } }\n  expect: {}");
    assert!(listens[0].contains("listens at /do/3/person and there is no more event"), "{listens:?}");
    let often = wrong("  mocks: { price: [{ error: { type: communication } }] }\n  expect: {}");
    assert!(often[0].contains("makes call 2 of `price`, and its mocks are 1"), "{often:?}");
    let error = wrong("  mocks: { price: { error: { type: authorization, detail: no key } } }\n  expect: {}");
    assert!(error[0].contains("errors/authorization 403: no key, at /do/0/ask/try/0/price"), "{error:?}");
    let expected = "  mocks: { price: { error: { type: authorization } } }\n  expect: { error: authorization }";
    assert_eq!(wrong(expected), [] as [String; 0]);
}

#[test]
fn a_file_that_is_no_list_of_cases_is_refused_with_its_place() {
    let workflow = Workflow::parse("order.yaml", ORDER).expect("a good document");
    let told = |text: &str| parse("a.test.yaml", text, &workflow).expect_err("it is broken").to_string();
    let refused = |text: &str, expected: &str| {
        let told = told(text);
        assert!(told.starts_with("a.test.yaml") && told.contains(expected), "{told}");
    };
    assert_eq!(
        told("- name: a\n  expct: {}"),
        "a.test.yaml:2:3: [0].expct: unknown field `expct`, expected one of `name`, `input`, `events`, `mocks`, `now`, `expect`"
    );
    assert_eq!(
        told("name: a\n"),
        "a.test.yaml:1:1: invalid type: an object, expected a list, each entry begun with `- `"
    );
    refused("- name: a\n  expect: {}\n  mocks: { http: { error: { type: x:y, status: 99999 } } }", "from 100 to 599");
    refused("[]", "the file has no case");
    refused("- name: a\n  expects: {}", "unknown field `expects`");
    refused("- name: a\n  expect: {}\n  mocks: { f: { outputs: 1 } }", "unknown field `outputs`");
    refused("- name: a\n  expect: {}\n  mocks: { f: {} }", "neither `output` nor `error`");
    refused("- name: a\n  expect: {}\n  mocks: { f: { output: 1, after: '${ .x }' } }", "expected a duration");
}

#[test]
fn what_a_case_names_must_be_there() {
    let workflow = Workflow::parse("order.yaml", ORDER).expect("a good document");
    let told = |text: &str| match parse("a.test.yaml", &format!("- name: one\n{text}"), &workflow) {
        Ok(_) => String::new(),
        Err(problems) => problems.to_string(),
    };
    for mocks in ["price", "http", "/do/4/buy", "publish", "/do/0/ask/try/0/price"] {
        assert_eq!(told(&format!("  expect: {{}}\n  mocks: {{ {mocks}: {{ output: 1 }} }}")), "", "{mocks}");
    }
    for (text, expected) in [
        (
            "  expect: {}\n  mocks: { pric: { output: 1 } }",
            "a.test.yaml:3:12: [0].mocks.pric: there is no task and no function `pric`: did you mean price?",
        ),
        (
            "  expect: {}\n  mocks: { price: [{ output: 1 }, { error: { type: communicatoin } }] }",
            "a.test.yaml:3:19: [0].mocks.price: `communicatoin` is no type of an error, and no URI of one: did you mean \
             communication?",
        ),
        (
            "  expect: { calls: { publsh: [] } }",
            "a.test.yaml:2:22: [0].expect.calls.publsh: the workflow calls no function `publsh`: did you mean publish?",
        ),
        (
            "  expect: { output: '${ .x | }' }",
            "a.test.yaml:2:21: [0].expect.output: the condition does not compile: expected a term, found the end at \
             character 5 of the expression",
        ),
    ] {
        assert_eq!(told(text), expected);
    }
    assert_eq!(told("  expect: {}\n  mocks: { price: { error: { type: 'https://e/late' } } }"), "");
    let agent = "document: { dsl: '1.0.3', namespace: t, name: w, version: '0.1.0' }\ndo: [{ a: { call: agent, with: \
        { name: s, goal: g, tools: [retrieve, { workflow: a/b }] } } }]";
    let agent = Workflow::parse("agent.yaml", agent).expect("a good document");
    let case =
        "- name: a\n  expect: {}\n  mocks: { chat: { output: 1 }, retrieve: { output: 1 }, workflow: { output: 1 } }";
    assert!(parse("a.test.yaml", case, &agent).is_ok());
}
