//! An answer that fits a JSON schema whatever the model's weights: braces, keys and commas are written for it, and of each value's tokens
//! only those are chosen that keep the value right. The schema's part that can be held is that of the extractive generator.

use std::ops::ControlFlow;

use serde_json::Value;

use super::{sample::Sampler, tokens::Tokens};
use crate::{
    Error,
    decoder::{Decoder, Session},
    generate::{
        Finish,
        shape::{Kind, Range, Shape},
    },
};

/// A string without a bound; a model that finds no end must not fill the context.
const TEXT_CHARS_MAX: usize = 400;
/// A list without a bound.
const ITEMS_MAX: usize = 8;
/// Digits beyond these say nothing in an answer.
const NUMBER_CHARS_MAX: usize = 12;

/// Writes one answer.
pub(super) struct Guide<'a> {
    pub(super) decoder: &'a Decoder,
    pub(super) tokens: &'a Tokens,
    pub(super) session: &'a mut Session,
    pub(super) sampler: &'a mut Sampler,
    /// Of the token that follows.
    pub(super) logits: Vec<f32>,
    /// How many tokens the model may still choose; beyond it every value is made as short as the schema allows.
    pub(super) left: usize,
    pub(super) send: &'a mut dyn FnMut(&str) -> ControlFlow<Finish>,
}

/// Why an answer is not finished.
pub(super) enum Stop {
    Receiver(Finish),
    Error(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl Guide<'_> {
    pub(super) fn value(&mut self, shape: &Shape) -> Result<(), Stop> {
        match &shape.kind {
            Kind::Object(properties) => {
                for (at, property) in properties.iter().enumerate() {
                    let open = if at == 0 { "{" } else { ", " };
                    self.write(&format!("{open}{}: ", Value::from(property.name.as_str())))?;
                    self.value(&property.shape)?;
                }
                self.write(if properties.is_empty() { "{}" } else { "}" })
            }
            Kind::Array { item, min, max, is_unique } => self.array(item, *min, *max, *is_unique),
            Kind::Text { min, max } => self.text(*min, *max),
            Kind::Number(range) => self.number(range),
            Kind::Boolean => self.choice(&[Value::Bool(true), Value::Bool(false)]),
            Kind::Null => self.write("null"),
            Kind::Choice(values) => self.choice(values),
            // The first option is as valid as any, and the one that its writer put first.
            Kind::AnyOf(options) => self.value(&options[0]),
        }
    }

    /// Text that is not the model's choice: it goes out and, as tokens, into the model.
    fn write(&mut self, text: &str) -> Result<(), Stop> {
        let mut tokens = Vec::new();
        self.tokens.encode_continued(text, &mut tokens)?;
        self.logits = self.decoder.forward(self.session, &tokens)?;
        self.emit(text)
    }

    fn emit(&mut self, text: &str) -> Result<(), Stop> {
        match (self.send)(text) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(finish) => Err(Stop::Receiver(finish)),
        }
    }

    /// The likeliest or a drawn token among those whose text `fits`; `None` when there is none or no token is left.
    fn choose(&mut self, fits: &dyn Fn(&str) -> bool) -> Option<u32> {
        let tokens = self.tokens;
        let allowed = |token: u32| match std::str::from_utf8(tokens.bytes(token)) {
            Ok(text) => !text.is_empty() && fits(text),
            // Half a character; which one it becomes is not known yet.
            Err(_) => false,
        };
        let token = if self.left > 0 { self.sampler.choose(&self.logits, &allowed) } else { None };
        self.left -= usize::from(token.is_some());
        token
    }

    fn text_of(&self, token: u32) -> String {
        String::from_utf8_lossy(self.tokens.bytes(token)).into_owned()
    }

    fn take(&mut self, token: u32) -> Result<(), Stop> {
        self.logits = self.decoder.forward(self.session, &[token])?;
        Ok(())
    }

    /// A string: characters that need no escape, until the model closes it or its length is reached.
    fn text(&mut self, min: usize, max: Option<usize>) -> Result<(), Stop> {
        let max = max.unwrap_or(TEXT_CHARS_MAX.max(min));
        self.write("\"")?;
        let mut length = 0;
        loop {
            let fits = |text: &str| {
                let body = text.strip_suffix('"').unwrap_or(text);
                let total = length + body.chars().count();
                let is_plain = !body.contains(['"', '\\']) && !body.contains(char::is_control);
                is_plain && total <= max && (body.len() == text.len() || total >= min)
            };
            let Some(token) = self.choose(&fits) else { break };
            let text = self.text_of(token);
            let body = text.strip_suffix('"').unwrap_or(&text);
            length += body.chars().count();
            self.emit(body)?;
            if body.len() < text.len() {
                // The closing quote is part of the token.
                self.take(token)?;
                return self.emit("\"");
            }
            self.take(token)?;
        }
        // No token fits any more: at the length, or at the end of what the model may write.
        let missing = " ".repeat(min.saturating_sub(length));
        self.write(&format!("{missing}\""))
    }

    /// A number: digits while the model's own choice is one and the number may still come to lie within the bounds.
    fn number(&mut self, range: &Range) -> Result<(), Stop> {
        let mut written = String::new();
        loop {
            let fits = |text: &str| begins_number(&format!("{written}{text}"), range);
            let likeliest = self.likeliest();
            let is_done = range.holds(written.parse().unwrap_or(f64::NAN)) && !fits(&likeliest);
            if is_done || written.len() >= NUMBER_CHARS_MAX {
                break;
            }
            let Some(token) = self.choose(&fits) else { break };
            written.push_str(&self.text_of(token));
            self.take(token)?;
        }
        let value = written.parse::<f64>().ok().filter(|value| range.holds(*value));
        let value = match value {
            Some(value) => value,
            None => range
                .nearest(written.parse().unwrap_or(0.0))
                .ok_or_else(|| Error::request("schema: no number fits its bounds"))?,
        };
        let text = if value.fract() == 0.0 && value.abs() < 1e15 { format!("{value:.0}") } else { value.to_string() };
        self.emit(&text)
    }

    /// The text of the token that the model would choose freely.
    fn likeliest(&self) -> String {
        let best = self.logits.iter().zip(0u32..).max_by(|a, b| a.0.total_cmp(b.0)).map_or(0, |(_, token)| token);
        self.text_of(best)
    }

    /// One of some values: tokens that lead to one of them, until one is whole.
    fn choice(&mut self, values: &[Value]) -> Result<(), Stop> {
        let texts: Vec<String> = values.iter().map(Value::to_string).collect();
        let mut written = String::new();
        loop {
            let open: Vec<&String> = texts.iter().filter(|text| text.starts_with(&written)).collect();
            let whole = open.iter().find(|text| text.len() == written.len());
            if let ([_], _) | (_, Some(_)) = (open.as_slice(), whole) {
                let text = whole.unwrap_or(&open[0]);
                let rest = text[written.len()..].to_owned();
                return if rest.is_empty() { Ok(()) } else { self.write(&rest) };
            }
            let fits = |text: &str| open.iter().any(|value| value[written.len()..].starts_with(text));
            match self.choose(&fits) {
                Some(token) => {
                    let text = self.text_of(token);
                    self.emit(&text)?;
                    self.take(token)?;
                    written.push_str(&text);
                }
                None => {
                    let rest = open[0][written.len()..].to_owned();
                    return self.write(&rest);
                }
            }
        }
    }

    fn array(&mut self, item: &Shape, min: usize, max: Option<usize>, is_unique: bool) -> Result<(), Stop> {
        if is_unique && max != Some(1) {
            // What was written is not compared; one item is different from all others.
            if min > 1 {
                return Err(
                    Error::request("schema: uniqueItems with minItems above 1 cannot be held by a chat model").into()
                );
            }
            return self.array(item, min, Some(1), false);
        }
        let max = max.unwrap_or(ITEMS_MAX.max(min));
        self.write("[")?;
        for at in 0..max {
            if at >= min {
                // The model says whether another follows.
                let ends = |text: &str| text.trim_start().starts_with(']');
                let goes_on = |text: &str| if at == 0 { !ends(text) } else { text.trim_start().starts_with(',') };
                let best = |fits: &dyn Fn(&str) -> bool| {
                    let all = self.logits.iter().zip(0u32..).filter(|(_, token)| fits(&self.text_of(*token)));
                    all.map(|(logit, _)| *logit).fold(f32::NEG_INFINITY, f32::max)
                };
                if self.left == 0 || best(&ends) >= best(&goes_on) {
                    break;
                }
            }
            if at > 0 {
                self.write(", ")?;
            }
            self.value(item)?;
        }
        self.write("]")
    }
}

/// Whether a text begins a JSON number that may still lie within the bounds.
fn begins_number(text: &str, range: &Range) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if text.len() > NUMBER_CHARS_MAX || (digits.len() < text.len() && range.min >= 0.0) {
        return false;
    }
    let (whole, fraction) = match digits.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (digits, None),
    };
    let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let is_form = is_digits(whole)
        && !(whole.len() > 1 && whole.starts_with('0'))
        && fraction.is_none_or(|fraction| !whole.is_empty() && !range.is_integer && is_digits(fraction));
    // More digits only take a number further from zero, but for those after the point.
    let size = whole.parse::<f64>().unwrap_or(0.0);
    let most = range.max.abs().max(range.min.abs());
    is_form && size <= most
}
