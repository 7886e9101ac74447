//! The packed weights of a model: one piece of memory for all its matrices, filled from the file by all threads.

use std::{
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

    /// Reads and packs all of it.
    pub(crate) fn load(self, pool: &mut Pool) -> Result<Weights, Error> {
        let memory = || MmapMut::map_anon(self.len.max(1));
        let mut memory = memory()
            .map_err(|error| Error::request(format!("{} MB for the weights are not there: {error}", self.len >> 20)))?;
        // Fewer and larger pages; where the kernel has none, it goes on with small ones.
        drop(memory.advise(Advice::HugePage));
        let failed = Mutex::new(None);
        pool.pieces(&mut self.pieces(&mut memory), 1, |_, pieces| {
            for piece in pieces {
                if let Err(error) = piece.fill() {
                    *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                }
            }
        });
        if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        let memory = memory.make_read_only();
        let memory = memory.map_err(|error| Error::request(format!("the weights cannot be kept: {error}")))?;
        Ok(Weights { memory })
    }

    /// The memory of all matrices in pieces, in the order in which they lie in it.
    fn pieces<'a>(&'a self, mut memory: &'a mut [u8]) -> Vec<Piece<'a>> {
        let mut pieces = Vec::new();
        for (matrix, rows, order) in &self.matrices {
            let (mut rest, after) = memory.split_at_mut(matrix.at.len());
            memory = after;
            let (bytes, mut first) = (matrix.group_bytes(), 0);
            let groups = (PIECE_BYTES / bytes).max(1);
            while !rest.is_empty() {
                let (to, others) = rest.split_at_mut(rest.len().min(groups * bytes));
                pieces.push(Piece { matrix, rows, order: *order, first, to });
                (rest, first) = (others, first + groups);
            }
        }
        pieces
    }
}

/// A thread fills so much at once: enough that taking the next piece costs nothing, few enough that all are done at about the same time.
const PIECE_BYTES: usize = 1 << 20;

/// Some groups of a matrix, to be filled.
struct Piece<'a> {
    matrix: &'a Matrix,
    rows: &'a Rows,
    order: Order,
    /// The first of them.
    first: usize,
    to: &'a mut [u8],
}

impl Piece<'_> {
    fn fill(&mut self) -> Result<(), Error> {
        let mut room = pack::Room::default();
        for (at, to) in self.to.chunks_exact_mut(self.matrix.group_bytes()).enumerate() {
            pack::group(self.matrix.form, self.rows, self.order, self.first + at, &mut room, to)?;
        }
        Ok(())
    }
}

/// The memory of all matrices.
pub(crate) struct Weights {
    memory: Mmap,
}

impl Weights {
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.memory.len()
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
