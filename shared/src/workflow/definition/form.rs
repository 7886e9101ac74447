//! Two shapes that the language uses everywhere: an object with one key that names its value, and a value that is
//! either written in place or named. Written by hand because serde's untagged enums lose what was wrong and where.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
    ser::SerializeMap,
};

/// `name: value`, one entry of an ordered list of named things.
#[derive(Debug, Clone, PartialEq)]
pub struct Item<T> {
    pub name: String,
    pub value: T,
}

impl<T: Serialize> Serialize for Item<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(&self.name, &self.value)?;
        map.end()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Item<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct One<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for One<T> {
            type Value = Item<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with one key, the name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Item<T>, A::Error> {
                let Some((name, value)) = map.next_entry()? else {
                    return Err(de::Error::custom("expected an object with one key, the name; found an empty object"));
                };
                if let Some(second) = map.next_key::<String>()? {
                    return Err(de::Error::custom(format!(
                        "expected an object with one key, the name; found `{name}` and `{second}`: is the second one \
                         meant to be an entry of its own (`- {second}:`) or to be indented under `{name}`?"
                    )));
                }
                Ok(Item { name, value })
            }
        }
        deserializer.deserialize_map(One(PhantomData))
    }
}

/// A value written in place, or the name of one under `use`.
#[derive(Debug, Clone, PartialEq)]
pub enum Reference<T> {
    Named(String),
    Inline(T),
}

impl<T> Reference<T> {
    /// The value itself; `find` looks a name up.
    pub(super) fn resolve<'a>(&'a self, find: impl FnOnce(&str) -> Option<&'a T>) -> Option<&'a T> {
        match self {
            Self::Named(name) => find(name),
            Self::Inline(value) => Some(value),
        }
    }
}

impl<T: Serialize> Serialize for Reference<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Named(name) => serializer.serialize_str(name),
            Self::Inline(value) => value.serialize(serializer),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Reference<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text_or_object(deserializer, "a name or an object", |name| Ok(Self::Named(name)), Self::Inline)
    }
}

/// Reads what is either a string or an object, and says what was wrong inside the object.
pub(super) fn text_or_object<'de, D, T, O>(
    deserializer: D,
    expected: &'static str,
    from_text: impl FnOnce(String) -> Result<O, String>,
    from_object: impl FnOnce(T) -> O,
) -> Result<O, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Either<T, F, G> {
        expected: &'static str,
        from_text: F,
        from_object: G,
        object: PhantomData<T>,
    }
    impl<'de, T, O, F, G> Visitor<'de> for Either<T, F, G>
    where
        T: Deserialize<'de>,
        F: FnOnce(String) -> Result<O, String>,
        G: FnOnce(T) -> O,
    {
        type Value = O;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.expected)
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<O, E> {
            (self.from_text)(text.to_owned()).map_err(E::custom)
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<O, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map)).map(self.from_object)
        }
    }
    deserializer.deserialize_any(Either { expected, from_text, from_object, object: PhantomData })
}

/// How many of these are set; for "exactly one of".
pub(super) fn count_set(set: &[bool]) -> usize {
    set.iter().filter(|set| **set).count()
}
