//! The graph (HNSW, Malkov and Yashunin 2016) as it is walked, wherever it lies: in a mapped file or in a builder's memory.
//!
//! All of it is read with checked bounds, because a file may lie: a number that points nowhere is as good as no link.

use crate::{
    index::codes::{BLOCK, Block},
    lanes,
};

/// Links of a node on the levels above the ground, and twice as many on it, as the paper advises.
pub(in crate::index) const ABOVE: usize = 16;
pub(in crate::index) const GROUND: usize = 2 * ABOVE;
/// Levels above the ground: a graph of 16^8 nodes has 8.
pub(in crate::index) const LEVELS_MAX: usize = 12;

/// A slot as it lies in a file, little endian.
pub(in crate::index) type Link = [u8; 4];
/// The link that is none.
pub(in crate::index) const NONE: Link = [0xff; 4];

pub(in crate::index) type Ground = [Link; GROUND];
pub(in crate::index) type Above = [Link; ABOVE];

/// Where the rows of the upper levels are.
#[derive(Clone, Copy)]
pub(in crate::index) enum Upper<'n> {
    /// Nodes that reach a level come first; `counts` says how many, level after level, and so do the rows.
    Sorted { counts: &'n [u32; LEVELS_MAX], rows: &'n [Above] },
    /// The first of a node's rows, and how many levels it reaches.
    Anyhow { first: &'n [u32], levels: &'n [u8], rows: &'n [Above] },
}

/// A graph over vectors in bytes. All parts are as long as there are nodes.
#[derive(Clone, Copy)]
pub(in crate::index) struct Net<'n> {
    /// Blocks of a vector.
    pub(in crate::index) blocks: usize,
    pub(in crate::index) codes: &'n [Block],
    pub(in crate::index) scales: &'n [[u8; 4]],
    pub(in crate::index) ground: &'n [Ground],
    pub(in crate::index) upper: Upper<'n>,
    /// Nodes that every walk along the ground compares at its end: no node lies far from all of them.
    pub(in crate::index) landmarks: &'n [Link],
    /// Where each search begins.
    pub(in crate::index) entry: u32,
    /// The highest level, which the entry reaches.
    pub(in crate::index) top: usize,
}

impl<'n> Net<'n> {
    #[inline(always)]
    pub(in crate::index) fn len(&self) -> usize {
        self.ground.len()
    }

    #[inline(always)]
    pub(in crate::index) fn code(&self, slot: u32) -> &'n [Block] {
        let from = slot as usize * self.blocks;
        self.codes.get(from..from + self.blocks).unwrap_or_default()
    }

    #[inline(always)]
    pub(in crate::index) fn scale(&self, slot: u32) -> f32 {
        self.scales.get(slot as usize).map_or(0.0, |scale| f32::from_le_bytes(*scale))
    }

    #[inline(always)]
    pub(in crate::index) fn ground(&self, slot: u32) -> &'n [Link] {
        self.ground.get(slot as usize).map_or(&[], |row| row.as_slice())
    }

    /// The links of a node on a level above the ground; none when it does not reach it.
    pub(in crate::index) fn above(&self, level: usize, slot: u32) -> &'n [Link] {
        let row = match self.upper {
            Upper::Sorted { counts, rows } => {
                let before: usize = counts.iter().take(level - 1).map(|count| *count as usize).sum();
                let reaches = counts.get(level - 1).is_some_and(|count| slot < *count);
                reaches.then(|| rows.get(before + slot as usize)).flatten()
            }
            Upper::Anyhow { first, levels, rows } => {
                let reaches = levels.get(slot as usize).is_some_and(|levels| usize::from(*levels) >= level);
                reaches.then(|| rows.get(first[slot as usize] as usize + level - 1)).flatten()
            }
        };
        row.map_or(&[], |row| row.as_slice())
    }

    /// Has a vector brought near, to be compared soon.
    #[inline(always)]
    pub(in crate::index) fn fetch(&self, slot: u32) {
        for block in self.code(slot) {
            lanes::fetch(block, 0);
        }
    }

    /// Has a node's links brought near.
    #[inline(always)]
    pub(in crate::index) fn fetch_links(&self, slot: u32) {
        for half in self.ground(slot).as_flattened().as_chunks::<BLOCK>().0 {
            lanes::fetch(half, 0);
        }
    }
}

/// The slot that a link names; `None` when it is none or points behind the end.
#[inline(always)]
pub(in crate::index) fn slot_of(link: Link, len: usize) -> Option<u32> {
    let slot = u32::from_le_bytes(link);
    ((slot as usize) < len).then_some(slot)
}
