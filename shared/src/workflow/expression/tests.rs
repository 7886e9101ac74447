//! What expressions give, what they are refused for, and how they are stopped.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn run(text: &str, input: Value) -> Result<Value, String> {
    let expression = Expression::compile(text).map_err(|error| error.to_string())?;
    expression.evaluate(&input, &|_| None).map_err(|error| error.to_string())
}

fn refused(text: &str) -> String {
    Expression::compile(text).unwrap_err().to_string()
}

#[test]
fn expressions_of_the_public_documents_give_what_jq_gives() {
    let room = json!({"temperature": 21.5, "tags": ["a", "b"], "nested": {"n": null}});
    assert_eq!(run(".temperature > 20 and (.tags | length) == 2", room.clone()), Ok(json!(true)));
    assert_eq!(run("\"\\(.tags | join(\"-\")) at \\(.temperature)\"", room.clone()), Ok(json!("a-b at 21.5")));
    assert_eq!(
        run(". + { more: [.tags[] | ascii_upcase] } | del(.nested)", room.clone()),
        Ok(json!({"temperature": 21.5, "tags": ["a", "b"], "more": ["A", "B"]}))
    );
    assert_eq!(run(".nested.n // \"none\"", room.clone()), Ok(json!("none")));
    assert_eq!(run("[.tags | to_entries[] | .key]", room.clone()), Ok(json!([0, 1])));
    assert_eq!(run("[range(3)] | add / length", room.clone()), Ok(json!(1.0)));
    assert_eq!(run("{a: {b: 1}} | [paths | join(\"/\")]", room), Ok(json!(["a", "a/b"])));
}

#[test]
fn no_output_is_null_and_of_several_the_first_counts() {
    assert_eq!(run("empty", json!(1)), Ok(json!(null)));
    assert_eq!(run(".[]", json!([7, 8])), Ok(json!(7)));
}

#[test]
fn variables_are_those_that_the_text_mentions_and_does_not_bind() {
    let text = ". as [$a, {b: $c, $d}] | reduce .[] as $x (0; . + $x + $e) | $context.y + $a + $c + $d";
    let expression = Expression::compile(text).unwrap();
    assert_eq!(expression.variables().collect::<Vec<_>>(), ["e", "context"]);
    let vars = |name: &str| match name {
        "context" => Some(json!({"y": 2})),
        "item" => Some(json!(3)),
        _ => None,
    };
    assert_eq!(Expression::compile("$context.y * $item").unwrap().evaluate(&json!(null), &vars), Ok(json!(6)));
    let error = Expression::compile("$context.y + $nobody").unwrap().evaluate(&json!(null), &vars).unwrap_err();
    assert_eq!(error.to_string(), "`$nobody` has no value here, in `$context.y + $nobody`");
}

#[test]
fn an_error_of_the_expression_is_a_value_with_its_text() {
    let error = run(".a + 1", json!({"a": "x"})).unwrap_err();
    assert_eq!(error, "cannot calculate \"x\" + 1 in `.a + 1`");
    assert_eq!(run("error(\"no\")", json!(null)), Err("no in `error(\"no\")`".to_owned()));
    assert_eq!(run("try error(\"no\") catch .", json!(null)), Ok(json!("no")));
    assert_eq!(run(".[0]", json!({"a": 1})), Err("cannot index {\"a\":1} with 0 in `.[0]`".to_owned()));
    assert_eq!(run(".[0]?", json!({"a": 1})), Ok(json!(null)));
}

#[test]
fn what_does_not_compile_is_told_with_its_place() {
    assert_eq!(refused(".a | | .b"), "expected a term, found `|` at character 6 of the expression");
    assert_eq!(refused(".a ["), "expected a closing bracket, found the end at character 5 of the expression");
    assert_eq!(refused("nope(1)"), "`nope` with 1 arguments is no function of jq");
    assert_eq!(refused("include \"x\"; ."), "expected nothing more, found `\"x\"` at character 9 of the expression");
    assert!(refused(&" ".repeat(20_000)).contains("expected at most 16384"));
}

#[test]
fn functions_that_reach_outside_are_left_out() {
    assert_eq!(refused("env.HOME"), "`env` may not be used: it reads the environment, where secrets are");
    assert_eq!(
        refused("{a: [now]}"),
        "`now` may not be used: the time must come from the run, as `$workflow.startedAt` or `$task.startedAt`"
    );
    for name in ["halt", "halt_error", "debug", "stderr", "input", "inputs", "localtime", "strflocaltime(\"x\")"] {
        assert!(refused(name).contains("may not be used"), "{name}");
    }
    // Nor do the natives behind them answer to another spelling.
    for name in ["halt(1)", "debug_empty", "stderr_empty"] {
        assert!(Expression::compile(name).is_err(), "{name}");
    }
}

#[test]
fn definitions_may_not_call_themselves() {
    assert_eq!(
        refused("def f: 1 + f; f"),
        "`f` calls itself: expected a loop such as `reduce`, `recurse`, `until` or `limit`"
    );
    assert!(refused("def f: def g: f; g; f").contains("calls itself"));
    assert!(refused("def f(x): x | f(x); f(1)").contains("calls itself"));
    assert_eq!(run("def f: . + 1; def g: f | f; g", json!(1)), Ok(json!(3)));
    assert_eq!(run("def f(f): f; f(2)", json!(1)), Ok(json!(2)));
    assert_eq!(run("def f($x; g): $x + g; f(1; 2)", json!(1)), Ok(json!(3)));
}

#[test]
fn loops_that_cannot_end_are_refused() {
    assert_eq!(refused("[range(1e12)]"), "`range` never ends here: expected at most 100000 numbers");
    assert_eq!(refused("[repeat(1)]"), "`repeat` never ends here: put it into `limit(n; ..)` or `first(..)`");
    assert!(refused("until(false; .)").contains("can become true"));
    assert!(refused("[range(0; 1; 0)]").contains("`range` never ends"));
    assert_eq!(run("[limit(3; repeat(. * 2))]", json!(1)), Ok(json!([1, 2, 4])));
    assert_eq!(run("first(range(1; infinite))", json!(1)), Ok(json!(1)));
}

#[test]
fn what_takes_too_long_or_too_much_is_stopped() {
    for text in [
        "[range(.)]",
        "until(. < 0; . + 1)",
        "until(try error catch false; .)",
        "[while(. > 0; . + 1)]",
        "last(recurse(. + 1))",
        "last(limit(1e9; repeat(.)))",
        "[range(0; ., 5; 0)]",
        "[range(.)?]",
        "try ([range(.)] | error) catch 1",
        "[range(.)] // 2",
        "reduce range(.) as $i (0; .)",
        "[range(8) | [range(9)]] | [combinations] | length",
        "[range(9999)] | [.[] as $a | .[] as $b | 1] | length",
        "[range(9999)] as $x | $x | map($x) | map(add) | add",
        "\"x\" * .",
        "reduce range(60) as $i (\"x\"; . + .) | length",
        "reduce range(60) as $i ([1]; . + .) | length",
        "reduce range(60) as $i ({a: 1}; {x: ., y: .}) | tojson | length",
        "[range(5000)] | map(tostring) | join(\",\") | [range(5000) as $i | explode] | length",
        "[(1,2)|(1,2)|(1,2)|(1,2)|(1,2)|(1,2)|(1,2)|(1,2)|(1,2)|(1,2)|(1,2)|(1,2)|(1,2)|(1,2)|(1,2)|(1,2)|(1,2)|(1,2)|(1,2)|(1,2)|(1,2)|(1,2)|(1,2)|(1,2)]",
        "reduce range(60) as $i ({a: 1}; {x: ., y: .}) | . == (. | .x.z = 1)",
        "reduce range(60) as $i ([]; [., .]) | try (. + 1) catch 1",
        "reduce range(60) as $i ([]; [., .]) | try .a catch 1",
        "reduce range(60) as $i ([]; [., .]) | try error catch tostring",
        "reduce range(60) as $i ([]; [., .]) | {(.): 1}",
        "reduce range(60) as $i ([]; [., .]) | error",
        "reduce range(60) as $i ([]; [., .]) | sort_by(.)",
        "(\"9\" * 19000 | tonumber) as $x | [range(300) | $x | tostring] | length",
        "(\"9\" * 19000 | tonumber) as $x | [range(300) | $x + . | tojson] | length",
        "(\"9\" * 9000 | tonumber) as $x | [range(900) | $x * $x] | length",
        "(\"1.\" + \"9\" * 19000 | tonumber) as $x | [range(300) | $x + .] | length",
        "[limit(9e9; (.,.)|(.,.)|(.,.)|(.,.)|(.,.)|(.,.)|(.,.)|(.,.)|(.,.)|(.,.)|(.,.)|(.,.)|(.,.)|(.,.)|(.,.)|(.,.)|(.,.)|(.,.)|(.,.)|(.,.)|(.,.)|(.,.)|(.,.)|(.,.)|(.,.))] | length",
    ] {
        // A smaller budget than the real one: the ways to spend it are what is tested.
        let expression = Expression::compile(text).unwrap();
        let input = convert::from_json(&json!(1_000_000_000_i64));
        let result = expression.evaluate_within(50_000, input, &|_| None).unwrap_err().to_string();
        assert_eq!(result, format!("it takes too many steps, in `{text}`"));
    }
    let numbers = "reduce range(40) as $i (3; . * .)";
    assert_eq!(run(numbers, json!(0)), Err(format!("a number has more than 65536 bits, in `{numbers}`")));
    let endless = "[range(.)]";
    assert_eq!(run(endless, json!(1_000_000_000_i64)), Err(format!("it takes too many steps, in `{endless}`")));
    let nested = "reduce range(90000) as $i (0; [.]) | tojson | length";
    assert_eq!(run(nested, json!(0)), Err(format!("values are nested more than 10000 deep, in `{nested}`")));
}

#[test]
fn a_million_bytes_can_be_worked_on() {
    let readings: Vec<Value> = (0..20_000).map(|n| json!({"device": "pump-7", "value": n, "unit": "mm/s"})).collect();
    let input = json!(readings);
    assert_eq!(run("map(select(.value % 2 == 0) | .value) | add", input.clone()), Ok(json!(99_990_000)));
    assert_eq!(
        run("group_by(.device) | map({device: .[0].device, max: (map(.value) | max)})", input.clone()),
        Ok(json!([{"device": "pump-7", "max": 19999}]))
    );
    assert_eq!(run("reduce .[] as $r ([]; . + [$r.value]) | length", input), Ok(json!(20_000)));
}

#[test]
fn functions_on_values_agree_with_jq() {
    let check = |text: &str, expected: Value| assert_eq!(run(text, json!(null)), Ok(expected), "{text}");
    check("[null, -5, 2.5, \"äö\", [1, 2], {a: 1}] | map(length)", json!([0, 5, 2.5, 2, 2, 1]));
    check("\"foobar\" | contains(\"bar\"), contains(\"\")", json!(true));
    check("[\"foobar\", \"baz\"] | contains([\"bar\"])", json!(true));
    check("{a: [1, 2], b: 3} | contains({a: [2]})", json!(true));
    check("{a: 1} | contains({b: 1})", json!(false));
    check("[[0, 1] | has(1), has(2)] + [{a: 1} | has(\"a\"), has(\"b\")]", json!([true, false, true, false]));
    check(
        "[\"a,b, cd\" | indices(\", \")] + [[0, 1, 2, 1] | indices(1)] + [[0, 1, 0, 1] | indices([0, 1])]",
        json!([[3], [1, 3], [0, 2]]),
    );
    check("[1, 3, 5] | [bsearch(3), bsearch(4)]", json!([1, -3]));
    check("\"{\\\"a\\\": [1, 2.5, null]}\" | fromjson", json!({"a": [1, 2.5, null]}));
    check("{a: [1, \"x\"]} | tojson", json!("{\"a\":[1,\"x\"]}"));
    check("[\"12\", 3] | map(tonumber)", json!([12, 3]));
    check(
        "\"a-b-c\" | [split(\"-\"), sub(\"b\"; \"x\"), test(\"^a\"), .[2:3]]",
        json!([["a", "b", "c"], "a-x-c", true, "b"]),
    );
    check(
        "[3, 1, 2] | [sort, min, max, (sort_by(-.)), unique, reverse, index(1)]",
        json!([[1, 2, 3], 1, 3, [3, 2, 1], [1, 2, 3], [2, 1, 3], 1]),
    );
    check(
        "{a: {b: [1, 2, 3]}} | .a.b[1] = 9 | .a.b[0:1] = [7, 8] | .a.c |= 5 | del(.a.b[-1])",
        json!({"a": {"b": [7, 8, 9], "c": 5}}),
    );
    check("[1, [2, [3]]] | [flatten, flatten(1), getpath([1, 1, 0])]", json!([[1, 2, 3], [1, 2, [3]], 3]));
    check(
        "{a: 1, b: 2} | with_entries(.value += 1) | to_entries",
        json!([{"key": "a", "value": 2}, {"key": "b", "value": 3}]),
    );
    check("[1, 2, 3, 4] | .[1:3] |= map(. * 10) | .[-1:] = []", json!([1, 20, 30]));
    check("{a: [{b: 1}, {b: 2}]} | [.a[].b] == [.a | map(.b)[]]", json!(true));
    check("\"2015-03-05T23:51:47Z\" | fromdateiso8601 | todateiso8601", json!("2015-03-05T23:51:47Z"));
    check("[limit(3; repeat(1))]", json!([null, 1, 1]));
    check("{a: {x: 1}} * {a: {y: 2}} | .a", json!({"x": 1, "y": 2}));
    check("[{a: 1} | .b.c, (.b.c = 1)]", json!([null, {"a": 1, "b": {"c": 1}}]));
    check("\"c2tlcnJ5\" | @base64d", json!("skerry"));
    check("try (\"{}\" | @base64d) catch .", json!("\"{}\" is not valid base64"));
    check("try ([1] | .a) catch .", json!("cannot index [1] with \"a\""));
}

#[test]
fn loops_inside_their_budget_work_in_paths_and_updates() {
    assert_eq!(run("[range(0; 10; 3)], 1", json!(null)), Ok(json!([0, 3, 6, 9])));
    assert_eq!(run("[range(5; 0; -2)]", json!(null)), Ok(json!([5, 3, 1])));
    assert_eq!(run("[recurse(if . < 3 then . + 1 else empty end)]", json!(0)), Ok(json!([0, 1, 2, 3])));
    assert_eq!(run("[.. | numbers]", json!([1, [2, {"a": 3}]])), Ok(json!([1, 2, 3])));
    assert_eq!(run("(recurse(.[]?) | numbers) |= . + 1", json!([1, [2]])), Ok(json!([2, [3]])));
    assert_eq!(run("[path(recurse(.[]?))] | length", json!([1, [2]])), Ok(json!(4)));
    assert_eq!(run("walk(if type == \"number\" then . * 2 end)", json!([1, {"a": 2}])), Ok(json!([2, {"a": 4}])));
    assert_eq!(run("until(. > 100; . * 2)", json!(3)), Ok(json!(192)));
    assert_eq!(run("[combinations]", json!([[1, 2], [3, 4]])), Ok(json!([[1, 3], [1, 4], [2, 3], [2, 4]])));
}

#[test]
fn results_have_a_size_and_a_depth() {
    assert_eq!(
        run("[range(99999)] | map(\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\")", json!(0)).unwrap_err(),
        "the result is larger than 4 MiB in `[range(99999)] | map(\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\")`"
    );
    assert!(run("reduce range(900) as $i (0; [.])", json!(0)).unwrap_err().contains("100 levels of nesting"));
}

#[test]
fn hostile_text_neither_overflows_the_stack_nor_hangs() {
    assert!(refused(&format!("{}1{}", "(".repeat(5000), ")".repeat(5000))).contains("nested"));
    let long = vec!["."; 8000].join("|");
    assert_eq!(run(&long, json!(5)), Ok(json!(5)));
    assert!(Expression::compile(&"-".repeat(16_000)).is_err());
    let too_long = |text: &str| format!("cannot parse a number of more than 19728 digits in `{text}`");
    for text in [
        "(\"9\" * 4000000) | tonumber | length",
        "\"9\" * 1000000 | fromjson",
        "\"[1, -\" + \"9\" * 20000 + \"]\" | fromjson",
        "\"0.\" + \"1\" * 20000 | tonumber",
        "\"# a \\\"comment\\\"\\\" \\n\" + \"9\" * 20000 | fromjson",
    ] {
        assert_eq!(run(text, json!(null)), Err(too_long(text)));
    }
    // In a text they are no number.
    assert_eq!(run("\"\\\"[\\\\\\\"\" + \"9\" * 20000 + \"\\\"\" | fromjson | length", json!(null)), Ok(json!(20_002)));
    assert_eq!(run("try (\"9\" * 20000 | tonumber) catch \"too long\"", json!(null)), Ok(json!("too long")));
}

#[test]
fn numbers_keep_their_kind() {
    assert_eq!(run(".", json!([1, 1.0, -3, 1e300, u64::MAX])), Ok(json!([1, 1.0, -3, 1e300, u64::MAX])));
    assert_eq!(run("[nan, infinite, -infinite]", json!(null)), Ok(json!([null, f64::MAX, f64::MIN])));
    assert_eq!(run("9007199254740993", json!(null)), Ok(json!(9_007_199_254_740_993_i64)));
    // As jq 1.7: what no double holds becomes the largest.
    assert_eq!(run("\"9\" * 400 | [tonumber, -tonumber]", json!(null)), Ok(json!([f64::MAX, f64::MIN])));
    assert_eq!(run("[\"1e999\", \"-1.5e999\"] | map(tonumber)", json!(null)), Ok(json!([f64::MAX, f64::MIN])));
    assert_eq!(
        run("18446744073709551615 | [., . + 1]", json!(null)),
        Ok(json!([u64::MAX, 18_446_744_073_709_551_616.0]))
    );
}

#[test]
fn templates_are_filled_at_every_depth_and_other_strings_left_alone() {
    let mut set = Expressions::default();
    set.add("${ .a }").unwrap();
    let template =
        json!({"${ .a }": "${ .a }", "list": ["${.b | map(. + 1)}", " ${ $v } "], "plain": "costs $5 {x}", "n": 1});
    let vars = |name: &str| (name == "v").then(|| json!(true));
    let filled = set.fill(&template, &json!({"a": "x", "b": [1]}), &vars).unwrap();
    assert_eq!(filled, json!({"${ .a }": "x", "list": [[2], true], "plain": "costs $5 {x}", "n": 1}));
    assert_eq!(set.transform(&json!(".a"), &json!({"a": 5}), &vars), Ok(json!(5)));
    assert_eq!(set.holds("${ .a == 5 }", &json!({"a": 5}), &vars), Ok(true));
    assert_eq!(set.holds(".b", &json!({"a": 5}), &vars), Ok(false));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        proptest::num::f64::NORMAL.prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::vec((".{0,4}", inner), 0..5)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn identity_gives_back_every_json_value(value in any_json()) {
        prop_assert_eq!(run(".", value.clone()), Ok(value));
    }

    #[test]
    fn no_text_breaks_the_compiler(text in "[-.|,$a-c(){}\\[\\]\"?:; 0-9+*/=<>@\\\\é]{0,24}") {
        let _ = Expression::compile(&text);
    }
}

#[test]
fn secrets_are_references_and_nothing_else_becomes_one() {
    use super::super::secret::{self, reference};
    let text = "{auth: (\"Bearer \" + $secrets.api), user: $secrets.desk[\"name\"], n: .n}";
    let expression = Expression::compile(text).unwrap();
    assert_eq!(expression.secrets().collect::<Vec<_>>(), ["api", "desk"]);
    let found = expression.evaluate(&json!({"n": 1}), &|_| None).unwrap();
    let api = format!("Bearer {}", reference("api", None));
    assert_eq!(found, json!({"auth": api, "user": reference("desk", Some("name")), "n": 1}));
    // One that is there already passes, alone or in parts of a text; one that is put together does not.
    assert_eq!(run(".a + \"!\"", json!({"a": api})), Ok(json!(format!("{api}!"))));
    for (forged, input) in [
        ("[1114104, 97, 112, 105, 1114105] | implode", ""),
        ("fromjson", "\"\\udbff\\udff8api\\udbff\\udff9\""),
        ("@base64d", "9I+/uGFwafSPv7k="),
    ] {
        let made = run(forged, json!(input)).unwrap();
        assert!(!secret::any_marked(&made) && made.as_str().unwrap().contains("api"), "{forged}: {made}");
    }
    assert!(refused("$secrets").contains("`$secrets` is not a value of its own"));
    assert!(refused("$secrets[.name]").contains("`$secrets` is not a value of its own"));
    assert!(refused("$secrets.a + $secrets.a.b").contains("used whole and by key"));
}
