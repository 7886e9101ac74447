//! Numbers in saved states: base64 of their little-endian bytes, so that every bit comes back and many take little room.

use std::collections::VecDeque;

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

pub(super) trait Numbers: Sized {
    fn numbers(&self) -> impl Iterator<Item = f64>;
    fn of(numbers: impl Iterator<Item = f64>) -> Self;
}

impl Numbers for Vec<f64> {
    fn numbers(&self) -> impl Iterator<Item = f64> {
        self.iter().copied()
    }
    fn of(numbers: impl Iterator<Item = f64>) -> Self {
        numbers.collect()
    }
}

impl Numbers for VecDeque<f64> {
    fn numbers(&self) -> impl Iterator<Item = f64> {
        self.iter().copied()
    }
    fn of(numbers: impl Iterator<Item = f64>) -> Self {
        numbers.collect()
    }
}

pub(super) fn serialize<N: Numbers, S: Serializer>(numbers: &N, serializer: S) -> Result<S::Ok, S::Error> {
    let bytes: Vec<u8> = numbers.numbers().flat_map(f64::to_le_bytes).collect();
    serializer.serialize_str(&STANDARD_NO_PAD.encode(bytes))
}

pub(super) fn deserialize<'de, N: Numbers, D: Deserializer<'de>>(deserializer: D) -> Result<N, D::Error> {
    let text = String::deserialize(deserializer)?;
    let bytes = STANDARD_NO_PAD.decode(text).map_err(D::Error::custom)?;
    if bytes.len() % 8 != 0 {
        return Err(D::Error::custom("numbers have eight bytes each"));
    }
    Ok(N::of(bytes.chunks_exact(8).map(|bytes| f64::from_le_bytes(bytes.try_into().expect("chunks of eight bytes")))))
}
