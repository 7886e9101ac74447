//! What an agent may call: an entry of its list, what the model is told of it, and what a call of it asks for.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use shared::{problem::words, workflow::catalog};

use super::super::super::{
    agent::{AGENT, Usage},
    effect::Error,
};
use super::super::run::WORKFLOW;
use super::person::Person;

/// What the providers take as the name of a tool.
const NAME_CHARS_MAX: usize = 64;

/// The function that asks a model.
const INFER: &str = "infer";

/// What a provider without answers in a schema calls the tool that brings one.
const ANSWER: &str = "answer";

/// One entry of an agent's list.
#[derive(Debug)]
pub(super) struct Tool {
    /// As the model calls it.
    pub name: String,
    description: String,
    /// The JSON schema of what the model gives.
    parameters: Value,
    /// What the document gives; the model cannot change it.
    fixed: Map<String, Value>,
    does: Does,
}

#[derive(Debug)]
enum Does {
    Function(&'static catalog::Function),
    /// A tool of a server: the arguments of `call: mcp` but the parameters, and the tool's name there.
    Mcp {
        server: Map<String, Value>,
        tool: String,
    },
    Workflow {
        namespace: String,
        name: String,
        version: String,
    },
    Agent(Value),
    Person(Person),
}

/// What a call of a tool comes to.
pub(super) enum Wanted {
    Effect {
        function: &'static str,
        input: Value,
    },
    /// Another agent takes the case over.
    HandOver(Case<Value>),
    /// A person takes the case over.
    Person(Case<Person>),
}

/// What came of a call, and what it took of the agent's budget.
pub(super) struct Answer {
    pub said: Result<Value, Error>,
    pub usage: Usage,
}

/// What a workflow gives to the agent whose tool it is: what it came to, with what the models that it called took.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfWorkflow {
    #[serde(default, deserialize_with = "present")]
    output: Option<Value>,
    error: Option<Error>,
    usage: Usage,
}

/// An output may be null.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// A case, and who gets it.
pub(super) struct Case<T> {
    pub to: T,
    pub case: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    function: Option<String>,
    mcp: Option<Map<String, Value>>,
    workflow: Option<String>,
    agent: Option<Value>,
    person: Option<Person>,
    name: Option<String>,
    description: Option<String>,
    #[serde(default)]
    with: Map<String, Value>,
    parameters: Option<Value>,
}

impl Tool {
    /// # Errors
    /// Why this is no tool, in one sentence.
    pub fn parse(given: &Value) -> Result<Self, String> {
        let given: Given = match given {
            Value::String(name) => serde_json::from_value(json!({ "function": name })),
            other => Given::deserialize(other),
        }
        .map_err(|error| words::of_serde(&error.to_string()))?;
        let (name, does) = match (given.function, given.mcp, given.workflow, given.agent, given.person) {
            (Some(name), None, None, None, None) => function(&name)?,
            (None, Some(server), None, None, None) => mcp(server, given.name.as_deref())?,
            (None, None, Some(name), None, None) => workflow(&name)?,
            (None, None, None, Some(agent), None) => {
                let name = agent.get("name").and_then(Value::as_str).unwrap_or(AGENT);
                (format!("handoff_{name}"), Does::Agent(agent))
            }
            (None, None, None, None, Some(person)) => (format!("handoff_{}", person.role), Does::Person(person)),
            _ => return Err("expected exactly one of `function`, `mcp`, `workflow`, `agent`, `person`".to_owned()),
        };
        let name = plain(given.name.as_deref().unwrap_or(&name));
        let parameters = given.parameters.unwrap_or_else(|| does.parameters(&given.with));
        catalog::Schema::compile(&parameters).map_err(|error| format!("parameters: {error}"))?;
        if matches!(does, Does::Agent(_) | Does::Person(_)) && parameters["properties"].get("case").is_none() {
            return Err("parameters: missing the property `case`, what the next one must know".to_owned());
        }
        let description = given.description.unwrap_or_else(|| does.description());
        Ok(Self { name, description, parameters, fixed: given.with, does })
    }

    pub const fn agent(&self) -> Option<&Value> {
        match &self.does {
            Does::Agent(agent) => Some(agent),
            _ => None,
        }
    }

    pub const fn is_person(&self) -> bool {
        matches!(self.does, Does::Person(_))
    }

    /// What a call gave. What it took is told by those that ask models of this node alone: whatever else says `usage` in
    /// its output comes from outside, or means something else.
    pub fn answer(&self, output: Value) -> Answer {
        let plain = |output, usage| Answer { said: Ok(output), usage };
        match &self.does {
            Does::Function(function) if function.name == INFER => {
                let usage = output.get("usage").and_then(|usage| Usage::deserialize(usage).ok());
                plain(output, usage.unwrap_or_default())
            }
            Does::Workflow { .. } => match OfWorkflow::deserialize(&output) {
                Ok(OfWorkflow { error: Some(error), usage, .. }) => Answer { said: Err(error), usage },
                Ok(OfWorkflow { output: Some(output), usage, .. }) => plain(output, usage),
                _ => plain(output, Usage::default()),
            },
            Does::Function(_) | Does::Mcp { .. } | Does::Agent(_) | Does::Person(_) => plain(output, Usage::default()),
        }
    }

    /// As the model is told of it.
    pub fn told(&self) -> Value {
        json!({"name": self.name, "description": self.description, "parameters": self.parameters})
    }

    /// What a call with these arguments comes to.
    ///
    /// # Errors
    /// What is wrong with the arguments, for the model.
    pub fn call(&self, arguments: &Value) -> Result<Wanted, String> {
        let Value::Object(given) = arguments else {
            return Err("the arguments are no JSON object".to_owned());
        };
        // The document's own values are not checked here: those of the model must fit what it was told.
        let schema = catalog::Schema::compile(&self.parameters).map_err(|error| error.to_string())?;
        fits(schema.mismatches(arguments))?;
        let mut all = given.clone();
        all.extend(self.fixed.clone());
        let all = Value::Object(all);
        Ok(match &self.does {
            Does::Function(function) => {
                fits(function.mismatches(&all))?;
                Wanted::Effect { function: function.name, input: all }
            }
            Does::Mcp { server, tool } => {
                let mut input = Value::Object(server.clone());
                input["method"] = json!("tools/call");
                input["parameters"] = json!({"name": tool, "arguments": all});
                Wanted::Effect { function: "mcp", input }
            }
            Does::Workflow { namespace, name, version } => {
                let input = json!({"namespace": namespace, "name": name, "version": version, "input": all,
                    "await": true, "usage": true});
                Wanted::Effect { function: WORKFLOW, input }
            }
            Does::Agent(agent) => Wanted::HandOver(Case { to: agent.clone(), case: case(&all) }),
            Does::Person(person) => Wanted::Person(Case { to: person.clone(), case: case(&all) }),
        })
    }
}

impl Does {
    fn parameters(&self, fixed: &Map<String, Value>) -> Value {
        match self {
            Self::Function(function) => {
                let mut schema = function.input().document().clone();
                if let Some(Value::Object(properties)) = schema.get_mut("properties") {
                    properties.retain(|key, _| !fixed.contains_key(key));
                }
                if let Some(Value::Array(required)) = schema.get_mut("required") {
                    required.retain(|key| key.as_str().is_none_or(|key| !fixed.contains_key(key)));
                }
                schema
            }
            Self::Mcp { .. } | Self::Workflow { .. } => json!({"type": "object"}),
            Self::Agent(_) | Self::Person(_) => json!({"type": "object", "required": ["case"],
                "additionalProperties": false,
                "properties": {"case": {"type": "string", "description": "What the next one must know."}}}),
        }
    }

    fn description(&self) -> String {
        match self {
            Self::Function(function) => format!("The function `{}` of this node.", function.name),
            Self::Mcp { tool, .. } => format!("The tool `{tool}`."),
            Self::Workflow { namespace, name, .. } => format!("Runs the workflow {namespace}/{name}."),
            Self::Agent(agent) => {
                let goal = agent.get("goal").and_then(Value::as_str).unwrap_or_default();
                format!("Hands the case over for good to an agent whose goal is: {goal}")
            }
            Self::Person(person) => {
                format!("Hands the case over for good to a person, who answers for the role {:?}.", person.role)
            }
        }
    }
}

fn case(arguments: &Value) -> Value {
    arguments.get("case").cloned().unwrap_or_default()
}

fn function(name: &str) -> Result<(String, Does), String> {
    let known = catalog::function(name).filter(|function| function.is_performed && function.name != AGENT);
    let Some(function) = known else {
        return Err(format!(
            "{name:?} is no built-in function that an agent may call; another agent is given as `agent: {{ .. }}`"
        ));
    };
    Ok((name.to_owned(), Does::Function(function)))
}

fn mcp(mut server: Map<String, Value>, name: Option<&str>) -> Result<(String, Does), String> {
    let own = server.shift_remove("tool");
    let tool = own.as_ref().and_then(Value::as_str).or(name);
    let tool = tool.ok_or("mcp: missing `tool`, the name of the tool on that server")?.to_owned();
    if !server.contains_key("transport") {
        return Err("mcp: missing `transport`, the way to the server".to_owned());
    }
    Ok((tool.clone(), Does::Mcp { server, tool }))
}

fn workflow(reference: &str) -> Result<(String, Does), String> {
    let (path, version) = reference.split_once(':').unwrap_or((reference, "latest"));
    let Some((namespace, name)) = path.split_once('/') else {
        return Err(format!("{reference:?} is no workflow: expected `namespace/name` or `namespace/name:version`"));
    };
    let (namespace, version) = (namespace.to_owned(), version.to_owned());
    Ok((name.to_owned(), Does::Workflow { namespace, name: name.to_owned(), version }))
}

fn fits(found: Vec<catalog::Mismatch>) -> Result<(), String> {
    if found.is_empty() {
        return Ok(());
    }
    let said: Vec<String> = found.iter().map(ToString::to_string).collect();
    Err(format!("the arguments do not fit: {}", said.join("; ")))
}

/// The name with what no provider takes replaced.
fn plain(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' };
    let name: String = name.chars().map(plain).take(NAME_CHARS_MAX).collect();
    if name == ANSWER { format!("{name}_tool") } else { name }
}
