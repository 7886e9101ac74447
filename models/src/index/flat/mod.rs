//! The index as one file that is mapped, not read: the graph and the vectors in bytes stay in memory as pages of the file, the
//! true vectors stay on disk and are read for the few that a search is about to return.
//!
//! A file is written whole beside the old one and renamed over it, and never changed afterwards. Opening it checks all that is
//! mapped; a true vector is checked whenever it is read.

pub(super) mod beam;
mod layout;
mod net;
mod scan;
mod search;
pub(super) mod walk;
mod write;

use std::{fs::File, os::unix::fs::FileExt, path::Path};

use layout::{Header, Layout, Section};
use memmap2::{Advice, Mmap, MmapOptions};
pub(super) use net::{ABOVE, Above, GROUND, Ground, LEVELS_MAX, Link, NONE, Net, Upper, slot_of};
pub(super) use search::{ALL_MAX, Asked, Marks, Room};
use shared::digest::Digest;
pub(super) use write::{Content, write};

use super::codes::Block;
use crate::{Error, lanes::Processor};

/// A mapped index. Searching does not change it; what is removed is marked beside it.
pub(super) struct Flat {
    path: std::path::PathBuf,
    file: File,
    map: Mmap,
    header: Header,
    layout: Layout,
    processor: Processor,
}

/// Bytes of an index's file that are mapped while it serves.
///
/// # Errors
/// When there is none, or its header is damaged or of another kind.
pub fn mapped_bytes(path: &Path) -> Result<u64, Error> {
    let file = File::open(path).map_err(|source| Error::io("read", path, source))?;
    Ok(head(&file, path)?.1.rows_from)
}

/// What a file says of itself.
fn head(file: &File, path: &Path) -> Result<(Header, Layout), Error> {
    let io = |source| Error::io("read", path, source);
    let len = file.metadata().map_err(io)?.len();
    let mut bytes = [0; layout::HEADER_LEN];
    if len < bytes.len() as u64 {
        return Err(Error::file(path, format!("{len} bytes are too few for an index")));
    }
    file.read_exact_at(&mut bytes, 0).map_err(io)?;
    let header = Header::of(&bytes).map_err(|message| Error::file(path, message))?;
    let layout = Layout::of(&header).filter(|layout| layout.file_len == len).ok_or_else(|| {
        let (count, dimensions) = (header.count, header.dimensions);
        let message = format!("{len} bytes do not hold {count} vectors of {dimensions} values: cut off or damaged");
        Error::file(path, message)
    })?;
    Ok((header, layout))
}

impl Flat {
    /// Maps a file and checks all of it but the true vectors.
    ///
    /// # Errors
    /// When there is none, or it is cut off, damaged or of another kind.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::io("read", path, source);
        let file = File::open(path).map_err(io)?;
        let (header, layout) = head(&file, path)?;
        let mapped = usize::try_from(layout.rows_from).map_err(|_| Error::file(path, "too large for this machine"))?;
        // SAFETY: a mapped file must not change. This one is private to the node, written beside and renamed, never written again.
        let map = unsafe { MmapOptions::new().len(mapped).map(&file) }.map_err(io)?;
        // All of it is about to be checked, and then met here and there; on large pages it is found sooner. A kernel without these goes
        // without.
        let _ = map.advise(Advice::HugePage);
        let _ = map.advise(Advice::PopulateRead);
        let flat = Self { path: path.to_owned(), file, map, header, layout, processor: Processor::detect() };
        flat.check()?;
        Ok(flat)
    }

    fn check(&self) -> Result<(), Error> {
        for section in Section::ALL {
            if crc32fast::hash(self.section(section)) != self.header.checks[section as usize] {
                return Err(Error::file(
                    &self.path,
                    format!("damaged: its {} are not as they were written", section.name()),
                ));
            }
        }
        Ok(())
    }

    fn section(&self, section: Section) -> &[u8] {
        self.map.get(self.layout.range(section)).unwrap_or_default()
    }

    pub(super) fn len(&self) -> usize {
        self.header.count as usize
    }

    pub(super) fn dimensions(&self) -> usize {
        self.header.dimensions as usize
    }

    pub(super) fn embedder(&self) -> Digest {
        self.header.embedder
    }

    pub(super) fn net(&self) -> Net<'_> {
        Net {
            blocks: self.layout.blocks,
            codes: self.codes(),
            scales: self.section(Section::Scales).as_chunks().0,
            ground: self.section(Section::Ground).as_chunks::<4>().0.as_chunks().0,
            upper: Upper::Sorted {
                counts: &self.header.levels,
                rows: self.section(Section::Upper).as_chunks::<4>().0.as_chunks().0,
            },
            landmarks: self.section(Section::Landmarks).as_chunks().0,
            entry: 0,
            top: self.header.levels.iter().take_while(|count| **count > 0).count(),
        }
    }

    fn codes(&self) -> &[Block] {
        self.section(Section::Codes).as_chunks().0
    }

    /// How far a vector is from what its bytes say, at most.
    pub(super) fn error(&self, slot: u32) -> f32 {
        layout::error_of(self.errors(), slot)
    }

    fn errors(&self) -> &[[u8; 2]] {
        self.section(Section::Errors).as_chunks().0
    }

    pub(super) fn id(&self, slot: u32) -> u64 {
        layout::id_of(self.ids(), slot)
    }

    fn ids(&self) -> &[[u8; 8]] {
        self.section(Section::Ids).as_chunks().0
    }

    /// The highest level that a node reaches.
    pub(super) fn level(&self, slot: u32) -> usize {
        self.header.levels.iter().take_while(|count| slot < **count).count()
    }

    /// Where an id is; `None` when it is not here. Ids are mostly given in a row, so the search begins where an even spread would have this one:
    /// a filter looks up all that pass it, and halving all ids for each would take longer than comparing its vector.
    pub(super) fn slot(&self, id: u64) -> Option<u32> {
        let (order, ids) = (self.section(Section::Order).as_chunks::<4>().0, self.ids());
        let id_of = |slot: &[u8; 4]| layout::id_of(ids, u32::from_le_bytes(*slot));
        let last = order.len().checked_sub(1)?;
        let (least, greatest) = (id_of(&order[0]), id_of(&order[last]));
        if id < least || id > greatest {
            return None;
        }
        let share = (id - least) as f64 / (greatest - least).max(1) as f64;
        let guess = ((share * last as f64) as usize).min(last);
        let (mut from, mut to, mut step) = (guess, guess, 1);
        while from > 0 && id_of(&order[from]) > id {
            (to, from) = (from, from.saturating_sub(step));
            step *= 2;
        }
        while to < last && id_of(&order[to]) < id {
            (from, to) = (to, last.min(to + step));
            step *= 2;
        }
        let at = from + order[from..=to].binary_search_by_key(&id, id_of).ok()?;
        Some(u32::from_le_bytes(order[at])).filter(|slot| (*slot as usize) < self.len())
    }

    /// Reads a true vector from the disk.
    ///
    /// # Errors
    /// When the disk says no or the vector is not as it was written.
    pub(super) fn read(&self, slot: u32, row: &mut Row) -> Result<(), Error> {
        let len = self.layout.row_len;
        row.bytes.resize(len, 0);
        let from = self.layout.rows_from + u64::from(slot) * len as u64;
        self.file.read_exact_at(&mut row.bytes, from).map_err(|source| Error::io("read", &self.path, source))?;
        let (values, check) = row.bytes.split_at(len - 4);
        if crc32fast::hash(values).to_le_bytes() != check {
            return Err(Error::file(&self.path, format!("damaged: vector {} is not as it was written", self.id(slot))));
        }
        row.values.clear();
        row.values.extend(values.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)));
        Ok(())
    }
}

/// Room for a true vector that is read.
#[derive(Default)]
pub(super) struct Row {
    bytes: Vec<u8>,
    pub(super) values: Vec<f32>,
}

/// Where the sections are in a file, each with the place of its check, as far as its header says; for tests.
#[cfg(test)]
pub(super) fn sections(bytes: &[u8]) -> Vec<(std::ops::Range<usize>, usize)> {
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let header = Header {
        dimensions: word(8),
        landmarks: word(12),
        count: u64::from(word(16)) | u64::from(word(20)) << 32,
        levels: std::array::from_fn(|at| word(24 + 4 * at)),
        embedder: Digest::from_bytes([0; 32]),
        checks: [0; _],
    };
    let places = Section::ALL.map(|section| (section, 104 + 4 * section as usize));
    let layout = Layout::of(&header);
    layout.iter().flat_map(|layout| places.map(|(section, at)| (layout.range(section), at))).collect()
}
