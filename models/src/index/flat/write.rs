//! Writes an index: whole, beside the old one, to the disk, then in its place. Who crashes meanwhile finds the old one.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    os::unix::fs::FileExt as _,
    path::Path,
};

use shared::digest::Digest;

use super::{
    layout::{self, HEADER_LEN, Header, Section},
    net::{LEVELS_MAX, Link, NONE, Net, slot_of},
};
use crate::{Error, index::codes::BLOCK};

/// What is written at once. A kernel that gives files large pages gives them to large writes that begin where such a page does, and
/// a search that has to find fewer pages is faster by a fifth.
const PIECE: usize = 8 << 20;

/// Puts a node's true vector in place of what is there.
type RowOf<'c> = dyn FnMut(u32, &mut Vec<f32>) -> Result<(), Error> + 'c;

/// What is written. Nodes are named by their slot in the graph.
pub(in crate::index) struct Content<'c> {
    pub(in crate::index) dimensions: usize,
    pub(in crate::index) embedder: Digest,
    pub(in crate::index) net: Net<'c>,
    /// The nodes to write, those of higher levels first, where a search begins before all.
    pub(in crate::index) order: &'c [u32],
    pub(in crate::index) level: &'c dyn Fn(u32) -> usize,
    pub(in crate::index) error: &'c dyn Fn(u32) -> f32,
    pub(in crate::index) id: &'c dyn Fn(u32) -> u64,
    pub(in crate::index) row: &'c mut RowOf<'c>,
}

/// Writes the content to a file.
///
/// # Errors
/// When the disk says no, or a true vector cannot be had.
pub(in crate::index) fn write(path: &Path, content: Content<'_>) -> Result<(), Error> {
    let beside = path.with_extension("partial");
    let io = |source| Error::io("write", path, source);
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(&beside).map_err(io)?;
    let mut out = Out { file, buffer: Vec::with_capacity(PIECE), at: 0, check: crc32fast::Hasher::new() };
    let wrote = put(&mut out, content, path).and_then(|header| {
        out.end(&header.to_bytes()).map_err(io)?;
        std::fs::rename(&beside, path).map_err(io)?;
        // The name is on the disk only when its folder is.
        match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            Some(folder) => File::open(folder).and_then(|folder| folder.sync_all()).map_err(io),
            None => Ok(()),
        }
    });
    if wrote.is_err() {
        // It may never have been made; what matters is the first error.
        let _ = std::fs::remove_file(&beside);
    }
    wrote
}

/// Puts all in its place but the header, which is known when the rest is.
fn put(out: &mut Out, content: Content<'_>, path: &Path) -> Result<Header, Error> {
    let io = |source| Error::io("write", path, source);
    let Content { dimensions, embedder, net, order, level, error, id, row } = content;
    let mut levels = [0; LEVELS_MAX];
    for slot in order {
        levels[..level(*slot)].iter_mut().for_each(|count| *count += 1);
    }
    let (landmarks, count) = (net.landmarks.len() as u32, order.len() as u64);
    let mut header = Header { dimensions: dimensions as u32, landmarks, count, levels, embedder, checks: [0; _] };
    let mut place = vec![NONE; net.len()];
    for (new, old) in (0u32..).zip(order) {
        place[*old as usize] = new.to_le_bytes();
    }
    let moved = |link: &Link| slot_of(*link, place.len()).map_or(NONE, |slot| place[slot as usize]);

    out.put(&header.to_bytes()).map_err(io)?;
    for section in Section::ALL {
        out.begin().map_err(io)?;
        let wrote = match section {
            Section::Codes => order.iter().try_for_each(|slot| out.put(net.code(*slot).as_flattened())),
            Section::Ground => order.iter().try_for_each(|slot| out.links(net.ground(*slot), moved)),
            Section::Upper => (1..=LEVELS_MAX).try_for_each(|level| {
                let reach = order.iter().take(levels[level - 1] as usize);
                reach.into_iter().try_for_each(|slot| out.links(net.above(level, *slot), moved))
            }),
            Section::Scales => order.iter().try_for_each(|slot| out.put(&net.scale(*slot).to_le_bytes())),
            Section::Errors => order.iter().try_for_each(|slot| out.put(&layout::narrow(error(*slot)))),
            Section::Ids => order.iter().try_for_each(|slot| out.put(&id(*slot).to_le_bytes())),
            Section::Order => {
                let mut sorted: Vec<(u64, u32)> = order.iter().map(|slot| id(*slot)).zip(0..).collect();
                sorted.sort_unstable();
                sorted.iter().try_for_each(|(_, slot)| out.put(&slot.to_le_bytes()))
            }
            Section::Landmarks => net.landmarks.iter().try_for_each(|landmark| out.put(&moved(landmark))),
        };
        wrote.map_err(io)?;
        header.checks[section as usize] = out.check.clone().finalize();
    }
    out.begin().map_err(io)?;
    let (mut values, mut bytes) = (Vec::with_capacity(dimensions), Vec::with_capacity(4 * dimensions + 4));
    for slot in order {
        row(*slot, &mut values)?;
        bytes.clear();
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        out.put(&bytes).map_err(io)?;
    }
    Ok(header)
}

/// A file that is written from its beginning to its end.
struct Out {
    file: File,
    /// What is to be written next, at most a piece.
    buffer: Vec<u8>,
    at: usize,
    /// Of the section so far.
    check: crc32fast::Hasher,
}

impl Out {
    /// Begins a section, at the next multiple of a block.
    fn begin(&mut self) -> std::io::Result<()> {
        let zeros = self.at.next_multiple_of(BLOCK) - self.at;
        self.put(&[0; BLOCK][..zeros])?;
        self.check = crc32fast::Hasher::new();
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.check.update(bytes);
        self.at += bytes.len();
        let mut rest = bytes;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(PIECE - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            rest = later;
            if self.buffer.len() == PIECE {
                self.file.write_all(&self.buffer)?;
                self.buffer.clear();
            }
        }
        Ok(())
    }

    /// Writes what is left, then the header, and waits until the disk has all of it.
    fn end(&mut self, header: &[u8; HEADER_LEN]) -> std::io::Result<()> {
        self.file.write_all(&self.buffer)?;
        self.file.write_all_at(header, 0)?;
        self.file.sync_all()
    }

    /// Links to nodes where they are now; those to nodes that are not written any more are left out.
    fn links(&mut self, links: &[Link], moved: impl Fn(&Link) -> Link) -> std::io::Result<()> {
        let kept = links.iter().map(moved).filter(|link| *link != NONE);
        let all = kept.chain(std::iter::repeat(NONE)).take(links.len());
        all.into_iter().try_for_each(|link| self.put(&link))
    }
}

const _: () = assert!(HEADER_LEN.is_multiple_of(BLOCK));
