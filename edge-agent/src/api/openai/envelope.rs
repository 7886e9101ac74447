//! Answers as OpenAI's clients read them, whole and as the events of a stream.

use models::generate::{Answer, Finish, TokenLogprob, ToolCall};
use serde_json::{Value, json};
use shared::digest::Digest;

/// What is answered: a chat, or a text that is continued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Chat,
    Text,
}

/// What every part of the answer to one request says.
pub(super) struct Envelope {
    form: Form,
    id: String,
    created: i64,
    pub model: String,
    /// Whether a stream ends with what it used.
    with_usage: bool,
}

impl Envelope {
    pub fn new(form: Form, model: String, with_usage: bool) -> Self {
        let begin = if form == Form::Chat { "chatcmpl" } else { "cmpl" };
        let id = format!("{begin}-{}", hex::encode(crate::clock::seed()));
        Self { form, id, created: crate::clock::now().as_millis() / 1_000, model, with_usage }
    }

    /// The answer to a request that is not streamed.
    pub fn whole(&self, answer: &Answer, with_logprobs: bool) -> Value {
        let (object, choice) = match self.form {
            Form::Text => {
                let choice =
                    json!({"index": 0, "text": answer.text, "logprobs": null, "finish_reason": finish(answer)});
                ("text_completion", choice)
            }
            Form::Chat => {
                let calls = self.tool_calls(answer);
                let mut message = json!({"role": "assistant", "content": answer.text, "refusal": null});
                if !calls.is_empty() {
                    message["content"] = if answer.text.is_empty() { Value::Null } else { json!(answer.text) };
                    message["tool_calls"] = json!(calls);
                }
                let logprobs = with_logprobs.then(|| logprobs(&answer.logprobs));
                let finish = finish(answer);
                (
                    "chat.completion",
                    json!({"index": 0, "message": message, "logprobs": logprobs, "finish_reason": finish}),
                )
            }
        };
        json!({
            "id": self.id, "object": object, "created": self.created, "model": self.model, "choices": [choice],
            "usage": usage(answer),
        })
    }

    /// The event that a stream begins with.
    pub fn opening(&self) -> Option<String> {
        let begin = || self.chunk(json!({"role": "assistant", "content": ""}), Value::Null);
        (self.form == Form::Chat).then(begin)
    }

    /// A piece of text.
    pub fn piece(&self, text: &str) -> String {
        match self.form {
            Form::Chat => self.chunk(json!({ "content": text }), Value::Null),
            Form::Text => self.text(text, Value::Null),
        }
    }

    /// The events that a stream ends with.
    pub fn end(&self, answer: &Answer) -> Vec<String> {
        let mut events = Vec::new();
        match self.form {
            Form::Text => events.push(self.text("", finish(answer).into())),
            Form::Chat => self.end_chat(answer, &mut events),
        }
        if self.with_usage {
            events.push(self.event(json!([]), usage(answer)).to_string());
        }
        events.push("[DONE]".to_owned());
        events
    }

    fn end_chat(&self, answer: &Answer, events: &mut Vec<String>) {
        if !answer.logprobs.is_empty() {
            // Text goes out when it is sure that no stop text begins in it, so its tokens' probabilities come together, after it.
            events.push(self.chunk_with(json!({"content": ""}), logprobs(&answer.logprobs), Value::Null));
        }
        let mut calls = self.tool_calls(answer);
        if !calls.is_empty() {
            for (at, call) in calls.iter_mut().enumerate() {
                call["index"] = json!(at);
            }
            events.push(self.chunk(json!({ "tool_calls": calls }), Value::Null));
        }
        events.push(self.chunk(json!({}), finish(answer).into()));
    }

    fn text(&self, text: &str, finish_reason: Value) -> String {
        let choice = json!({"index": 0, "text": text, "logprobs": null, "finish_reason": finish_reason});
        self.event(json!([choice]), Value::Null).to_string()
    }

    fn chunk(&self, delta: Value, finish_reason: Value) -> String {
        self.chunk_with(delta, Value::Null, finish_reason)
    }

    fn chunk_with(&self, delta: Value, logprobs: Value, finish_reason: Value) -> String {
        let choice = json!({"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason});
        self.event(json!([choice]), Value::Null).to_string()
    }

    fn event(&self, choices: Value, usage: Value) -> Value {
        let object = if self.form == Form::Chat { "chat.completion.chunk" } else { "text_completion" };
        json!({
            "id": self.id, "object": object, "created": self.created, "model": self.model,
            "choices": choices, "usage": usage,
        })
    }

    fn tool_calls(&self, answer: &Answer) -> Vec<Value> {
        let call = |(at, call): (usize, &ToolCall)| {
            let function = json!({"name": call.name, "arguments": call.arguments.to_string()});
            json!({"id": self.call_id(at), "type": "function", "function": function})
        };
        answer.calls.iter().enumerate().map(call).collect()
    }

    /// The id of one of the calls, of 29 characters: OpenAI takes 40 at most.
    fn call_id(&self, at: usize) -> String {
        let chance = Digest::of(format!("{}_{at}", self.id).as_bytes());
        format!("call_{}", hex::encode(&chance.as_bytes()[..12]))
    }
}

fn finish(answer: &Answer) -> &'static str {
    match answer.finish {
        Finish::Length => "length",
        _ if !answer.calls.is_empty() => "tool_calls",
        Finish::Stop | Finish::Cancelled => "stop",
    }
}

fn logprobs(tokens: &[TokenLogprob]) -> Value {
    let told = |bytes: &[u8], logprob: f32| json!({"token": String::from_utf8_lossy(bytes), "bytes": bytes, "logprob": logprob});
    let token = |token: &TokenLogprob| {
        let mut own = told(&token.bytes, token.logprob);
        own["top_logprobs"] = token.top.iter().map(|(bytes, logprob)| told(bytes, *logprob)).collect();
        own
    };
    json!({"content": tokens.iter().map(token).collect::<Vec<_>>(), "refusal": null})
}

fn usage(answer: &Answer) -> Value {
    json!({
        "prompt_tokens": answer.tokens_in,
        "completion_tokens": answer.tokens_out,
        "total_tokens": answer.tokens_in + answer.tokens_out,
        "prompt_tokens_details": {"cached_tokens": answer.tokens_reused},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ids_of_calls_are_as_short_as_openai_has_them_and_each_its_own() {
        let call = ToolCall { name: "stop".to_owned(), arguments: json!({}) };
        let answer = Answer {
            text: String::new(),
            calls: vec![call.clone(), call],
            tokens_in: 1,
            tokens_reused: 0,
            tokens_out: 2,
            finish: Finish::Stop,
            logprobs: Vec::new(),
        };
        let ids = |envelope: &Envelope| -> Vec<String> {
            let calls = envelope.tool_calls(&answer);
            calls.iter().map(|call| call["id"].as_str().expect("an id").to_owned()).collect()
        };
        let envelopes = [0, 1].map(|_| Envelope::new(Form::Chat, "local/a".to_owned(), false));
        let told = [ids(&envelopes[0]), ids(&envelopes[1])].concat();
        assert!(told.iter().all(|id| id.len() == 29 && id.starts_with("call_")), "{told:?}");
        let different: std::collections::BTreeSet<&String> = told.iter().collect();
        assert_eq!((different.len(), ids(&envelopes[0])), (4, told[..2].to_vec()));
    }
}
