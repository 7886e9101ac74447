//! Calls of tools: the model writes freely until it begins a call in its family's way; from there it is held to what the tools take. Where what it
//! says otherwise has to fit a schema, it is held from the beginning: to a call, or to a value.

use std::ops::ControlFlow;

use llguidance::Matcher;
use serde_json::{Map, Value, json};

use super::{
    Characters, Chat, Read, answer,
    guide::{Guide, lost},
    sample::Allowed,
    schema,
    template::Form,
    unwritten,
    writing::Writing,
};
use crate::{
    Error,
    generate::{
        Answer, Finish, Request, Tool, ToolCall, ToolChoice,
        stream::Stream,
        tools::{CLOSE, OPEN},
    },
};

/// Calls in one answer; a model that asks for more repeats itself.
const CALLS_MAX: usize = 16;

/// White space between two calls; a model that writes more of it writes nothing else.
const SPACE_MAX: usize = 16;

/// How free text ended.
enum Free {
    Call,
    End(Finish),
}

impl Chat {
    /// Calls, and what is said beside them; with a schema in place of that one value that fits it, never cut.
    pub(super) fn generate_calls(
        &self,
        request: &Request,
        held: Option<&Value>,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Answer, Error> {
        let form = self.template.form();
        let tools = chosen(request)?;
        let schema = calls_schema(&tools, form, held.filter(|_| form == Form::Bare))?;
        let prompt = self.prompt(request)?;
        let (matcher, hints) = self.grammars.matcher(&self.tokens, &schema)?;
        let value = held.filter(|_| form == Form::Tags).map(|held| self.grammars.matcher(&self.tokens, held));
        let value = value.transpose()?;
        let most = self.most(request, &prompt);
        let mut stops = if held.is_some() { Vec::new() } else { request.stop.clone() };
        stops.extend((form == Form::Tags && held.is_none()).then(|| OPEN.to_owned()));
        let mut stream = Stream::new(&stops, on_text);
        let mut writing = match self.read(request, prompt, most, &mut stream)? {
            Read::Whole(writing) => *writing,
            Read::Broken(tokens_in, finish) => return Ok(unwritten(stream, tokens_in, finish)),
        };
        if let Some((matcher, hints)) = value
            && (most == 0 || !self.begins_call(&mut writing, &matcher)?)
        {
            let send = &mut |text: &str| stream.push(text);
            let finish = Guide { hints: &hints, matcher, writing: &mut writing, send }.write(most)?;
            return Ok(answer(writing, stream, finish));
        }
        let mut calls = Vec::new();
        let mut is_free = request.tool_choice == ToolChoice::Auto && held.is_none();
        let finish = loop {
            let found =
                if is_free { self.free(form, &mut writing, &mut stream, calls.is_empty(), most)? } else { Free::Call };
            if let Free::End(finish) = found {
                break finish;
            }
            self.open(form, &mut writing)?;
            let mut written = String::new();
            let send = &mut |text: &str| {
                written.push_str(text);
                stream.ask()
            };
            let guide = Guide { hints: &hints, matcher: matcher.deep_clone(), writing: &mut writing, send };
            let finish = guide.write(most)?;
            if finish == Finish::Cancelled {
                break finish;
            }
            let mut call = read_call(&written, &tools);
            if held.is_some() && call.is_some() && !self.is_call(&tools, form, &written)? {
                call = None;
            }
            let Some(call) = call else {
                // A bare object that is no call is the value.
                if held.is_some() {
                    break stream.push(&written).break_value().unwrap_or(finish);
                }
                return Err(Error::request("tools: the model's call cannot be read"));
            };
            calls.push(call);
            let is_last = request.single_call || matches!(request.tool_choice, ToolChoice::Named(_));
            if finish != Finish::Stop || is_last {
                break finish;
            }
            if form == Form::Bare || calls.len() == CALLS_MAX {
                break Finish::Stop;
            }
            self.force(&mut writing, &format!("\n{CLOSE}"))?;
            is_free = true;
        };
        Ok(Answer { calls, ..answer(writing, stream, finish) })
    }

    /// Whether a text is a call that its tool takes; a schema may be fit by what only looks like one.
    pub(super) fn is_call(&self, tools: &[&Tool], form: Form, text: &str) -> Result<bool, Error> {
        let (mut matcher, _) = self.grammars.matcher(&self.tokens, &calls_schema(tools, form, None)?)?;
        let mut tokens = Vec::new();
        self.tokens.encode_plain(text, &mut tokens)?;
        let taken = matcher.try_consume_tokens(&tokens).map_err(lost)?;
        Ok(taken == tokens.len() && (matcher.is_stopped() || matcher.is_accepting().map_err(lost)?))
    }

    /// Whether the model begins a call where it may as well begin a value: by its first token, of those that begin the one or the other.
    fn begins_call(&self, writing: &mut Writing<'_>, value: &Matcher) -> Result<bool, Error> {
        let mut mask = value.deep_clone().compute_mask().map_err(lost)?;
        let begins = |token: &u32| {
            let bytes = self.tokens.bytes(*token);
            !bytes.is_empty() && (OPEN.as_bytes().starts_with(bytes) || bytes.starts_with(OPEN.as_bytes()))
        };
        let calls: Vec<u32> = (0..self.tokens.len() as u32).filter(begins).collect();
        calls.iter().for_each(|token| mask.allow_token(*token));
        let token = writing.choose(Allowed::Bits(mask.as_slice()))?;
        #[cfg(test)]
        let token = self.script.lock().unwrap().pop_front().or(token);
        Ok(token.is_some_and(|token| calls.contains(&token)))
    }

    /// Writes freely until a call begins or the answer ends. After a call nothing is said but further calls.
    fn free(
        &self,
        form: Form,
        writing: &mut Writing<'_>,
        stream: &mut Stream<'_>,
        is_said: bool,
        most: usize,
    ) -> Result<Free, Error> {
        let (mut characters, mut bytes) = (Characters::default(), Vec::new());
        let start = writing.tokens_out();
        while writing.tokens_out() < most {
            let token = self.choose_freely(writing)?;
            if self.tokens.is_end(token) {
                return Ok(Free::End(Finish::Stop));
            }
            writing.push_chosen(token);
            bytes.extend_from_slice(self.tokens.bytes(token));
            let begun = match form {
                Form::Tags => bytes.windows(OPEN.len()).position(|window| window == OPEN.as_bytes()),
                // A call is the whole answer.
                Form::Bare => bytes.iter().position(|byte| !byte.is_ascii_whitespace()).filter(|at| bytes[*at] == b'{'),
            };
            let text = characters.push(self.tokens.bytes(token));
            let text = if start == 0 && writing.tokens_out() == 1 { text.trim_start_matches(' ') } else { &text };
            let is_call = begun.is_some_and(|_| form == Form::Tags || is_said);
            if is_said && (form == Form::Tags || !is_call) {
                match stream.push(text) {
                    // The opening tag is a stop text too, so that no part of it is said.
                    ControlFlow::Break(Finish::Stop) if is_call => {}
                    ControlFlow::Break(finish) => return Ok(Free::End(finish)),
                    ControlFlow::Continue(()) => {}
                }
            } else if let ControlFlow::Break(finish) = stream.ask() {
                return Ok(Free::End(finish));
            } else if !is_said && !leads_to_call(&bytes) {
                self.cut(writing, start, 0);
                return Ok(Free::End(Finish::Stop));
            }
            if let (true, Some(at)) = (is_call, begun) {
                self.cut(writing, start, at);
                return Ok(Free::Call);
            }
        }
        if is_said {
            return Ok(Free::End(Finish::Length));
        }
        // The calls before are whole.
        self.cut(writing, start, 0);
        Ok(Free::End(Finish::Stop))
    }

    /// Takes back what was written since a token of the answer, but for the tokens that lie whole within so many bytes.
    fn cut(&self, writing: &mut Writing<'_>, start: usize, bytes: usize) {
        let (mut kept, mut len) = (start, 0);
        for token in &writing.written()[start..] {
            len += self.tokens.bytes(*token).len();
            if len > bytes {
                break;
            }
            kept += 1;
        }
        writing.cut(kept);
    }

    /// Begins a call.
    fn open(&self, form: Form, writing: &mut Writing<'_>) -> Result<(), Error> {
        match form {
            Form::Tags => self.force(writing, &format!("{OPEN}\n")),
            Form::Bare => Ok(()),
        }
    }

    fn force(&self, writing: &mut Writing<'_>, text: &str) -> Result<(), Error> {
        let mut tokens = Vec::new();
        self.tokens.encode_continued(text, &mut tokens)?;
        writing.push_forced(&tokens);
        Ok(())
    }
}

/// Whether what follows on a call may become another one: white space, and what of the opening tag there is.
fn leads_to_call(bytes: &[u8]) -> bool {
    let begun = bytes.trim_ascii_start();
    let (tag, space) = (OPEN.as_bytes(), bytes.len() - begun.len());
    space <= SPACE_MAX && (tag.starts_with(begun) || begun.starts_with(tag))
}

/// The tools that may be called.
fn chosen(request: &Request) -> Result<Vec<&Tool>, Error> {
    let ToolChoice::Named(name) = &request.tool_choice else { return Ok(request.tools.iter().collect()) };
    let tool = request.tools.iter().find(|tool| tool.name == *name);
    tool.map(|tool| vec![tool]).ok_or_else(|| Error::request(format!("tool_choice: no tool is named {name:?}")))
}

/// What one call is: the name of a tool, and what that takes; or, where it is given, what fits this other schema.
fn calls_schema(tools: &[&Tool], form: Form, other: Option<&Value>) -> Result<Value, Error> {
    let arguments = form.arguments();
    let mut options = Vec::new();
    for (at, tool) in tools.iter().enumerate() {
        let wrong = |error: Error| Error::request(format!("tools: parameters of {:?}: {error}", tool.name));
        schema::narrow(&tool.parameters).map_err(wrong)?;
        let parameters = moved(&tool.parameters, &format!("#/anyOf/{at}/properties/{arguments}"));
        let mut properties = Map::new();
        properties.insert("name".to_owned(), json!({ "const": tool.name }));
        properties.insert(arguments.to_owned(), parameters);
        options.push(json!({
            "type": "object", "properties": properties, "required": ["name", arguments], "additionalProperties": false,
        }));
    }
    if let Some(other) = other {
        schema::narrow(other)?;
        options.push(moved(other, &format!("#/anyOf/{}", options.len())));
    }
    Ok(json!({ "anyOf": options }))
}

/// Keywords whose value has schemas under names that anybody chose.
const NAMING: [&str; 5] = ["properties", "patternProperties", "dependentSchemas", "$defs", "definitions"];

/// A schema that stands within another: its references lead to where it stands.
fn moved(schema: &Value, to: &str) -> Value {
    match schema {
        Value::Object(map) => {
            let part = |(key, value): (&String, &Value)| {
                let value = match value {
                    Value::Object(named) if NAMING.contains(&key.as_str()) => {
                        named.iter().map(|(name, schema)| (name.clone(), moved(schema, to))).collect()
                    }
                    Value::String(reference) if key == "$ref" => match reference.strip_prefix('#') {
                        Some(pointer) => json!(format!("{to}{pointer}")),
                        None => value.clone(),
                    },
                    // What an answer may be equal to is no schema.
                    _ if matches!(key.as_str(), "const" | "enum" | "default" | "examples") => value.clone(),
                    value => moved(value, to),
                };
                (key.clone(), value)
            };
            Value::Object(map.iter().map(part).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(|item| moved(item, to)).collect()),
        other => other.clone(),
    }
}

fn read_call(text: &str, tools: &[&Tool]) -> Option<ToolCall> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Written {
        name: String,
        #[serde(alias = "parameters")]
        arguments: Value,
    }
    let Written { name, arguments } = serde_json::from_str(text).ok()?;
    tools.iter().any(|tool| tool.name == name).then_some(ToolCall { name, arguments })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_lead_to_where_a_schema_stands_whatever_its_parameters_are_called() {
        let parameters = json!({
            "$defs": {"enum": {"type": "integer"}},
            "properties": {"default": {"$ref": "#/$defs/enum"}, "part": {"const": {"$ref": "#/kept"}}, "self": {"$ref": "#"}},
        });
        let expected = json!({
            "$defs": {"enum": {"type": "integer"}},
            "properties": {"default": {"$ref": "#/a/$defs/enum"}, "part": {"const": {"$ref": "#/kept"}}, "self": {"$ref": "#/a"}},
        });
        assert_eq!(moved(&parameters, "#/a"), expected);
    }
}
