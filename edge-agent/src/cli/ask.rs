//! `edge-agent ask`: an answer from the node's documents, with where it stands.

use std::process::ExitCode;

use clap::{builder::NonEmptyStringValueParser, value_parser};
use serde::Deserialize;
use serde_json::{Value, json};
use shared::{label::Label, look::words};

use super::{
    Context, Failure, output,
    person::{Demands, Person},
};
use crate::memory;

/// Passages of one search at most, as its answer is for people.
pub(super) const TOP_MAX: i64 = memory::TOP_K_MAX as i64;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  edge-agent ask \"What to do when the pump leaks?\"
  edge-agent ask \"Which oil?\" --index manuals --model local/qwen3 --top 6

The passages that fit best are found in all indexes, or in the one that is named; then the first target that policy allows for their labels
answers from them, and `local/extract` where none does. What was asked, found, allowed and answered is in the ledger. The agent may run
or not; without one the documents are indexed first.

No model is asked where nothing in the documents has to do with a question in English: no passage has a word of it that says what it is about,
and none is near it by meaning. How near that is was measured for the built-in embedder and for all-MiniLM-L6-v2; others never refuse.

Exit code: 0 there is an answer, 3 nothing in the documents answers it.")]
pub(super) struct Args {
    /// What you want to know.
    #[arg(value_name = "QUESTION")]
    question: String,
    /// Look into this index alone.
    #[arg(long, value_name = "INDEX", value_parser = NonEmptyStringValueParser::new())]
    index: Option<String>,
    /// Have it answered by this target or a pattern such as local/*; may be given several times, in the order of preference. Where none of them can,
    /// another model on this node does.
    #[arg(long = "model", value_name = "TARGET")]
    models: Vec<String>,
    /// So many passages at most.
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = value_parser!(u8).range(1..=TOP_MAX))]
    top: u8,
    /// Answer even where nothing in the documents seems to have to do with the question.
    #[arg(long)]
    any: bool,
    #[command(flatten)]
    demands: Demands,
}

/// What `local/extract` says before the nearest sentence where no passage answers the question; other models say it in their own words.
const UNANSWERED: &str = "The passages do not answer this.";

/// A passage as the functions give it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Passage {
    pub text: String,
    pub document: String,
    pub place: String,
    pub score: f64,
    pub label: Label,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, Failure> {
    let mut input = json!({ "question": args.question, "topK": args.top, "any": args.any });
    if let Some(index) = &args.index {
        input["index"] = index.as_str().into();
    }
    if !args.models.is_empty() {
        input["model"] = json!(args.models);
    }
    let answer = Person::of(context)?.ask("ask", input, args.demands.label())?;
    let passages = passages(&answer)?;
    if context.json {
        output::json(&answer)?;
    } else if !passages.is_empty() {
        output::say(&told(&answer, &passages));
    }
    if passages.is_empty() {
        return Err(Failure::NotFound(unanswered(&answer)));
    }
    // Who wants an answer from what is nearest has one.
    Ok(if says_no(&answer) && !args.any { ExitCode::from(3) } else { ExitCode::SUCCESS })
}

/// Whether the answer is that the passages hold none.
fn says_no(answer: &Value) -> bool {
    answer["target"] == "local/extract" && answer["text"].as_str().is_some_and(|text| text.starts_with(UNANSWERED))
}

/// What was searched in vain, and what was nearest.
fn unanswered(answer: &Value) -> String {
    let searched: Vec<&str> = answer["searched"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let searched = match searched.as_slice() {
        [] => "this node has none".to_owned(),
        [index] => format!("searched was the index {index}"),
        indexes => format!("searched were the indexes {}", indexes.join(", ")),
    };
    let advice = match serde_json::from_value::<Passage>(answer["nearest"].clone()) {
        Ok(nearest) => format!("the nearest is {}; --any answers from it all the same", stands(&nearest)),
        Err(_) => "`edge-agent docs list` tells what is there".to_owned(),
    };
    format!("nothing in the documents answers this: {searched}; {advice}")
}

/// Where a passage stands.
fn stands(passage: &Passage) -> String {
    let place = if passage.place.is_empty() { String::new() } else { format!(", {}", passage.place) };
    format!("{}{place}", output::named(&passage.document))
}

pub(super) fn passages(answer: &Value) -> Result<Vec<Passage>, Failure> {
    let passages = serde_json::from_value(answer["passages"].clone());
    passages.map_err(|error| Failure::Failed(anyhow::Error::new(error).context("the answer cannot be read")))
}

/// The answer, the passages that it cites, or all when it cites none, and who answered.
fn told(answer: &Value, passages: &[Passage]) -> String {
    let text = answer["text"].as_str().unwrap_or_default().trim();
    let numbered = || passages.iter().zip(1..);
    let is_cited = |number: usize| text.contains(&format!("[{number}]"));
    let cites = numbered().any(|(_, number)| is_cited(number));
    let source = |(passage, number): (&Passage, usize)| {
        format!("[{number}] {} ({}, {:.2})", stands(passage), words::label(&passage.label), passage.score)
    };
    let shown = numbered().filter(|(_, number)| !cites || is_cited(*number));
    let sources: Vec<_> = shown.map(source).collect();
    let by = answer["target"].as_str().unwrap_or_default();
    let degraded = if answer["degraded"] == true { ", in place of one that is preferred" } else { "" };
    let others: String = passed_over(answer).map(|line| format!("\n  not by {line}")).collect();
    let advice = if others.is_empty() { "" } else { "\n  (`edge-agent doctor` looks closer)" };
    format!("{text}\n\n{}\n\nanswered by {by}{degraded}{others}{advice}", sources.join("\n"))
}

/// The targets that stood before the one that answered, each with why it did not.
fn passed_over(answer: &Value) -> impl Iterator<Item = &str> {
    answer["passedOver"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use models::generate;

    use super::*;

    #[test]
    fn what_was_searched_in_vain_is_told_with_what_was_nearest() {
        let nearest =
            json!({"text": "t", "document": "a.md", "place": "Oil", "score": 0.5, "label": {"class": "internal"}});
        let told = |searched: Value, nearest: Value| unanswered(&json!({ "searched": searched, "nearest": nearest }));
        assert_eq!(
            told(json!(["manuals", "notes"]), nearest),
            "nothing in the documents answers this: searched were the indexes manuals, notes; the nearest is a.md, Oil; --any answers from it all the same"
        );
        assert_eq!(
            told(json!([]), Value::Null),
            "nothing in the documents answers this: this node has none; `edge-agent docs list` tells what is there"
        );
    }

    #[test]
    fn an_answer_that_there_is_none_is_told_apart() {
        let is_told = |question: &str| {
            let text = "Use oil ISO VG 46 in the gearbox.".to_owned();
            let passages = vec![generate::Passage { text, ..generate::Passage::default() }];
            let request = generate::Request { passages, ..generate::Request::ask(question) };
            let written =
                generate::extract().generate(&request, &mut |_| ControlFlow::Continue(())).expect("an answer");
            says_no(&json!({ "target": "local/extract", "text": written.text }))
        };
        assert!(is_told("Who wrote Romeo and Juliet?"));
        assert!(!is_told("Which oil is used in the gearbox?"));
    }

    #[test]
    fn an_answer_shows_what_it_cites() {
        let passage = |document: &str| json!({"text": "t", "document": document, "place": "Oil", "score": 0.5, "label": {"class": "internal"}});
        let mut answer = json!({
            "text": "Use VG 46 [2].", "target": "local/a", "degraded": false, "passages": [passage("a.md"), passage("b.md")]
        });
        let shown = |answer: &Value| told(answer, &passages(answer).expect("passages"));
        let text = shown(&answer);
        assert!(
            text.contains("Use VG 46 [2].")
                && text.contains("[2] b.md, Oil (")
                && text.ends_with("answered by local/a"),
            "{text}"
        );
        assert!(!text.contains("a.md"), "{text}");
        answer["text"] = "Use VG 46.".into();
        assert!(shown(&answer).contains("[1] a.md"), "without citations all are shown");
        answer["passedOver"] = json!(["local/b: cannot load the model"]);
        assert!(shown(&answer).contains("answered by local/a\n  not by local/b: cannot load the model\n"));
        answer["degraded"] = true.into();
        assert!(shown(&answer).contains("answered by local/a, in place of one that is preferred\n  not by"));
    }
}
