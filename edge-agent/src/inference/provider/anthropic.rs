//! The Messages API of Anthropic (`docs.anthropic.com/en/api/messages`). A schema is asked for as the input of a tool
//! that the model must call.

use models::generate::Role;
use serde_json::{Value, json};

use super::{Fault, Lost, Prompt, Reply, parse};

pub(super) const VERSION: &str = "2023-06-01";
const TOOL: &str = "answer";
/// A tool's input is always an object; any other value travels under this key.
const WRAPPED: &str = "value";

pub(super) fn body(model: &str, prompt: &Prompt) -> Value {
    // The system's words stand beside the messages here, not among them.
    let (system, messages): (Vec<_>, Vec<_>) = prompt.messages.iter().partition(|message| message.role == Role::System);
    let mut body = json!({
        "model": model,
        "messages": messages,
        "max_tokens": prompt.max_tokens,
        "stream": true,
    });
    if !system.is_empty() {
        let texts: Vec<&str> = system.iter().map(|message| message.content.as_str()).collect();
        body["system"] = texts.join("\n\n").into();
    }
    if let Some(temperature) = prompt.temperature {
        // This API's range ends at 1.
        body["temperature"] = temperature.min(1.0).into();
    }
    if let Some(schema) = &prompt.schema {
        let input = if is_object(schema) {
            schema.clone()
        } else {
            json!({"type": "object", "properties": {WRAPPED: schema}, "required": [WRAPPED]})
        };
        body["tools"] = json!([{"name": TOOL, "description": "Gives the answer.", "input_schema": input}]);
        body["tool_choice"] = json!({"type": "tool", "name": TOOL});
    }
    body
}

/// The answer's text without what `body` wrapped around the schema.
pub(super) fn unwrapped(schema: &Value, text: String) -> String {
    if is_object(schema) {
        return text;
    }
    let inner = serde_json::from_str(&text).ok().and_then(|mut object: Value| Some(object.get_mut(WRAPPED)?.take()));
    inner.map_or(text, |value| value.to_string())
}

fn is_object(schema: &Value) -> bool {
    schema.get("type").and_then(Value::as_str) == Some("object")
}

/// Takes one event of the stream; true when it was the last.
pub(super) fn event(reply: &mut Reply, data: &str) -> Result<bool, Fault> {
    let event = parse(data)?;
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    match text("/type") {
        "message_start" => usage(reply, event.pointer("/message/usage")),
        "content_block_delta" => match text("/delta/type") {
            "text_delta" => reply.text.push_str(text("/delta/text")),
            "input_json_delta" => reply.text.push_str(text("/delta/partial_json")),
            _ => {}
        },
        "message_delta" => usage(reply, event.get("usage")),
        "message_stop" => {
            reply.ended = true;
            return Ok(true);
        }
        "error" => {
            let detail = format!("the provider broke off: {}", text("/error/message"));
            return Err(Fault::Unreachable { what: Lost::Cut, detail, retry_after: None });
        }
        _ => {}
    }
    Ok(false)
}

/// Takes an answer that was not streamed.
pub(super) fn whole(reply: &mut Reply, body: &Value) -> Result<(), Fault> {
    usage(reply, body.get("usage"));
    let blocks = body
        .get("content")
        .and_then(Value::as_array)
        .ok_or_else(|| Fault::Garbled { detail: "the answer has no content".to_owned() })?;
    for block in blocks {
        match block.get("input") {
            Some(input) => reply.text.push_str(&input.to_string()),
            None => reply.text.push_str(block.get("text").and_then(Value::as_str).unwrap_or_default()),
        }
    }
    reply.ended = true;
    Ok(())
}

fn usage(reply: &mut Reply, usage: Option<&Value>) {
    let count = |name: &str| usage.and_then(|usage| usage.get(name)?.as_u64());
    // What was read from or written to the provider's cache is counted apart, and was sent all the same.
    let sent = ["input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"].map(count);
    if sent[0].is_some() {
        reply.tokens_in = Some(sent.into_iter().flatten().sum());
    }
    reply.tokens_out = count("output_tokens").or(reply.tokens_out);
}
