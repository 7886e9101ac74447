//! Makes one file of a mapped index, less what is gone from it, and of the vectors that came since. In small steps, beside the
//! searches: it works on what it took at the start, and what changes meanwhile is caught up with when its file is taken over.

use std::{path::Path, sync::Arc};

use shared::digest::Digest;

use super::{
    build::{Builder, moved, order},
    codes::Code,
    exact::Vectors,
    flat::{self, ALL_MAX, Content, Flat, Link, Marks, Row, walk::Scratch},
};
use crate::Error;

/// Past this share of nodes gone, what is left of the graph is not worth mending.
const GONE_SHARE_MAX: f32 = 0.4;
/// Rounds in which nodes that no way leads to are linked.
const JOINS_MAX: usize = 3;

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nodes are copied.
    Copy,
    /// Their links are mended.
    Mend,
    /// New nodes are put in; also the old ones when the graph is made anew.
    Insert,
    /// Landmarks are chosen, where the index is large enough to be walked.
    Spread,
    /// Nodes that no way leads to are linked.
    Join(usize),
    Done,
}

/// A merge under way.
pub struct Merge {
    /// Which merge of its index it is.
    number: u64,
    embedder: Digest,
    dimensions: usize,
    flat: Option<Arc<Flat>>,
    /// Slots of the mapped index that are left.
    kept: Vec<u32>,
    /// Where each of its slots is now.
    moved: Vec<Link>,
    young_ids: Vec<u64>,
    young: Vec<f32>,
    builder: Builder,
    stage: Stage,
    at: usize,
}

/// An index that was written and mapped again, to be taken over.
pub struct Merged {
    pub(super) number: u64,
    pub(super) flat: Arc<Flat>,
}

impl Merge {
    /// Begins an index of many vectors at once, to be served by [`super::Index::of`]. Of those with one id the last is taken.
    ///
    /// # Errors
    /// When a vector has another length or a value that is not finite, or memory runs out.
    pub fn of<'v>(
        dimensions: usize,
        embedder: Digest,
        vectors: impl IntoIterator<Item = (u64, &'v [f32])>,
    ) -> Result<Self, Error> {
        let mut all = Vectors::new(dimensions);
        vectors.into_iter().try_for_each(|(id, vector)| all.insert(id, vector))?;
        Self::new(0, dimensions, embedder, None, all.into_parts())
    }

    pub(super) fn new(
        number: u64,
        dimensions: usize,
        embedder: Digest,
        flat: Option<(Arc<Flat>, &Marks)>,
        (young_ids, young): (Vec<u64>, Vec<f32>),
    ) -> Result<Self, Error> {
        let (flat, gone) = flat.map_or((None, 0), |(flat, gone)| (Some((flat, gone)), gone.count()));
        let (kept, moved) = flat.as_ref().map_or_else(Default::default, |(flat, gone)| moved(flat.len(), gone));
        let flat = flat.map(|(flat, _)| flat);
        let mends = gone as f32 <= GONE_SHARE_MAX * moved.len() as f32;
        let mut builder = Builder::new(dimensions, kept.len() + young_ids.len())?;
        if let Some(flat) = &flat {
            builder.bring_landmarks(flat, &moved);
        }
        let stage = if mends { Stage::Copy } else { Stage::Insert };
        Ok(Self { number, embedder, dimensions, flat, kept, moved, young_ids, young, builder, stage, at: 0 })
    }

    /// Does the next step: so many vectors are put in, a fraction of a millisecond each, or sixteen times as many copied or mended.
    /// A step of choosing landmarks compares all vectors with one, after at most 32 searches.
    /// False when nothing is left to do but [`Merge::finish`].
    ///
    /// # Errors
    /// When memory runs out.
    pub fn step(&mut self, count: usize) -> Result<bool, Error> {
        match self.stage {
            Stage::Copy => {
                let end = self.kept.len().min(self.at + 16 * count);
                if let Some(flat) = &self.flat {
                    self.kept[self.at..end].iter().try_for_each(|slot| self.builder.copy(flat, *slot).map(drop))?;
                }
                self.pass(end, self.kept.len(), Stage::Mend);
            }
            Stage::Mend => {
                let end = self.kept.len().min(self.at + 16 * count);
                if let Some(flat) = &self.flat {
                    for (to, from) in (self.at as u32..).zip(&self.kept[self.at..end]) {
                        self.builder.relink(flat, *from, to, &self.moved);
                    }
                }
                if end == self.kept.len() {
                    self.builder.enter();
                }
                self.pass(end, self.kept.len(), Stage::Insert);
            }
            Stage::Insert => {
                let len = self.kept.len() + self.young_ids.len();
                let from = self.builder.len();
                let end = len.min(from + count);
                let mut code = Code::new(self.dimensions);
                for at in from..end {
                    self.insert(at, &mut code)?;
                }
                self.pass(end, len, if len > ALL_MAX { Stage::Spread } else { Stage::Join(0) });
            }
            Stage::Spread => {
                if !self.builder.spread() {
                    self.stage = Stage::Join(0);
                }
            }
            Stage::Join(rounds) => {
                let joined = self.builder.join(&mut Scratch::default());
                self.stage = if joined || rounds + 1 == JOINS_MAX { Stage::Done } else { Stage::Join(rounds + 1) };
            }
            Stage::Done => {}
        }
        Ok(self.stage != Stage::Done)
    }

    fn pass(&mut self, at: usize, len: usize, next: Stage) {
        (self.at, self.stage) = if at == len { (0, next) } else { (at, self.stage) };
    }

    fn insert(&mut self, at: usize, code: &mut Code) -> Result<(), Error> {
        match (at.checked_sub(self.kept.len()), &self.flat) {
            (None, Some(flat)) => {
                let slot = self.kept[at];
                code.copy(flat.net().code(slot), flat.net().scale(slot));
                code.error = flat.error(slot);
            }
            (young, _) => code.take(&self.young[young.unwrap_or(at) * self.dimensions..][..self.dimensions]),
        }
        self.builder.insert(code).map(drop)
    }

    /// Does what steps are left, writes the file and maps it. Blocks as long as the disk takes.
    ///
    /// # Errors
    /// When the disk says no, or the old file is damaged; the old file is then as it was.
    pub fn finish(mut self, path: &Path) -> Result<Merged, Error> {
        while self.step(self.kept.len() + self.young_ids.len())? {}
        let order = order(&self.builder);
        let old = |slot: u32| self.flat.as_ref().zip(self.kept.get(slot as usize).copied());
        let young = |slot: u32| slot as usize - self.kept.len();
        let mut read = Row::default();
        let mut row = |slot: u32, values: &mut Vec<f32>| {
            match old(slot) {
                Some((flat, slot)) => {
                    flat.read(slot, &mut read)?;
                    values.clone_from(&read.values);
                }
                None => {
                    values.clear();
                    values.extend_from_slice(&self.young[young(slot) * self.dimensions..][..self.dimensions]);
                }
            }
            Ok(())
        };
        flat::write(
            path,
            Content {
                dimensions: self.dimensions,
                embedder: self.embedder,
                net: self.builder.net(),
                order: &order,
                level: &|slot| self.builder.level(slot).into(),
                error: &|slot| self.builder.error(slot),
                id: &|slot| old(slot).map_or_else(|| self.young_ids[young(slot)], |(flat, slot)| flat.id(slot)),
                row: &mut row,
            },
        )?;
        Ok(Merged { number: self.number, flat: Arc::new(Flat::open(path)?) })
    }
}
