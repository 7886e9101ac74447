//! Fills a schema from evidence: each property is a question of its own, asked with its name and description.

mod judge;

use std::{collections::BTreeSet, ops::RangeInclusive};

use serde_json::{Map, Value};

use super::{
    intent::{Intent, asked},
    rank::{Evidence, Query, Ranked},
};
use crate::{
    Error,
    embed::Embedder,
    generate::{
        Passage,
        shape::{Kind, Property, Shape},
    },
    text::{readable, shorten, stated},
};

/// What a list without bounds gets: the best, not all that there is.
const ITEMS_DEFAULT: usize = 3;
/// A further sentence or section must serve at least this share of the best.
const FURTHER_SHARE: f32 = 0.7;

/// Fills one answer.
pub(super) struct Filler<'a> {
    pub(super) embedder: &'a dyn Embedder,
    pub(super) evidence: &'a Evidence,
    pub(super) passages: &'a [Passage],
    /// The question, and all messages: what they state outright is taken over.
    pub(super) question: &'a str,
    pub(super) messages: &'a str,
    used: BTreeSet<usize>,
    /// The section that the answer comes from so far.
    section: Option<usize>,
}

/// What a value is for.
#[derive(Clone)]
struct Purpose {
    /// The property's own name; empty at the root.
    name: String,
    /// Name and description in words, with those of the objects around it.
    words: String,
    /// JSON pointer, for errors.
    at: String,
}

impl<'a> Filler<'a> {
    pub(super) fn new(
        embedder: &'a dyn Embedder,
        evidence: &'a Evidence,
        passages: &'a [Passage],
        question: &'a str,
        messages: &'a str,
    ) -> Self {
        Self { embedder, evidence, passages, question, messages, used: BTreeSet::new(), section: None }
    }

    pub(super) fn fill(&mut self, shape: &Shape) -> Result<Value, Error> {
        let purpose = Purpose { name: String::new(), words: shape.about.clone(), at: String::new() };
        self.value(shape, &purpose)
    }

    fn value(&mut self, shape: &Shape, purpose: &Purpose) -> Result<Value, Error> {
        match &shape.kind {
            Kind::Object(properties) => self.object(properties, purpose),
            Kind::Array { item, min, max, is_unique } => self.array(item, *min, *max, *is_unique, purpose),
            Kind::Text { min, max } => self.text(*min, *max, purpose).map(Value::String),
            Kind::Number(range) => self.number(range, purpose),
            Kind::Boolean => self.boolean(purpose).map(Value::Bool),
            Kind::Null => Ok(Value::Null),
            Kind::Choice(values) => self.choice(values, purpose),
            Kind::AnyOf(options) => {
                let mut last = cannot(purpose, "no option of anyOf fits");
                for option in options {
                    match self.value(option, purpose) {
                        Ok(value) => return Ok(value),
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
        }
    }

    fn object(&mut self, properties: &[Property], purpose: &Purpose) -> Result<Value, Error> {
        let mut map = Map::new();
        for property in properties {
            let inner = purpose.of_property(&property.name, &property.shape.about);
            match self.value(&property.shape, &inner) {
                Ok(value) => {
                    map.insert(property.name.clone(), value);
                }
                Err(error) if property.is_required => return Err(error),
                Err(_) => {}
            }
        }
        Ok(Value::Object(map))
    }

    /// Sentences that serve the purpose, best first.
    fn rank(&self, purpose: &Purpose) -> Result<Vec<Ranked>, Error> {
        let mut query = Query::new(self.embedder, &[self.question, &purpose.words], purpose.intents())?;
        query.section = self.section;
        Ok(self.evidence.rank(&query))
    }

    /// The same, with sentences that stand in the answer already last: no two texts shall say the same.
    fn rank_unused(&self, purpose: &Purpose) -> Result<Vec<Ranked>, Error> {
        let mut ranked = self.rank(purpose)?;
        ranked.sort_by_key(|found| self.used.contains(&found.sentence));
        Ok(ranked)
    }

    fn text(&mut self, min: usize, max: Option<usize>, purpose: &Purpose) -> Result<String, Error> {
        let is_asked = !asked(&readable(&purpose.name)).is_empty();
        let fits = |text: &str| (min..=max.unwrap_or(usize::MAX)).contains(&text.chars().count());
        if !is_asked && let Some(value) = stated(&purpose.name, self.messages).filter(|value| fits(value)) {
            return Ok(value.to_owned());
        }
        let ranked = self.rank_unused(purpose)?;
        let best = *ranked.first().ok_or_else(|| cannot(purpose, "there is no text to take it from"))?;
        if let Some(document) = self.document(purpose, best).filter(|document| fits(document)) {
            return Ok(document);
        }
        let wanted = if is_asked || names_long_text(purpose) { ITEMS_DEFAULT } else { 1 };
        let mut chosen = self.alike(&ranked, best, wanted, &purpose.intents());
        let mut text = self.joined(&chosen);
        // A long enough text may need sentences that serve less.
        let mut further = ranked.iter().filter(|found| found.sentence != best.sentence);
        while text.chars().count() < min {
            let next = further.next().ok_or_else(|| cannot(purpose, &format!("the text has no {min} characters")))?;
            if !chosen.contains(&next.sentence) {
                chosen.push(next.sentence);
                text = self.joined(&chosen);
            }
        }
        self.section.get_or_insert(self.evidence.context.sentences[best.sentence].section);
        self.used.extend(chosen);
        cut(&text, min, max.unwrap_or(usize::MAX))
            .ok_or_else(|| cannot(purpose, &format!("the text has no {min} characters")))
    }

    /// The best sentence with its fellows: the same section, label and kind, serving nearly as well; in reading order.
    fn alike(&self, ranked: &[Ranked], best: Ranked, wanted: usize, intents: &[Intent]) -> Vec<usize> {
        let sentences = &self.evidence.context.sentences;
        let first = &sentences[best.sentence];
        let fellow = |found: &&Ranked| {
            let other = &sentences[found.sentence];
            other.section == first.section
                && other.label == first.label
                && found.score >= FURTHER_SHARE * best.score
                && (intents.is_empty() || self.evidence.serves(found.sentence, intents))
                && !self.used.contains(&found.sentence)
        };
        let mut chosen: Vec<usize> = ranked.iter().filter(fellow).take(wanted).map(|found| found.sentence).collect();
        if !chosen.contains(&best.sentence) {
            chosen.insert(0, best.sentence);
            chosen.truncate(wanted);
        }
        chosen.sort_unstable();
        chosen
    }

    fn joined(&self, chosen: &[usize]) -> String {
        let texts: Vec<&str> = chosen.iter().map(|&at| self.evidence.context.sentences[at].text.as_str()).collect();
        texts.join(" ")
    }

    /// The document or place of the passage that serves best, when the name asks for it.
    fn document(&self, purpose: &Purpose, best: Ranked) -> Option<String> {
        let number = self.evidence.context.sentences[best.sentence].passage?;
        let passage = self.passages.get(number - 1)?;
        match readable(&purpose.name).rsplit(' ').next()? {
            "document" | "source" | "reference" | "manual" | "file" => Some(passage.document.clone()),
            "place" | "page" | "heading" => Some(passage.place.clone()),
            "citation" => Some(format!("[{number}]")),
            _ => None,
        }
        .filter(|text| !text.is_empty())
    }

    fn array(
        &mut self,
        item: &Shape,
        min: usize,
        max: Option<usize>,
        is_unique: bool,
        purpose: &Purpose,
    ) -> Result<Value, Error> {
        let most = max.unwrap_or(ITEMS_DEFAULT.max(min));
        if let Kind::Text { min: chars_min, max: chars_max } = item.kind {
            return self.texts(min..=most, chars_min, chars_max, is_unique, purpose);
        }
        let sections = self.sections(&self.rank(purpose)?);
        let outer = self.section;
        let mut items: Vec<Value> = Vec::new();
        while items.len() < most {
            let is_needed = items.len() < min;
            let inner = Purpose { at: format!("{}/{}", purpose.at, items.len()), ..purpose.clone() };
            let value = match &item.kind {
                // One object for each section that serves.
                Kind::Object(_) => match sections.get(items.len()) {
                    None if !is_needed => break,
                    section => {
                        self.section = section.copied().or(outer);
                        self.value(item, &inner)
                    }
                },
                Kind::Choice(values) => {
                    let left: Vec<Value> = values.iter().filter(|value| !items.contains(value)).cloned().collect();
                    if left.is_empty() && !is_unique { self.choice(values, &inner) } else { self.choice(&left, &inner) }
                }
                // Further numbers and the like would only repeat the first.
                _ if !is_needed && !items.is_empty() => break,
                _ => self.value(item, &inner),
            };
            match value {
                Ok(value) if is_unique && items.contains(&value) => {
                    if is_needed {
                        return Err(cannot(purpose, &format!("the text has no {min} different values")));
                    }
                    break;
                }
                Ok(value) => items.push(value),
                Err(error) if is_needed => return Err(error),
                Err(_) => break,
            }
        }
        self.section = outer;
        Ok(Value::Array(items))
    }

    /// A list of sentences: the best and its fellows, in reading order; more when more are demanded.
    fn texts(
        &mut self,
        items: RangeInclusive<usize>,
        chars_min: usize,
        chars_max: Option<usize>,
        is_unique: bool,
        purpose: &Purpose,
    ) -> Result<Value, Error> {
        let chars_max = chars_max.unwrap_or(usize::MAX);
        let text_of = |at: usize| cut(&self.evidence.context.sentences[at].text, chars_min, chars_max);
        let mut ranked = self.rank_unused(purpose)?;
        ranked.retain(|found| text_of(found.sentence).is_some());
        let fellows = match ranked.first() {
            Some(best) => self.alike(&ranked, *best, *items.end(), &purpose.intents()),
            None => Vec::new(),
        };
        let others = ranked.iter().map(|found| found.sentence).filter(|at| !fellows.contains(at));
        let mut texts: Vec<Value> = Vec::new();
        let mut taken = Vec::new();
        for (order, at) in fellows.iter().copied().chain(others).enumerate() {
            if texts.len() >= *items.end() || (order >= fellows.len() && texts.len() >= *items.start()) {
                break;
            }
            let text = text_of(at).map(Value::from).unwrap_or_default();
            if !is_unique || !texts.contains(&text) {
                texts.push(text);
                taken.push(at);
            }
        }
        if texts.len() < *items.start() {
            return Err(cannot(purpose, &format!("the text has no {} sentences that fit", items.start())));
        }
        if let Some(&first) = taken.first() {
            self.section.get_or_insert(self.evidence.context.sentences[first].section);
        }
        self.used.extend(taken);
        Ok(Value::Array(texts))
    }

    /// The sections of the sentences that serve well, best first.
    fn sections(&self, ranked: &[Ranked]) -> Vec<usize> {
        let best = ranked.first().map_or(0.0, |found| found.score);
        let mut sections = Vec::new();
        for found in ranked.iter().filter(|found| found.score >= FURTHER_SHARE * best) {
            let section = self.evidence.context.sentences[found.sentence].section;
            if !sections.contains(&section) {
                sections.push(section);
            }
        }
        sections
    }
}

impl Purpose {
    /// The kinds of statement that its name asks for, else its description.
    fn intents(&self) -> Vec<Intent> {
        let named = asked(&readable(&self.name));
        if named.is_empty() { asked(&self.words) } else { named }
    }

    fn of_property(&self, name: &str, about: &str) -> Self {
        let words = format!("{} {} {about}", self.words, readable(name));
        Self { name: name.to_owned(), words: words.trim().to_owned(), at: format!("{}/{name}", self.at) }
    }
}

/// The text with at most this many characters, between words where that leaves enough; `None` when it is too short.
fn cut(text: &str, min: usize, max: usize) -> Option<String> {
    let whole_words = shorten(text, max);
    let text =
        if whole_words.chars().count() < min { text.chars().take(max).collect() } else { whole_words.to_owned() };
    (text.chars().count() >= min).then_some(text)
}

fn names_long_text(purpose: &Purpose) -> bool {
    let name = readable(&purpose.name);
    ["summary", "explanation", "answer", "text", "details", "steps", "rationale"].iter().any(|word| name.contains(word))
}

fn cannot(purpose: &Purpose, why: &str) -> Error {
    let at = if purpose.at.is_empty() { "the answer" } else { &purpose.at };
    Error::request(format!("cannot fill {at} of the schema: {why}"))
}
