//! For each pattern of a schema a short text that it finds itself in, so that an answer can be brought to an end.

use regex_syntax::hir::{Class, Hir, HirKind};
use serde_json::Value;

/// Of longer ones an end is not short.
const CHARS_MAX: usize = 256;

/// The texts for all patterns of a narrowed schema.
pub(in crate::generate::chat) fn examples(schema: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect(schema, &mut found);
    found.sort();
    found.dedup();
    found
}

fn collect(schema: &Value, found: &mut Vec<String>) {
    match schema {
        Value::Array(parts) => parts.iter().for_each(|part| collect(part, found)),
        Value::Object(map) => {
            for (key, value) in map {
                match (key.as_str(), value) {
                    ("pattern", Value::String(pattern)) => found.extend(example(pattern)),
                    ("patternProperties", Value::Object(parts)) => {
                        found.extend(parts.keys().filter_map(|pattern| example(pattern)));
                    }
                    _ => {}
                }
                collect(value, found);
            }
        }
        _ => {}
    }
}

fn example(pattern: &str) -> Option<String> {
    let mut text = String::new();
    write(&regex_syntax::parse(pattern).ok()?, &mut text).filter(|()| !text.is_empty()).map(|()| text)
}

fn write(hir: &Hir, text: &mut String) -> Option<()> {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Some(()),
        HirKind::Literal(literal) => {
            text.push_str(std::str::from_utf8(&literal.0).ok()?);
            (text.len() <= CHARS_MAX).then_some(())
        }
        HirKind::Class(Class::Unicode(class)) => {
            // A character that needs no escape, where there is one.
            let all = || class.iter().flat_map(|range| range.start()..=range.end()).take(1_000);
            let found = all().find(char::is_ascii_alphanumeric).or_else(|| all().find(|c| !c.is_control()));
            text.push(found.or_else(|| all().next())?);
            Some(())
        }
        HirKind::Class(Class::Bytes(_)) => None,
        HirKind::Repetition(repetition) => {
            // Stops at the first that is too long.
            (0..repetition.min).try_for_each(|_| {
                write(&repetition.sub, text)?;
                (text.len() <= CHARS_MAX).then_some(())
            })
        }
        HirKind::Capture(capture) => write(&capture.sub, text),
        HirKind::Concat(parts) => parts.iter().try_for_each(|part| write(part, text)),
        HirKind::Alternation(parts) => {
            let options = parts.iter().filter_map(|part| {
                let mut option = String::new();
                write(part, &mut option).map(|()| option)
            });
            text.push_str(&options.min_by_key(String::len)?);
            Some(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_example_is_found_by_its_pattern() {
        for pattern in
            ["x\\.y", "^(red|green)-[0-9]{3}$", "[^\\s]+@[^\\s]+\\.[a-z]{2,3}", "^(ab)+$", "é|日本", "\\d{4}/\\w+"]
        {
            let example = example(pattern).unwrap();
            assert!(regex::Regex::new(pattern).unwrap().is_match(&example), "{pattern} {example}");
        }
        assert_eq!(example("a{9999}"), None);
        assert_eq!(example("^$"), None);
    }
}
