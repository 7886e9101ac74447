//! The built-in generator: it writes nothing of its own, it finds. Splits the passages into sentences, ranks them against the
//! question and answers with the best ones and their citations; fills a JSON schema from them. Deterministic: temperature,
//! `top_p` and seed change nothing. Tokens are words. English.

mod context;
mod fill;
mod intent;
mod rank;

use std::{ops::ControlFlow, sync::Arc};

use context::Context;
use fill::Filler;
use intent::{Intent, asked};
use rank::{Evidence, Query, Ranked};

use super::{
    Answer, Finish, Generator, Message, Passage, Request, ToolChoice,
    passages::{asking, split_passages},
    shape::Shape,
    stream::Stream,
};
use crate::{
    Error,
    embed::{Embedder, default_embedder, similarity},
    text,
};

/// How many sentences answer one thing that was asked.
const SENTENCES_MAX: usize = 3;
/// A further sentence must serve at least this share of the best.
const FURTHER_SHARE: f32 = 0.75;
/// Sentences nearer than this say the same.
const SAME_MEANING: f32 = 0.95;
/// Below this nearness the passages are about something else.
const NEARNESS_MIN: f32 = 0.15;

const NOTHING_NEAR: &str = "The passages do not answer this. The nearest is:";
const NOTHING_GIVEN: &str = "I can only quote from text that I am given, and there is none beside the question.";

/// The extractive generator with the built-in embedder.
#[must_use]
pub fn extract() -> Arc<dyn Generator> {
    Arc::new(Extract::with(default_embedder()))
}

/// The extractive generator.
pub struct Extract {
    embedder: Arc<dyn Embedder>,
}

/// A request, taken apart: where answers may come from and what is asked.
struct Task {
    passages: Vec<Passage>,
    context: Context,
    /// The user's last message.
    prompt: String,
    /// The sentence of it that asks.
    focus: String,
}

impl Extract {
    /// Ranks by the nearness that this embedder sees.
    #[must_use]
    pub fn with(embedder: Arc<dyn Embedder>) -> Self {
        Self { embedder }
    }

    fn json(&self, schema: &serde_json::Value, task: Task, messages: &str) -> Result<String, Error> {
        let shape = Shape::parse(schema)?;
        let evidence = Evidence::new(&*self.embedder, task.context)?;
        let mut filler = Filler::new(&*self.embedder, &evidence, &task.passages, &task.prompt, messages);
        Ok(filler.fill(&shape)?.to_string())
    }

    /// The sentences of the answer, in order.
    fn sentences(&self, task: Task) -> Result<Vec<String>, Error> {
        if task.context.sentences.is_empty() {
            return Ok(vec![NOTHING_GIVEN.to_owned()]);
        }
        let evidence = Evidence::new(&*self.embedder, task.context)?;
        let intents = asked(&task.focus);
        let mut query = Query::new(&*self.embedder, &[&task.prompt, &task.focus], Vec::new())?;
        let mut chosen: Vec<usize> = Vec::new();
        let mut nearest: f32 = 0.0;
        let parts: Vec<Vec<Intent>> =
            if intents.is_empty() { vec![Vec::new()] } else { intents.iter().map(|intent| vec![*intent]).collect() };
        for part in parts {
            query.intents = part;
            let ranked = evidence.rank(&query);
            nearest = ranked.iter().map(|found| found.nearness).fold(nearest, f32::max);
            let before = chosen.len();
            choose(&evidence, &ranked, &query.intents, &mut chosen);
            chosen[before..].sort_unstable();
            query.section = chosen.first().map(|&at| evidence.context.sentences[at].section);
        }
        let mut answer = Vec::new();
        if nearest < NEARNESS_MIN {
            answer.push(NOTHING_NEAR.to_owned());
            chosen.truncate(1);
        }
        let mut said: Option<(usize, &str)> = None;
        for &at in &chosen {
            let sentence = &evidence.context.sentences[at];
            // A label is said once for the sentences that stand under it.
            let label = sentence.label.as_deref().filter(|label| said != Some((sentence.section, *label)));
            said = sentence.label.as_deref().map(|label| (sentence.section, label));
            answer.push(cited(&sentence.text, label, sentence.passage));
        }
        Ok(answer)
    }
}

/// Adds the best sentence and those that serve nearly as well and say something else. When a kind of statement is asked for,
/// the others come from the best one's section and label, so that two machines' causes are not mixed.
fn choose(evidence: &Evidence, ranked: &[Ranked], intents: &[Intent], chosen: &mut Vec<usize>) {
    let sentences = &evidence.context.sentences;
    let mut best: Option<Ranked> = None;
    let mut taken = 0;
    for found in ranked {
        let fits = best.is_none_or(|best| {
            let (first, other) = (&sentences[best.sentence], &sentences[found.sentence]);
            let is_fellow = first.section == other.section && first.label == other.label;
            found.score >= FURTHER_SHARE * best.score
                && (intents.is_empty() || (is_fellow && evidence.serves(found.sentence, intents)))
        });
        let is_new = chosen.iter().all(|&at| {
            at != found.sentence && similarity(evidence.vector(at), evidence.vector(found.sentence)) < SAME_MEANING
        });
        if fits && is_new {
            best.get_or_insert(*found);
            chosen.push(found.sentence);
            taken += 1;
            if taken == SENTENCES_MAX {
                break;
            }
        }
    }
}

fn cited(text: &str, label: Option<&str>, passage: Option<usize>) -> String {
    let label = label.map(|label| format!("{label}: ")).unwrap_or_default();
    let citation = passage.map(|number| format!(" [{number}]")).unwrap_or_default();
    match text.chars().last() {
        Some(end @ ('!' | '?')) => format!("{label}{}{citation}{end}", text.trim_end_matches(end)),
        _ => format!("{label}{}{citation}.", text.trim_end_matches(['.', ';', ','])),
    }
}

impl Generator for Extract {
    fn name(&self) -> &'static str {
        "skerry-extract"
    }

    fn generate(&self, request: &Request, on_text: &mut dyn FnMut(&str) -> ControlFlow<()>) -> Result<Answer, Error> {
        if !request.tools.is_empty() && request.tool_choice != ToolChoice::None {
            return Err(Error::request("tools: the extractive generator calls none: expected a chat model"));
        }
        if request.logprobs.is_some() {
            return Err(Error::request("logprobs: the extractive generator has none: expected a chat model"));
        }
        let messages = request.messages.iter().map(|message| message.content.as_str()).collect::<Vec<_>>().join("\n");
        let task = Task::of(request)?;
        let tokens_in =
            text::count(&messages) + task.passages.iter().map(|passage| text::count(&passage.text)).sum::<usize>();
        let mut stream = Stream::new(&request.stop, on_text);
        let mut finish = Finish::Stop;
        if let Some(schema) = &request.schema {
            // A JSON answer is never cut by `max_tokens`: it would be none.
            if let ControlFlow::Break(reason) = stream.push(&self.json(schema, task, &messages)?) {
                finish = reason;
            }
        } else {
            let mut left = request.max_tokens;
            for (at, sentence) in self.sentences(task)?.iter().enumerate() {
                let part = text::first(sentence, left);
                let piece = if at > 0 && !part.is_empty() { format!(" {part}") } else { part.to_owned() };
                if let ControlFlow::Break(reason) = stream.push(&piece) {
                    finish = reason;
                    break;
                }
                if part.len() < sentence.len() {
                    finish = Finish::Length;
                    break;
                }
                left -= text::count(sentence);
            }
        }
        let (text, finish) = stream.finish(finish);
        let tokens_out = text::count(&text);
        Ok(Answer { text, calls: Vec::new(), tokens_in, tokens_reused: 0, tokens_out, finish, logprobs: Vec::new() })
    }
}

impl Task {
    fn of(request: &Request) -> Result<Self, Error> {
        let last = asking(&request.messages)?;
        let prompt = &request.messages[last].content;
        let (mut passages, mut prompt) = (request.passages.clone(), prompt.clone());
        if passages.is_empty()
            && let Some((listed, question)) = split_passages(&prompt)
        {
            (passages, prompt) = (listed, question);
        }
        if passages.is_empty() {
            return Self::of_messages(&request.messages, last);
        }
        let context = Context::of_passages(&passages)?;
        let focus = focus(&prompt).unwrap_or_else(|| prompt.clone());
        Ok(Self { passages, context, prompt, focus })
    }

    /// Without passages the conversation itself is the context, but for the sentence that asks and for orders to the model.
    fn of_messages(messages: &[Message], last: usize) -> Result<Self, Error> {
        let prompt = messages[last].content.clone();
        let focus = focus(&prompt).unwrap_or_else(|| text::sentences(&prompt).into_iter().next().unwrap_or_default());
        let text: Vec<String> = messages.iter().map(|message| message.content.replace(&focus, "\n\n")).collect();
        let mut context = Context::of_text(&text.join("\n\n"))?;
        context.sentences.retain(|sentence| !is_order(&sentence.text));
        Ok(Self { passages: Vec::new(), context, prompt, focus })
    }
}

/// The last sentence of a prompt that is a question.
fn focus(prompt: &str) -> Option<String> {
    prompt
        .lines()
        .rev()
        .find_map(|line| text::sentences(line).into_iter().rev().find(|sentence| sentence.ends_with('?')))
}

fn is_order(sentence: &str) -> bool {
    const ORDERS: &[&str] =
        &["you are ", "answer ", "reply ", "respond ", "use only ", "cite ", "return ", "write ", "do not invent"];
    let lower = sentence.to_lowercase();
    ORDERS.iter().any(|order| lower.starts_with(order))
}

#[cfg(test)]
mod tests;
