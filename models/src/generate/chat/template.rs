//! The chat template of a model: how messages become one prompt. A template comes with the model's file, so it is held within
//! limits of steps and of what it writes; of what it only makes up on the way, by the process that it runs in (`draft`).

use std::io;

use minijinja::{
    Environment, ErrorKind, UndefinedBehavior, Value, context,
    syntax::SyntaxConfig,
    value::{Kwargs, Serde},
};
use serde::Serialize;
use serde_json::json;

use super::draft::Draft;
use crate::generate::{
    Message, Role, Tool, ToolCall,
    tools::{CLOSE, OPEN, split_calls},
};

/// In which form a model writes calls of tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Between tags, several if need be, after free text: Qwen, Hermes, and what is told so.
    Tags,
    /// The whole answer is one: Llama 3.
    Bare,
}

impl Form {
    /// The key of a call's arguments.
    pub(super) const fn arguments(self) -> &'static str {
        match self {
            Self::Tags => "arguments",
            Self::Bare => "parameters",
        }
    }
}

/// Steps of the template engine; a template takes some tens a message.
const FUEL: u64 = 2_000_000;

/// The form of the ChatML family, for files that carry none.
const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}\
                      {% endfor %}{{ '<|im_start|>assistant\n' }}";
/// The least that a model without a template may understand.
const PLAIN: &str =
    "{% for message in messages %}{{ message.role + ': ' + message.content + '\n' }}{% endfor %}{{ 'assistant: ' }}";

/// A compiled template.
pub(super) struct Template {
    environment: Environment<'static>,
    /// As it stands in the model's file, if it stands there.
    source: Option<String>,
    begin: String,
    end: String,
    form: Form,
    /// Whether it says itself what the tools are.
    knows_tools: bool,
}

impl Template {
    /// Compiles a template; without one, the form that fits the vocabulary's end token.
    pub(super) fn new(source: Option<&str>, begin: &str, end: &str) -> Result<Self, minijinja::Error> {
        let default = if end == "<|im_end|>" { CHATML } else { PLAIN };
        let own = source.map(str::to_owned);
        let source = source.unwrap_or(default);
        let mut environment = Environment::new();
        // As transformers sets Jinja up.
        environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.set_fuel(Some(FUEL));
        environment.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_filter("tojson", to_json);
        environment.add_template_owned("chat", source.to_owned())?;
        let knows = |words: &[&str]| words.iter().all(|word| source.contains(word));
        let (form, knows_tools) = match (knows(&["tools", OPEN]), knows(&["tools", "\"parameters\""])) {
            (true, _) => (Form::Tags, true),
            (false, true) => (Form::Bare, true),
            (false, false) => (Form::Tags, false),
        };
        Ok(Self { environment, source: own, begin: begin.to_owned(), end: end.to_owned(), form, knows_tools })
    }

    pub(super) const fn form(&self) -> Form {
        self.form
    }

    /// What another process needs to write the prompt; `None` for a form of our own, which is written where it is asked for.
    pub(super) fn draft(&self, messages: &[Message], tools: &[Tool], most: usize) -> Option<Draft> {
        let (template, begin, end) = (self.source.clone()?, self.begin.clone(), self.end.clone());
        Some(Draft { template, begin, end, messages: messages.to_vec(), tools: tools.to_vec(), most })
    }

    /// The prompt, up to where the assistant speaks; `None` when it would have more than so many bytes.
    pub(super) fn render(
        &self,
        messages: &[Message],
        tools: &[Tool],
        most: usize,
    ) -> Result<Option<String>, minijinja::Error> {
        let mut messages = messages.to_vec();
        if !self.knows_tools {
            told(&mut messages, tools);
        }
        let values: Vec<Value> = messages.iter().map(|message| self.message(message)).collect();
        let tool = |tool: &Tool| {
            let Tool { name, description, parameters } = tool;
            let function = json!({ "name": name, "description": description, "parameters": parameters });
            Value::from(Serde(json!({ "type": "function", "function": function })))
        };
        let tools: Vec<Value> = tools.iter().filter(|_| self.knows_tools).map(tool).collect();
        let context = context! {
            messages => values,
            // Templates ask whether there are any, and some whether they are defined.
            tools => (!tools.is_empty()).then_some(tools),
            tools_in_user_message => false,
            bos_token => self.begin.as_str(),
            eos_token => self.end.as_str(),
            add_generation_prompt => true,
            // What a reasoning model thinks aloud costs a gateway minutes and is not asked for.
            enable_thinking => false,
        };
        let mut prompt = Prompt { text: Vec::new(), most, is_over: false };
        match self.environment.get_template("chat")?.render_captured_to(context, &mut prompt) {
            _ if prompt.is_over => Ok(None),
            Err(error) => Err(error),
            Ok(_) => Ok(Some(String::from_utf8_lossy(&prompt.text).into_owned())),
        }
    }

    fn message(&self, message: &Message) -> Value {
        let role = match message.role {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        };
        let calls = if message.role == Role::Assistant && self.knows_tools {
            split_calls(&message.content)
        } else {
            Default::default()
        };
        match calls {
            (_, calls) if calls.is_empty() => context! { role => role, content => message.content.as_str() },
            (text, calls) => {
                let call = |call: &ToolCall| Value::from(Serde(json!({ "type": "function", "function": call })));
                let calls: Vec<Value> = calls.iter().map(call).collect();
                context! { role => role, content => text, tool_calls => calls }
            }
        }
    }
}

/// A prompt as it is written, of so many bytes at most.
struct Prompt {
    text: Vec<u8>,
    most: usize,
    is_over: bool,
}

impl io::Write for Prompt {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.most - self.text.len() {
            self.is_over = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Says in words what a template has no place for.
fn told(messages: &mut Vec<Message>, tools: &[Tool]) {
    for message in messages.iter_mut().filter(|message| message.role == Role::Tool) {
        message.role = Role::User;
        message.content = format!("<tool_response>\n{}\n</tool_response>", message.content);
    }
    if tools.is_empty() {
        return;
    }
    let line = |tool: &Tool| {
        let Tool { name, description, parameters } = tool;
        json!({"name": name, "description": description, "parameters": parameters}).to_string()
    };
    let lines: Vec<String> = tools.iter().map(line).collect();
    let text = format!(
        "You may call these tools:\n{}\nTo call one, write only\n{OPEN}\n{{\"name\": its name, \"arguments\": its arguments}}\n{CLOSE}",
        lines.join("\n")
    );
    match messages.iter_mut().find(|message| matches!(message.role, Role::System | Role::User)) {
        Some(message) => message.content = format!("{text}\n\n{}", message.content),
        None => messages.insert(0, Message { role: Role::System, content: text }),
    }
}

/// The tool with what it says gone through `clean`.
pub(super) fn cleaned(tool: &Tool, clean: &dyn Fn(&str) -> String) -> Tool {
    let parameters = cleaned_value(&tool.parameters, clean);
    Tool { name: clean(&tool.name), description: clean(&tool.description), parameters }
}

fn cleaned_value(value: &serde_json::Value, clean: &dyn Fn(&str) -> String) -> serde_json::Value {
    match value {
        serde_json::Value::String(text) => clean(text).into(),
        serde_json::Value::Array(items) => items.iter().map(|item| cleaned_value(item, clean)).collect(),
        serde_json::Value::Object(map) => serde_json::Value::Object(
            map.iter().map(|(key, value)| (clean(key), cleaned_value(value, clean))).collect(),
        ),
        other => other.clone(),
    }
}

/// JSON as Python writes it: a space after comma and colon, and no character escaped for HTML.
fn to_json(value: &Value, options: Kwargs) -> Result<Value, minijinja::Error> {
    let indent = options.get::<Option<usize>>("indent")?;
    let wrong = |error: serde_json::Error| minijinja::Error::new(ErrorKind::BadSerialization, error.to_string());
    let mut bytes = Vec::new();
    match indent {
        Some(width) => {
            let spaces = " ".repeat(width.min(16));
            let formatter = serde_json::ser::PrettyFormatter::with_indent(spaces.as_bytes());
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter)).map_err(wrong)?;
        }
        None => value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, Spaced)).map_err(wrong)?,
    }
    Ok(Value::from_safe_string(String::from_utf8_lossy(&bytes).into_owned()))
}

struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::with_calls;

    #[test]
    fn tools_and_calls_are_rendered_as_the_template_writes_them() {
        let source = concat!(
            "{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}<tool_call>{% for m in messages %}[{{ m.role }}] {{ m.content }}",
            "{% for call in m.tool_calls %}{{ call.function.name }}{{ call.function.arguments | tojson }}{% endfor %}{% endfor %}",
        );
        let template = Template::new(Some(source), "", "").unwrap();
        let tool = Tool {
            name: "f".to_owned(),
            description: "<|x|>".to_owned(),
            parameters: json!({"type": "object", "a": [1, "é<"]}),
        };
        let call = ToolCall { name: "f".to_owned(), arguments: json!({"a": 1, "b": [true, null]}) };
        let messages = [
            Message { role: Role::User, content: "Go.".to_owned() },
            Message { role: Role::Assistant, content: with_calls("I go.", &[call]) },
            Message { role: Role::Tool, content: "gone".to_owned() },
        ];
        let tool = cleaned(&tool, &|text| text.replace("<|x|>", "x"));
        assert_eq!(
            template.render(&messages, std::slice::from_ref(&tool), 1_000).unwrap().unwrap(),
            concat!(
                "{\"type\": \"function\", \"function\": {\"name\": \"f\", \"description\": \"x\", ",
                "\"parameters\": {\"type\": \"object\", \"a\": [1, \"é<\"]}}}\n",
                "<tool_call>[user] Go.[assistant] I go.f{\"a\": 1, \"b\": [true, null]}[tool] gone",
            )
        );
        let plain = Template::new(None, "", "").unwrap();
        let text = plain.render(&messages, std::slice::from_ref(&tool), 1_000).unwrap().unwrap();
        assert!(text.starts_with("user: You may call these tools:\n{\"name\":\"f\""), "{text}");
        assert!(text.contains("user: <tool_response>\ngone\n</tool_response>"), "{text}");
    }

    #[test]
    fn a_template_that_writes_without_end_is_stopped_at_the_length_of_a_prompt() {
        let messages = [Message { role: Role::User, content: "é".to_owned() }];
        let written = |source: &str, most: usize| {
            let template = Template::new(Some(source), "", "").unwrap();
            template.render(&messages, &[], most)
        };
        let bomb = "{% for i in range(100000) %}{{ 'x' * 1000000 }}{% endfor %}";
        assert_eq!(written(bomb, 1 << 20).unwrap(), None);
        let content = "{{ messages[0].content }}!";
        assert_eq!(written(content, 3).unwrap().as_deref(), Some("é!"));
        assert_eq!(written(content, 2).unwrap(), None);
        let steps =
            written("{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}", 1 << 20);
        assert!(steps.unwrap_err().to_string().contains("fuel"), "steps are counted");
    }
}
