//! The Messages API of Anthropic (`docs.anthropic.com/en/api/messages`). A schema is asked for as the input of a tool
//! that the model must call.

use edge_core::engine::ToolCall;
use models::generate::Role;
use serde_json::{Value, json};

use super::super::{
    ask::Sampling,
    chat::{Chat, Speaker, Tool},
};
use super::{Fault, Lost, Prompt, Reply, parse};

pub(super) const VERSION: &str = "2023-06-01";
/// Tools of agents have other names.
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
    if let Some(chat) = &prompt.chat {
        body["messages"] = conversation(chat);
        let tool =
            |tool: &Tool| json!({"name": tool.name, "description": tool.description, "input_schema": tool.parameters});
        if !chat.tools.is_empty() {
            body["tools"] = chat.tools.iter().map(tool).collect();
        }
    }
    if !system.is_empty() {
        let texts: Vec<&str> = system.iter().map(|message| message.content.as_str()).collect();
        body["system"] = texts.join("\n\n").into();
    }
    // This API has no seed.
    let Sampling { temperature, top_p, stop, .. } = &prompt.sampling;
    if let Some(temperature) = temperature {
        // This API's range ends at 1.
        body["temperature"] = temperature.min(1.0).into();
    }
    if let Some(top_p) = top_p {
        body["top_p"] = (*top_p).into();
    }
    if !stop.is_empty() {
        body["stop_sequences"] = stop.clone().into();
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

/// The messages of a conversation with tools: what these gave comes from the user here, all of one turn together.
fn conversation(chat: &Chat) -> Value {
    let mut messages: Vec<Value> = Vec::new();
    let mut results = false;
    for turn in chat.turns.iter().filter(|turn| turn.role != Speaker::System) {
        if turn.role == Speaker::Tool {
            let block = json!({"type": "tool_result", "tool_use_id": turn.tool_call_id, "content": turn.content});
            match messages.last_mut().and_then(|message| message["content"].as_array_mut()).filter(|_| results) {
                Some(blocks) => blocks.push(block),
                None => messages.push(json!({"role": "user", "content": [block]})),
            }
            results = true;
            continue;
        }
        results = false;
        let call =
            |call: &ToolCall| json!({"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments});
        let said = (!turn.content.is_empty()).then(|| json!({"type": "text", "text": turn.content}));
        let blocks: Vec<Value> = said.into_iter().chain(turn.tool_calls.iter().map(call)).collect();
        // An empty message is refused.
        if !blocks.is_empty() {
            messages.push(json!({"role": turn.role.name(), "content": blocks}));
        }
    }
    Value::Array(messages)
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
        "content_block_start" if text("/content_block/type") == "tool_use" && text("/content_block/name") != TOOL => {
            if let Some(wanted) = reply.wanted(index(&event)) {
                text("/content_block/id").clone_into(&mut wanted.id);
                text("/content_block/name").clone_into(&mut wanted.name);
            }
        }
        "content_block_delta" => match text("/delta/type") {
            "text_delta" => reply.text.push_str(text("/delta/text")),
            "input_json_delta" if reply.calls.iter().any(|wanted| wanted.index == index(&event)) => {
                if let Some(wanted) = reply.wanted(index(&event)) {
                    wanted.arguments.push_str(text("/delta/partial_json"));
                }
            }
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
    for (number, block) in blocks.iter().enumerate() {
        let text = |key: &str| block.get(key).and_then(Value::as_str).unwrap_or_default();
        if text("type") == "tool_use" && text("name") != TOOL {
            if let Some(wanted) = reply.wanted(number as u64) {
                text("id").clone_into(&mut wanted.id);
                text("name").clone_into(&mut wanted.name);
                wanted.arguments = block.get("input").map(Value::to_string).unwrap_or_default();
            }
            continue;
        }
        match block.get("input") {
            Some(input) => reply.text.push_str(&input.to_string()),
            None => reply.text.push_str(block.get("text").and_then(Value::as_str).unwrap_or_default()),
        }
    }
    reply.ended = true;
    Ok(())
}

/// Which block of the answer an event is about.
fn index(event: &Value) -> u64 {
    event.get("index").and_then(Value::as_u64).unwrap_or_default()
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
