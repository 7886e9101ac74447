//! Chat completions as OpenAI defines them (`platform.openai.com/docs/api-reference/chat`) and many servers speak.

use edge_core::engine::ToolCall;
use models::generate::Role;
use serde_json::{Value, json};

use super::super::{
    ask::Sampling,
    chat::{Speaker, Tool, Turn},
};
use super::{Fault, Lost, Prompt, Reply, parse};

pub(super) fn body(model: &str, prompt: &Prompt) -> Value {
    let mut body = json!({
        "model": model,
        "messages": prompt.messages,
        "max_tokens": prompt.max_tokens,
        "stream": true,
        "stream_options": {"include_usage": true},
    });
    if let Some(chat) = &prompt.chat {
        body["messages"] = chat.turns.iter().map(message).collect();
        let tool = |tool: &Tool| {
            let function = json!({"name": tool.name, "description": tool.description, "parameters": tool.parameters});
            json!({"type": "function", "function": function})
        };
        // Servers refuse an empty list.
        if !chat.tools.is_empty() {
            body["tools"] = chat.tools.iter().map(tool).collect();
        }
    }
    let Sampling { temperature, top_p, seed, stop, .. } = &prompt.sampling;
    if let Some(temperature) = temperature {
        body["temperature"] = (*temperature).into();
    }
    if let Some(top_p) = top_p {
        body["top_p"] = (*top_p).into();
    }
    if let Some(seed) = seed {
        body["seed"] = (*seed).into();
    }
    if !stop.is_empty() {
        body["stop"] = stop.clone().into();
    }
    if let Some(schema) = &prompt.schema {
        // Not `strict`: that allows a part of JSON schema only. The answer is checked here anyway.
        body["response_format"] =
            json!({"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": false}});
        // Servers that ignore `response_format` go by this; the protocol's older mode demands the word JSON too.
        let rule = format!("Answer with one JSON value that fits this JSON schema, and nothing else: {schema}");
        if let Some(messages) = body["messages"].as_array_mut() {
            messages.insert(0, json!({"role": Role::System, "content": rule}));
        }
    }
    body
}

fn message(turn: &Turn) -> Value {
    let mut message = json!({"role": turn.role.name(), "content": turn.content});
    if turn.role == Speaker::Tool {
        message["tool_call_id"] = turn.tool_call_id.clone().into();
    }
    if !turn.tool_calls.is_empty() {
        let call = |call: &ToolCall| {
            let function = json!({"name": call.name, "arguments": call.arguments.to_string()});
            json!({"id": call.id, "type": "function", "function": function})
        };
        message["tool_calls"] = turn.tool_calls.iter().map(call).collect();
    }
    message
}

/// Takes one event of the stream; true when it was the last.
pub(super) fn event(reply: &mut Reply, data: &str) -> Result<bool, Fault> {
    if data.trim() == "[DONE]" {
        return Ok(true);
    }
    let event = parse(data)?;
    failed(&event)?;
    usage(reply, &event);
    let Some(choice) = event.pointer("/choices/0") else { return Ok(false) };
    if let Some(text) = choice.pointer("/delta/content").and_then(Value::as_str) {
        reply.text.push_str(text);
    }
    called(reply, choice.pointer("/delta/tool_calls"));
    reply.ended |= choice.get("finish_reason").is_some_and(Value::is_string);
    // The usage comes in an event of its own after this one, so the stream is read on.
    Ok(false)
}

/// Takes an answer that was not streamed.
pub(super) fn whole(reply: &mut Reply, body: &Value) -> Result<(), Fault> {
    failed(body)?;
    usage(reply, body);
    called(reply, body.pointer("/choices/0/message/tool_calls"));
    // A message that only calls tools has no content.
    let silent = (!reply.calls.is_empty()).then_some("");
    let text = body
        .pointer("/choices/0/message/content")
        .and_then(Value::as_str)
        .or(silent)
        .ok_or_else(|| Fault::Garbled { detail: "the answer has no choices[0].message.content".to_owned() })?;
    text.clone_into(&mut reply.text);
    reply.ended = true;
    Ok(())
}

/// Takes tool calls or pieces of them; a piece without an index belongs where it stands.
fn called(reply: &mut Reply, calls: Option<&Value>) {
    for (position, call) in calls.and_then(Value::as_array).into_iter().flatten().enumerate() {
        let index = call.get("index").and_then(Value::as_u64).unwrap_or(position as u64);
        let Some(wanted) = reply.wanted(index) else { continue };
        let text = |pointer: &str| call.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        wanted.id.push_str(text("/id"));
        wanted.name.push_str(text("/function/name"));
        wanted.arguments.push_str(text("/function/arguments"));
    }
}

fn usage(reply: &mut Reply, body: &Value) {
    let count = |name: &str| body.pointer(&format!("/usage/{name}")).and_then(Value::as_u64);
    reply.tokens_in = count("prompt_tokens").or(reply.tokens_in);
    reply.tokens_out = count("completion_tokens").or(reply.tokens_out);
}

fn failed(body: &Value) -> Result<(), Fault> {
    match body.get("error").filter(|error| !error.is_null()) {
        None => Ok(()),
        Some(error) => {
            let message = error.get("message").and_then(Value::as_str).unwrap_or("no reason given");
            let detail = format!("the provider broke off: {message}");
            Err(Fault::Unreachable { what: Lost::Cut, detail, retry_after: None })
        }
    }
}
