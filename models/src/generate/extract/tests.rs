//! What the extractive generator promises, on pages such as real manuals have.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const PRESS: &str = "# Hydraulic press HP-40: troubleshooting

## Oil temperature too high
Symptom: the oil temperature rises above 65 °C while the press is running.
Cause: the oil cooler is clogged with dust, so that it no longer gives off heat.
Action: stop the press at the end of the cycle. Clean the cooler fins with compressed air. Check that the fan turns.

## Pressure drops during the stroke
Symptom: the pressure falls below 180 bar while the ram moves down.
Cause: the seal of the main cylinder is worn and lets oil pass.
Action: replace the seal kit SK-40. Bleed the cylinder before the next stroke.
";

const PUMP: &str = "## Cooling water pump P-101
| Symptom | Possible cause | Remedy |
|---|---|---|
| Bearing vibrates strongly | Bearing worn or without grease | Regrease the bearing. Replace it when the vibration stays above 7 mm/s. |
| Motor current too high | Impeller blocked by debris | Isolate the pump and clear the impeller. |
| No flow | Suction valve closed | Open the suction valve. |
";

fn passages() -> Vec<Passage> {
    let passage = |text: &str, document: &str| Passage {
        text: text.to_owned(),
        document: document.to_owned(),
        place: String::new(),
    };
    vec![passage(PRESS, "manuals/press.md"), passage(PUMP, "manuals/pump.md")]
}

fn request(prompt: &str, passages: Vec<Passage>) -> Request {
    Request { passages, ..Request::ask(prompt) }
}

fn answer(request: &Request) -> Answer {
    let mut streamed = String::new();
    let answer = extract().generate(request, &mut |text| {
        streamed.push_str(text);
        ControlFlow::Continue(())
    });
    let answer = answer.unwrap();
    assert_eq!(answer.text, streamed);
    answer
}

#[track_caller]
fn check(prompt: &str, expected: &str) {
    assert_eq!(answer(&request(prompt, passages())).text, expected, "{prompt}");
}

#[test]
fn a_question_for_the_cause_gets_the_cause_of_the_right_fault_cited() {
    check(
        "press-1 oil temperature is 71 °C, expected 35 to 60 °C. What is the likely cause?",
        "Cause: the oil cooler is clogged with dust, so that it no longer gives off heat [1].",
    );
    check("The bearing of pump P-101 vibrates at 9 mm/s. Why?", "Possible cause: Bearing worn or without grease [2].");
}

#[test]
fn a_question_for_cause_and_action_gets_both_from_one_section() {
    check(
        "The pressure of press-2 drops during the stroke. What is the cause and what should be done?",
        "Cause: the seal of the main cylinder is worn and lets oil pass [1]. \
         Action: replace the seal kit SK-40 [1]. Bleed the cylinder before the next stroke [1].",
    );
    check(
        "Motor current of P-101 is 40 A. What is the cause and what is the remedy?",
        "Possible cause: Impeller blocked by debris [2]. Remedy: Isolate the pump and clear the impeller [2].",
    );
}

#[test]
fn prose_without_labels_is_understood_by_its_wording() {
    let text = "The chiller keeps the vaccine store at 5 °C. A rising temperature is usually caused by ice on the evaporator. \
                The store holds 400 boxes. Defrost the evaporator and check the door seal. The door is white.";
    let passages = vec![Passage { text: text.to_owned(), ..Passage::default() }];
    let text = answer(&request("Temperature in the vaccine store rises. What is the cause?", passages)).text;
    assert_eq!(text, "A rising temperature is usually caused by ice on the evaporator [1].");
}

#[test]
fn passages_about_something_else_are_not_given_out_as_an_answer() {
    let text = answer(&request("Who won the chess tournament in Reykjavik?", passages())).text;
    assert!(text.starts_with(NOTHING_NEAR), "{text}");
}

#[test]
fn a_chat_message_is_answered_from_its_own_text() {
    let prompt = "The filter of line 3 was changed on Monday. The pressure loss fell to 0.2 bar afterwards.\n\
                  When was the filter changed?";
    assert_eq!(answer(&Request::ask(prompt)).text, "The filter of line 3 was changed on Monday.");
    assert_eq!(answer(&Request::ask("Hello!")).text, NOTHING_GIVEN);
}

#[test]
fn passages_that_came_inside_a_message_are_found_and_cited() {
    let direct = request("Why is the oil of the press too hot?", passages());
    let messages = super::super::with_passages(&direct.messages, &direct.passages);
    let far = Request { messages, ..Request::default() };
    assert_eq!(answer(&far).text, answer(&direct).text);
}

#[test]
fn stop_texts_length_and_a_break_end_the_answer() {
    let mut request = request("Why is the oil of the press too hot?", passages());
    request.max_tokens = 4;
    let short = answer(&request);
    assert_eq!((short.text.as_str(), short.finish, short.tokens_out), ("Cause: the oil cooler", Finish::Length, 4));
    request.max_tokens = 100;
    request.stop = vec![" clogged".to_owned()];
    let stopped = answer(&request);
    assert_eq!((stopped.text.as_str(), stopped.finish), ("Cause: the oil cooler is", Finish::Stop));
    request.stop.clear();
    let broken = extract().generate(&request, &mut |_| ControlFlow::Break(())).unwrap();
    assert_eq!(broken.finish, Finish::Cancelled);
}

#[test]
fn a_schema_is_filled_from_the_passages_and_what_the_message_states() {
    let mut request = request(
        "Finding: {\"device\": \"press-2\", \"severity\": \"critical\", \"value\": 162.5, \"unit\": \"bar\"}\n\
         The pressure drops during the stroke.",
        passages(),
    );
    request.schema = Some(json!({
        "type": "object",
        "required": ["device", "value", "cause", "action", "severity", "confidence", "source"],
        "properties": {
            "device": {"type": "string"},
            "value": {"type": "number"},
            "cause": {"type": "string", "description": "the most likely cause"},
            "action": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
            "severity": {"enum": ["warning", "critical"]},
            "decision": {"enum": ["replace", "clean", "regrease"], "description": "what the action is"},
            "confidence": {"type": "number", "minimum": 0, "maximum": 1},
            "source": {"type": "string"},
        },
    }));
    let value: Value = serde_json::from_str(&answer(&request).text).unwrap();
    let confidence = value["confidence"].as_f64().unwrap();
    assert!((0.3..=1.0).contains(&confidence), "{confidence}");
    let expected = json!({
        "device": "press-2",
        "value": 162.5,
        "cause": "the seal of the main cylinder is worn and lets oil pass.",
        "action": ["replace the seal kit SK-40.", "Bleed the cylinder before the next stroke."],
        "severity": "critical",
        "decision": "replace",
        "confidence": confidence,
        "source": "manuals/press.md",
    });
    assert_eq!(value, expected);
}

#[test]
fn a_list_of_objects_takes_each_from_its_own_section() {
    let mut request = request("What can go wrong with pump P-101?", passages().split_off(1));
    request.schema = Some(json!({
        "type": "object",
        "required": ["faults"],
        "properties": {"faults": {"type": "array", "minItems": 3, "maxItems": 3, "items": {
            "type": "object",
            "required": ["symptom", "cause", "remedy"],
            "properties": {"symptom": {"type": "string"}, "cause": {"type": "string"}, "remedy": {"type": "string"}},
        }}},
    }));
    let value: Value = serde_json::from_str(&answer(&request).text).unwrap();
    let faults = value["faults"].as_array().unwrap();
    assert_eq!(faults.len(), 3);
    for fault in faults {
        let row = PUMP.lines().find(|row| row.contains(fault["symptom"].as_str().unwrap())).unwrap();
        assert!(row.contains(fault["cause"].as_str().unwrap()), "{fault}");
        assert!(row.contains(fault["remedy"].as_str().unwrap()), "{fault}");
    }
}

#[test]
fn what_cannot_be_filled_is_refused_by_name() {
    let check = |schema: Value, expected: &str| {
        let mut request = request("Why is the oil hot?", passages());
        request.schema = Some(schema);
        let error = extract().generate(&request, &mut |_| ControlFlow::Continue(())).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(
        json!({"properties": {"a": {"type": "string", "pattern": "^x"}}}),
        "schema at /properties/a uses \"pattern\"",
    );
    check(json!({"oneOf": [{"type": "string"}]}), "schema uses \"oneOf\"");
    check(json!({"type": "number", "minimum": 3, "maximum": 2}), "no number is at least 3 and at most 2");
    check(json!({"type": "object", "required": ["x"]}), "requires \"x\" but does not describe it");
    check(json!({"$ref": "#"}), "deep");
    check(json!({"type": "integer", "minimum": 100_000}), "cannot fill the answer of the schema: no number");
}

fn schemas() -> impl Strategy<Value = Value> {
    let bounds = |low: i64, high: i64| (low..high).prop_flat_map(move |min| (Just(min), min..=high));
    let leaf = prop_oneof![
        (0usize..40, 0usize..200)
            .prop_map(|(min, more)| json!({"type": "string", "minLength": min, "maxLength": min + more})),
        bounds(-50, 100).prop_map(|(min, max)| json!({"type": "number", "minimum": min, "maximum": max})),
        bounds(-50, 100).prop_map(|(min, max)| json!({"type": "integer", "minimum": min, "exclusiveMaximum": max + 2})),
        (1u32..9).prop_map(|step| json!({"type": "integer", "multipleOf": step, "minimum": 0, "maximum": 50})),
        Just(json!({"type": "boolean"})),
        Just(json!({"type": ["number", "null"]})),
        proptest::collection::vec("[a-z]{1,8}", 1..5).prop_map(|values| json!({"enum": values})),
        Just(json!({"const": {"k": [1, null]}})),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            (inner.clone(), 0usize..3, 0usize..3, any::<bool>()).prop_map(|(items, min, more, unique)| {
                json!({"type": "array", "items": items, "minItems": min, "maxItems": min + more, "uniqueItems": unique})
            }),
            (proptest::collection::btree_map("(cause|action|device|value|risk|[a-z]{1,6})", inner.clone(), 0..5), any::<bool>())
                .prop_map(|(properties, closed)| {
                    let required: Vec<_> = properties.keys().cloned().collect();
                    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": !closed})
                }),
            (inner.clone(), inner).prop_map(|(a, b)| json!({"anyOf": [a, b]})),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_filled_is_valid(schema in schemas(), with_passages: bool) {
        let mut request = request("{\"device\": \"press-1\", \"value\": 71}\nWhy is the oil hot?", Vec::new());
        if with_passages {
            request.passages = passages();
        }
        request.schema = Some(schema.clone());
        match extract().generate(&request, &mut |_| ControlFlow::Continue(())) {
            Ok(answer) => {
                let value: Value = serde_json::from_str(&answer.text).unwrap();
                prop_assert!(jsonschema::is_valid(&schema, &value), "{schema} got {value}");
            }
            Err(error) => prop_assert!(error.to_string().starts_with("cannot fill"), "{error}"),
        }
    }

    #[test]
    fn no_text_makes_it_panic(prompt in "(\\PC|[|#*:\n\\[\\]0-9.]){0,80}", text in "(\\PC|[|#*:\n`. ]){0,120}") {
        let passages = vec![Passage { text, ..Passage::default() }];
        let _ = extract().generate(&request(&prompt, passages), &mut |_| ControlFlow::Continue(()));
        let _ = extract().generate(&request(&prompt, Vec::new()), &mut |_| ControlFlow::Continue(()));
    }
}
