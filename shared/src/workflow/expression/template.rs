//! Expressions inside JSON: a string that is a whole `${ .. }` stands for the value of what is in it.

use std::{
    cell::{OnceCell, RefCell},
    collections::BTreeMap,
    fmt,
    sync::Arc,
};

use jaq_json::Val;
use serde_json::Value;

use super::{CompileError, EvaluateError, Expression, Variables, convert};

/// What stands in a whole `${ .. }`; `None` for any other text.
#[must_use]
pub fn body(text: &str) -> Option<&str> {
    Some(text.trim().strip_prefix("${")?.strip_suffix('}')?.trim())
}

/// The expressions of a workflow, each compiled once, found by their text.
#[derive(Default)]
pub struct Expressions(BTreeMap<Box<str>, Arc<Expression>>);

impl Expressions {
    /// Compiles an expression unless it is there already; `text` is jq with or without `${ }`.
    pub fn add(&mut self, text: &str) -> Result<&Expression, CompileError> {
        let text = body(text).unwrap_or(text);
        if !self.0.contains_key(text) {
            self.0.insert(text.into(), Arc::new(Expression::compile(text)?));
        }
        Ok(&self.0[text])
    }

    /// The names of the variables that an expression needs; `text` is jq with or without `${ }`.
    pub fn variables(&self, text: &str) -> Result<Vec<String>, EvaluateError> {
        self.with(text, |expression| Ok(expression.variables().map(str::to_owned).collect()))
    }

    /// The value of an expression; `text` is jq with or without `${ }`. One that was not compiled before is compiled
    /// for this time.
    pub fn evaluate(&self, text: &str, input: &Value, variables: &Variables<'_>) -> Result<Value, EvaluateError> {
        self.with(text, |expression| expression.evaluate(input, variables))
    }

    /// Whether a condition is true as jq has it: anything but `false` and `null` is.
    pub fn holds(&self, text: &str, input: &Value, variables: &Variables<'_>) -> Result<bool, EvaluateError> {
        Ok(!matches!(self.evaluate(text, input, variables)?, Value::Null | Value::Bool(false)))
    }

    /// A copy of the template in which every string that is a whole `${ .. }`, at any depth, gave way to its value.
    /// Keys and all other strings stay as they are.
    pub fn fill(&self, template: &Value, input: &Value, variables: &Variables<'_>) -> Result<Value, EvaluateError> {
        convert::forget_references();
        let (converted, known) = (OnceCell::new(), RefCell::new(BTreeMap::new()));
        self.fill_in(template, &Data { input, variables, converted, known })
    }

    /// The value of what may be written as an expression (with or without `${ }`) or as an object with expressions in
    /// it: `input.from`, `output.as`, `export.as`.
    pub fn transform(&self, form: &Value, input: &Value, variables: &Variables<'_>) -> Result<Value, EvaluateError> {
        match form {
            Value::String(text) => self.evaluate(text, input, variables),
            template => self.fill(template, input, variables),
        }
    }

    fn fill_in(&self, template: &Value, data: &Data<'_>) -> Result<Value, EvaluateError> {
        Ok(match template {
            Value::String(text) if body(text).is_some() => self.with(text, |expression| {
                expression
                    .evaluate_directly(data.input, data.variables)
                    .map_or_else(|| expression.evaluate_converted(data.converted(), &|name| data.variable(name)), Ok)
            })?,
            Value::Array(items) => {
                Value::Array(items.iter().map(|item| self.fill_in(item, data)).collect::<Result<_, _>>()?)
            }
            Value::Object(map) => {
                let fill = |(key, value): (&String, &Value)| Ok((key.clone(), self.fill_in(value, data)?));
                Value::Object(map.iter().map(fill).collect::<Result<_, _>>()?)
            }
            other => other.clone(),
        })
    }

    fn with<T>(
        &self,
        text: &str,
        evaluate: impl FnOnce(&Expression) -> Result<T, EvaluateError>,
    ) -> Result<T, EvaluateError> {
        let text = body(text).unwrap_or(text);
        if let Some(expression) = self.0.get(text) {
            return evaluate(expression);
        }
        let compiled = Expression::compile(text)
            .map_err(|error| EvaluateError::Failed { expression: text.to_owned(), message: error.to_string() })?;
        evaluate(&compiled)
    }
}

/// What the expressions of a template see; converted for jq once, however many of them there are.
struct Data<'a> {
    input: &'a Value,
    variables: &'a Variables<'a>,
    converted: OnceCell<Val>,
    known: RefCell<BTreeMap<String, Val>>,
}

impl Data<'_> {
    fn converted(&self) -> Val {
        self.converted.get_or_init(|| convert::from_json(self.input)).clone()
    }

    fn variable(&self, name: &str) -> Option<Val> {
        if let Some(value) = self.known.borrow().get(name) {
            return Some(value.clone());
        }
        let value = convert::from_json(&(self.variables)(name)?);
        self.known.borrow_mut().insert(name.to_owned(), value.clone());
        Some(value)
    }
}

impl fmt::Debug for Expressions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
