//! The packed weights of a model: one piece of memory for all its matrices, filled from the file by all threads.

use std::{
    fmt::Write as _,
    ops::Range,
    sync::{Mutex, PoisonError},
};

use memmap2::{Advice, Mmap, MmapMut};

use super::form::Form;
use crate::{Error, gguf::Rows, lanes::ROWS, pool::Pool};

mod pack;

/// In which order a matrix's rows are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Stored,
    /// Within each head of so many rows, the even ones first: what turned with its neighbour then turns with the other half.
    Halves(usize),
}

/// A packed matrix: where it lies in the weights.
#[derive(Debug, Clone)]
pub(crate) struct Matrix {
    pub(crate) form: Form,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    at: Range<usize>,
}

impl Matrix {
    /// How many times sixteen rows it has; the last are filled up with zeros.
    pub(crate) fn groups(&self) -> usize {
        self.rows.div_ceil(ROWS)
    }

    pub(crate) fn group_bytes(&self) -> usize {
        self.form.group_bytes(self.columns)
    }

    /// Some of its rows as a matrix; the first is a multiple of 16.
    pub(crate) fn part(&self, rows: Range<usize>) -> Self {
        let start = self.at.start + rows.start / ROWS * self.group_bytes();
        let end = start + rows.len().div_ceil(ROWS) * self.group_bytes();
        Self { rows: rows.len(), at: start..end, ..self.clone() }
    }
}

/// What is to be loaded.
#[derive(Default)]
pub(crate) struct Plan {
    matrices: Vec<(Matrix, Rows, Order)>,
    len: usize,
}

impl Plan {
    /// Adds a matrix.
    pub(crate) fn add(&mut self, rows: Rows, order: Order) -> Matrix {
        let form = Form::of(rows.kind);
        let mut matrix = Matrix { form, rows: rows.count, columns: rows.columns, at: 0..0 };
        let end = self.len + matrix.groups() * matrix.group_bytes();
        matrix.at = self.len..end;
        self.len = end;
        self.matrices.push((matrix.clone(), rows, order));
        matrix
    }

    /// Bytes that the packed matrices take.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// What is packed, from where in the file and how: the same text means the same bytes, of the same file and the same [`PACKING`].
    pub(crate) fn recipe(&self) -> String {
        let mut text = format!("packing {PACKING}\n");
        for (matrix, rows, order) in &self.matrices {
            let Rows { kind, start, .. } = rows;
            // A text takes whatever is written.
            let _ = writeln!(text, "{matrix:?} of {kind:?} at {start} in {order:?}");
        }
        text
    }

    /// Reads and packs all of it into memory.
    pub(crate) fn load(&self, pool: &mut Pool) -> Result<Weights, Error> {
        let memory = || MmapMut::map_anon(self.len.max(1));
        let mut memory = memory()
            .map_err(|error| Error::request(format!("{} MB for the weights are not there: {error}", self.len >> 20)))?;
        // Fewer and larger pages; where the kernel has none, it goes on with small ones.
        drop(memory.advise(Advice::HugePage));
        let failed = Mutex::new(None);
        pool.pieces(&mut memory, PIECE_BYTES, |at, piece| {
            if let Err(error) = self.fill(at * PIECE_BYTES, piece) {
                *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
        });
        if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        let memory = memory.make_read_only();
        let memory = memory.map_err(|error| Error::request(format!("the weights cannot be kept: {error}")))?;
        Ok(Weights { memory, is_mapped: false })
    }

    /// Packs the weights that lie from a place on into these bytes, which are zero.
    pub(crate) fn fill(&self, from: usize, to: &mut [u8]) -> Result<(), Error> {
        let (mut room, mut whole) = (pack::Room::default(), Vec::new());
        let end = from + to.len();
        let first = self.matrices.partition_point(|(matrix, ..)| matrix.at.end <= from);
        let there = self.matrices[first..].iter().take_while(|(matrix, ..)| matrix.at.start < end);
        for (matrix, rows, order) in there.filter(|(matrix, ..)| !matrix.at.is_empty()) {
            let (bytes, start) = (matrix.group_bytes(), matrix.at.start);
            let groups = (from.max(start) - start) / bytes..(end.min(matrix.at.end) - start).div_ceil(bytes);
            for group in groups {
                let at = start + group * bytes;
                let part = at.max(from)..(at + bytes).min(end);
                let to = &mut to[part.start - from..part.end - from];
                if to.len() == bytes {
                    pack::group(matrix.form, rows, *order, group, &mut room, to)?;
                    continue;
                }
                // The rest is in the piece before or behind, which packs it once more.
                whole.clear();
                whole.resize(bytes, 0);
                pack::group(matrix.form, rows, *order, group, &mut room, &mut whole)?;
                to.copy_from_slice(&whole[part.start - at..part.end - at]);
            }
        }
        Ok(())
    }
}

/// To be raised with every change of what packed weights look like: who kept some packs them anew.
const PACKING: u32 = 2;

/// A thread fills so much at once: enough that little is packed twice, few enough that all are done at about the same time.
const PIECE_BYTES: usize = 2 << 20;

/// The memory of all matrices.
pub(crate) struct Weights {
    memory: Mmap,
    is_mapped: bool,
}

impl Weights {
    /// What was packed by a [`Plan`] before and is a file now, mapped.
    pub(crate) fn mapped(memory: Mmap) -> Self {
        Self { memory, is_mapped: true }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.memory.len()
    }

    /// Bytes of a file that the kernel may let go and read again.
    pub(crate) fn mapped_bytes(&self) -> usize {
        if self.is_mapped { self.memory.len() } else { 0 }
    }

    /// Sixteen rows of a matrix.
    #[inline]
    pub(crate) fn group(&self, matrix: &Matrix, group: usize) -> &[u8] {
        let bytes = matrix.group_bytes();
        &self.memory[matrix.at.start + group * bytes..][..bytes]
    }

    /// Unpacks one row.
    pub(crate) fn unpack(&self, matrix: &Matrix, row: usize, to: &mut [f32]) {
        pack::unpack(matrix.form, self.group(matrix, row / ROWS), row % ROWS, to);
    }
}
