//! Expressions that need no jq. Most expressions of workflows are a path, a comparison, a sum or a text with paths in it; read
//! off the data as it is, they cost a small part of what jq takes, which first makes a value of its own of all the data.
//!
//! Only what is plain in every respect is done here, with jq's result. Whatever else comes, an operator between kinds that do
//! not fit or a number that is not exact, gives `None`, and jq is asked: it has the errors, too.

use std::{
    borrow::Cow,
    cell::{Cell, OnceCell},
};

use jaq_core::{
    load::{
        lex::StrPart,
        parse::{BinaryOp, Term},
    },
    ops::{Cmp, Math},
    path::{Opt, Part, Path},
};
use serde_json::{Map, Number, Value};

use super::{
    Variables,
    convert::{RESULT_BYTES_MAX, RESULT_DEPTH_MAX},
};
use crate::workflow::secret;

/// What an expression says, where it is plain.
pub(super) enum Direct {
    Input,
    /// By its place among the expression's variables.
    Variable(usize),
    Constant(Value),
    /// Texts, and what stands in them as `\( )`.
    Text(Vec<Piece>),
    Array(Vec<Direct>),
    Object(Vec<(String, Direct)>),
    Path(Box<Direct>, Vec<Step>),
    Pipe(Box<Direct>, Box<Direct>),
    /// `//`
    Alternative(Box<Direct>, Box<Direct>),
    And(Box<Direct>, Box<Direct>),
    Or(Box<Direct>, Box<Direct>),
    Not,
    Math(Math, Box<Direct>, Box<Direct>),
    Compare(Cmp, Box<Direct>, Box<Direct>),
    /// Conditions with what follows from them, and what follows from none.
    If(Vec<(Direct, Direct)>, Box<Direct>),
}

pub(super) enum Piece {
    Plain(String),
    Of(Direct),
}

pub(super) enum Step {
    Key(String),
    Place(usize),
}

impl Direct {
    /// `variables` are the expression's own, without the `$`.
    pub fn of(term: &Term<&str>, variables: &[&str]) -> Option<Self> {
        let of = |term: &Term<&str>| Self::of(term, variables);
        let boxed = |term: &Term<&str>| Some(Box::new(Self::of(term, variables)?));
        Some(match term {
            Term::Id => Self::Input,
            Term::Num(digits) => Self::Constant(number(digits)?.into()),
            Term::Neg(term) => match &**term {
                Term::Num(digits) => Self::Constant(number(&format!("-{digits}"))?.into()),
                _ => return None,
            },
            Term::Str(None, parts) => Self::text(parts, variables)?,
            Term::Arr(None) => Self::Constant(Value::Array(Vec::new())),
            Term::Arr(Some(items)) => {
                let mut all = Vec::new();
                Self::items(items, variables, &mut all)?;
                Self::Array(all)
            }
            Term::Obj(entries) => Self::object(entries, variables)?,
            Term::Var(name) => Self::variable(name, variables)?,
            Term::Path(from, Path(parts)) => {
                Self::Path(boxed(from)?, parts.iter().map(Step::of).collect::<Option<_>>()?)
            }
            Term::BinOp(left, BinaryOp::Pipe(None), right) => Self::Pipe(boxed(left)?, boxed(right)?),
            Term::BinOp(left, BinaryOp::Alt, right) => Self::Alternative(boxed(left)?, boxed(right)?),
            Term::BinOp(left, BinaryOp::And, right) => Self::And(boxed(left)?, boxed(right)?),
            Term::BinOp(left, BinaryOp::Or, right) => Self::Or(boxed(left)?, boxed(right)?),
            Term::BinOp(left, BinaryOp::Math(math), right) if !matches!(math, Math::Div | Math::Rem) => {
                Self::Math(*math, boxed(left)?, boxed(right)?)
            }
            Term::BinOp(left, BinaryOp::Cmp(compare), right) => Self::Compare(*compare, boxed(left)?, boxed(right)?),
            Term::IfThenElse(cases, otherwise) => {
                let cases = cases.iter().map(|(when, then)| Some((of(when)?, of(then)?))).collect::<Option<_>>()?;
                let otherwise = otherwise.as_ref().map_or(Some(Self::Input), |otherwise| of(otherwise))?;
                Self::If(cases, Box::new(otherwise))
            }
            Term::Call(name, arguments) if arguments.is_empty() => match *name {
                "true" => Self::Constant(true.into()),
                "false" => Self::Constant(false.into()),
                "null" => Self::Constant(Value::Null),
                "not" => Self::Not,
                _ => return None,
            },
            _ => return None,
        })
    }

    fn text(parts: &[StrPart<&str, Term<&str>>], variables: &[&str]) -> Option<Self> {
        let mut pieces: Vec<Piece> = Vec::new();
        for part in parts {
            match (part, pieces.last_mut()) {
                (StrPart::Str(text), Some(Piece::Plain(plain))) => plain.push_str(text),
                (StrPart::Char(char), Some(Piece::Plain(plain))) => plain.push(*char),
                (StrPart::Str(text), _) => pieces.push(Piece::Plain((*text).to_owned())),
                (StrPart::Char(char), _) => pieces.push(Piece::Plain(char.to_string())),
                (StrPart::Term(term), _) => pieces.push(Piece::Of(Self::of(term, variables)?)),
            }
        }
        match pieces.as_mut_slice() {
            [] => Some(Self::Constant("".into())),
            [Piece::Plain(text)] => Some(Self::Constant(std::mem::take(text).into())),
            _ => Some(Self::Text(pieces)),
        }
    }

    fn items(term: &Term<&str>, variables: &[&str], all: &mut Vec<Self>) -> Option<()> {
        if let Term::BinOp(left, BinaryOp::Comma, right) = term {
            Self::items(left, variables, all)?;
            return Self::items(right, variables, all);
        }
        all.push(Self::of(term, variables)?);
        Some(())
    }

    fn object(entries: &[(Term<&str>, Option<Term<&str>>)], variables: &[&str]) -> Option<Self> {
        let mut all: Vec<(String, Self)> = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let (name, value) = match (key, value) {
                (Term::Var(name), None) => (name.trim_start_matches('$').to_owned(), Self::variable(name, variables)?),
                (key, value) => {
                    let Self::Constant(Value::String(name)) = Self::of(key, variables)? else { return None };
                    let value = match value {
                        Some(value) => Self::of(value, variables)?,
                        None => Self::Path(Box::new(Self::Input), vec![Step::Key(name.clone())]),
                    };
                    (name, value)
                }
            };
            if all.iter().any(|(known, _)| *known == name) {
                return None;
            }
            all.push((name, value));
        }
        Some(Self::Object(all))
    }

    /// Secrets are no variable: what stands for them is made for each expression.
    fn variable(name: &str, variables: &[&str]) -> Option<Self> {
        let name = name.trim_start_matches('$');
        let place = variables.iter().position(|known| *known == name && name != "secrets")?;
        Some(Self::Variable(place))
    }

    /// The value; `None` when jq must be asked. `names` are those of the expression's variables.
    pub fn evaluate<'n>(
        &self,
        input: &Value,
        names: impl Iterator<Item = &'n str>,
        variables: &Variables<'_>,
    ) -> Option<Value> {
        let variables = names.map(|name| Lazy { name, from: variables, value: OnceCell::new() }).collect();
        let evaluation = Evaluation { variables, left: Cell::new(RESULT_BYTES_MAX) };
        let value = evaluation.value(self, input)?;
        evaluation.left.set(RESULT_BYTES_MAX);
        // What may hold a reference to a secret is looked at where references are known.
        if !evaluation.fits(&value, 0) || secret::any_marked(&value) {
            return None;
        }
        Some(value.into_owned())
    }
}

impl Step {
    fn of((part, opt): &(Part<Term<&str>>, Opt)) -> Option<Self> {
        match (part, opt) {
            (Part::Index(Term::Num(digits)), Opt::Essential) => Some(Self::Place(digits.parse().ok()?)),
            (Part::Index(key), Opt::Essential) => match Direct::of(key, &[])? {
                Direct::Constant(Value::String(key)) => Some(Self::Key(key)),
                _ => None,
            },
            _ => None,
        }
    }

    fn of_value<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        const NOTHING: &Value = &Value::Null;
        match (self, value) {
            (Self::Key(key), Value::Object(map)) => Some(map.get(key).unwrap_or(NOTHING)),
            (Self::Place(place), Value::Array(items)) => Some(items.get(*place).unwrap_or(NOTHING)),
            (_, Value::Null) => Some(NOTHING),
            _ => None,
        }
    }
}

/// A variable that is made when it is first needed.
struct Lazy<'v> {
    name: &'v str,
    from: &'v Variables<'v>,
    value: OnceCell<Option<Value>>,
}

struct Evaluation<'v> {
    variables: Vec<Lazy<'v>>,
    /// Bytes that may still be copied or compared: an expression may name the same large data many times.
    left: Cell<usize>,
}

impl Evaluation<'_> {
    fn value<'v>(&'v self, direct: &'v Direct, input: &'v Value) -> Option<Cow<'v, Value>> {
        Some(match direct {
            Direct::Input => Cow::Borrowed(input),
            Direct::Variable(place) => {
                let Lazy { name, from, value } = &self.variables[*place];
                Cow::Borrowed(value.get_or_init(|| from(name)).as_ref()?)
            }
            Direct::Constant(value) => Cow::Borrowed(value),
            Direct::Text(pieces) => Cow::Owned(self.text(pieces, input)?.into()),
            Direct::Array(items) => {
                let items = items.iter().map(|item| self.owned(item, input)).collect::<Option<_>>()?;
                Cow::Owned(Value::Array(items))
            }
            Direct::Object(entries) => {
                let entry = |(name, value): &(String, Direct)| {
                    self.spend(name.len())?;
                    Some((name.clone(), self.owned(value, input)?))
                };
                Cow::Owned(Value::Object(entries.iter().map(entry).collect::<Option<Map<_, _>>>()?))
            }
            Direct::Path(from, steps) => self.path(from, steps, input)?,
            Direct::Pipe(left, right) => match self.value(left, input)? {
                Cow::Borrowed(middle) => self.value(right, middle)?,
                Cow::Owned(middle) => Cow::Owned(self.value(right, &middle)?.into_owned()),
            },
            Direct::Alternative(left, right) => {
                let left = self.value(left, input)?;
                if is_true(&left) { left } else { self.value(right, input)? }
            }
            Direct::And(left, right) => Cow::Owned((self.holds(left, input)? && self.holds(right, input)?).into()),
            Direct::Or(left, right) => Cow::Owned((self.holds(left, input)? || self.holds(right, input)?).into()),
            Direct::Not => Cow::Owned((!is_true(input)).into()),
            Direct::Math(math, left, right) => {
                Cow::Owned(self.calculate(*math, self.value(left, input)?, self.value(right, input)?)?)
            }
            Direct::Compare(compare, left, right) => {
                Cow::Owned(self.compare(*compare, &*self.value(left, input)?, &*self.value(right, input)?)?.into())
            }
            Direct::If(cases, otherwise) => {
                for (when, then) in cases {
                    if self.holds(when, input)? {
                        return self.value(then, input);
                    }
                }
                self.value(otherwise, input)?
            }
        })
    }

    fn holds(&self, direct: &Direct, input: &Value) -> Option<bool> {
        self.value(direct, input).map(|value| is_true(&value))
    }

    fn owned(&self, direct: &Direct, input: &Value) -> Option<Value> {
        let value = self.value(direct, input)?;
        self.copy(value)
    }

    fn copy(&self, value: Cow<'_, Value>) -> Option<Value> {
        match value {
            Cow::Owned(value) => Some(value),
            Cow::Borrowed(value) => self.fits(value, 0).then(|| value.clone()),
        }
    }

    fn path<'v>(&'v self, from: &'v Direct, steps: &[Step], input: &'v Value) -> Option<Cow<'v, Value>> {
        match self.value(from, input)? {
            Cow::Borrowed(value) => steps.iter().try_fold(value, |value, step| step.of_value(value)).map(Cow::Borrowed),
            Cow::Owned(value) => {
                let value = steps.iter().try_fold(&value, |value, step| step.of_value(value))?;
                self.copy(Cow::Borrowed(value)).map(Cow::Owned)
            }
        }
    }

    fn text(&self, pieces: &[Piece], input: &Value) -> Option<String> {
        let mut text = String::new();
        for piece in pieces {
            match piece {
                Piece::Plain(plain) => text.push_str(plain),
                Piece::Of(direct) => match &*self.value(direct, input)? {
                    Value::String(inner) => {
                        self.spend(inner.len())?;
                        text.push_str(inner);
                    }
                    Value::Number(number) if number.is_i64() => text.push_str(&number.to_string()),
                    _ => return None,
                },
            }
        }
        Some(text)
    }

    fn calculate(&self, math: Math, left: Cow<'_, Value>, right: Cow<'_, Value>) -> Option<Value> {
        match (math, &*left, &*right) {
            (Math::Add, Value::Null, _) => self.copy(right),
            (Math::Add, _, Value::Null) => self.copy(left),
            (math, Value::Number(left), Value::Number(right)) => calculate(math, left, right),
            (Math::Add, Value::String(_), Value::String(more)) => {
                self.spend(more.len())?;
                let Value::String(mut text) = self.copy(left)? else { return None };
                text.push_str(more);
                Some(Value::String(text))
            }
            (Math::Add, Value::Array(_), Value::Array(_)) => {
                let (Value::Array(mut items), Value::Array(more)) = (self.copy(left)?, self.copy(right)?) else {
                    return None;
                };
                items.extend(more);
                Some(Value::Array(items))
            }
            _ => None,
        }
    }

    /// Values of different kinds are never equal; what comes first of them, and the order of arrays and objects, is jq's.
    fn compare(&self, compare: Cmp, left: &Value, right: &Value) -> Option<bool> {
        let order = match (left, right) {
            (Value::Null, Value::Null) => Some(std::cmp::Ordering::Equal),
            (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
            (Value::Number(left), Value::Number(right)) => match (left.as_i64(), right.as_i64()) {
                (Some(left), Some(right)) => Some(left.cmp(&right)),
                _ => float(left)?.partial_cmp(&float(right)?),
            },
            (Value::String(left), Value::String(right)) => {
                self.spend(left.len().min(right.len()))?;
                Some(left.cmp(right))
            }
            (Value::Array(_) | Value::Object(_), _) | (_, Value::Array(_) | Value::Object(_)) => return None,
            _ => None,
        };
        Some(match (compare, order) {
            (Cmp::Eq, order) => order.is_some_and(std::cmp::Ordering::is_eq),
            (Cmp::Ne, order) => order.is_none_or(std::cmp::Ordering::is_ne),
            (Cmp::Lt, Some(order)) => order.is_lt(),
            (Cmp::Le, Some(order)) => order.is_le(),
            (Cmp::Gt, Some(order)) => order.is_gt(),
            (Cmp::Ge, Some(order)) => order.is_ge(),
            (_, None) => return None,
        })
    }

    fn spend(&self, bytes: usize) -> Option<()> {
        self.left.set(self.left.get().checked_sub(bytes)?);
        Some(())
    }

    /// Whether a result may be as large and as deep, counted as for jq's results.
    fn fits(&self, value: &Value, depth: usize) -> bool {
        let own = match value {
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => 2,
            Value::Number(_) => 10,
            Value::String(text) => 2 + text.len(),
        };
        depth <= RESULT_DEPTH_MAX
            && self.spend(own).is_some()
            && match value {
                Value::Array(items) => items.iter().all(|item| self.fits(item, depth + 1)),
                Value::Object(map) => {
                    map.iter().all(|(key, value)| self.spend(key.len()).is_some() && self.fits(value, depth + 1))
                }
                _ => true,
            }
    }
}

const fn is_true(value: &Value) -> bool {
    !matches!(value, Value::Null | Value::Bool(false))
}

/// Whole numbers as long as the result is one of 64 bits, others as floats.
fn calculate(math: Math, left: &Number, right: &Number) -> Option<Value> {
    if let (Some(left), Some(right)) = (left.as_i64(), right.as_i64()) {
        let result = match math {
            Math::Add => left.checked_add(right),
            Math::Sub => left.checked_sub(right),
            Math::Mul => left.checked_mul(right),
            Math::Div | Math::Rem => None,
        };
        return result.map(Value::from);
    }
    let result = math.run::<f64, f64>(float(left)?, float(right)?);
    Number::from_f64(result).map(Value::Number)
}

/// A float, or a whole number that is the same as one.
fn float(number: &Number) -> Option<f64> {
    const EXACT_MAX: u64 = 1 << 53;
    match number.as_i64() {
        Some(whole) => (whole.unsigned_abs() <= EXACT_MAX).then_some(whole as f64),
        None if number.is_f64() => number.as_f64(),
        None => None,
    }
}

/// A number as jq is written.
fn number(digits: &str) -> Option<Number> {
    if digits.contains(['.', 'e', 'E']) {
        return digits.parse().ok().and_then(Number::from_f64);
    }
    digits.parse::<i64>().ok().map(Number::from)
}

#[cfg(test)]
mod tests;
