//! Numbers as a schema holds them.

use serde_json::{Value, json};

use super::*;

/// What a model of random weights writes as this schema's number, for some seeds.
fn numbers(schema: &Value) -> Vec<String> {
    let chat = Chat::load(&path("tiny-qwen3")).unwrap();
    let write = |seed| {
        let request =
            Request { max_tokens: 40, seed, sampling: warm(), schema: Some(schema.clone()), ..Request::ask("When?") };
        answer(&chat, &request).text
    };
    (0..40).map(write).collect()
}

#[test]
fn a_long_number_is_the_models_to_its_last_digit() {
    // Milliseconds since 1970.
    let schema = json!({"type": "integer", "minimum": 1_000_000_000_000_u64, "maximum": 9_999_999_999_999_u64});
    let found = numbers(&schema);
    assert!(found.iter().all(|text| text.len() == 13), "{found:?}");
    let ends: std::collections::HashSet<&str> = found.iter().map(|text| &text[10..]).collect();
    assert!(ends.len() > 10, "{found:?}");
}

#[test]
fn no_number_has_more_digits_than_are_exact() {
    let digits = |text: &String| text.bytes().filter(u8::is_ascii_digit).count();
    let found = numbers(&json!({"type": "number"}));
    assert!(found.iter().all(|text| digits(text) <= 15), "{found:?}");
    assert!(found.iter().any(|text| digits(text) > 11), "{found:?}");
    let found = numbers(&json!({"type": "integer", "multipleOf": 7_919}));
    let multiple = |text: &String| text.parse::<i64>().is_ok_and(|number| number % 7_919 == 0);
    assert!(found.iter().all(|text| digits(text) <= 15 && multiple(text)), "{found:?}");
}
