//! Reads safetensors files: the header, and rows of tensors where they lie. Rows are read by position, so that a file that is cut off
//! while it is open is an error and no crash.
//!
//! Format: <https://github.com/huggingface/safetensors#format>.

use std::{
    collections::HashMap,
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use half::{bf16, f16};
use serde::Deserialize;

use crate::Error;

/// What a header may have; one of an encoder has some 20 KB.
const HEADER_BYTES_MAX: u64 = 16 << 20;

/// What is read at once: it stays in a core's first cache until it is unpacked, and costs a row of a table no memory of its own.
const READ_BYTES: usize = 4 << 10;

/// An open file whose header has been read.
pub(super) struct Tensors {
    path: PathBuf,
    file: Arc<File>,
    /// Where the tensors begin.
    start: u64,
    len: u64,
    tensors: HashMap<String, Tensor>,
}

/// What the header says of a tensor.
#[derive(Deserialize)]
struct Tensor {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [u64; 2],
}

/// An entry of the header: a tensor, or what its maker says of the file.
#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Tensor(Tensor),
    Other(serde::de::IgnoredAny),
}

/// The rows of a tensor in the file.
pub(super) struct Rows {
    path: PathBuf,
    file: Arc<File>,
    start: u64,
    kind: Kind,
    pub(super) count: usize,
    pub(super) columns: usize,
}

#[derive(Clone, Copy)]
enum Kind {
    F32,
    F16,
    Bf16,
}

impl Tensors {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::io("read", path, source);
        let file = File::open(path).map_err(io)?;
        let file_len = file.metadata().map_err(io)?.len();
        let mut size = [0; 8];
        let short = || Error::file(path, format!("{file_len} bytes are no safetensors file"));
        file.read_exact_at(&mut size, 0).map_err(|_| short())?;
        let header_len = u64::from_le_bytes(size);
        if header_len > HEADER_BYTES_MAX || header_len + 8 > file_len {
            let message = format!(
                "the header is said to have {header_len} bytes of {file_len}: expected a safetensors file with at most {HEADER_BYTES_MAX}"
            );
            return Err(Error::file(path, message));
        }
        let mut header = vec![0; usize::try_from(header_len).map_err(|_| short())?];
        file.read_exact_at(&mut header, 8).map_err(io)?;
        let entries: HashMap<String, Entry> =
            serde_json::from_slice(&header).map_err(|error| Error::file(path, format!("the header: {error}")))?;
        let tensors = entries.into_iter().filter_map(|(name, entry)| match entry {
            Entry::Tensor(tensor) => Some((name, tensor)),
            Entry::Other(_) => None,
        });
        let (start, tensors) = (8 + header_len, tensors.collect());
        Ok(Self { path: path.to_owned(), file: Arc::new(file), start, len: file_len - start, tensors })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    pub(super) fn wrong(&self, message: impl Into<String>) -> Error {
        Error::file(&self.path, message)
    }

    /// A matrix of so many rows and columns; a vector is one row.
    pub(super) fn rows(&self, name: &str, count: usize, columns: usize) -> Result<Rows, Error> {
        let missing =
            || self.wrong(format!("no tensor {name}: expected the weights of the model that config.json describes"));
        let Tensor { dtype, shape, data_offsets: [from, to] } = self.tensors.get(name).ok_or_else(missing)?;
        let is_shape = match shape.as_slice() {
            [only] => (count, columns) == (1, *only),
            [rows, more] => (count, columns) == (*rows, *more),
            _ => false,
        };
        if !is_shape {
            let expected = if count == 1 { format!("[{columns}]") } else { format!("[{count}, {columns}]") };
            return Err(self.wrong(format!("tensor {name} has shape {shape:?}: config.json asks for {expected}")));
        }
        let kind = match dtype.as_str() {
            "F32" => Kind::F32,
            "F16" => Kind::F16,
            "BF16" => Kind::Bf16,
            other => return Err(self.wrong(format!("tensor {name} is of {other}: expected F32, F16 or BF16"))),
        };
        let bytes = (count as u64).checked_mul(columns as u64).and_then(|len| len.checked_mul(kind.bytes() as u64));
        if from > to || *to > self.len || bytes != Some(to - from) {
            return Err(self.wrong(format!(
                "tensor {name} is said to lie from byte {from} to {to} of {}: expected {} bytes within the file",
                self.len,
                bytes.unwrap_or(u64::MAX)
            )));
        }
        let (path, file) = (self.path.clone(), Arc::clone(&self.file));
        Ok(Rows { path, file, start: self.start + from, kind, count, columns })
    }

    /// A whole vector.
    pub(super) fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>, Error> {
        let mut numbers = vec![0.0; len];
        self.rows(name, 1, len)?.read(0, &mut numbers)?;
        if numbers.iter().any(|number| !number.is_finite()) {
            return Err(self.wrong(format!("tensor {name} has numbers without an end")));
        }
        Ok(numbers)
    }
}

impl Rows {
    /// Reads as many rows as there is room for, from this one on.
    pub(super) fn read(&self, first: usize, to: &mut [f32]) -> Result<(), Error> {
        let bytes = self.kind.bytes();
        let mut at = self.start + (first * self.columns * bytes) as u64;
        let mut stored = [0; READ_BYTES];
        for to in to.chunks_mut(READ_BYTES / bytes) {
            let stored = &mut stored[..to.len() * bytes];
            self.file.read_exact_at(stored, at).map_err(|source| Error::io("read", &self.path, source))?;
            at += stored.len() as u64;
            self.kind.unpack(stored, to);
        }
        Ok(())
    }
}

#[cfg(test)]
impl Rows {
    /// Rows of a file of their own.
    pub(super) fn of(rows: &[Vec<f32>]) -> Self {
        use std::io::Write;
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = rows.iter().flatten().flat_map(|number| number.to_le_bytes()).collect();
        file.write_all(&bytes).unwrap();
        let (count, columns) = (rows.len(), rows[0].len());
        Self { path: PathBuf::new(), file: Arc::new(file), start: 0, kind: Kind::F32, count, columns }
    }
}

impl Kind {
    /// The numbers that some bytes are; as many as there is room for.
    fn unpack(self, stored: &[u8], to: &mut [f32]) {
        match self {
            Self::F32 => {
                let stored = stored.as_chunks().0;
                to.iter_mut().zip(stored).for_each(|(to, from)| *to = f32::from_le_bytes(*from));
            }
            Self::F16 => {
                let stored = stored.as_chunks().0;
                to.iter_mut().zip(stored).for_each(|(to, from)| *to = f16::from_le_bytes(*from).to_f32());
            }
            Self::Bf16 => {
                let stored = stored.as_chunks().0;
                to.iter_mut().zip(stored).for_each(|(to, from)| *to = bf16::from_le_bytes(*from).to_f32());
            }
        }
    }

    const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}
