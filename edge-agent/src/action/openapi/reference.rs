//! References inside a document (`$ref: '#/components/..'`).

use serde_json::Value;

/// References to references: more is a circle.
const HOPS_MAX: usize = 16;

/// A document whose references are followed where they are looked at.
pub(in super::super) struct Resolved<'d>(pub(in super::super) &'d Value);

impl<'d> Resolved<'d> {
    pub(in super::super) const fn of(document: &'d Value) -> Self {
        Self(document)
    }

    /// What the value is, or what it refers to within the document.
    pub(in super::super) fn value(&self, value: &'d Value) -> &'d Value {
        let mut at = value;
        for _ in 0..HOPS_MAX {
            let Some(pointer) = at.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix('#')) else {
                break;
            };
            match self.0.pointer(&unescape(pointer)) {
                Some(next) => at = next,
                None => break,
            }
        }
        at
    }

    /// The member of this name, resolved.
    pub(in super::super) fn get(&self, value: &'d Value, name: &str) -> Option<&'d Value> {
        value.get(name).map(|value| self.value(value))
    }

    /// The members of a list, resolved.
    pub(in super::super) fn items(&self, value: &'d Value, name: &str) -> impl Iterator<Item = &'d Value> {
        value.get(name).and_then(Value::as_array).into_iter().flatten().map(|item| self.value(item))
    }
}

/// A reference is a URL: its pointer may be percent-encoded.
fn unescape(pointer: &str) -> String {
    let bytes = pointer.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'%').then(|| pointer.get(at + 1..at + 3)).flatten();
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                plain.push(byte);
                at += 3;
            }
            None => {
                plain.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}
