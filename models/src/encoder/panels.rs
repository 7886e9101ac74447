//! The packed matrices of an encoder: one piece of memory for all, thirty-two rows side by side, so that a tile of tokens reads its
//! weights from front to back.

use std::{
    ops::Range,
    sync::{Mutex, PoisonError},
};

use memmap2::{Advice, Mmap, MmapMut};
use serde::{Deserialize, Serialize};

use super::tensors::Rows;
use crate::{
    Error,
    lanes::{ROWS, largest},
    pool::Pool,
};

/// How exactly an encoder computes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// As it was trained.
    #[default]
    Float32,
    /// Weights rounded to 8 bits with a scale for each row, and so each token before a product: two to three times as fast, in a quarter
    /// of the memory, with vectors that differ a little.
    Int8,
}

/// Rows side by side.
pub(super) const PANEL: usize = 2 * ROWS;
/// Columns whose rounded weights stand in a run: four of each row after the other.
pub(super) const STEP: usize = 4;
/// Columns of a token that are rounded and stand together; matrices are filled up to it with zeros.
pub(super) const WORDS: usize = STEP * ROWS;

/// A column of a panel's rows.
pub(super) type Floats = [[f32; ROWS]; 2];
/// Four columns of a panel's rows, each row's side by side.
pub(super) type Bytes = [[u8; WORDS]; 2];

/// A packed matrix: where it lies in the weights.
pub(super) struct Matrix {
    precision: Precision,
    pub(super) rows: usize,
    pub(super) columns: usize,
    at: Range<usize>,
    /// What is added to each row's product.
    pub(super) bias: Vec<Floats>,
}

/// The weights of thirty-two rows.
#[derive(Clone, Copy)]
pub(super) enum Panel<'a> {
    Full(&'a [Floats]),
    /// Bytes, and what a row's are multiplied with.
    Eight(&'a [Bytes], &'a Floats),
}

impl Matrix {
    pub(super) const fn panels(&self) -> usize {
        self.rows / PANEL
    }

    pub(super) const fn is_rounded(&self) -> bool {
        matches!(self.precision, Precision::Int8)
    }

    pub(super) const fn panel_bytes(&self) -> usize {
        match self.precision {
            Precision::Float32 => self.columns * size_of::<Floats>(),
            // The scales stand behind the bytes.
            Precision::Int8 => self.columns.div_ceil(WORDS) * ROWS * size_of::<Bytes>() + size_of::<Floats>(),
        }
    }
}

/// What becomes one matrix: tensors that stand one below the other, each with its bias and what both are multiplied with.
pub(super) struct Part {
    pub(super) rows: Rows,
    pub(super) bias: Vec<f32>,
    pub(super) factor: f32,
}

/// What is to be loaded.
pub(super) struct Plan {
    precision: Precision,
    /// Where each matrix lies.
    matrices: Vec<(Range<usize>, usize, Vec<Part>)>,
    len: usize,
}

impl Plan {
    pub(super) const fn new(precision: Precision) -> Self {
        Self { precision, matrices: Vec::new(), len: 0 }
    }

    /// Adds a matrix; the rows of each part are a multiple of [`PANEL`].
    pub(super) fn add(&mut self, parts: Vec<Part>) -> Matrix {
        let rows = parts.iter().map(|part| part.rows.count).sum();
        let columns = parts.first().map_or(0, |part| part.rows.columns);
        let all: Vec<f32> = parts.iter().flat_map(|part| part.bias.iter().map(|number| number * part.factor)).collect();
        let bias = all.as_chunks::<ROWS>().0.as_chunks::<2>().0.to_vec();
        let mut matrix = Matrix { precision: self.precision, rows, columns, at: 0..0, bias };
        let end = self.len + matrix.panels() * matrix.panel_bytes();
        matrix.at = self.len..end;
        self.matrices.push((matrix.at.clone(), matrix.panel_bytes(), parts));
        self.len = end;
        matrix
    }

    /// Bytes that the packed matrices take.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Reads and packs all of it.
    pub(super) fn load(self, pool: &mut Pool) -> Result<Weights, Error> {
        let memory = MmapMut::map_anon(self.len.max(1));
        let mut memory = memory
            .map_err(|error| Error::request(format!("{} MB for the weights are not there: {error}", self.len >> 20)))?;
        // Fewer and larger pages; where the kernel has none, it goes on with small ones.
        drop(memory.advise(Advice::HugePage));
        let failed = Mutex::new(None);
        pool.pieces(&mut self.pieces(&mut memory), 1, |_, pieces| {
            for piece in pieces {
                if let Err(error) = pack(self.precision, piece.parts, piece.first, piece.to) {
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

    /// The memory of all matrices in panels, in the order in which they lie in it.
    fn pieces<'a>(&'a self, mut memory: &'a mut [u8]) -> Vec<Piece<'a>> {
        let mut pieces = Vec::new();
        for (at, panel_bytes, parts) in &self.matrices {
            let (panels, after) = memory.split_at_mut(at.len());
            memory = after;
            let panels = panels.chunks_exact_mut(*panel_bytes).enumerate();
            pieces.extend(panels.map(|(panel, to)| Piece { parts, first: panel * PANEL, to }));
        }
        pieces
    }
}

/// A panel to be filled.
struct Piece<'a> {
    parts: &'a [Part],
    /// Its first row.
    first: usize,
    to: &'a mut [u8],
}

/// Packs the panel whose first row is this one.
fn pack(precision: Precision, parts: &[Part], mut first: usize, to: &mut [u8]) -> Result<(), Error> {
    let part = parts.iter().find(|part| {
        let is_here = first < part.rows.count;
        first -= if is_here { 0 } else { part.rows.count };
        is_here
    });
    let Some(Part { rows, factor, .. }) = part else { return Ok(()) };
    let mut numbers = vec![0.0; PANEL * rows.columns];
    rows.read(first, &mut numbers)?;
    match precision {
        Precision::Float32 => {
            for (column, to) in to.as_chunks_mut::<4>().0.as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
                for (to, row) in to.iter_mut().zip(numbers.chunks_exact(rows.columns)) {
                    *to = (row[column] * factor).to_le_bytes();
                }
            }
        }
        Precision::Int8 => {
            let (bytes, scales) = to.split_at_mut(to.len() - size_of::<Floats>());
            let steps = bytes.as_chunks_mut::<STEP>().0.as_chunks_mut::<PANEL>().0;
            let numbers = numbers.chunks_exact_mut(rows.columns);
            for ((row, numbers), scale) in numbers.enumerate().zip(scales.as_chunks_mut::<4>().0) {
                numbers.iter_mut().for_each(|number| *number *= factor);
                let (inverse, step) = steps_of(numbers);
                *scale = step.to_le_bytes();
                for (step, numbers) in steps.iter_mut().zip(numbers.as_chunks::<STEP>().0) {
                    step[row] = numbers.map(|number| rounded(number * inverse));
                }
            }
        }
    }
    Ok(())
}

/// What the numbers of a row are multiplied with to be rounded, and what a step of the rounded ones is then.
fn steps_of(numbers: &[f32]) -> (f32, f32) {
    let mut most = [0.0f32; ROWS];
    // The columns of a matrix are a multiple of these.
    for numbers in numbers.as_chunks::<ROWS>().0 {
        for lane in 0..ROWS {
            let size = numbers[lane].abs();
            // Comparing so, a number that is none is not the larger.
            most[lane] = if size > most[lane] { size } else { most[lane] };
        }
    }
    let largest = largest(most);
    // What is as good as nothing, or has no end, becomes zeros and not nonsense.
    if (1e-30..1e30).contains(&largest) { (127.0 / largest, largest / 127.0) } else { (0.0, 0.0) }
}

/// The nearest whole number from -127 to 127, ties to even: adding 1.5 * 2^23 leaves it in the lowest bits. A number that is none
/// becomes a zero.
fn rounded(number: f32) -> u8 {
    const MAGIC: f32 = 12_582_912.0;
    let number = if number.abs() <= 127.5 { number } else { 0.0 };
    (number + MAGIC).to_bits() as u8
}

/// The memory of all matrices.
pub(super) struct Weights {
    memory: Mmap,
}

impl Weights {
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.memory.len()
    }

    /// Thirty-two rows of a matrix.
    #[inline]
    pub(super) fn panel(&self, matrix: &Matrix, panel: usize) -> Panel<'_> {
        let bytes = matrix.panel_bytes();
        let panel = &self.memory[matrix.at.start + panel * bytes..][..bytes];
        match matrix.precision {
            Precision::Float32 => Panel::Full(floats(panel)),
            Precision::Int8 => {
                let (bytes, scales) = panel.split_at(panel.len() - size_of::<Floats>());
                Panel::Eight(bytes.as_chunks().0.as_chunks().0, &floats(scales)[0])
            }
        }
    }
}

/// Bytes as the floats that they were written as, on the machine that wrote them.
fn floats(bytes: &[u8]) -> &[Floats] {
    // SAFETY: every pattern of bits is a float, and the memory begins at a page, each panel at a multiple of 64 in it.
    let (before, floats, _) = unsafe { bytes.align_to::<Floats>() };
    debug_assert!(before.is_empty(), "panels are aligned");
    floats
}
