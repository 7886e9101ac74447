//! Values that are judged rather than quoted: numbers, yes or no, one of several.

use serde_json::{Number, Value};

use super::{Filler, ITEMS_DEFAULT, Purpose, cannot};
use crate::{
    Error,
    embed::similarity,
    generate::{extract::rank::Query, shape::Range},
    text::{numbers, readable, stated, stems},
};

/// A sentence that is less near than this says nothing on a yes-or-no question.
const SUPPORT_MIN: f32 = 0.35;

impl Filler<'_> {
    pub(super) fn number(&mut self, range: &Range, purpose: &Purpose) -> Result<Value, Error> {
        let is_stated = stated(&purpose.name, self.messages).and_then(|text| numbers(text).into_iter().next());
        if let Some(value) = is_stated.filter(|value| range.holds(*value)) {
            return to_json(value, range).ok_or_else(|| cannot(purpose, "the number is not one that JSON can hold"));
        }
        let ranked = self.rank(purpose)?;
        let name = readable(&purpose.name);
        let is_certainty = ["confidence", "certainty", "score", "probability", "likelihood", "similarity", "relevance"]
            .iter()
            .any(|word| name.contains(word));
        let is_share = range.min >= 0.0 && range.max <= 1.0 && !range.is_integer;
        let is_bounded = range.min.is_finite() && range.max.is_finite();
        let nearness = f64::from(ranked.iter().map(|found| found.nearness).fold(0.0, f32::max));
        let scaled = || {
            let value = range.min + nearness * (range.max - range.min);
            let step = range.step.unwrap_or(if range.is_integer { 1.0 } else { 0.0001 });
            let rounded = if step >= 1.0 { (value / step).round() * step } else { (value * 1e4).round() / 1e4 };
            [rounded, rounded - step, rounded + step, value].into_iter().find(|value| range.holds(*value))
        };
        let taken = || {
            let sentences =
                ranked.iter().take(ITEMS_DEFAULT).map(|found| &self.evidence.context.sentences[found.sentence]);
            sentences.flat_map(|sentence| numbers(&sentence.text)).find(|value| range.holds(*value))
        };
        let found = match (is_bounded && (is_share || is_certainty), is_bounded) {
            (true, _) => scaled(),
            (false, true) => taken().or_else(scaled),
            (false, false) => taken(),
        };
        found
            .and_then(|value| to_json(value, range))
            .ok_or_else(|| cannot(purpose, "no number in the text fits its bounds"))
    }

    /// Whether the text supports what the property says, taken from its nearest sentence.
    pub(super) fn boolean(&mut self, purpose: &Purpose) -> Result<bool, Error> {
        match stated(&purpose.name, self.messages) {
            Some("true" | "yes") => return Ok(true),
            Some("false" | "no") => return Ok(false),
            _ => {}
        }
        let claim = Query::new(self.embedder, &[&purpose.words], Vec::new())?;
        let near = self.rank(purpose)?.into_iter().take(ITEMS_DEFAULT * 2).map(|found| found.sentence);
        let best = near
            .map(|at| (at, self.evidence.support(&claim, at)))
            .max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)));
        let denies = |at: usize| {
            let text = format!(" {} ", self.evidence.context.sentences[at].text.to_lowercase());
            [" not ", " no ", " never ", " without ", "n't "].iter().any(|word| text.contains(word))
        };
        Ok(best.is_some_and(|(at, support)| support >= SUPPORT_MIN && !denies(at)))
    }

    /// The value that is stated, else the one named in the sentences that serve best, else the one nearest to them in meaning.
    pub(super) fn choice(&mut self, values: &[Value], purpose: &Purpose) -> Result<Value, Error> {
        let texts: Vec<String> = values.iter().map(text_of).collect();
        if let Some(said) = stated(&purpose.name, self.messages)
            && let Some(at) = texts.iter().position(|text| text.eq_ignore_ascii_case(said))
        {
            return Ok(values[at].clone());
        }
        match values {
            [] => return Err(cannot(purpose, "no value is left")),
            [only] => return Ok(only.clone()),
            _ => {}
        }
        let ranked = self.rank(purpose)?;
        let near: Vec<usize> = ranked.iter().take(ITEMS_DEFAULT * 2).map(|found| found.sentence).collect();
        let readable: Vec<String> = texts.iter().map(|text| readable(text)).collect();
        let vectors = self.embedder.embed(&readable.iter().map(String::as_str).collect::<Vec<_>>())?;
        let question = self.embedder.embed(&[self.question])?;
        let score = |at: usize| {
            let wanted = stems(&readable[at]);
            let mentions = |text: &str| {
                let words = stems(text);
                !wanted.is_empty() && wanted.iter().all(|stem| words.contains(stem))
            };
            let mut score =
                0.3 * similarity(&vectors[at], &question[0]) + if mentions(self.question) { 0.5 } else { 0.0 };
            for (rank, &sentence) in near.iter().enumerate() {
                let named = if mentions(&self.evidence.context.sentences[sentence].text) { 1.0 } else { 0.0 };
                score += (named + similarity(&vectors[at], self.evidence.vector(sentence))) / (rank + 1) as f32;
            }
            score
        };
        let scores: Vec<f32> = (0..values.len()).map(score).collect();
        let best = (0..values.len()).rev().max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap_or(0);
        Ok(values[best].clone())
    }
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn to_json(value: f64, range: &Range) -> Option<Value> {
    // Whole numbers are written without a fraction; beyond 2^53 a float no longer tells them apart.
    if range.is_integer && value.abs() < 9_007_199_254_740_992.0 {
        return Some(Value::Number(Number::from(value as i64)));
    }
    Number::from_f64(value).map(Value::Number)
}
