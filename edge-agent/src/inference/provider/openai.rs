//! Chat completions as OpenAI defines them (`platform.openai.com/docs/api-reference/chat`) and many servers speak.

use models::generate::Role;
use serde_json::{Value, json};

use super::{Fault, Lost, Prompt, Reply, parse};

pub(super) fn body(model: &str, prompt: &Prompt) -> Value {
    let mut body = json!({
        "model": model,
        "messages": prompt.messages,
        "max_tokens": prompt.max_tokens,
        "stream": true,
        "stream_options": {"include_usage": true},
    });
    if let Some(temperature) = prompt.temperature {
        body["temperature"] = temperature.into();
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
    reply.ended |= choice.get("finish_reason").is_some_and(Value::is_string);
    // The usage comes in an event of its own after this one, so the stream is read on.
    Ok(false)
}

/// Takes an answer that was not streamed.
pub(super) fn whole(reply: &mut Reply, body: &Value) -> Result<(), Fault> {
    failed(body)?;
    usage(reply, body);
    let text = body
        .pointer("/choices/0/message/content")
        .and_then(Value::as_str)
        .ok_or_else(|| Fault::Garbled { detail: "the answer has no choices[0].message.content".to_owned() })?;
    text.clone_into(&mut reply.text);
    reply.ended = true;
    Ok(())
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
