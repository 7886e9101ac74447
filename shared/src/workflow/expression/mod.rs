//! Expressions: jq by jaq, compiled once, evaluated on JSON. An expression sees its input and its variables, nothing
//! else: no clock, no environment, no process. It has a budget of steps and memory, so that the same input always gives
//! the same result or the same refusal.

mod convert;
mod direct;
mod inspect;
mod library;
mod metered;
mod template;

use std::{
    collections::BTreeSet,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

use direct::Direct;
use jaq_core::{
    Compiler, Ctx, DataT, Lut,
    load::{self, Arena, File, Loader},
};
use jaq_json::Val;
use metered::Metered;
use serde_json::{Map, Value};

use super::secret;

pub use inspect::Forbidden;
pub use template::{Expressions, body};

/// Longer than any real expression (the longest public one has 700 bytes); the parser's effort grows with it.
const TEXT_BYTES_MAX: usize = 16 << 10;

/// Up to here an expression without loops runs on the caller's stack, even if it is a pipe in every second byte.
const SHALLOW_BYTES_MAX: usize = 1 << 10;

/// Stack for what may go deep: parsing, and values nested by loops (up to 10,000 levels, freed recursively).
const STACK_BYTES: usize = 64 << 20;

/// Below this much stack a deep task gets one of its own.
const STACK_RED_ZONE: usize = STACK_BYTES - (1 << 20);

/// A compiled expression.
pub struct Expression {
    text: Box<str>,
    filter: jaq_core::Filter<Kind>,
    /// Where it needs no jq.
    direct: Option<Direct>,
    /// The variables that it mentions and does not bind itself, with the `$`.
    variables: Vec<String>,
    /// The secrets that it refers to, each with the key inside it.
    secrets: Vec<(String, Option<String>)>,
    /// Whether it may need much stack: it has loops, or is very long.
    deep: bool,
}

/// What gives the variables of an evaluation, by name without the `$`. It is asked only for those that the expression
/// mentions; `None` says that there is no such variable where the expression stands.
pub type Variables<'v> = dyn Fn(&str) -> Option<Value> + 'v;

/// The text is no expression that may run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    #[error("expected {expected}, found {found} at character {at} of the expression")]
    Syntax { expected: String, found: String, at: usize },
    #[error("`{name}` with {arity} arguments is no function of jq")]
    UndefinedFunction { name: String, arity: usize },
    #[error("{what} `{name}` is not defined")]
    Undefined { what: &'static str, name: String },
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    #[error("the expression has {bytes} bytes: expected at most {TEXT_BYTES_MAX}")]
    TooLong { bytes: usize },
}

/// The evaluation gave no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvaluateError {
    /// The expression's own error, as jq words it.
    #[error("{message} in `{expression}`")]
    Failed { expression: String, message: String },
    #[error("`${name}` has no value here, in `{expression}`")]
    NoVariable { expression: String, name: String },
    /// It would take too long, or too much memory.
    #[error("{reason}, in `{expression}`")]
    TooMuch { expression: String, reason: &'static str },
    #[error("the result is larger than {limit} in `{expression}`")]
    TooLarge { expression: String, limit: &'static str },
}

impl Expression {
    /// Compiles jq text, given without `${ }`.
    pub fn compile(text: &str) -> Result<Self, CompileError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(CompileError::TooLong { bytes: text.len() });
        }
        stacker::maybe_grow(STACK_RED_ZONE, STACK_BYTES, || Self::compile_deep(text))
    }

    fn compile_deep(text: &str) -> Result<Self, CompileError> {
        let term = inspect::parse(text)?;
        let inspected = inspect::inspect(&term)?;
        let variables: Vec<String> = inspected.variables.iter().map(|&name| name.to_owned()).collect();
        let arena = Arena::default();
        let modules = Loader::new(library::definitions())
            .load(&arena, File { code: text, path: () })
            .map_err(|errors| loading(text, errors))?;
        let filter = Compiler::default()
            .with_funs(library::functions())
            .with_global_vars(variables.iter().map(String::as_str))
            .compile(modules)
            .map_err(compiling)?;
        let names: Vec<&str> = inspected.variables.iter().map(|name| name.trim_start_matches('$')).collect();
        let deep = inspected.loops || text.len() > SHALLOW_BYTES_MAX;
        let direct = if deep { None } else { Direct::of(&term, &names) };
        let secrets = inspected.secrets.iter().map(|&(name, key)| (name.to_owned(), key.map(str::to_owned))).collect();
        Ok(Self { text: text.into(), filter, direct, variables, secrets, deep })
    }

    /// The text that was compiled.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The names, without `$`, of the variables that it needs.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.variables.iter().map(|name| name.trim_start_matches('$'))
    }

    /// The names of the secrets that it refers to.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.secrets.iter().map(|(name, _)| name.as_str())
    }

    /// What `$secrets` is for this expression: references in place of values.
    fn references(&self) -> Value {
        let mut all = Map::new();
        for (name, key) in &self.secrets {
            let text = Value::String(secret::reference(name, key.as_deref()));
            match key {
                None => drop(all.insert(name.clone(), text)),
                Some(key) => {
                    let inner = all.entry(name.clone()).or_insert_with(|| Value::Object(Map::new()));
                    if let Value::Object(inner) = inner {
                        inner.insert(key.clone(), text);
                    }
                }
            }
        }
        Value::Object(all)
    }

    /// The first value that the expression gives for this input; `null` when it gives none (`empty`).
    pub fn evaluate(&self, input: &Value, variables: &Variables<'_>) -> Result<Value, EvaluateError> {
        if let Some(value) = self.evaluate_directly(input, variables) {
            return Ok(value);
        }
        convert::forget_references();
        self.evaluate_converted(convert::from_json(input), &|name| Some(convert::from_json(&variables(name)?)))
    }

    /// `None`: it takes jq.
    fn evaluate_directly(&self, input: &Value, variables: &Variables<'_>) -> Option<Value> {
        self.direct.as_ref()?.evaluate(input, self.variables(), variables)
    }

    fn evaluate_converted(&self, input: Val, variables: &Converted<'_>) -> Result<Value, EvaluateError> {
        self.evaluate_within(metered::STEPS_MAX, input, variables)
    }

    fn evaluate_within(&self, steps: u64, input: Val, variables: &Converted<'_>) -> Result<Value, EvaluateError> {
        if self.deep {
            stacker::maybe_grow(STACK_RED_ZONE, STACK_BYTES, || self.evaluate_deep(steps, input, variables))
        } else {
            self.evaluate_deep(steps, input, variables)
        }
    }

    fn evaluate_deep(&self, steps: u64, input: Val, variables: &Converted<'_>) -> Result<Value, EvaluateError> {
        let expression = || self.text.to_string();
        let mut values = Vec::with_capacity(self.variables.len());
        for name in self.variables() {
            let own = (name == "secrets").then(|| convert::from_json(&self.references()));
            let Some(value) = own.or_else(|| variables(name)) else {
                return Err(EvaluateError::NoVariable { expression: expression(), name: name.to_owned() });
            };
            values.push(Metered::input(value));
        }
        metered::refill(steps);
        let run = || {
            let context = Ctx::<Kind>::new(&self.filter.lut, jaq_core::Vars::new(values));
            let first = self.filter.id.run((context, Metered::input(input))).next();
            match first {
                None => Ok(Value::Null),
                Some(Ok(value)) => convert::to_json(value.value())
                    .map(only_known_references)
                    .map_err(|limit| EvaluateError::TooLarge { expression: expression(), limit }),
                Some(Err(exception)) => {
                    let message = match exception.get_err() {
                        Ok(error) => convert::text(error.into_val().value()),
                        Err(_) => "it broke off".to_owned(),
                    };
                    Err(EvaluateError::Failed { expression: expression(), message })
                }
            }
        };
        // Nothing outside is left half done by an unwound evaluation: it owns all that it touches.
        catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|cause| match cause.downcast::<metered::Spent>() {
            Ok(spent) => Err(EvaluateError::TooMuch { expression: expression(), reason: spent.0 }),
            Err(_) => {
                let message = "jq failed on this input".to_owned();
                Err(EvaluateError::Failed { expression: expression(), message })
            }
        })
    }
}

/// References that the inputs did not have were put together by the expression, out of numbers or escaped text that may
/// come from anywhere: they are none.
fn only_known_references(result: Value) -> Value {
    if !secret::any_marked(&result) {
        return result;
    }
    let known: BTreeSet<String> = convert::known_references();
    secret::keep_only(result, &known)
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.text).finish()
    }
}

/// [`Variables`] as jq has them.
type Converted<'v> = dyn Fn(&str) -> Option<Val> + 'v;

/// What our filters work on.
struct Kind;

impl DataT for Kind {
    type V<'a> = Metered;
    type Data<'a> = &'a Lut<Self>;
}

/// The parser has been over this text before, so what is left to go wrong is an import.
fn loading(text: &str, errors: load::Errors<&str, ()>) -> CompileError {
    let first = errors.into_iter().next().map(|(_, error)| error);
    match first {
        Some(load::Error::Io(imports)) => {
            let name = imports.first().map_or_else(String::new, |(name, _)| (*name).to_owned());
            CompileError::Undefined { what: "module", name }
        }
        Some(load::Error::Lex(errors)) => inspect::lexing(text, &errors),
        Some(load::Error::Parse(errors)) => {
            let found = errors.first().map_or("", |(_, found)| found);
            let expected = errors.first().map_or("an expression", |(expected, _)| expected.as_str());
            inspect::syntax(text, expected, found)
        }
        None => inspect::syntax(text, "an expression", ""),
    }
}

fn compiling(errors: jaq_core::compile::Errors<&str, ()>) -> CompileError {
    use jaq_core::compile::Undefined;
    let first = errors.into_iter().flat_map(|(_, errors)| errors).next();
    match first {
        Some((name, Undefined::Filter(arity))) => CompileError::UndefinedFunction { name: name.to_owned(), arity },
        Some((name, what)) => CompileError::Undefined { what: what.as_str(), name: name.to_owned() },
        None => CompileError::Undefined { what: "something", name: String::new() },
    }
}

#[cfg(test)]
mod tests;
