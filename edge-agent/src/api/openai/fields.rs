//! Fields of a request that this endpoint does not look at. What only helps the provider is taken and has no effect; what would change the
//! answer is refused, so that nobody takes an answer for what it is not, and so is what the interface does not have.

use serde_json::{Map, Value};

use super::Refusal;

/// The fields of a request that nothing reads, by name.
pub(super) type Rest = Map<String, Value>;

/// Hints of OpenAI's interface: an answer is right with or without them.
const HINTS: [&str; 9] = [
    "metadata",
    "prediction",
    "prompt_cache_key",
    "prompt_cache_retention",
    "reasoning_effort",
    "safety_identifier",
    "store",
    "user",
    "verbosity",
];

/// # Errors
/// Names the first field that would change the answer, or that is none of the interface.
pub(super) fn check(rest: &Rest) -> Result<(), Refusal> {
    rest.iter().filter(|(_, value)| !value.is_null()).try_for_each(|(name, value)| match name.as_str() {
        name if HINTS.contains(&name) => Ok(()),
        "frequency_penalty" | "presence_penalty" => {
            neutral(value.as_f64() == Some(0.0), || format!("{name}: {value}; a local model has repetition_penalty"))
        }
        "logit_bias" => neutral(value.as_object().is_some_and(Map::is_empty), || {
            format!("{name}: a local model's tokens are its own; use response_format or stop")
        }),
        "modalities" => neutral(*value == serde_json::json!(["text"]), || {
            format!("{name}: {value}; a local model writes text alone")
        }),
        "audio" | "web_search_options" => {
            neutral(false, || format!("{name}: a local model reads and writes text alone"))
        }
        "functions" | "function_call" => {
            neutral(false, || format!("{name}: given up by OpenAI for tools and tool_choice"))
        }
        _ => neutral(false, || format!("{name}: no field of this request")),
    })
}

fn neutral(is_neutral: bool, otherwise: impl FnOnce() -> String) -> Result<(), Refusal> {
    if is_neutral { Ok(()) } else { Err(Refusal::invalid(otherwise())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(request: &str) -> Option<String> {
        check(&serde_json::from_str(request).expect("an object")).err().map(|refusal| refusal.message)
    }

    #[test]
    fn what_changes_nothing_is_taken_and_the_rest_is_named() {
        for taken in [
            "{}",
            r#"{"user": "a", "metadata": {"line": "4"}, "store": false, "reasoning_effort": "low"}"#,
            r#"{"frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}, "modalities": ["text"], "functions": null}"#,
        ] {
            assert_eq!(refused(taken), None, "{taken}");
        }
        for (given, expected) in [
            (r#"{"frequency_penalty": 0.5}"#, "frequency_penalty: 0.5; a local model has repetition_penalty"),
            (r#"{"presence_penalty": "no"}"#, "presence_penalty: \"no\""),
            (r#"{"logit_bias": {"50256": -100}}"#, "logit_bias: "),
            (r#"{"modalities": ["text", "audio"]}"#, "modalities: "),
            (r#"{"functions": []}"#, "functions: given up by OpenAI for tools"),
            (r#"{"stop_token_ids": [2]}"#, "stop_token_ids: no field of this request"),
            (r#"{"temprature": 0.1}"#, "temprature: no field of this request"),
        ] {
            let found = refused(given);
            assert!(found.as_ref().is_some_and(|message| message.starts_with(expected)), "{given}: {found:?}");
        }
    }
}
