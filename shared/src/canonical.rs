//! Canonical JSON of anything that can be serialised: object keys sorted by code point at every depth, no white space.
//! Straight into the text: what a ledger says of every step comes through here, and a tree of values in between would cost
//! more than all the rest. The bytes are those of the same thing as a `serde_json::Value`.

use std::{cmp::Ordering, fmt, ops::Range};

use serde::{Serialize, Serializer, ser, ser::Error as _};
use serde_json::Error;

/// Where the text goes.
#[derive(Default)]
pub(crate) struct Text {
    text: Vec<u8>,
    /// Of the open objects, those of the innermost last.
    entries: Vec<Entry>,
    /// Where an object's entries are put in order.
    ordered: Vec<u8>,
}

/// One entry of an object, as it stands in the text.
struct Entry {
    /// With its quotes.
    key: Range<usize>,
    end: usize,
}

impl Text {
    pub fn new() -> Self {
        Self { text: Vec::with_capacity(512), entries: Vec::with_capacity(32), ordered: Vec::new() }
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.text
    }

    fn plain(&mut self, value: &(impl Serialize + ?Sized)) -> Result<(), Error> {
        serde_json::to_writer(&mut self.text, value)
    }

    fn put(&mut self, text: &[u8]) {
        self.text.extend_from_slice(text);
    }
}

/// By the characters of their keys. Text without escapes has the order of its bytes; the quote at the end is none of it.
fn by_key(text: &[u8], a: &Entry, b: &Entry) -> Ordering {
    let (a, b) = (&text[a.key.clone()], &text[b.key.clone()]);
    if a.contains(&b'\\') || b.contains(&b'\\') {
        let plain = |key| serde_json::from_slice::<String>(key).unwrap_or_default();
        plain(a).cmp(&plain(b))
    } else {
        a[..a.len() - 1].cmp(&b[..b.len() - 1])
    }
}

/// Writes one value.
pub(crate) struct Canonical<'a>(pub &'a mut Text);

macro_rules! plain {
    ($($name:ident $kind:ty),*) => {$(
        fn $name(self, value: $kind) -> Result<(), Error> {
            self.0.plain(&value)
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
        self.0.plain(&f64::from(value))
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), Error> {
        self.0.plain(value)
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result<(), Error> {
        serde_json::Serializer::new(&mut self.0.text).collect_str(value)
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        self.0.plain(&())
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _name: &'static str, _index: u32, variant: &'static str) -> Result<(), Error> {
        self.0.plain(variant)
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
        object.entry(variant, value)?;
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
fn open(text: &mut Text, variant: Option<&'static str>) {
    if let Some(variant) = variant {
        text.put(b"{");
        text.plain(variant).expect("text goes into memory");
        text.put(b":");
    }
}

/// The items of an array.
pub(crate) struct List<'a> {
    text: &'a mut Text,
    is_empty: bool,
    is_variant: bool,
}

impl<'a> List<'a> {
    fn new(text: &'a mut Text, variant: Option<&'static str>) -> Self {
        open(text, variant);
        text.put(b"[");
        Self { text, is_empty: true, is_variant: variant.is_some() }
    }

    fn item<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), Error> {
        if !std::mem::replace(&mut self.is_empty, false) {
            self.text.put(b",");
        }
        item.serialize(Canonical(self.text))
    }

    fn end(self) {
        self.text.put(if self.is_variant { b"]}" } else { b"]" });
    }
}

/// The entries of an object, as they came; the end puts them in order.
pub(crate) struct Object<'a> {
    text: &'a mut Text,
    /// Where in the text its first entry begins.
    start: usize,
    /// Where among the open objects' entries its own begin.
    first: usize,
    is_variant: bool,
}

impl<'a> Object<'a> {
    fn new(text: &'a mut Text, variant: Option<&'static str>) -> Self {
        open(text, variant);
        text.put(b"{");
        let (start, first) = (text.text.len(), text.entries.len());
        Self { text, start, first, is_variant: variant.is_some() }
    }

    fn key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        if self.text.entries.len() > self.first {
            self.text.put(b",");
        }
        let from = self.text.text.len();
        key.serialize(Canonical(self.text))?;
        match self.text.text.get(from) {
            Some(b'"') => {}
            Some(b'{' | b'[') | None => return Err(Error::custom("a key is text")),
            Some(_) => {
                self.text.text.insert(from, b'"');
                self.text.put(b"\"");
            }
        }
        let key = from..self.text.text.len();
        self.text.put(b":");
        self.text.entries.push(Entry { key, end: 0 });
        Ok(())
    }

    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        let open = self.text.entries.len();
        value.serialize(Canonical(self.text))?;
        // What is in the value has been closed by now.
        if let Some(entry) = self.text.entries[..open].last_mut() {
            entry.end = self.text.text.len();
        }
        Ok(())
    }

    fn entry<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Error> {
        self.key(key)?;
        self.value(value)
    }

    fn end(self) {
        let Text { text, entries, ordered } = self.text;
        let own = &mut entries[self.first..];
        if !own.is_sorted_by(|a, b| by_key(text, a, b).is_le()) {
            own.sort_unstable_by(|a, b| by_key(text, a, b));
            ordered.clear();
            for entry in own {
                if !ordered.is_empty() {
                    ordered.push(b',');
                }
                ordered.extend_from_slice(&text[entry.key.start..entry.end]);
            }
            text.truncate(self.start);
            text.extend_from_slice(ordered);
        }
        entries.truncate(self.first);
        text.extend_from_slice(if self.is_variant { b"}}" } else { b"}" });
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
        self.entry(key, value)
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
        self.entry(key, value)
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
        self.key(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.value(value)
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
        let value =
            json!({ "b": [{ "z": 1, "a": {} }], "a\"": 1, "a": null, "a!": [], "a b": 2, "": 0, "\u{7f}\n": 3 });
        let expected = r#"{"":0,"a":null,"a b":2,"a!":[],"a\"":1,"b":[{"a":{},"z":1}],"\u007f\n":3}"#;
        assert_eq!(canonical_json(&value), expected.replace("\\u007f", "\u{7f}"));
    }
}
