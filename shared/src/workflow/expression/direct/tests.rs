//! What is read off the data against what jq gives.

use proptest::prelude::*;
use serde_json::json;

use super::{
    super::{Expression, convert},
    *,
};

fn input() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3_i64..4).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        prop_oneof![Just(1.0), Just(-0.5), Just(f64::MAX), any::<f64>()].prop_map(Value::from),
        "[ab\"\u{e000}\u{f8ff}\u{1f980}]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[abc]", inner, 0..3).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn text() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just(".".to_owned()),
        prop::sample::select(vec![".a", ".b.a", ".[\"c\"]", ".a[0]", ".[1]", "$v", "$v.a", ".a[-1]", ".a?"])
            .prop_map(str::to_owned),
        prop::sample::select(vec![
            "1",
            "0",
            "-2",
            "1.5",
            "-2.50",
            "1e3",
            "1e999",
            "9007199254740993",
            "9223372036854775807",
            "null",
            "true",
            "false",
            "not",
            "[]",
            "{}"
        ])
        .prop_map(str::to_owned),
        prop::sample::select(vec!["\"\"", "\"a\"", "\"x \\(.a) y\"", "\"\\(.)\"", "\"\\n\\u00e9\"", "{$v, a}"])
            .prop_map(str::to_owned),
    ];
    leaf.prop_recursive(3, 16, 3, |inner| {
        let two = (inner.clone(), inner.clone());
        let operator = prop::sample::select(vec![
            "+", "-", "*", "==", "!=", "<", "<=", ">", ">=", "and", "or", "//", "|", ",", "/",
        ]);
        prop_oneof![
            4 => (two.clone(), operator).prop_map(|((a, b), operator)| format!("({a}) {operator} ({b})")),
            1 => (two.clone(), inner.clone()).prop_map(|((a, b), c)| format!("if {a} then {b} else {c} end")),
            1 => two.clone().prop_map(|(a, b)| format!("if {a} then {b} end")),
            1 => two.clone().prop_map(|(a, b)| format!("[{a}, {b}]")),
            1 => two.clone().prop_map(|(a, b)| format!("{{a: ({a}), \"b b\": ({b})}}")),
            1 => inner.prop_map(|a| format!("({a}).a")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn what_is_read_off_the_data_is_what_jq_gives(text in text(), input in input(), v in input()) {
        let expression = Expression::compile(&text).unwrap();
        let variables = |name: &str| (name == "v").then(|| v.clone());
        if let Some(direct) = expression.evaluate_directly(&input, &variables) {
            convert::forget_references();
            let convert = |value: &Value| convert::from_json(value);
            let jq = expression.evaluate_converted(convert(&input), &|name| variables(name).as_ref().map(convert));
            prop_assert_eq!(jq.map(|value| value.to_string()), Ok(direct.to_string()), "{}", text);
        }
    }
}

#[test]
fn what_workflows_mostly_say_needs_no_jq() {
    let input = json!({ "data": { "reading": 21.5, "device": "pump-7", "n": 3 }, "log": ["begun"] });
    let context = |name: &str| (name == "context").then(|| json!({ "limit": 4 }));
    let texts = [
        (".data.reading > 20.5", json!(true)),
        ("{ device: .data.device, n: (.data.n + 1) }", json!({ "device": "pump-7", "n": 4 })),
        (".log + [\"at \\(.data.device)\"]", json!(["begun", "at pump-7"])),
        ("$context.limit - .data.n | . == 1 and (null // true)", json!(true)),
        ("{ margin: (.data.reading - 20), below: (.data.reading < -1.5) }", json!({ "margin": 1.5, "below": false })),
        ("if .data.n >= $context.limit then \"many\" else .log[0] end", json!("begun")),
    ];
    for (text, expected) in texts {
        let expression = Expression::compile(text).unwrap();
        assert_eq!(expression.evaluate_directly(&input, &context), Some(expected), "{text}");
    }
}

#[test]
fn large_data_named_many_times_is_left_to_jq_and_its_limits() {
    let input = json!({ "large": "x".repeat(1 << 20) });
    let direct = |text: &str| Expression::compile(text).unwrap().evaluate_directly(&input, &|_| None);
    assert!(direct("[.large, .large]").is_some());
    assert!(direct(&format!("[{}.large]", ".large,".repeat(20))).is_none());
    assert!(direct(&format!("{}.large == .large", ".large == .large and ".repeat(20))).is_none());
}
