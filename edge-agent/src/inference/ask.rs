//! The arguments of `infer`, parsed and checked; every mistake names its field.

use edge_core::{
    admit::Priority,
    engine::{
        CHAT,
        effect::{Call, Failure, kind},
    },
    route::Offline,
};
use models::generate::{Message, Passage, Role};
use serde::Deserialize;
use serde_json::Value;
use shared::{
    digest::Digest,
    label::Label,
    problem::words,
    time::{self, Timestamp},
};

use super::{chat::Chat, config::Target};

/// An answer of about 700 words; a task that needs more says so.
const MAX_TOKENS: u32 = 1_024;
/// More than any provider writes in one answer.
const MAX_TOKENS_MAX: u32 = 131_072;
/// All text of one request: 4 MiB is beyond the context of the largest models.
const TEXT_BYTES_MAX: usize = 4 << 20;
/// How long a call is parked when neither `parkFor` nor a timeout says: over a day without a link an answer is late, and a
/// person should hear of it.
const PARK_FOR: std::time::Duration = std::time::Duration::from_secs(24 * 3_600);
/// As many as every provider takes.
const STOPS_MAX: usize = 4;
const STOP_BYTES_MAX: usize = 256;
/// Passages of one request; retrieval returns a handful.
const PASSAGES_MAX: usize = 256;

/// What a task asks of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    pub messages: Vec<Message>,
    /// The same with tools, when it is an agent's turn.
    pub chat: Option<Chat>,
    pub passages: Vec<Passage>,
    /// Names or patterns such as `local/*`, in the order of preference; empty: whatever the node has.
    pub models: Vec<String>,
    pub schema: Option<Value>,
    pub max_tokens: u32,
    pub sampling: Sampling,
    pub cost_micro_usd_max: Option<u64>,
    pub offline: Offline,
    pub park_until: Option<Timestamp>,
    /// Before whom it is answered by a model on this node.
    pub priority: Priority,
}

/// How tokens are drawn, and where an answer ends.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sampling {
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    pub seed: Option<u32>,
    /// For models on this node where no seed is given: another one for each call, and the same one when a call is asked again.
    pub drawn: u64,
    pub stop: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Arguments {
    prompt: Option<Value>,
    messages: Option<Vec<Message>>,
    #[serde(default)]
    passages: Vec<GivenPassage>,
    model: Option<Several>,
    schema: Option<Value>,
    max_tokens: Option<u32>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    seed: Option<u32>,
    stop: Option<Several>,
    max_cost_usd: Option<f64>,
    #[serde(default)]
    offline: Offline,
    park_for: Option<String>,
    #[serde(default)]
    priority: Priority,
}

/// A passage as `retrieve` returns it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GivenPassage {
    text: String,
    #[serde(default)]
    document: String,
    #[serde(default)]
    place: String,
    /// For ranking; the model is given the passages in that order.
    #[serde(default, rename = "score")]
    _score: Option<f64>,
    /// For whoever retrieved it; the run's own label has joined it.
    #[serde(default, rename = "label")]
    _label: Option<Label>,
    /// Who said it, of a conversation: for `messages`.
    #[serde(default, rename = "role")]
    _role: Option<String>,
    /// Of an episode; its text says them.
    #[serde(default, rename = "outcome")]
    _outcome: Option<String>,
    #[serde(default, rename = "details")]
    _details: Option<Value>,
}

#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum Several {
    One(String),
    Many(Vec<String>),
}

impl Ask {
    /// Parses a call's arguments.
    ///
    /// # Errors
    /// A validation error that names the field and what was expected.
    pub fn parse(call: &Call) -> Result<Self, Failure> {
        if call.function == CHAT {
            let (chat, call) = Chat::parse(call)?;
            return Ok(Self { chat: Some(chat), ..Self::parse(&call)? });
        }
        let given: Arguments = call.arguments()?;
        let wrong = |field: &str, expected: &str| {
            Failure::new(kind::VALIDATION, format!("infer of {}: {field}: {expected}", call.task))
        };
        let sampling = sampling(&given, call).map_err(|(field, expected)| wrong(field, &expected))?;
        let messages = match (given.prompt, given.messages) {
            (Some(_), Some(_)) => return Err(wrong("messages", "give either prompt or messages")),
            (None, None) => return Err(wrong("prompt", "missing; expected a text, or messages instead")),
            (Some(Value::String(text)), None) => vec![Message { role: Role::User, content: text }],
            // A prompt that was built as an object is as good as its JSON text.
            (Some(value), None) => vec![Message { role: Role::User, content: value.to_string() }],
            (None, Some(messages)) => messages,
        };
        if messages.iter().all(|message| message.content.trim().is_empty()) {
            return Err(wrong("prompt", "empty; expected a text"));
        }
        if given.passages.len() > PASSAGES_MAX {
            return Err(wrong("passages", &format!("at most {PASSAGES_MAX} passages")));
        }
        let passages: Vec<Passage> = given.passages.into_iter().map(GivenPassage::into_passage).collect();
        let bytes = messages.iter().map(|m| m.content.len()).sum::<usize>()
            + passages.iter().map(|p| p.text.len()).sum::<usize>();
        if bytes > TEXT_BYTES_MAX {
            return Err(wrong("prompt", &format!("{bytes} bytes with passages; at most {TEXT_BYTES_MAX}")));
        }
        let max_tokens = given.max_tokens.unwrap_or(MAX_TOKENS);
        if !(1..=MAX_TOKENS_MAX).contains(&max_tokens) {
            return Err(wrong("maxTokens", &format!("{max_tokens}; expected 1 to {MAX_TOKENS_MAX}")));
        }
        if let Some(schema) = &given.schema {
            jsonschema::validator_for(schema)
                .map_err(|error| wrong("schema", &format!("not a JSON schema: {}", words::of_schema(&error))))?;
        }
        let park_until = match &given.park_for {
            // A timeout of the task, the workflow or a scope between ends it too; without either it would wait for ever.
            None => call.deadline.is_none().then(|| call.by_wall(call.asked_at).plus(PARK_FOR)),
            Some(text) => {
                let span = time::span(text).filter(|span| !span.is_zero());
                let expected = || wrong("parkFor", &format!("{text:?}; expected {}", time::SPAN));
                Some(call.by_wall(call.asked_at).plus(span.ok_or_else(expected)?))
            }
        };
        Ok(Self {
            messages,
            chat: None,
            passages,
            models: given.model.map_or_else(Vec::new, Several::into_list),
            schema: given.schema,
            max_tokens,
            sampling,
            cost_micro_usd_max: given
                .max_cost_usd
                .map(|usd| micro_usd(usd).ok_or(usd))
                .transpose()
                .map_err(|usd| wrong("maxCostUsd", &format!("{usd}; expected US dollars, 0 or more")))?,
            offline: given.offline,
            park_until,
            priority: given.priority,
        })
    }

    /// Where in the order of preference this target stands; `None` when the task does not name it.
    #[must_use]
    pub fn preference(&self, target: &str) -> Option<usize> {
        let matches = |pattern: &String| match pattern.strip_suffix('*') {
            Some(prefix) => target.starts_with(prefix),
            None => pattern == target,
        };
        self.models.iter().position(matches)
    }

    /// Whether a name without a wildcard stands for a target that this node does not have.
    #[must_use]
    pub fn unknown<'a>(&'a self, targets: &[Target]) -> Option<&'a str> {
        let known = |name: &str| name == super::EXTRACT || targets.iter().any(|target| target.name == name);
        self.models.iter().map(String::as_str).find(|name| !name.ends_with('*') && !known(name))
    }
}

/// # Errors
/// The field and what was expected.
fn sampling(given: &Arguments, call: &Call) -> Result<Sampling, (&'static str, String)> {
    if given.temperature.is_some_and(|t| !(0.0..=2.0).contains(&t)) {
        return Err(("temperature", "expected 0 to 2".to_owned()));
    }
    if given.top_p.is_some_and(|p| !(0.0..=1.0).contains(&p)) {
        return Err(("topP", "expected 0 to 1".to_owned()));
    }
    let stop = given.stop.clone().map_or_else(Vec::new, Several::into_list);
    if stop.len() > STOPS_MAX || stop.iter().any(|text| !(1..=STOP_BYTES_MAX).contains(&text.len())) {
        return Err(("stop", format!("expected at most {STOPS_MAX} texts of 1 to {STOP_BYTES_MAX} bytes")));
    }
    if given.schema.is_some() && !stop.is_empty() {
        return Err(("stop", "not beside a schema, whose value ends where it is whole".to_owned()));
    }
    let named = Digest::of(format!("{} {}", call.key.0, call.asked_at).as_bytes());
    let drawn = u64::from_le_bytes(std::array::from_fn(|at| named.as_bytes()[at]));
    Ok(Sampling { temperature: given.temperature, top_p: given.top_p, seed: given.seed, drawn, stop })
}

impl GivenPassage {
    fn into_passage(self) -> Passage {
        Passage { text: self.text, document: self.document, place: self.place }
    }
}

impl Several {
    fn into_list(self) -> Vec<String> {
        match self {
            Self::One(name) => vec![name],
            Self::Many(names) => names,
        }
    }
}

fn micro_usd(usd: f64) -> Option<u64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be 0 to 10^15")]
    (0.0..=1e9).contains(&usd).then(|| (usd * 1e6).floor() as u64)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use edge_core::engine::effect::EffectKey;
    use serde_json::json;
    use shared::{id::RunId, label::Label};

    pub(crate) fn call(input: Value) -> Call {
        let now = crate::clock::now();
        Call {
            key: EffectKey("run:/do/0/ask".to_owned()),
            run: RunId::derive(now, b"test"),
            task: "/do/0/ask".to_owned(),
            workflow: "test/ask:1.0.0".to_owned(),
            function: "infer".to_owned(),
            input,
            label: Label::default(),
            deadline: None,
            agent: None,
            asked_at: now,
            ahead_us: 0,
        }
    }

    #[test]
    fn a_full_request_is_read() {
        let call = call(json!({
            "prompt": "Why is it hot?", "passages": [{"text": "Check the fan.", "document": "m.md", "score": 0.5}],
            "model": ["cloud/large", "local/*"], "schema": {"type": "object"}, "maxTokens": 99, "temperature": 0.2,
            "maxCostUsd": 0.01, "offline": "park", "parkFor": "P1DT1H", "priority": "urgent"
        }));
        let ask = Ask::parse(&call).expect("valid");
        assert_eq!((ask.max_tokens, ask.cost_micro_usd_max, ask.offline), (99, Some(10_000), Offline::Park));
        assert_eq!(ask.park_until, Some(call.asked_at.plus(std::time::Duration::from_secs(25 * 3_600))));
        assert_eq!(ask.priority, Priority::Urgent);
        assert_eq!(ask.preference("local/small"), Some(1));
        assert_eq!(ask.preference("cloud/other"), None);
    }

    #[test]
    fn no_call_is_parked_for_ever() {
        let park = |more: Value, deadline: Option<u64>| {
            let mut input = json!({"prompt": "a", "offline": "park"});
            input.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            let mut call = call(input);
            let hours = |hours: u64| std::time::Duration::from_secs(hours * 3_600);
            call.deadline = deadline.map(|deadline| call.asked_at.plus(hours(deadline)));
            let until = Ask::parse(&call).expect("valid").park_until.or(call.deadline).expect("an end");
            until.since(call.asked_at).as_secs() / 3_600
        };
        assert_eq!(park(json!({}), None), 24);
        assert_eq!(park(json!({}), Some(72)), 72, "a timeout is an end of its own");
        assert_eq!(park(json!({"parkFor": "PT36H"}), None), 36);
    }

    #[test]
    fn a_mistake_names_the_field_and_what_was_expected() {
        let wrong = [
            (json!({}), "prompt: missing"),
            (json!({"prompt": " "}), "prompt: empty"),
            (json!({"prompt": "a", "messages": []}), "either prompt or messages"),
            (json!({"promt": "a"}), "unknown field `promt`"),
            (json!({"prompt": "a", "maxTokens": "ten"}), "maxTokens: invalid type: string \"ten\""),
            (json!({"prompt": "a", "maxTokens": 0}), "maxTokens: 0; expected 1 to"),
            (json!({"prompt": "a", "offline": "maybe"}), "offline: unknown variant `maybe`, expected one of"),
            (
                json!({"prompt": "a", "priority": "high"}),
                "priority: unknown variant `high`, expected one of `urgent`, `normal`",
            ),
            (json!({"prompt": "a", "parkFor": "soon"}), "parkFor: \"soon\"; expected a span of time"),
            (json!({"prompt": "a", "schema": {"type": "objekt"}}), "schema: not a JSON schema"),
            (json!({"prompt": "a", "topP": 1.5}), "topP: expected 0 to 1"),
            (json!({"prompt": "a", "stop": ["b", ""]}), "stop: expected at most 4 texts of 1 to 256 bytes"),
            (json!({"prompt": "a", "stop": "b", "schema": {}}), "stop: not beside a schema"),
            (json!({"prompt": "a", "seed": -1}), "seed: invalid value"),
            (json!({"prompt": "a", "maxCostUsd": -1}), "maxCostUsd: -1"),
            (json!({"prompt": "a", "passages": [{"txt": "b"}]}), "passages[0]"),
            (json!({"messages": [{"role": "robot", "content": "a"}]}), "messages[0].role: unknown variant `robot`"),
        ];
        for (input, expected) in wrong {
            let failure = Ask::parse(&call(input.clone())).expect_err("wrong");
            let detail = failure.error.detail.unwrap_or_default();
            assert!(detail.contains(expected), "{input}\n gave {detail}\n expected {expected}");
            assert_eq!(failure.error.kind, kind::VALIDATION.0);
        }
    }
}
