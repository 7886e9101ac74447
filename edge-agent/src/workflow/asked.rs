//! What a person asks of the node's functions outside any run: policy is asked as for a workflow's task, in the name of `node/person`, and the
//! ledger is told before the answer is given.

use edge_core::engine::effect::{Call, Completion, EffectKey, Failure, kind};
use serde::Deserialize;
use serde_json::{Value, json};
use shared::{
    id::RunId,
    label::Label,
    ledger::entry::{Entry, Fact},
};

use super::{Outcome, Rooms, perform::Perform as _};
use crate::{clock, memory::RANKED_MAX, store::Store};

/// The workflow as which policy sees what a person asks: `Workflow::"node/person"`.
pub const WORKFLOW: &str = "node/person";

/// Passages that an answer rests on, where the person does not say.
const TOP_K: usize = 4;

/// What a person wants: a function with its arguments, and what they demand.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// `ask` for an answer from the documents, `search` for passages of all indexes, `remember` and `forget` as workflows have them,
    /// or `follow` for files that are kept in step with.
    pub function: String,
    pub input: Value,
    pub label: Label,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Question {
    question: String,
    index: Option<String>,
    top_k: Option<usize>,
    model: Option<Value>,
    max_tokens: Option<u32>,
    /// Whether to answer from passages that have nothing to do with the question, too.
    #[serde(default)]
    any: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Search {
    query: String,
    index: Option<String>,
    top_k: Option<usize>,
    /// As `retrieve` has them.
    kind: Option<Value>,
    outcome: Option<Value>,
}

/// What a search came to.
struct Found {
    passages: Vec<Value>,
    /// Of the question, and of what was found.
    label: Label,
    /// Where it was looked.
    indexes: Vec<String>,
    /// Whether in one of these a passage has to do with it.
    fits: bool,
}

/// What one person's wish came to so far.
struct Desk<'a> {
    rooms: &'a Rooms,
    facts: Vec<Fact>,
}

/// Does what a person wants, and writes down what was done; the output when that is durable.
///
/// # Errors
/// As the function has them; `runtime` when the ledger cannot be written.
pub async fn perform(rooms: &Rooms, store: &Store, wanted: Wanted) -> Result<Value, Failure> {
    let mut desk = Desk { rooms, facts: Vec::new() };
    let done = desk.perform(wanted).await;
    let at = clock::now();
    let entries: Vec<_> = desk.facts.into_iter().map(|fact| Entry { at, run: None, task: None, fact }).collect();
    let written = store.write("record what a person asked", move |tx| {
        for entry in &entries {
            tx.append(entry)?;
        }
        Ok(())
    });
    written.await.map_err(|error| {
        tracing::error!(%error, "what a person asked cannot be recorded, so it is not answered");
        Failure::new(kind::RUNTIME, format!("the node cannot record this now, so it is not answered: {error}"))
    })?;
    done
}

impl Desk<'_> {
    async fn perform(&mut self, wanted: Wanted) -> Result<Value, Failure> {
        let Wanted { function, input, label } = wanted;
        match function.as_str() {
            "ask" => self.ask(parsed("ask", input)?, label).await,
            "search" => {
                let search: Search = parsed("search", input)?;
                let Found { passages, label, .. } = self.search(search, label).await?;
                Ok(json!({ "passages": passages, "label": label }))
            }
            "remember" | "forget" | "follow" => Ok(self.call(&function, input, label).await?.output),
            other => {
                let message = format!(
                    "{other:?} is nothing that a person asks for: expected ask, search, remember, forget or follow"
                );
                Err(Failure::new(kind::VALIDATION, message))
            }
        }
    }

    /// Looks into the documents and has a model answer from what was found. Nothing found is no answer, and nothing that has to do with the
    /// question neither: a model would say what it was trained on, or make something of what it was given.
    async fn ask(&mut self, asked: Question, label: Label) -> Result<Value, Failure> {
        let Question { question, index, top_k, model, max_tokens, any } = asked;
        said("question", &question)?;
        let search = Search { query: question.clone(), index, top_k, kind: None, outcome: None };
        let Found { passages, label, indexes, fits } = self.search(search, label).await?;
        if passages.is_empty() || !(fits || any) {
            let nearest = passages.first();
            return Ok(json!({ "text": "", "passages": [], "searched": indexes, "nearest": nearest, "label": label }));
        }
        let mut input = json!({ "prompt": question, "passages": passages, "offline": "degrade", "priority": "urgent" });
        for (name, value) in [("model", model), ("maxTokens", max_tokens.map(Value::from))] {
            if let Some(value) = value {
                input[name] = value;
            }
        }
        let before = self.facts.len();
        let Completion { mut output, label, .. } = self.call("infer", input, label).await?;
        output["passedOver"] = passed_over(&self.facts[before..]).into();
        (output["passages"], output["label"]) = (Value::from(passages), json!(label));
        Ok(output)
    }

    /// The passages of the named index that fit best, or of all indexes; and the label with that of what was found.
    async fn search(&mut self, search: Search, mut label: Label) -> Result<Found, Failure> {
        let Search { query, index, top_k, kind, outcome } = search;
        said("query", &query)?;
        let k = top_k.unwrap_or(TOP_K);
        let indexes = index.map_or_else(|| self.rooms.indexes(), |index| vec![index]);
        let (mut found, mut sources, mut looked_at): (Vec<Value>, _, _) = (Vec::new(), 0, label.clone());
        let mut fits = false;
        for index in &indexes {
            let mut input = json!({ "index": index, "query": query, "topK": k, "priority": "urgent" });
            for (name, value) in [("kind", &kind), ("outcome", &outcome)] {
                if let Some(value) = value {
                    input[name] = value.clone();
                }
            }
            let done = self.call("retrieve", input, label.clone()).await?;
            let passages = done.output["passages"].as_array().cloned().unwrap_or_default();
            fits |= done.output["fits"] == true;
            sources += usize::from(!passages.is_empty());
            looked_at = looked_at.join(&done.label);
            found.extend(passages);
        }
        if sources > 1 {
            let score = |passage: &Value| passage["score"].as_f64().unwrap_or_default();
            found.sort_by(|a, b| score(b).total_cmp(&score(a)));
            found.truncate(RANKED_MAX);
            // A score is a rank in its own index: across indexes only a look at the texts tells.
            let input = json!({ "query": query, "passages": found, "topK": k, "priority": "urgent" });
            let done = self.call("rerank", input, looked_at.clone()).await?;
            found = done.output["passages"].as_array().cloned().unwrap_or_default();
        }
        // Of what was found and not taken nothing goes on.
        for passage in &found {
            let own: Result<Label, _> = serde_json::from_value(passage["label"].clone());
            // What cannot be read is as strict as all that was looked at.
            label = label.join(own.as_ref().unwrap_or(&looked_at));
        }
        Ok(Found { passages: found, label, indexes, fits })
    }

    async fn call(&mut self, function: &str, input: Value, label: Label) -> Result<Completion, Failure> {
        let now = clock::now();
        let run = RunId::derive(now, &clock::seed());
        let call = Call {
            key: EffectKey(format!("{run}:/{function}")),
            run,
            task: format!("/{function}"),
            workflow: format!("{WORKFLOW}:{}", env!("CARGO_PKG_VERSION")),
            function: function.to_owned(),
            input,
            label: label.clone(),
            deadline: None,
            agent: None,
            asked_at: now,
            ahead_us: 0,
        };
        match self.rooms.perform(&call).await {
            Ok(Outcome::Done(mut done)) => {
                self.facts.append(&mut done.facts);
                Ok(Completion { label: label.join(&done.label), ..done })
            }
            Ok(Outcome::Ask { .. }) => {
                Err(Failure::new(kind::CONFIGURATION, format!("{function} asks people, which only a run can wait for")))
            }
            Err(mut failure) => {
                self.facts.append(&mut failure.facts);
                failure.error.detail = failure.error.detail.map(|said| without_task(&said, &call.task).to_owned());
                Err(failure)
            }
        }
    }
}

/// What a room says, without the function and task that it names first: there is no task here that could be named.
fn without_task<'a>(said: &'a str, task: &str) -> &'a str {
    let parts = said.split_once(&format!(" of {task}: ")).filter(|(function, _)| !function.contains(' '));
    parts.map_or(said, |(_, why)| why)
}

fn said(field: &str, words: &str) -> Result<(), Failure> {
    if words.trim().is_empty() {
        return Err(Failure::new(kind::VALIDATION, format!("the {field} is empty: expected words, or a question")));
    }
    Ok(())
}

/// Why each target that stood before the one that answered did not: a line each, its name first.
fn passed_over(facts: &[Fact]) -> Vec<String> {
    let (mut told, mut tried) = (Vec::<String>::new(), None::<&str>);
    for fact in facts {
        let Fact::RouteChosen { choice, reasons } = fact else { continue };
        let mut reasons = reasons.as_slice();
        // After a choice that failed, what went wrong with it stands first, without its name.
        if let (Some(name), Some((fault, others))) = (tried.replace(choice), reasons.split_first()) {
            let fault = fault.strip_prefix(&format!("{name}: ")).unwrap_or(fault);
            told.push(format!("{name}: {fault}"));
            reasons = others;
        }
        for reason in reasons {
            let Some((name, why)) = reason.split_once(": ") else { continue };
            let is_told = told.iter().any(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(": ")));
            if !is_told && !why.starts_with("chosen") {
                told.push(reason.clone());
            }
        }
    }
    told
}

fn parsed<T: serde::de::DeserializeOwned>(function: &str, input: Value) -> Result<T, Failure> {
    serde_path_to_error::deserialize(input)
        .map_err(|error| Failure::new(kind::VALIDATION, format!("{function}: {}: {}", error.path(), error.inner())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_target_that_was_passed_over_is_told_once_with_the_first_reason() {
        let chosen = |choice: &str, reasons: &[&str]| Fact::RouteChosen {
            choice: choice.to_owned(),
            reasons: reasons.iter().map(ToString::to_string).collect(),
        };
        let facts = [
            chosen("local/a", &["cloud/x: no rule permits it", "local/a: chosen, answers in about 9 ms"]),
            chosen("local/b", &["local/a: no room: it needs 9 MB", "cloud/x: no rule permits it", "local/b: chosen"]),
            chosen(
                "local/extract",
                &["cannot load the model", "local/a: failed just now", "local/extract: chosen, degraded"],
            ),
        ];
        let expected =
            ["cloud/x: no rule permits it", "local/a: no room: it needs 9 MB", "local/b: cannot load the model"];
        assert_eq!(passed_over(&facts), expected);
        assert!(passed_over(&facts[..0]).is_empty());
    }
}
