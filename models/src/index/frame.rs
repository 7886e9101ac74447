//! An index as a file: `SKINDEX1`, dimensions u32, count u64, the ids (u64), the vectors (f32), SHA-256 of all before it;
//! little endian. The length is checked before anything is allocated, the digest before anything is used.

use std::{
    fs::File,
    io::{BufReader, BufWriter, Read, Write},
    path::Path,
};

use sha2::{Digest as _, Sha256};

use super::exact::Vectors;
use crate::Error;

const MAGIC: &[u8; 8] = b"SKINDEX1";
const HEADER_LEN: usize = 8 + 4 + 8;
const DIGEST_LEN: usize = 32;
/// Larger vectors are no embedding; a greater number in a header is damage.
const DIMENSIONS_MAX: usize = 1 << 16;

pub(super) fn save(path: &Path, vectors: &Vectors) -> Result<(), Error> {
    let beside = path.with_extension("partial");
    let write = || -> std::io::Result<()> {
        let mut out = Hashed { file: BufWriter::new(File::create(&beside)?), hash: Sha256::new() };
        out.put(MAGIC)?;
        out.put(&u32::try_from(vectors.dimensions()).unwrap_or(u32::MAX).to_le_bytes())?;
        out.put(&(vectors.len() as u64).to_le_bytes())?;
        for id in vectors.ids() {
            out.put(&id.to_le_bytes())?;
        }
        for value in vectors.values() {
            out.put(&value.to_le_bytes())?;
        }
        let digest = out.hash.finalize();
        out.file.write_all(&digest)?;
        out.file.into_inner()?.sync_all()?;
        std::fs::rename(&beside, path)
    };
    write().map_err(|source| Error::io("write", path, source))
}

struct Hashed {
    file: BufWriter<File>,
    hash: Sha256,
}

impl Hashed {
    fn put(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.hash.update(bytes);
        self.file.write_all(bytes)
    }
}

pub(super) fn load(path: &Path) -> Result<Vectors, Error> {
    let io = |source| Error::io("read", path, source);
    let file = File::open(path).map_err(io)?;
    let len = file.metadata().map_err(io)?.len();
    let mut input = BufReader::new(file);
    let mut hash = Sha256::new();
    let mut header = [0; HEADER_LEN];
    if len < (HEADER_LEN + DIGEST_LEN) as u64 {
        return Err(Error::file(path, format!("{len} bytes are too few for an index")));
    }
    input.read_exact(&mut header).map_err(io)?;
    hash.update(header);
    if !header.starts_with(MAGIC) {
        return Err(Error::file(path, "not an index: expected it to begin with SKINDEX1"));
    }
    let dimensions = u32::from_le_bytes(header[8..12].try_into().expect("four bytes")) as usize;
    let count = u64::from_le_bytes(header[12..20].try_into().expect("eight bytes"));
    let body = usize::try_from(count).ok().and_then(|count| count.checked_mul(8 + 4 * dimensions));
    let expected = body.and_then(|body| body.checked_add(HEADER_LEN + DIGEST_LEN));
    if dimensions > DIMENSIONS_MAX || expected.is_none_or(|expected| expected as u64 != len) {
        let message = format!("{len} bytes do not hold {count} vectors of {dimensions} values: cut off or damaged");
        return Err(Error::file(path, message));
    }

    let count = usize::try_from(count).map_err(|_| Error::file(path, "too many vectors for this machine"))?;
    let mut read = |bytes: &mut [u8]| {
        input.read_exact(bytes).map_err(io)?;
        hash.update(&*bytes);
        Ok(())
    };
    let mut ids = vec![0; count * 8];
    read(&mut ids)?;
    let mut vectors = Vectors::new(dimensions);
    let mut row = vec![0; dimensions * 4];
    let mut values = vec![0.0; dimensions];
    for id in ids.chunks_exact(8) {
        read(&mut row)?;
        for (value, bytes) in values.iter_mut().zip(row.chunks_exact(4)) {
            *value = f32::from_le_bytes(bytes.try_into().expect("four bytes"));
        }
        let id = u64::from_le_bytes(id.try_into().expect("eight bytes"));
        vectors.insert(id, &values).map_err(|error| Error::file(path, format!("vector {id}: {error}")))?;
    }
    let mut digest = [0; DIGEST_LEN];
    input.read_exact(&mut digest).map_err(io)?;
    if hash.finalize()[..] != digest || vectors.len() != count {
        return Err(Error::file(path, "damaged: its content does not have the digest at its end"));
    }
    Ok(vectors)
}
