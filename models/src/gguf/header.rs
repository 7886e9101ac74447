//! Reads the header of a GGUF file. Trusts no number in it: every length is checked against the file before memory is taken for it.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufReader, Read},
    path::Path,
};

use super::{Kind, Tensor, Value};
use crate::Error;

/// A chat template may have tens of kilobytes.
const TEXT_LEN_MAX: u64 = 1 << 20;
/// The largest vocabularies have 262,144 tokens and twice as many merges.
const LIST_LEN_MAX: u64 = 1 << 21;
/// Bytes that the metadata takes in memory. A list of numbers takes eight times what it does in the file; the largest vocabularies take 60 MB.
const MEMORY_MAX: u64 = 256 << 20;
/// A model of 200 layers has some 3,000 tensors.
const ENTRIES_MAX: u64 = 1 << 16;

/// What a header told: metadata, tensors, and where the header ends.
pub(super) struct Header {
    pub(super) values: HashMap<String, Value>,
    pub(super) tensors: HashMap<String, Tensor>,
    pub(super) end: u64,
}

/// Reads the header of a file that is `file_len` bytes long.
pub(super) fn read(path: &Path, file: &File, file_len: u64) -> Result<Header, Error> {
    let input = BufReader::new(file);
    Reader { path, input, at: 0, file_len, memory_left: MEMORY_MAX }.header()
}

struct Reader<'a> {
    path: &'a Path,
    input: BufReader<&'a File>,
    at: u64,
    file_len: u64,
    memory_left: u64,
}

impl Reader<'_> {
    fn header(mut self) -> Result<Header, Error> {
        if &self.bytes::<4>()? != b"GGUF" {
            return Err(self.wrong("not a GGUF file: it does not begin with GGUF"));
        }
        let version = u32::from_le_bytes(self.bytes()?);
        if !(2..=3).contains(&version) {
            return Err(self.wrong(format!("GGUF version {version}: expected 2 or 3, little endian")));
        }
        let tensor_count = self.count("tensors", ENTRIES_MAX)?;
        let value_count = self.count("metadata entries", ENTRIES_MAX)?;
        let mut values = HashMap::new();
        for _ in 0..value_count {
            let key = self.text()?;
            let kind = u32::from_le_bytes(self.bytes()?);
            let value = self.value(kind, &key)?;
            if values.contains_key(&key) {
                return Err(self.wrong(format!("{key} stands twice")));
            }
            values.insert(key, value);
        }
        let mut tensors = HashMap::new();
        for _ in 0..tensor_count {
            let (name, tensor) = self.tensor()?;
            if tensors.contains_key(&name) {
                return Err(self.wrong(format!("tensor {name} stands twice")));
            }
            tensors.insert(name, tensor);
        }
        Ok(Header { values, tensors, end: self.at })
    }

    fn tensor(&mut self) -> Result<(String, Tensor), Error> {
        let name = self.text()?;
        let dimensions = u32::from_le_bytes(self.bytes()?);
        if !(1..=4).contains(&dimensions) {
            return Err(self.wrong(format!("tensor {name} has {dimensions} dimensions: expected 1 to 4")));
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            // No dimension of a tensor that is in the file is longer than the file.
            let length = u64::from_le_bytes(self.bytes()?);
            let length = usize::try_from(length).ok().filter(|_| length <= self.file_len.saturating_mul(8));
            shape.push(length.ok_or_else(|| self.wrong(format!("tensor {name} is larger than the file")))?);
        }
        shape.reverse();
        let kind = u32::from_le_bytes(self.bytes()?);
        let kind = Kind::from_number(kind)
            .ok_or_else(|| self.wrong(format!("tensor {name} has the unsupported type {kind}")))?;
        let offset = u64::from_le_bytes(self.bytes()?);
        Ok((name, Tensor { kind, shape, offset }))
    }

    fn value(&mut self, kind: u32, key: &str) -> Result<Value, Error> {
        if kind != 9 {
            return self.single(kind, key);
        }
        let kind = u32::from_le_bytes(self.bytes()?);
        let len = self.count(key, LIST_LEN_MAX)?;
        self.takes(len * if kind == 8 { size_of::<String>() } else { size_of::<i64>() } as u64)?;
        match kind {
            8 => Ok(Value::Texts((0..len).map(|_| self.text()).collect::<Result<_, _>>()?)),
            6 | 12 => {
                let items = (0..len).map(|_| match self.single(kind, key)? {
                    Value::Real(number) => Ok(number),
                    _ => Err(self.wrong(format!("{key} mixes types"))),
                });
                Ok(Value::Reals(items.collect::<Result<_, Error>>()?))
            }
            0..=5 | 7 | 10 | 11 => {
                let items = (0..len).map(|_| match self.single(kind, key)? {
                    Value::Whole(number) => Ok(number),
                    Value::Truth(truth) => Ok(i64::from(truth)),
                    _ => Err(self.wrong(format!("{key} mixes types"))),
                });
                Ok(Value::Wholes(items.collect::<Result<_, Error>>()?))
            }
            _ => Err(self.wrong(format!("{key} is a list of the unsupported type {kind}"))),
        }
    }

    fn single(&mut self, kind: u32, key: &str) -> Result<Value, Error> {
        Ok(match kind {
            0 => Value::Whole(self.bytes::<1>()?[0].into()),
            1 => Value::Whole(i8::from_le_bytes(self.bytes()?).into()),
            2 => Value::Whole(u16::from_le_bytes(self.bytes()?).into()),
            3 => Value::Whole(i16::from_le_bytes(self.bytes()?).into()),
            4 => Value::Whole(u32::from_le_bytes(self.bytes()?).into()),
            5 => Value::Whole(i32::from_le_bytes(self.bytes()?).into()),
            6 => Value::Real(f32::from_le_bytes(self.bytes()?).into()),
            7 => Value::Truth(self.bytes::<1>()?[0] != 0),
            8 => Value::Text(self.text()?),
            10 => Value::Whole(u64::from_le_bytes(self.bytes()?).try_into().unwrap_or(i64::MAX)),
            11 => Value::Whole(i64::from_le_bytes(self.bytes()?)),
            12 => Value::Real(f64::from_le_bytes(self.bytes()?)),
            _ => return Err(self.wrong(format!("{key} has the unknown type {kind}"))),
        })
    }

    fn text(&mut self) -> Result<String, Error> {
        let len = self.count("bytes of a text", TEXT_LEN_MAX)?;
        self.takes(len)?;
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        self.input.read_exact(&mut bytes).map_err(|source| Error::io("read", self.path, source))?;
        self.at += len;
        // Some vocabularies hold pieces of characters; they match no text, but the file is not wrong for it.
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A length of things that take at least one byte each.
    fn count(&mut self, what: &str, most: u64) -> Result<u64, Error> {
        let count = u64::from_le_bytes(self.bytes()?);
        if count > most {
            return Err(self.wrong(format!("{count} {what}: expected at most {most}")));
        }
        if count > self.file_len - self.at {
            return Err(self.wrong(format!("cut off: {count} {what} do not fit into what is left of the file")));
        }
        Ok(count)
    }

    fn takes(&mut self, bytes: u64) -> Result<(), Error> {
        let left = self.memory_left.checked_sub(bytes);
        self.memory_left = left.ok_or_else(|| {
            self.wrong(format!("metadata of more than {} MB: no model has so much", MEMORY_MAX >> 20))
        })?;
        Ok(())
    }

    fn bytes<const LEN: usize>(&mut self) -> Result<[u8; LEN], Error> {
        let mut bytes = [0; LEN];
        if self.file_len - self.at < LEN as u64 {
            return Err(self.wrong("cut off within its header"));
        }
        self.input.read_exact(&mut bytes).map_err(|source| Error::io("read", self.path, source))?;
        self.at += LEN as u64;
        Ok(bytes)
    }

    fn wrong(&self, message: impl Into<String>) -> Error {
        Error::file(self.path, message)
    }
}
