//! Makes a graph over vectors in bytes, node by node, and mends it when nodes are taken out.
//!
//! The file that is made from it has another order and its own form; this one is made to be changed.

mod link;
mod mend;
mod order;
mod spread;

use memmap2::{Advice, MmapMut};

pub(super) use mend::moved;
pub(super) use order::order;
use spread::Spread;

use super::{
    codes::{BLOCK, Block, Code, blocks_of},
    flat::{
        Above, Ground, LEVELS_MAX, NONE, Net, Upper,
        walk::{All, Descent, Reach, Scratch, Walk},
    },
};
use crate::{Error, lanes::Processor};

/// How widely a new node looks for its links: the quality of the graph against the time to make it.
const BREADTH: usize = 200;

/// A graph that grows.
pub(super) struct Builder {
    processor: Processor,
    blocks: usize,
    /// Room for all vectors there may be, in memory that the kernel gives as it is written to, and aligned.
    codes: MmapMut,
    scales: Vec<[u8; 4]>,
    errors: Vec<f32>,
    ground: Vec<Ground>,
    /// Rows of the upper levels, a node's side by side.
    rows: Vec<Above>,
    first: Vec<u32>,
    levels: Vec<u8>,
    spread: Spread,
    entry: u32,
    scratch: Scratch,
    linking: link::Linking,
}

impl Builder {
    /// Room for so many vectors.
    ///
    /// # Errors
    /// When the machine has no memory for it.
    pub(super) fn new(dimensions: usize, room: usize) -> Result<Self, Error> {
        let blocks = blocks_of(dimensions);
        let len = (room * blocks * BLOCK).max(1);
        let codes = MmapMut::map_anon(len).map_err(|_| Error::request(format!("no memory for {room} vectors")))?;
        // Large pages are quicker to find; without them it is as right.
        let _ = codes.advise(Advice::HugePage);
        Ok(Self {
            processor: Processor::detect(),
            blocks,
            codes,
            scales: Vec::with_capacity(room),
            errors: Vec::with_capacity(room),
            ground: Vec::with_capacity(room),
            rows: Vec::new(),
            first: Vec::with_capacity(room),
            levels: Vec::with_capacity(room),
            spread: Spread::default(),
            entry: 0,
            scratch: Scratch::default(),
            linking: link::Linking::new(dimensions),
        })
    }

    pub(super) fn len(&self) -> usize {
        self.ground.len()
    }

    pub(super) fn net(&self) -> Net<'_> {
        Net {
            blocks: self.blocks,
            codes: self.codes.as_chunks().0,
            scales: &self.scales,
            ground: &self.ground,
            upper: Upper::Anyhow { first: &self.first, levels: &self.levels, rows: &self.rows },
            landmarks: self.spread.landmarks(),
            entry: self.entry,
            top: self.levels.get(self.entry as usize).copied().map_or(0, usize::from),
        }
    }

    pub(super) fn error(&self, slot: u32) -> f32 {
        self.errors[slot as usize]
    }

    pub(super) fn level(&self, slot: u32) -> u8 {
        self.levels[slot as usize]
    }

    /// Puts a node at the end that no links lead to or from.
    ///
    /// # Errors
    /// When there is no room left.
    fn push(&mut self, blocks: &[Block], scale: f32, error: f32, level: u8) -> Result<u32, Error> {
        let slot = self.len();
        let from = slot * self.blocks * BLOCK;
        let bytes = blocks.as_flattened();
        let Some(place) = self.codes.get_mut(from..from + bytes.len()) else {
            return Err(Error::request("more vectors than there is room for"));
        };
        place.copy_from_slice(bytes);
        self.scales.push(scale.to_le_bytes());
        self.errors.push(error);
        self.ground.push([NONE; _]);
        self.first.push(u32::try_from(self.rows.len()).unwrap_or(u32::MAX));
        self.levels.push(level);
        self.rows.extend(std::iter::repeat_n([NONE; _], level.into()));
        u32::try_from(slot).map_err(|_| Error::request("more vectors than an index can number"))
    }

    /// Adds a vector and links it, which takes a fraction of a millisecond; returns its slot.
    ///
    /// # Errors
    /// When there is no room left.
    pub(super) fn insert(&mut self, code: &Code) -> Result<u32, Error> {
        let level = level_of(self.len() as u64);
        let slot = self.push(&code.blocks, code.scale, code.error, level)?;
        if slot == 0 {
            return Ok(slot);
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let top = self.net().top;
        let mut from = self.processor.compute(Descent { net: self.net(), asked: code, level: level.into() });
        for level in (0..=top.min(level.into())).rev() {
            let (net, asked, passes, reach) = (self.net(), code, &All, Reach::full(level, BREADTH));
            self.processor.compute(Walk { net, asked, from, reach, passes, scratch: &mut scratch });
            from = scratch.beam.found().first().map_or(from, |near| near.slot);
            self.link(slot, level, scratch.beam.found());
        }
        self.scratch = scratch;
        if usize::from(level) > top {
            self.entry = slot;
        }
        Ok(slot)
    }
}

/// The level that the `number`-th node reaches: one more with a probability of one in sixteen, drawn from the number alone, so that
/// the same vectors give the same graph.
fn level_of(number: u64) -> u8 {
    // The finaliser of SplitMix64 (Steele, Lea and Flood 2014).
    let mut bits = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    u8::try_from((bits.trailing_zeros() / 4).min(LEVELS_MAX as u32)).unwrap_or(0)
}
