//! JSON into jaq's values and back.

use std::{cell::RefCell, collections::BTreeSet};

use jaq_json::{Num, Val};
use jaq_std::ValT as _;
use serde_json::{Map, Number, Value};

use super::{super::secret, metered::spend_whole};

thread_local! {
    /// The references to secrets in what was converted for the evaluation that this thread is at.
    static REFERENCES: RefCell<BTreeSet<String>> = const { RefCell::new(BTreeSet::new()) };
}

/// An evaluation begins.
pub(super) fn forget_references() {
    REFERENCES.with_borrow_mut(|known| {
        if !known.is_empty() {
            known.clear()
        }
    });
}

/// The references to secrets that the evaluation was given.
pub(super) fn known_references() -> BTreeSet<String> {
    REFERENCES.with_borrow(Clone::clone)
}

fn note_references(text: &str) {
    if secret::is_marked(text) {
        REFERENCES.with_borrow_mut(|known| known.extend(secret::references(text).map(str::to_owned)));
    }
}

/// What fits into a database row and an event; a result beyond it is a mistake.
pub(super) const RESULT_BYTES_MAX: usize = 4 << 20;

/// serde_json reads back at most 128 levels.
pub(super) const RESULT_DEPTH_MAX: usize = 100;

pub(super) fn from_json(value: &Value) -> Val {
    match value {
        Value::Null => Val::Null,
        Value::Bool(bool) => Val::Bool(*bool),
        Value::Number(number) => Val::Num(if let Some(int) = number.as_i64() {
            Num::from_integral(int)
        } else if let Some(int) = number.as_u64() {
            Num::from_integral(int)
        } else {
            Num::Float(number.as_f64().unwrap_or(f64::NAN))
        }),
        Value::String(text) => {
            note_references(text);
            Val::utf8_str(text.clone().into_bytes())
        }
        Value::Array(items) => items.iter().map(from_json).collect(),
        Value::Object(map) => Val::obj(
            map.iter().map(|(key, value)| (Val::utf8_str(key.clone().into_bytes()), from_json(value))).collect(),
        ),
    }
}

/// A string as it is, anything else as JSON.
pub(super) fn text(value: &Val) -> String {
    match value {
        Val::TStr(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => {
            spend_whole(other);
            other.to_string()
        }
    }
}

/// The error says which limit the value goes beyond.
pub(super) fn to_json(value: &Val) -> Result<Value, &'static str> {
    Writer { bytes_left: RESULT_BYTES_MAX }.write(value, 0)
}

struct Writer {
    bytes_left: usize,
}

impl Writer {
    /// Counts about as many bytes as the value has in JSON.
    fn spend(&mut self, bytes: usize) -> Result<(), &'static str> {
        self.bytes_left = self.bytes_left.checked_sub(bytes).ok_or("4 MiB")?;
        Ok(())
    }

    fn write(&mut self, value: &Val, depth: usize) -> Result<Value, &'static str> {
        if depth > RESULT_DEPTH_MAX {
            return Err("100 levels of nesting");
        }
        self.spend(2)?;
        Ok(match value {
            Val::Null => Value::Null,
            Val::Bool(bool) => Value::Bool(*bool),
            Val::Num(number) => {
                self.spend(8)?;
                number_to_json(number)
            }
            Val::TStr(bytes) | Val::BStr(bytes) => Value::String(self.text(bytes)?),
            Val::Arr(items) => {
                Value::Array(items.iter().map(|item| self.write(item, depth + 1)).collect::<Result<_, _>>()?)
            }
            Val::Obj(map) => {
                let mut object = Map::with_capacity(map.len().min(1024));
                for (key, value) in map.iter() {
                    let key = match key {
                        Val::TStr(bytes) | Val::BStr(bytes) => self.text(bytes)?,
                        other => {
                            spend_whole(other);
                            other.to_string()
                        }
                    };
                    object.insert(key, self.write(value, depth + 1)?);
                }
                Value::Object(object)
            }
        })
    }

    fn text(&mut self, bytes: &[u8]) -> Result<String, &'static str> {
        self.spend(bytes.len())?;
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }
}

/// As jq prints them: not-a-number becomes null, the infinite the largest number.
fn number_to_json(number: &Num) -> Value {
    match number {
        Num::Int(int) => Value::from(*int as i64),
        Num::Float(float) => float_to_json(*float),
        // A whole number beyond 64 bits has no exact form in most readers of JSON either.
        Num::BigInt(int) => match u64::try_from(&**int) {
            Ok(int) => Value::from(int),
            Err(_) => float_to_json(Val::Num(number.clone()).as_f64().unwrap_or(f64::NAN)),
        },
        Num::Dec(text) => float_to_json(text.parse().unwrap_or(f64::NAN)),
    }
}

fn float_to_json(float: f64) -> Value {
    Number::from_f64(float.clamp(f64::MIN, f64::MAX)).map_or(Value::Null, Value::Number)
}
