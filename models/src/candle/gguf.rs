//! Reads a GGUF file: its metadata and where its tensors lie. Trusts no number in it: every length is checked against the file
//! before memory is taken for it.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>, versions 2 and 3, little endian.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use candle_core::{
    Device, Shape,
    quantized::{GgmlDType, QTensor, ggml_file::qtensor_from_ggml},
};

use crate::Error;

/// A chat template may have tens of kilobytes.
const TEXT_LEN_MAX: u64 = 1 << 20;
/// The largest vocabularies have 262,144 tokens and twice as many merges.
const LIST_LEN_MAX: u64 = 1 << 21;
/// A model of 200 layers has some 3,000 tensors.
const ENTRIES_MAX: u64 = 1 << 16;
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

struct Tensor {
    kind: GgmlDType,
    shape: Vec<usize>,
    offset: u64,
}

type Header = (HashMap<String, Value>, HashMap<String, Tensor>);

/// An open file whose header has been read.
pub(crate) struct Gguf {
    path: PathBuf,
    file: File,
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
        let input = BufReader::new(file.try_clone().map_err(io)?);
        let mut reader = Reader { path, input, at: 0, file_len };
        let (values, tensors) = reader.header()?;
        let alignment = match values.get("general.alignment") {
            None => ALIGNMENT_DEFAULT,
            Some(Value::Whole(value)) if *value > 0 && *value <= 1 << 20 => value.unsigned_abs(),
            Some(_) => return Err(Error::file(path, "general.alignment is not a number from 1 to 1048576")),
        };
        let data_start = reader.at.next_multiple_of(alignment);
        Ok(Self { path: path.to_owned(), file, file_len, values, tensors, data_start })
    }

    /// The error that this file is not what a loader expects.
    pub(crate) fn wrong(&self, message: impl Into<String>) -> Error {
        Error::file(&self.path, message)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
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

    /// Reads a tensor that must have this shape (rows first).
    pub(crate) fn tensor(&self, name: &str, shape: &[usize]) -> Result<QTensor, Error> {
        let tensor = self.tensors.get(name).ok_or_else(|| self.wrong(format!("tensor {name} is missing")))?;
        if tensor.shape != shape {
            return Err(self.wrong(format!("tensor {name} has shape {:?}: expected {shape:?}", tensor.shape)));
        }
        let count = Shape::from(shape).elem_count();
        let row = shape.last().copied().unwrap_or(0);
        if row == 0 || row % tensor.kind.block_size() != 0 {
            let message =
                format!("tensor {name} has rows of {row}: {:?} packs {}", tensor.kind, tensor.kind.block_size());
            return Err(self.wrong(message));
        }
        let len = count / tensor.kind.block_size() * tensor.kind.type_size();
        let start = self.data_start.checked_add(tensor.offset);
        let start = start.filter(|start| start.checked_add(len as u64).is_some_and(|end| end <= self.file_len));
        let start = start.ok_or_else(|| self.wrong(format!("cut off: tensor {name} runs past the end of the file")))?;
        let mut bytes = vec![0; len];
        let mut file = &self.file;
        let read = file.seek(SeekFrom::Start(start)).and_then(|_| file.read_exact(&mut bytes));
        read.map_err(|source| Error::io("read", &self.path, source))?;
        qtensor_from_ggml(tensor.kind, &bytes, shape.to_vec(), &Device::Cpu)
            .map_err(|error| self.wrong(format!("tensor {name}: {error}")))
    }
}

struct Reader<'a> {
    path: &'a Path,
    input: BufReader<File>,
    at: u64,
    file_len: u64,
}

impl Reader<'_> {
    fn header(&mut self) -> Result<Header, Error> {
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
            values.insert(key, value);
        }
        let mut tensors = HashMap::new();
        for _ in 0..tensor_count {
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
            let kind = tensor_kind(kind)
                .ok_or_else(|| self.wrong(format!("tensor {name} has the unsupported type {kind}")))?;
            let offset = u64::from_le_bytes(self.bytes()?);
            tensors.insert(name, Tensor { kind, shape, offset });
        }
        Ok((values, tensors))
    }

    fn value(&mut self, kind: u32, key: &str) -> Result<Value, Error> {
        if kind != 9 {
            return self.single(kind, key);
        }
        let kind = u32::from_le_bytes(self.bytes()?);
        let len = self.count(key, LIST_LEN_MAX)?;
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

/// ggml's number of a tensor type, for the types that candle multiplies with.
fn tensor_kind(number: u32) -> Option<GgmlDType> {
    Some(match number {
        0 => GgmlDType::F32,
        1 => GgmlDType::F16,
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        10 => GgmlDType::Q2K,
        11 => GgmlDType::Q3K,
        12 => GgmlDType::Q4K,
        13 => GgmlDType::Q5K,
        14 => GgmlDType::Q6K,
        30 => GgmlDType::BF16,
        _ => return None,
    })
}
