//! What lies where in a file. Little endian; after a header of 256 bytes the sections, each beginning at a multiple of 64 bytes:
//!
//! | section | for each vector |
//! |---|---|
//! | codes | its values in bytes, filled to blocks of 64 |
//! | ground | 32 links, u32 each, 0xffffffff for none |
//! | upper | 16 links for each level above the ground; the nodes of level 1 first, then those of level 2, and so on |
//! | scales | f32 |
//! | errors | the upper half of an f32, rounded up |
//! | ids | u64 |
//! | order | u32: the slots by ascending id |
//! | landmarks | not for each: the slots that every walk compares, u32 each |
//! | rows | its values, f32 each, and their CRC-32 |
//!
//! The header: `SKINDEX3`, dimensions u32, how many landmarks u32, count u64, how many nodes reach each of twelve levels (u32 each),
//! the digest of the embedder (32 bytes), the CRC-32 of the eight sections before the rows, zeros, its own CRC-32. Nodes that reach a
//! higher level have lower slots, and the first is where a search begins.

use std::ops::Range;

use shared::digest::Digest;

use super::net::{ABOVE, GROUND, LEVELS_MAX};
use crate::index::codes::{BLOCK, blocks_of};

pub(super) const HEADER_LEN: usize = 256;
const MAGIC: &[u8; 8] = b"SKINDEX3";
const CHECKS_FROM: usize = 104;
/// Larger vectors are no embedding; a greater number in a header is damage.
pub(super) const DIMENSIONS_MAX: u32 = 1 << 14;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    Codes,
    Ground,
    Upper,
    Scales,
    Errors,
    Ids,
    Order,
    Landmarks,
}

impl Section {
    pub(super) const ALL: [Self; 8] =
        [Self::Codes, Self::Ground, Self::Upper, Self::Scales, Self::Errors, Self::Ids, Self::Order, Self::Landmarks];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Codes => "codes",
            Self::Ground => "links",
            Self::Upper => "upper links",
            Self::Scales => "scales",
            Self::Errors => "errors",
            Self::Ids => "ids",
            Self::Order => "order of ids",
            Self::Landmarks => "landmarks",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) dimensions: u32,
    pub(super) landmarks: u32,
    pub(super) count: u64,
    /// How many nodes reach level 1, level 2 and so on.
    pub(super) levels: [u32; LEVELS_MAX],
    pub(super) embedder: Digest,
    pub(super) checks: [u32; Section::ALL.len()],
}

impl Header {
    /// Reads a header; else says what is wrong with it.
    pub(super) fn of(bytes: &[u8; HEADER_LEN]) -> Result<Self, String> {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        if !bytes.starts_with(MAGIC) {
            return Err("not an index of this version: expected it to begin with SKINDEX3".to_owned());
        }
        if crc32fast::hash(&bytes[..HEADER_LEN - 4]) != word(HEADER_LEN - 4) {
            return Err("damaged: its header is not as it was written".to_owned());
        }
        let mut embedder = [0; 32];
        embedder.copy_from_slice(&bytes[72..CHECKS_FROM]);
        let header = Self {
            dimensions: word(8),
            landmarks: word(12),
            count: u64::from(word(16)) | u64::from(word(20)) << 32,
            levels: std::array::from_fn(|at| word(24 + 4 * at)),
            embedder: Digest::from_bytes(embedder),
            checks: std::array::from_fn(|at| word(CHECKS_FROM + 4 * at)),
        };
        let descending = header.levels.is_sorted_by(|low, high| low >= high);
        let fits = (1..=DIMENSIONS_MAX).contains(&header.dimensions) && header.count < u64::from(u32::MAX);
        if !fits || !descending || u64::from(header.levels[0]) > header.count {
            let Self { dimensions, count, levels, .. } = header;
            return Err(format!(
                "{count} vectors of {dimensions} values on levels of {levels:?} are no index: damaged"
            ));
        }
        Ok(header)
    }

    pub(super) fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        let mut put = |at: usize, part: &[u8]| bytes[at..at + part.len()].copy_from_slice(part);
        put(0, MAGIC);
        put(8, &self.dimensions.to_le_bytes());
        put(12, &self.landmarks.to_le_bytes());
        put(16, &self.count.to_le_bytes());
        put(24, self.levels.map(u32::to_le_bytes).as_flattened());
        put(72, self.embedder.as_bytes());
        put(CHECKS_FROM, self.checks.map(u32::to_le_bytes).as_flattened());
        let check = crc32fast::hash(&bytes[..HEADER_LEN - 4]);
        bytes[HEADER_LEN - 4..].copy_from_slice(&check.to_le_bytes());
        bytes
    }
}

/// Where everything is, as the header's numbers have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    /// Blocks of a vector.
    pub(super) blocks: usize,
    ranges: [Range<usize>; Section::ALL.len()],
    pub(super) rows_from: u64,
    pub(super) row_len: usize,
    pub(super) file_len: u64,
}

impl Layout {
    /// `None` when no file can be so long.
    pub(super) fn of(header: &Header) -> Option<Self> {
        let count = usize::try_from(header.count).ok()?;
        let dimensions = header.dimensions as usize;
        let blocks = blocks_of(dimensions);
        let upper = header.levels.iter().try_fold(0usize, |sum, level| sum.checked_add(*level as usize))?;
        let mut at = HEADER_LEN;
        let mut place = |items: usize, each: usize| {
            let from = at;
            let end = from.checked_add(items.checked_mul(each)?)?;
            at = end.checked_next_multiple_of(BLOCK)?;
            Some(from..end)
        };
        let ranges = [
            place(count, blocks * BLOCK)?,
            place(count, GROUND * 4)?,
            place(upper, ABOVE * 4)?,
            place(count, 4)?,
            place(count, 2)?,
            place(count, 8)?,
            place(count, 4)?,
            place(header.landmarks as usize, 4)?,
        ];
        let (rows_from, row_len) = (at as u64, 4 * dimensions + 4);
        let file_len = rows_from.checked_add(header.count.checked_mul(row_len as u64)?)?;
        Some(Self { blocks, ranges, rows_from, row_len, file_len })
    }

    pub(super) fn range(&self, section: Section) -> Range<usize> {
        self.ranges[section as usize].clone()
    }
}

/// The upper half of a number that is not negative, rounded up.
pub(super) fn narrow(number: f32) -> [u8; 2] {
    let bits = number.to_bits();
    let up = u32::from(bits & 0xffff != 0);
    (((bits >> 16) + up) as u16).to_le_bytes()
}

#[inline(always)]
fn widen(half: [u8; 2]) -> f32 {
    f32::from_bits(u32::from(u16::from_le_bytes(half)) << 16)
}

#[inline(always)]
pub(super) fn error_of(errors: &[[u8; 2]], slot: u32) -> f32 {
    errors.get(slot as usize).map_or(f32::INFINITY, |half| widen(*half))
}

#[inline(always)]
pub(super) fn id_of(ids: &[[u8; 8]], slot: u32) -> u64 {
    ids.get(slot as usize).map_or(u64::MAX, |id| u64::from_le_bytes(*id))
}
