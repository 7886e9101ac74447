//! What each keyword becomes.

use llguidance::{
    derivre::{RegexAst, RegexBuilder},
    regex_to_lark,
};
use serde_json::{Map, Value, json};

use super::{Part, Stands, literal, wrong};
use crate::Error;

/// What says something of a value that a grammar cannot hold.
pub(super) const UNSUPPORTED: &[&str] = &[
    "not",
    "if",
    "then",
    "else",
    "contains",
    "minContains",
    "maxContains",
    "propertyNames",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "$dynamicRef",
    "$recursiveRef",
];

/// What may stand beside `anyOf`, `oneOf` or `$ref` and leaves each of them whole.
const SILENT: &[&str] = &[
    "$schema",
    "$id",
    "$anchor",
    "$comment",
    "$defs",
    "definitions",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "type",
];

const OBJECT: &[&str] = &[
    "properties",
    "required",
    "additionalProperties",
    "patternProperties",
    "minProperties",
    "maxProperties",
    "unevaluatedProperties",
];
const ARRAY: &[&str] =
    &["items", "prefixItems", "additionalItems", "minItems", "maxItems", "uniqueItems", "unevaluatedItems"];
const TEXT: &[&str] = &["minLength", "maxLength", "pattern", "format"];
const NUMBER: &[&str] = &["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"];
const TYPES: &[&str] = &["object", "array", "string", "number", "integer", "boolean", "null"];

/// Characters of a string and items of a list, at most: longer ones are no answer, and a grammar for them takes long to make.
const CHARS_MAX: u64 = 4_096;
const ITEMS_MAX: u64 = 1_024;
/// Each remainder is a state of the grammar.
const MULTIPLE_MAX: f64 = 10_000.0;

/// Formats that are known to the grammar's compiler, and how long what fits them may be at most: a name of a host or of its part has a limit
/// that the grammars lack. Others say nothing, as the standard has it.
const FORMATS: &[(&str, u64)] =
    &[("duration", 40), ("email", 63), ("hostname", 253), ("ipv4", 15), ("ipv6", 45), ("uri", 2_048), ("uuid", 36)];
/// No leap days and leap seconds: whether there is one depends on the rest.
/// Leap days are left out, and the year 0000, which many readers do not know.
const DATE: &str = "([1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])-(((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01]))|((0[469]|11)-(0[1-9]|[12][0-9]|30))|(02-(0[1-9]|1[0-9]|2[0-8])))";
const TIME: &str = "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])";

/// How the parts inside a part stand.
pub(super) struct Inner {
    pub(super) own: Stands,
    pub(super) option: Stands,
    pub(super) all: Stands,
}

pub(super) fn inner(map: &Map<String, Value>, stands: Stands) -> Inner {
    let joins = |key: &&String| matches!(key.as_str(), "allOf" | "anyOf" | "oneOf" | "$ref");
    let joining = map.keys().filter(joins).count();
    let is_only = joining == 1 && map.keys().all(|key| joins(&key) || SILENT.contains(&key.as_str()));
    let one = map.get("allOf").and_then(Value::as_array).is_some_and(|parts| parts.len() == 1);
    let when = |is_whole: bool| if is_whole && stands == Stands::Alone { Stands::Alone } else { Stands::Among };
    Inner { own: when(joining == 0), option: when(is_only), all: when(is_only && one) }
}

/// Options that are each but a few values: where no value is in two of them they are one option, of which the grammar's compiler need not
/// see that they exclude each other.
fn folded(options: Vec<Value>) -> Vec<Value> {
    let Some(values) = options.iter().map(literal::values).collect::<Option<Vec<_>>>() else { return options };
    let values = values.concat();
    let is_twice = |(at, value): (usize, &Value)| values[..at].iter().any(|before| literal::is_equal(before, value));
    if values.iter().enumerate().any(is_twice) {
        return options;
    }
    vec![json!({ "enum": values })]
}

impl Part<'_, '_> {
    /// Of what kind a value is: where nothing says so, that which the other keywords speak of.
    pub(super) fn kinds(&mut self, map: &Map<String, Value>) -> Result<(), Error> {
        let names: Vec<&str> = match map.get("type") {
            Some(Value::String(name)) => vec![name],
            Some(Value::Array(names)) => names.iter().map(|name| name.as_str().unwrap_or_default()).collect(),
            Some(_) => return Err(wrong(self.at, "type", "must be a name or a list of names")),
            None => {
                let speaks = |keys: &[&str]| keys.iter().any(|key| map.contains_key(*key));
                let is_named = map.contains_key("enum") || map.contains_key("const");
                let kinds = [(OBJECT, "object"), (ARRAY, "array"), (TEXT, "string"), (NUMBER, "number")];
                let kind = kinds.iter().find(|(keys, _)| speaks(keys)).filter(|_| !is_named);
                match kind {
                    Some((_, name)) if self.inner == Stands::Alone => vec![name],
                    _ => return Ok(()),
                }
            }
        };
        if let Some(name) = names.iter().find(|name| !TYPES.contains(name)) {
            return Err(wrong(self.at, "type", &format!("is {name:?}, which JSON Schema does not know")));
        }
        if names.is_empty() {
            return Err(wrong(self.at, "type", "must name at least one type"));
        }
        self.out.insert("type".to_owned(), json!(names));
        Ok(())
    }

    pub(super) fn keyword(&mut self, key: &str, value: &Value, inner: &Inner) -> Result<(), Error> {
        let out = match key {
            "$ref" => self.whole.reference(value, self.at, inner.option)?,
            "anyOf" => Value::Array(self.list(key, value, inner.option)?),
            "oneOf" => Value::Array(folded(self.list(key, value, inner.option)?)),
            "allOf" => {
                let parts = self.list(key, value, inner.all)?;
                self.all_of.extend(parts);
                return Ok(());
            }
            "const" => {
                literal::check(value, self.at, key)?;
                value.clone()
            }
            "enum" => {
                if value.as_array().is_none_or(Vec::is_empty) {
                    return Err(wrong(self.at, key, "must be a list with an entry"));
                }
                literal::check(value, self.at, key)?;
                value.clone()
            }
            "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => {
                let Value::Number(number) = value else { return Err(wrong(self.at, key, "must be a number")) };
                literal::check_number(number, self.at, key)?;
                value.clone()
            }
            "multipleOf" => {
                let step = value.as_f64().ok_or_else(|| wrong(self.at, key, "must be a number"))?;
                // Remainders of fractions are not exact; a validator may see them otherwise.
                if step.fract() != 0.0 || !(1.0..=MULTIPLE_MAX).contains(&step) {
                    let expected = format!("is {step}: expected a whole number from 1 to {MULTIPLE_MAX}");
                    return Err(wrong(self.at, key, &expected));
                }
                json!(step as u64)
            }
            "minLength" => json!(self.least(key, value, CHARS_MAX)?),
            "maxLength" => json!(count(self.at, key, value)?.min(CHARS_MAX)),
            "pattern" => {
                check_pattern(value, self.at, key)?;
                value.clone()
            }
            "format" => return self.format(value),
            // Read together, after the others.
            _ => return Ok(()),
        };
        self.out.insert(key.to_owned(), out);
        Ok(())
    }

    fn format(&mut self, value: &Value) -> Result<(), Error> {
        let name = value.as_str().ok_or_else(|| wrong(self.at, "format", "must be a text"))?;
        let pattern = match name {
            "date" => DATE.to_owned(),
            "time" => TIME.to_owned(),
            "date-time" => format!("{DATE}T{TIME}"),
            _ => {
                if let Some((_, most)) = FORMATS.iter().find(|(known, _)| *known == name) {
                    self.out.insert("format".to_owned(), value.clone());
                    self.all_of.push(json!({ "maxLength": most }));
                }
                return Ok(());
            }
        };
        self.all_of.push(json!({ "pattern": format!("^({pattern})$") }));
        Ok(())
    }

    /// What no value can fit is told by the keywords that contradict each other.
    pub(super) fn order(&self, map: &Map<String, Value>) -> Result<(), Error> {
        for (least, most) in [("minLength", "maxLength"), ("minItems", "maxItems")] {
            let number = |key: &str| map.get(key).and_then(Value::as_u64);
            if let (Some(min), Some(max)) = (number(least), number(most))
                && min > max
            {
                return Err(wrong(self.at, least, &format!("is {min} and {most} {max}: no value fits both")));
            }
        }
        let number = |key: &str| map.get(key).and_then(Value::as_f64);
        let (low, above) = (number("minimum"), number("exclusiveMinimum"));
        let (high, below) = (number("maximum"), number("exclusiveMaximum"));
        let (min, max) = (low.into_iter().chain(above), high.into_iter().chain(below));
        let (min, max) = (min.fold(f64::NEG_INFINITY, f64::max), max.fold(f64::INFINITY, f64::min));
        if min > max || (min == max && (above == Some(min) || below == Some(max))) {
            let place = super::place(self.at);

            return Err(Error::request(format!(
                "schema{place}: no number is at least {min} and at most {max}, without the bounds that are excluded"
            )));
        }
        Ok(())
    }

    /// A whole bound that is excluded, on the side of zero, becomes the next number that is included: llguidance 1.9 writes the bound itself
    /// where the other has the same whole part. The next has one decimal more than any number of the schema, so none of them is lost.
    pub(super) fn beyond_excluded(&mut self, map: &Map<String, Value>) {
        let is_whole = self.out.get("type").is_some_and(|kinds| *kinds == json!(["integer"]));
        // Of values that are named those that fit are chosen, with the bounds as they stand.
        if is_whole || map.contains_key("enum") || map.contains_key("const") {
            return;
        }
        for (excluded, included, away) in [("exclusiveMinimum", "minimum", 1.0), ("exclusiveMaximum", "maximum", -1.0)]
        {
            let number = |key: &str| map.get(key).and_then(Value::as_f64);
            let is_near = |bound: &f64| bound.fract() == 0.0 && bound * away >= 0.0;
            let Some(bound) = number(excluded).filter(is_near) else { continue };
            // The narrower of two bounds counts.
            if number(included).is_some_and(|given| (given - bound) * away > 0.0) {
                self.out.remove(excluded);
                continue;
            }
            let step = format!("1e-{}", self.whole.decimals).parse().unwrap_or(0.0);
            let next = match bound + away * step {
                next if next != bound => next,
                _ if away > 0.0 => bound.next_up(),
                _ => bound.next_down(),
            };
            // Where numbers lie so far apart that each is whole, no two bounds have the same whole part.
            if next.fract() != 0.0 {
                self.out.remove(excluded);
                self.out.insert(included.to_owned(), json!(next));
            }
        }
    }

    fn least(&self, key: &str, value: &Value, most: u64) -> Result<u64, Error> {
        let least = count(self.at, key, value)?;
        let is_held = least <= most;
        if is_held { Ok(least) } else { Err(wrong(self.at, key, &format!("is {least}: expected at most {most}"))) }
    }

    pub(super) fn array(&mut self, map: &Map<String, Value>) -> Result<(), Error> {
        if !ARRAY.iter().any(|key| map.contains_key(*key)) {
            return Ok(());
        }
        let (before, items) = match map.get("items") {
            // Drafts before 2020-12 list the first items so.
            Some(items @ Value::Array(_)) => (Some(items), map.get("additionalItems")),
            items => (map.get("prefixItems"), items),
        };
        if let Some(before) = before.filter(|before| before.as_array().is_none_or(|before| !before.is_empty())) {
            let before = self.list("prefixItems", before, self.inner)?;
            self.out.insert("prefixItems".to_owned(), Value::Array(before));
        }
        let unevaluated = self.unevaluated(map, "unevaluatedItems")?;
        if let Some(items) = items.or(unevaluated) {
            let items = self.inside("items", items, self.inner)?;
            self.out.insert("items".to_owned(), items);
        }
        let min = map.get("minItems").map_or(Ok(0), |value| self.least("minItems", value, ITEMS_MAX))?;
        let mut max = map.get("maxItems").map(|value| count(self.at, "maxItems", value)).transpose()?;
        if map.get("uniqueItems") == Some(&Value::Bool(true)) {
            // What was written is not compared; one item is different from all others.
            if min > 1 {
                return Err(wrong(self.at, "uniqueItems", "with minItems above 1 is not supported here"));
            }
            max = Some(max.map_or(1, |max| max.min(1)));
        }
        if min > 0 {
            self.out.insert("minItems".to_owned(), json!(min));
        }
        if let Some(max) = max {
            self.out.insert("maxItems".to_owned(), json!(max.min(ITEMS_MAX)));
        }
        Ok(())
    }

    /// `unevaluatedItems` and `unevaluatedProperties` speak of what the keywords beside them left over; where all of those are simple, that
    /// is what `items` and `additionalProperties` say.
    fn unevaluated<'m>(&self, map: &'m Map<String, Value>, key: &str) -> Result<Option<&'m Value>, Error> {
        match map.get(key) {
            None | Some(Value::Bool(true)) => Ok(None),
            found if self.inner == Stands::Alone => Ok(found),
            Some(_) => Err(wrong(self.at, key, "beside allOf, anyOf, oneOf or $ref is not supported here")),
        }
    }

    pub(super) fn object(&mut self, map: &Map<String, Value>) -> Result<(), Error> {
        if !OBJECT.iter().any(|key| map.contains_key(*key)) {
            return Ok(());
        }
        let mut properties = self.properties("properties", map)?;
        let patterns = self.properties("patternProperties", map)?;
        for pattern in patterns.keys() {
            check_pattern(&json!(pattern), self.at, "patternProperties")?;
        }
        let mut required: Vec<String> = match map.get("required") {
            None => Vec::new(),
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            Some(_) => return Err(wrong(self.at, "required", "must be a list of texts")),
        };
        let unevaluated = self.unevaluated(map, "unevaluatedProperties")?;
        let mut others = match map.get("additionalProperties").or(unevaluated) {
            None => None,
            Some(schema) => Some(self.inside("additionalProperties", schema, self.inner)?),
        };
        let is_closed = self.inner == Stands::Alone && patterns.is_empty();
        if is_closed && others.is_none() && !properties.is_empty() {
            for name in required.iter().filter(|name| !properties.contains_key(*name)).cloned().collect::<Vec<_>>() {
                properties.insert(name, Value::Bool(true));
            }
            others = Some(Value::Bool(false));
        }
        self.counts(map, &mut properties, &mut required, &mut others, patterns.is_empty())?;
        let mut put = |key: &str, value: Option<Value>| value.map(|value| self.out.insert(key.to_owned(), value));
        put("properties", (!properties.is_empty()).then(|| properties.into()));
        put("patternProperties", (!patterns.is_empty()).then(|| patterns.into()));
        put("additionalProperties", others);
        put("required", (!required.is_empty()).then(|| json!(required)));
        Ok(())
    }

    /// `minProperties` by requiring more of what is described, `maxProperties` by leaving the last of it out.
    fn counts(
        &mut self,
        map: &Map<String, Value>,
        properties: &mut Map<String, Value>,
        required: &mut Vec<String>,
        others: &mut Option<Value>,
        has_no_patterns: bool,
    ) -> Result<(), Error> {
        let (at, read) = (self.at, |key: &str| map.get(key).map(|value| count(self.at, key, value)).transpose());
        let (min, max) = (read("minProperties")?.unwrap_or(0), read("maxProperties")?);
        if max.is_some_and(|max| max < min.max(required.len() as u64)) {
            return Err(wrong(
                at,
                "maxProperties",
                "is less than minProperties or the number of those that are required",
            ));
        }
        let optional: Vec<String> = properties.keys().filter(|name| !required.contains(name)).cloned().collect();
        let missing = usize::try_from(min).unwrap_or(usize::MAX).saturating_sub(required.len());
        match missing {
            0 => {}
            // At least one of any name.
            1 if optional.is_empty() && self.inner == Stands::Alone => {
                self.out.insert("minProperties".to_owned(), json!(required.len() + 1));
            }
            _ if missing <= optional.len() && self.inner == Stands::Alone => {
                required.extend(optional.iter().take(missing).cloned());
            }
            _ => {
                let found = format!("is {min}, but properties describes {}", properties.len());
                return Err(wrong(at, "minProperties", &found));
            }
        }
        if let Some(max) = max {
            if self.inner == Stands::Among {
                return Err(wrong(at, "maxProperties", "beside allOf, anyOf, oneOf or $ref is not supported here"));
            }
            let left = usize::try_from(max).unwrap_or(usize::MAX) - required.len();
            let out = properties.keys().filter(|name| !required.contains(name)).skip(left).cloned().collect::<Vec<_>>();
            let is_all = out.is_empty() && optional.is_empty() && has_no_patterns;
            if is_all && others.as_ref() != Some(&Value::Bool(false)) {
                // Any names, so many of them.
                self.out.insert("maxProperties".to_owned(), json!(max));
            } else {
                if !has_no_patterns {
                    return Err(wrong(at, "maxProperties", "beside patternProperties is not supported here"));
                }
                out.iter().for_each(|name| drop(properties.shift_remove(name)));
                *others = Some(Value::Bool(false));
            }
        }
        Ok(())
    }
}

fn count(at: &str, key: &str, value: &Value) -> Result<u64, Error> {
    let whole = value.as_u64().or_else(|| value.as_f64().filter(|v| v.fract() == 0.0 && *v >= 0.0).map(|v| v as u64));
    whole.ok_or_else(|| wrong(at, key, "must be a whole number of at least 0"))
}

fn check_pattern(pattern: &Value, at: &str, key: &str) -> Result<(), Error> {
    let text = pattern.as_str().ok_or_else(|| wrong(at, key, "must be a text"))?;
    let made = RegexBuilder::new().mk(&RegexAst::SearchRegex(regex_to_lark(text, "dw")));
    made.map(drop).map_err(|error| {
        let reason = error.to_string();
        wrong(at, key, &format!("{text:?} is not supported here: {}", reason.lines().last().unwrap_or_default()))
    })
}
