//! Reads GGUF files: their metadata, and rows of their tensors where they lie. No more of a file is held than was asked for: rows
//! are read by position, so that a file that is cut off while it is open is an error and no crash.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>, versions 2 and 3, little endian.

mod header;
mod kind;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

pub(crate) use kind::{Kind, half, six_bit_scales};

use crate::Error;

const ALIGNMENT_DEFAULT: u64 = 32;

/// A metadata value, its number types folded together.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Whole(i64),
    Real(f64),
    Truth(bool),
    Text(String),
    Texts(Vec<String>),
    Wholes(Vec<i64>),
    Reals(Vec<f64>),
}

/// What the header says of a tensor.
struct Tensor {
    kind: Kind,
    /// Rows first.
    shape: Vec<usize>,
    /// From where the tensors begin.
    offset: u64,
}

impl Tensor {
    /// How long it is in the file; `None` where its rows are none of its kind, or it would be longer than can be said.
    fn bytes(&self) -> Option<u64> {
        let (columns, above) = self.shape.split_last()?;
        let rows = above.iter().try_fold(1usize, |rows, len| rows.checked_mul(*len))?;
        u64::try_from(self.kind.row_bytes(*columns)?.checked_mul(rows)?).ok()
    }
}

/// The rows of a tensor in the file.
#[derive(Debug, Clone)]
pub(crate) struct Rows {
    file: Arc<File>,
    path: PathBuf,
    /// Where in the file they begin.
    pub(crate) start: u64,
    pub(crate) kind: Kind,
    pub(crate) count: usize,
    pub(crate) columns: usize,
}

/// An open file whose header has been read.
pub(crate) struct Gguf {
    path: PathBuf,
    file: Arc<File>,
    file_len: u64,
    values: HashMap<String, Value>,
    tensors: HashMap<String, Tensor>,
    data_start: u64,
}

impl Gguf {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::io("read", path, source);
        let file = File::open(path).map_err(io)?;
        let file_len = file.metadata().map_err(io)?.len();
        let header::Header { values, tensors, end } = header::read(path, &file, file_len)?;
        let alignment = match values.get("general.alignment") {
            None => ALIGNMENT_DEFAULT,
            Some(Value::Whole(value)) if *value > 0 && *value <= 1 << 20 => value.unsigned_abs(),
            Some(_) => return Err(Error::file(path, "general.alignment is not a number from 1 to 1048576")),
        };
        let data_start = end.next_multiple_of(alignment);
        // What is read of a file then takes memory by its length, whatever the file says.
        if let Some((name, other)) = overlap(&tensors) {
            return Err(Error::file(path, format!("tensors {name} and {other} overlap")));
        }
        Ok(Self { path: path.to_owned(), file: Arc::new(file), file_len, values, tensors, data_start })
    }

    /// The error that this file is not what a loader expects.
    pub(crate) fn wrong(&self, message: impl Into<String>) -> Error {
        Error::file(&self.path, message)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Bytes before the first tensor.
    pub(crate) fn header_len(&self) -> u64 {
        self.data_start.min(self.file_len)
    }

    pub(crate) fn value(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    pub(crate) fn text(&self, key: &str) -> Result<&str, Error> {
        match self.value(key) {
            Some(Value::Text(text)) => Ok(text),
            other => Err(self.unexpected(key, "a text", other)),
        }
    }

    pub(crate) fn texts(&self, key: &str) -> Result<&[String], Error> {
        match self.value(key) {
            Some(Value::Texts(texts)) => Ok(texts),
            other => Err(self.unexpected(key, "a list of texts", other)),
        }
    }

    /// A whole number within bounds.
    pub(crate) fn whole(&self, key: &str, least: usize, most: usize) -> Result<usize, Error> {
        let found = self.value(key);
        let number = match found {
            Some(Value::Whole(number)) => usize::try_from(*number).ok(),
            _ => None,
        };
        let expected = || format!("a whole number from {least} to {most}");
        number.filter(|number| (least..=most).contains(number)).ok_or_else(|| self.unexpected(key, &expected(), found))
    }

    /// A positive number.
    pub(crate) fn real(&self, key: &str) -> Result<f64, Error> {
        match self.value(key) {
            Some(Value::Real(number)) if number.is_finite() && *number > 0.0 => Ok(*number),
            other => Err(self.unexpected(key, "a number above 0", other)),
        }
    }

    fn unexpected(&self, key: &str, expected: &str, found: Option<&Value>) -> Error {
        let found = match found {
            None => "is missing".to_owned(),
            Some(Value::Text(_)) => "is a text".to_owned(),
            Some(Value::Texts(_) | Value::Wholes(_) | Value::Reals(_)) => "is a list".to_owned(),
            Some(Value::Whole(number)) => format!("is {number}"),
            Some(Value::Real(number)) => format!("is {number}"),
            Some(Value::Truth(truth)) => format!("is {truth}"),
        };
        self.wrong(format!("{key} {found}: expected {expected}"))
    }

    pub(crate) fn has_tensor(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The shape of a tensor, rows first.
    pub(crate) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|tensor| tensor.shape.as_slice())
    }

    /// Finds a matrix that must have so many rows of so many columns.
    pub(crate) fn rows(&self, name: &str, count: usize, columns: usize) -> Result<Rows, Error> {
        self.find(name, &[count, columns])
    }

    /// Reads a vector that must have this length.
    pub(crate) fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>, Error> {
        self.numbers(name, &[len])
    }

    /// Reads all numbers of a tensor that must have this shape.
    pub(crate) fn numbers(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, Error> {
        let rows = self.find(name, shape)?;
        let mut packed = vec![0; rows.count * rows.row_bytes()];
        rows.read(0, &mut packed)?;
        let mut numbers = vec![0.0; rows.count * rows.columns];
        rows.kind.unpack(&packed, &mut numbers);
        Ok(numbers)
    }

    fn find(&self, name: &str, shape: &[usize]) -> Result<Rows, Error> {
        let tensor = self.tensors.get(name).ok_or_else(|| self.wrong(format!("tensor {name} is missing")))?;
        if tensor.shape != shape {
            return Err(self.wrong(format!("tensor {name} has shape {:?}: expected {shape:?}", tensor.shape)));
        }
        let (columns, count) = (shape.last().copied().unwrap_or(0), shape.iter().rev().skip(1).product());
        let Some(row_bytes) = tensor.kind.row_bytes(columns) else {
            let (kind, block) = (tensor.kind, tensor.kind.block_len());
            return Err(self.wrong(format!("tensor {name} has rows of {columns}: {kind:?} packs {block}")));
        };
        let start = self.data_start.checked_add(tensor.offset);
        let len = row_bytes.checked_mul(count).and_then(|len| u64::try_from(len).ok());
        let end = start.zip(len).and_then(|(start, len)| start.checked_add(len));
        match start.zip(end) {
            Some((start, end)) if end <= self.file_len => {
                let (file, path) = (Arc::clone(&self.file), self.path.clone());
                Ok(Rows { file, path, start, kind: tensor.kind, count, columns })
            }
            _ => Err(self.wrong(format!("cut off: tensor {name} runs past the end of the file"))),
        }
    }
}

/// Two tensors, if there are any, of which one begins before the end of the other.
fn overlap(tensors: &HashMap<String, Tensor>) -> Option<(&str, &str)> {
    let mut all: Vec<_> = tensors.iter().map(|(name, tensor)| (tensor.offset, name.as_str(), tensor)).collect();
    all.sort_unstable_by_key(|(offset, name, _)| (*offset, *name));
    all.windows(2).find_map(|pair| match pair {
        // Of one whose length is no number the reader tells more when it looks for it.
        [(offset, name, tensor), (next, other, _)] => {
            let end = offset.checked_add(tensor.bytes()?)?;
            (end > *next).then_some((*name, *other))
        }
        _ => None,
    })
}

impl Rows {
    /// The bytes of a row.
    pub(crate) fn row_bytes(&self) -> usize {
        self.columns / self.kind.block_len() * self.kind.block_bytes()
    }

    /// Reads packed rows from the `first` on, as many as `to` holds.
    pub(crate) fn read(&self, first: usize, to: &mut [u8]) -> Result<(), Error> {
        let at = self.start + first as u64 * self.row_bytes() as u64;
        self.file.read_exact_at(to, at).map_err(|source| Error::io("read", &self.path, source))
    }

    /// Reads and unpacks the row.
    pub(crate) fn unpack(&self, row: usize, to: &mut [f32]) -> Result<(), Error> {
        let mut packed = vec![0; self.row_bytes()];
        self.read(row, &mut packed)?;
        self.kind.unpack(&packed, to);
        Ok(())
    }
}
