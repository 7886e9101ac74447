//! An answer that must fit a schema: found in the text, checked, and, if it does not fit, what to tell the model.

use models::generate::{Message, Role};
use serde_json::Value;

/// Faults that are told to the model or to the reader of an error; more would not help either.
const FAULTS_MAX: usize = 5;

/// Reads the JSON value out of an answer and checks it.
///
/// # Errors
/// What is wrong, one sentence a fault.
pub fn parse(text: &str, schema: &Value) -> Result<Value, String> {
    let value = find(text).ok_or("the answer is not JSON")?;
    let validator = jsonschema::validator_for(schema).map_err(|error| format!("the schema cannot be used: {error}"))?;
    let fault = |error: jsonschema::ValidationError<'_>| {
        let at = error.instance_path().to_string();
        format!("{}: {error}", if at.is_empty() { "the answer" } else { &at })
    };
    let faults: Vec<String> = validator.iter_errors(&value).take(FAULTS_MAX).map(fault).collect();
    if faults.is_empty() { Ok(value) } else { Err(faults.join("; ")) }
}

/// The whole text, or what stands in its first code fence, or between the outermost braces: models like to add a sentence.
fn find(text: &str) -> Option<Value> {
    let text = text.trim();
    let fenced = || {
        let (_, rest) = text.split_once("```")?;
        let (inner, _) = rest.split_once("```")?;
        serde_json::from_str(inner.trim_start_matches("json").trim()).ok()
    };
    let braced = || serde_json::from_str(text.get(text.find('{')?..=text.rfind('}')?)?).ok();
    serde_json::from_str(text).ok().or_else(fenced).or_else(braced)
}

/// The conversation that asks the model to mend its answer.
#[must_use]
pub fn repair(messages: &[Message], answer: &str, faults: &str) -> Vec<Message> {
    let mut messages = messages.to_vec();
    let asked =
        format!("That answer does not fit the schema: {faults}. Give the whole answer again as JSON that fits.");
    // An empty message is refused by providers.
    let answer = if answer.trim().is_empty() { "(nothing)" } else { answer };
    messages.push(Message { role: Role::Assistant, content: answer.to_owned() });
    messages.push(Message { role: Role::User, content: asked });
    messages
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_value_is_found_in_what_models_write_around_it() {
        let schema = json!({"type": "object", "properties": {"cause": {"type": "string"}}, "required": ["cause"]});
        let expected = Ok(json!({"cause": "fan"}));
        for text in [
            r#"{"cause": "fan"}"#,
            "Here it is:\n```json\n{\"cause\": \"fan\"}\n```\nAnything else?",
            r#"The answer is {"cause": "fan"}."#,
        ] {
            assert_eq!(parse(text, &schema), expected, "{text}");
        }
    }

    #[test]
    fn a_fault_names_its_place() {
        let schema =
            json!({"type": "object", "properties": {"score": {"type": "number", "maximum": 1}}, "required": ["score"]});
        assert_eq!(parse("no idea", &schema), Err("the answer is not JSON".to_owned()));
        assert!(parse(r#"{"score": 7}"#, &schema).is_err_and(|fault| fault.starts_with("/score: ")));
        assert!(parse("{}", &schema).is_err_and(|fault| fault.contains("\"score\" is a required property")));
    }
}
