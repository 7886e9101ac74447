//! The part of JSON Schema (2020-12) that the extractive generator can fill, parsed; any other keyword is refused by name.

use serde_json::{Map, Value};

use crate::Error;

/// Schemas for answers are small; deeper ones are mistakes or loops.
const DEPTH_MAX: usize = 16;

/// A schema that can be filled, with the words that say what it is for.
#[derive(Debug, Clone)]
pub(in crate::generate) struct Shape {
    /// Its title and description.
    pub(in crate::generate) about: String,
    pub(in crate::generate) kind: Kind,
}

#[derive(Debug, Clone)]
pub(in crate::generate) enum Kind {
    Object(Vec<Property>),
    Array {
        item: Box<Shape>,
        min: usize,
        max: Option<usize>,
        is_unique: bool,
    },
    Text {
        min: usize,
        max: Option<usize>,
    },
    Number(Range),
    Boolean,
    Null,
    /// One of these values; never empty.
    Choice(Vec<Value>),
    /// The first of these that can be filled.
    AnyOf(Vec<Shape>),
}

#[derive(Debug, Clone)]
pub(in crate::generate) struct Property {
    pub(in crate::generate) name: String,
    pub(in crate::generate) shape: Shape,
    pub(in crate::generate) is_required: bool,
}

/// Which numbers fit.
#[derive(Debug, Clone, Copy)]
pub(in crate::generate) struct Range {
    pub(in crate::generate) is_integer: bool,
    pub(in crate::generate) min: f64,
    pub(in crate::generate) max: f64,
    pub(in crate::generate) excludes_min: bool,
    pub(in crate::generate) excludes_max: bool,
    pub(in crate::generate) step: Option<f64>,
}

impl Range {
    pub(in crate::generate) fn holds(&self, value: f64) -> bool {
        let is_low = value < self.min || (self.excludes_min && value <= self.min);
        let is_high = value > self.max || (self.excludes_max && value >= self.max);
        let is_step = self.step.is_none_or(|step| value % step == 0.0);
        value.is_finite() && !is_low && !is_high && is_step && (!self.is_integer || value.fract() == 0.0)
    }
}

impl Shape {
    pub(in crate::generate) fn parse(schema: &Value) -> Result<Self, Error> {
        Parser { root: schema }.shape(schema, "", 0)
    }
}

const ANNOTATIONS: &[&str] = &[
    "$schema",
    "$id",
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
    "enum",
    "const",
    "anyOf",
    "$ref",
];

struct Parser<'a> {
    root: &'a Value,
}

impl Parser<'_> {
    fn shape(&self, schema: &Value, at: &str, depth: usize) -> Result<Shape, Error> {
        if depth > DEPTH_MAX {
            return Err(wrong(at, &format!("is nested or refers to itself more than {DEPTH_MAX} levels deep")));
        }
        if schema == &Value::Bool(true) {
            return Ok(Shape { about: String::new(), kind: Kind::Text { min: 0, max: None } });
        }
        let map = schema.as_object().ok_or_else(|| wrong(at, "must be an object or true"))?;
        let about = ["title", "description"].map(|key| map.get(key).and_then(Value::as_str).unwrap_or_default());
        let about = about.join(" ").trim().to_owned();
        let kind = self.kind(map, at, depth)?;
        Ok(Shape { about, kind })
    }

    fn kind(&self, map: &Map<String, Value>, at: &str, depth: usize) -> Result<Kind, Error> {
        let choosers = ["$ref", "anyOf", "const", "enum"].iter().filter(|key| map.contains_key(**key)).count();
        let is_beside_type = map.contains_key("type") && (map.contains_key("$ref") || map.contains_key("anyOf"));
        if choosers > 1 || is_beside_type {
            return Err(wrong(at, "has more than one of $ref, anyOf, const, enum and (beside the first two) type"));
        }
        if let Some(reference) = map.get("$ref") {
            only(map, at, &[])?;
            let pointer = reference.as_str().and_then(|text| text.strip_prefix('#'));
            let target = pointer.and_then(|pointer| self.root.pointer(pointer));
            let target =
                target.ok_or_else(|| wrong(at, &format!("refers to {reference}, which is not in this schema")))?;
            return Ok(self.shape(target, at, depth + 1)?.kind);
        }
        if let Some(options) = map.get("anyOf") {
            only(map, at, &[])?;
            let options = options.as_array().filter(|options| !options.is_empty());
            let options = options.ok_or_else(|| wrong(at, "anyOf must be a list with an entry"))?;
            let parse = |(i, option)| self.shape(option, &format!("{at}/anyOf/{i}"), depth + 1);
            return Ok(Kind::AnyOf(options.iter().enumerate().map(parse).collect::<Result<_, _>>()?));
        }
        if let Some(value) = map.get("const") {
            only(map, at, &[])?;
            if map.get("type").is_some_and(|types| !fits_type(value, types)) {
                return Err(wrong(at, "const is not of the given type"));
            }
            return Ok(Kind::Choice(vec![value.clone()]));
        }
        if let Some(values) = map.get("enum") {
            only(map, at, &[])?;
            let values = values.as_array().filter(|values| !values.is_empty());
            let mut values = values.ok_or_else(|| wrong(at, "enum must be a list with an entry"))?.clone();
            values.retain(|value| map.get("type").is_none_or(|types| fits_type(value, types)));
            if values.is_empty() {
                return Err(wrong(at, "enum has no value of the given type"));
            }
            return Ok(Kind::Choice(values));
        }
        match map.get("type") {
            Some(Value::String(name)) => self.typed(name, map, at, depth),
            Some(Value::Array(names)) => {
                // null last: it fits always, but says nothing.
                let mut names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
                names.sort_by_key(|name| *name == "null");
                let option = |name: &str| {
                    let mut narrowed = map.clone();
                    narrowed.retain(|key, _| {
                        ANNOTATIONS.contains(&key.as_str()) || keywords_of(name).contains(&key.as_str())
                    });
                    Ok(Shape { about: String::new(), kind: self.typed(name, &narrowed, at, depth)? })
                };
                let options = names.into_iter().map(option).collect::<Result<Vec<_>, _>>()?;
                if options.is_empty() {
                    return Err(wrong(at, "type must name at least one type"));
                }
                let all: Vec<&str> =
                    ["object", "array", "string", "number"].into_iter().flat_map(keywords_of).copied().collect();
                only(map, at, &all)?;
                Ok(Kind::AnyOf(options))
            }
            Some(_) => Err(wrong(at, "type must be a name or a list of names")),
            None if map.contains_key("properties") => self.typed("object", map, at, depth),
            None if map.contains_key("items") => self.typed("array", map, at, depth),
            None => self.typed("string", map, at, depth),
        }
    }

    fn typed(&self, name: &str, map: &Map<String, Value>, at: &str, depth: usize) -> Result<Kind, Error> {
        only(map, at, keywords_of(name))?;
        match name {
            "object" => self.object(map, at, depth),
            "array" => {
                let item = map.get("items").unwrap_or(&Value::Bool(true));
                let item = Box::new(self.shape(item, &format!("{at}/items"), depth + 1)?);
                let (min, max) = (length(map, "minItems", at)?.unwrap_or(0), length(map, "maxItems", at)?);
                ordered(min, max, at, "minItems", "maxItems")?;
                Ok(Kind::Array { item, min, max, is_unique: map.get("uniqueItems") == Some(&Value::Bool(true)) })
            }
            "string" => {
                let (min, max) = (length(map, "minLength", at)?.unwrap_or(0), length(map, "maxLength", at)?);
                ordered(min, max, at, "minLength", "maxLength")?;
                Ok(Kind::Text { min, max })
            }
            "number" | "integer" => range(map, at, name == "integer").map(Kind::Number),
            "boolean" => Ok(Kind::Boolean),
            "null" => Ok(Kind::Null),
            other => Err(wrong(at, &format!("has type {other:?}, which JSON Schema does not know"))),
        }
    }

    fn object(&self, map: &Map<String, Value>, at: &str, depth: usize) -> Result<Kind, Error> {
        let none = Map::new();
        let properties = match map.get("properties") {
            None => &none,
            Some(Value::Object(properties)) => properties,
            Some(_) => return Err(wrong(at, "properties must be an object")),
        };
        let required: Vec<&str> =
            map.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        if let Some(name) = required.iter().find(|name| !properties.contains_key(**name)) {
            return Err(wrong(at, &format!("requires {name:?} but does not describe it under properties")));
        }
        let parse = |(name, schema): (&String, &Value)| {
            let shape = self.shape(schema, &format!("{at}/properties/{name}"), depth + 1)?;
            Ok(Property { name: name.clone(), shape, is_required: required.contains(&name.as_str()) })
        };
        Ok(Kind::Object(properties.iter().map(parse).collect::<Result<_, _>>()?))
    }
}

fn keywords_of(name: &str) -> &'static [&'static str] {
    match name {
        "object" => &["properties", "required", "additionalProperties"],
        "array" => &["items", "minItems", "maxItems", "uniqueItems"],
        "string" => &["minLength", "maxLength"],
        "number" | "integer" => &["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"],
        _ => &[],
    }
}

fn range(map: &Map<String, Value>, at: &str, is_integer: bool) -> Result<Range, Error> {
    let number = |key: &str| match map.get(key) {
        None => Ok(None),
        Some(value) => value.as_f64().map(Some).ok_or_else(|| wrong(at, &format!("{key} must be a number"))),
    };
    let (min, above) = (number("minimum")?, number("exclusiveMinimum")?);
    let (max, below) = (number("maximum")?, number("exclusiveMaximum")?);
    let step = number("multipleOf")?;
    // Remainders of fractions are not exact; a validator may see them otherwise.
    if step.is_some_and(|step| step < 1.0 || step.fract() != 0.0) {
        return Err(wrong(at, "multipleOf is supported for whole numbers only"));
    }
    let low = min.unwrap_or(f64::NEG_INFINITY).max(above.unwrap_or(f64::NEG_INFINITY));
    let high = max.unwrap_or(f64::INFINITY).min(below.unwrap_or(f64::INFINITY));
    let range = Range {
        is_integer,
        min: low,
        max: high,
        excludes_min: above == Some(low),
        excludes_max: below == Some(high),
        step,
    };
    if low > high {
        return Err(wrong(at, &format!("no number is at least {low} and at most {high}")));
    }
    Ok(range)
}

fn fits_type(value: &Value, types: &Value) -> bool {
    let names = match types {
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        name => vec![name.as_str().unwrap_or_default()],
    };
    names.iter().any(|name| match value {
        Value::Null => *name == "null",
        Value::Bool(_) => *name == "boolean",
        Value::Number(number) => {
            *name == "number" || (*name == "integer" && number.as_f64().is_some_and(|value| value.fract() == 0.0))
        }
        Value::String(_) => *name == "string",
        Value::Array(_) => *name == "array",
        Value::Object(_) => *name == "object",
    })
}

fn only(map: &Map<String, Value>, at: &str, keywords: &[&str]) -> Result<(), Error> {
    match map.keys().find(|key| !ANNOTATIONS.contains(&key.as_str()) && !keywords.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => Err(wrong(at, &format!("uses {key:?}, which cannot be filled here"))),
    }
}

fn length(map: &Map<String, Value>, key: &str, at: &str) -> Result<Option<usize>, Error> {
    let parse = |value: &Value| {
        let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
        number.ok_or_else(|| wrong(at, &format!("{key} must be a whole number of at least 0")))
    };
    map.get(key).map(parse).transpose()
}

fn ordered(min: usize, max: Option<usize>, at: &str, min_key: &str, max_key: &str) -> Result<(), Error> {
    match max {
        Some(max) if max < min => Err(wrong(at, &format!("{min_key} {min} is more than {max_key} {max}"))),
        _ => Ok(()),
    }
}

fn wrong(at: &str, message: &str) -> Error {
    Error::request(format!("schema{}{at} {message}", if at.is_empty() { "" } else { " at " }))
}
