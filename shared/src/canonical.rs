//! Canonical JSON of anything that can be serialised: object keys sorted by code point at every depth, no white space.
//! Straight into the text: what a ledger says of every step comes through here, and a tree of values in between would cost
//! more than all the rest. The bytes are those of the same thing as a `serde_json::Value`.

use std::{borrow::Cow, ops::Range};

use serde::{Serialize, Serializer, ser};
use serde_json::{Error, Value};

/// Where the text goes.
pub(crate) struct Canonical<'a>(pub &'a mut Vec<u8>);

impl Canonical<'_> {
    fn plain(self, value: &(impl Serialize + ?Sized)) -> Result<(), Error> {
        serde_json::to_writer(self.0, value)
    }
}

macro_rules! plain {
    ($($name:ident $kind:ty),*) => {$(
        fn $name(self, value: $kind) -> Result<(), Error> {
            self.plain(&value)
        }
    )*};
}

impl<'a> Serializer for Canonical<'a> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = List<'a>;
    type SerializeTuple = List<'a>;
    type SerializeTupleStruct = List<'a>;
    type SerializeTupleVariant = List<'a>;
    type SerializeMap = Object<'a>;
    type SerializeStruct = Object<'a>;
    type SerializeStructVariant = Object<'a>;

    plain!(serialize_bool bool, serialize_i8 i8, serialize_i16 i16, serialize_i32 i32, serialize_i64 i64, serialize_u8 u8,
        serialize_u16 u16, serialize_u32 u32, serialize_u64 u64, serialize_f64 f64, serialize_char char, serialize_str &str);

    /// A value has no shorter floats.
    fn serialize_f32(self, value: f32) -> Result<(), Error> {
        self.plain(&f64::from(value))
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), Error> {
        self.plain(value)
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        self.plain(&())
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _name: &'static str, _index: u32, variant: &'static str) -> Result<(), Error> {
        self.plain(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _name: &'static str, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        let mut object = Object::new(self.0, None);
        object.entry(Cow::Borrowed(variant), value)?;
        object.end();
        Ok(())
    }

    fn serialize_seq(self, _len: Option<usize>) -> Result<List<'a>, Error> {
        Ok(List::new(self.0, None))
    }

    fn serialize_tuple(self, _len: usize) -> Result<List<'a>, Error> {
        Ok(List::new(self.0, None))
    }

    fn serialize_tuple_struct(self, _name: &'static str, _len: usize) -> Result<List<'a>, Error> {
        Ok(List::new(self.0, None))
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<List<'a>, Error> {
        Ok(List::new(self.0, Some(variant)))
    }

    fn serialize_map(self, _len: Option<usize>) -> Result<Object<'a>, Error> {
        Ok(Object::new(self.0, None))
    }

    fn serialize_struct(self, _name: &'static str, _len: usize) -> Result<Object<'a>, Error> {
        Ok(Object::new(self.0, None))
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<Object<'a>, Error> {
        Ok(Object::new(self.0, Some(variant)))
    }
}

/// Opens the object whose only key is a variant's name.
fn open(text: &mut Vec<u8>, variant: Option<&'static str>) {
    if let Some(variant) = variant {
        text.push(b'{');
        write_text(text, variant);
        text.push(b':');
    }
}

fn write_text(text: &mut Vec<u8>, plain: &str) {
    serde_json::to_writer(text, plain).expect("text goes into memory");
}

/// The items of an array.
pub(crate) struct List<'a> {
    text: &'a mut Vec<u8>,
    is_empty: bool,
    is_variant: bool,
}

impl<'a> List<'a> {
    fn new(text: &'a mut Vec<u8>, variant: Option<&'static str>) -> Self {
        open(text, variant);
        text.push(b'[');
        Self { text, is_empty: true, is_variant: variant.is_some() }
    }

    fn item<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), Error> {
        if !std::mem::replace(&mut self.is_empty, false) {
            self.text.push(b',');
        }
        item.serialize(Canonical(self.text))
    }

    fn end(self) {
        self.text.extend_from_slice(if self.is_variant { b"]}" } else { b"]" });
    }
}

/// The entries of an object, as they came; the end puts them in order.
pub(crate) struct Object<'a> {
    text: &'a mut Vec<u8>,
    start: usize,
    entries: Vec<(Cow<'static, str>, Range<usize>)>,
    key: Option<String>,
    is_variant: bool,
}

impl<'a> Object<'a> {
    fn new(text: &'a mut Vec<u8>, variant: Option<&'static str>) -> Self {
        open(text, variant);
        text.push(b'{');
        let start = text.len();
        Self { text, start, entries: Vec::with_capacity(8), key: None, is_variant: variant.is_some() }
    }

    fn entry<T: Serialize + ?Sized>(&mut self, key: Cow<'static, str>, value: &T) -> Result<(), Error> {
        if !self.entries.is_empty() {
            self.text.push(b',');
        }
        let from = self.text.len();
        write_text(self.text, &key);
        self.text.push(b':');
        value.serialize(Canonical(self.text))?;
        self.entries.push((key, from..self.text.len()));
        Ok(())
    }

    fn end(mut self) {
        if !self.entries.is_sorted_by(|(a, _), (b, _)| a <= b) {
            self.entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
            let written = self.text.split_off(self.start);
            for (index, (_, at)) in self.entries.iter().enumerate() {
                if index > 0 {
                    self.text.push(b',');
                }
                self.text.extend_from_slice(&written[at.start - self.start..at.end - self.start]);
            }
        }
        self.text.extend_from_slice(if self.is_variant { b"}}" } else { b"}" });
    }
}

impl ser::SerializeSeq for List<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), Error> {
        self.item(item)
    }

    fn end(self) -> Result<(), Error> {
        self.end();
        Ok(())
    }
}

impl ser::SerializeTuple for List<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), Error> {
        self.item(item)
    }

    fn end(self) -> Result<(), Error> {
        self.end();
        Ok(())
    }
}

impl ser::SerializeTupleStruct for List<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), Error> {
        self.item(item)
    }

    fn end(self) -> Result<(), Error> {
        self.end();
        Ok(())
    }
}

impl ser::SerializeTupleVariant for List<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), Error> {
        self.item(item)
    }

    fn end(self) -> Result<(), Error> {
        self.end();
        Ok(())
    }
}

impl ser::SerializeStruct for Object<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Error> {
        self.entry(Cow::Borrowed(key), value)
    }

    fn end(self) -> Result<(), Error> {
        self.end();
        Ok(())
    }
}

impl ser::SerializeStructVariant for Object<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Error> {
        self.entry(Cow::Borrowed(key), value)
    }

    fn end(self) -> Result<(), Error> {
        self.end();
        Ok(())
    }
}

impl ser::SerializeMap for Object<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.key = Some(match serde_json::to_value(key)? {
            Value::String(text) => text,
            other => other.to_string(),
        });
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        let key = self.key.take().unwrap_or_default();
        self.entry(Cow::Owned(key), value)
    }

    fn end(self) -> Result<(), Error> {
        self.end();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Serialize;
    use serde_json::json;

    use crate::digest::{canonical_json, canonical_of};

    #[derive(Serialize)]
    #[serde(rename_all = "kebab-case")]
    enum Kind {
        Plain,
        New(u8),
        Pair(u8, &'static str),
        Named { z: f32, a: Option<bool> },
    }

    #[derive(Serialize)]
    #[serde(tag = "what")]
    enum Tagged {
        One { y: i64, b: Vec<Kind> },
    }

    #[derive(Serialize)]
    struct All {
        text: &'static str,
        letter: char,
        none: Option<u8>,
        unit: (),
        #[serde(flatten)]
        tagged: Tagged,
        map: BTreeMap<u32, f64>,
        odd: BTreeMap<&'static str, u8>,
        array: [u16; 2],
    }

    #[test]
    fn all_that_can_be_serialised_has_the_bytes_of_its_value() {
        let b = vec![Kind::Plain, Kind::New(7), Kind::Pair(1, "x"), Kind::Named { z: 0.1, a: Some(true) }];
        let all = All {
            text: "a \"quoted\" line\n, \u{1f980}",
            letter: '\u{7}',
            none: None,
            unit: (),
            tagged: Tagged::One { y: -3, b },
            map: BTreeMap::from([(10, 1.0), (9, f64::NAN)]),
            odd: BTreeMap::from([("\"", 1), ("!", 2), ("\u{1}", 3)]),
            array: [2, 1],
        };
        let value = serde_json::to_value(&all).unwrap();
        assert_eq!(canonical_of(&all), canonical_json(&value));
        let back: serde_json::Value = serde_json::from_str(&canonical_of(&all)).unwrap();
        assert_eq!(back, value);
    }

    #[test]
    fn keys_are_in_the_order_of_their_characters_at_every_depth() {
        let value = json!({ "b": [{ "z": 1, "a": {} }], "a\"": 1, "a": null, "a!": [] });
        assert_eq!(canonical_json(&value), r#"{"a":null,"a!":[],"a\"":1,"b":[{"a":{},"z":1}]}"#);
    }
}
