//! Which links a node gets: near nodes, but of several in one direction the nearest alone (algorithm 4 of the HNSW paper).

use super::{super::codes::Code, Builder};
use crate::{
    index::flat::{ABOVE, GROUND, Link, NONE, Net, beam::Near, slot_of, walk::score},
    lanes::{Compute, Lanes},
};

/// What linking needs beside the graph, kept from one node to the next.
pub(super) struct Linking {
    code: Code,
    candidates: Vec<Near>,
    pub(super) chosen: Vec<Near>,
}

impl Linking {
    pub(super) fn new(dimensions: usize) -> Self {
        Self { code: Code::new(dimensions), candidates: Vec::new(), chosen: Vec::new() }
    }
}

/// Links to have on a level.
pub(super) const fn room(level: usize) -> usize {
    if level == 0 { GROUND } else { ABOVE }
}

impl Builder {
    /// Links a new node with some of those found near it, and those with it.
    pub(super) fn link(&mut self, slot: u32, level: usize, found: &[Near]) {
        let mut linking = std::mem::replace(&mut self.linking, Linking::new(0));
        // Half of the room on the ground: the rest is for those that link to it later.
        self.processor.compute(Choose { net: self.net(), from: found, count: ABOVE, linking: &mut linking });
        self.set_links(slot, level, &linking.chosen);
        for at in 0..linking.chosen.len() {
            let other = linking.chosen[at].slot;
            self.link_back(other, level, slot, &mut linking);
        }
        self.linking = linking;
    }

    fn link_back(&mut self, node: u32, level: usize, to: u32, linking: &mut Linking) {
        let row = self.row_mut(node, level);
        if let Some(free) = row.iter_mut().find(|link| **link == NONE) {
            *free = to.to_le_bytes();
            return;
        }
        let chosen = std::mem::take(&mut linking.chosen);
        self.processor.compute(Rank { net: self.net(), node, level, more: &[to], linking });
        let candidates = std::mem::take(&mut linking.candidates);
        self.processor.compute(Choose { net: self.net(), from: &candidates, count: room(level), linking });
        self.set_links(node, level, &linking.chosen);
        (linking.candidates, linking.chosen) = (candidates, chosen);
    }

    /// Chooses a node's links anew among those it has and more.
    pub(super) fn link_anew(&mut self, node: u32, level: usize, candidates: &[u32]) {
        let mut linking = std::mem::replace(&mut self.linking, Linking::new(0));
        self.set_links(node, level, &[]);
        self.processor.compute(Rank { net: self.net(), node, level, more: candidates, linking: &mut linking });
        let ranked = std::mem::take(&mut linking.candidates);
        self.processor.compute(Choose { net: self.net(), from: &ranked, count: room(level), linking: &mut linking });
        self.set_links(node, level, &linking.chosen);
        linking.candidates = ranked;
        self.linking = linking;
    }

    pub(super) fn set_links(&mut self, node: u32, level: usize, chosen: &[Near]) {
        let row = self.row_mut(node, level);
        row.fill(NONE);
        for (link, near) in row.iter_mut().zip(chosen) {
            *link = near.slot.to_le_bytes();
        }
    }

    pub(super) fn row_mut(&mut self, node: u32, level: usize) -> &mut [Link] {
        match level {
            0 => &mut self.ground[node as usize],
            _ => &mut self.rows[self.first[node as usize] as usize + level - 1],
        }
    }
}

/// Sorts a node's links and more by how near they are to it.
struct Rank<'c> {
    net: Net<'c>,
    node: u32,
    level: usize,
    more: &'c [u32],
    linking: &'c mut Linking,
}

impl Compute for Rank<'_> {
    type Output = ();

    #[inline(always)]
    fn on<L: Lanes>(self, lanes: L) {
        let Self { net, node, level, more, linking: Linking { code, candidates, .. } } = self;
        code.copy(net.code(node), net.scale(node));
        candidates.clear();
        let links = if level == 0 { net.ground(node) } else { net.above(level, node) };
        let linked = links.iter().filter_map(|link| slot_of(*link, net.len()));
        for slot in linked.clone().chain(more.iter().copied()) {
            net.fetch(slot);
        }
        for slot in linked.chain(more.iter().copied()) {
            candidates.push(Near { score: score(lanes, &net, code, slot), slot });
        }
        candidates.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then(a.slot.cmp(&b.slot)));
    }
}

/// Chooses links among candidates, the nearest first: one that is nearer to a chosen one than to the node is left out.
struct Choose<'c> {
    net: Net<'c>,
    from: &'c [Near],
    count: usize,
    linking: &'c mut Linking,
}

impl Compute for Choose<'_> {
    type Output = ();

    #[inline(always)]
    fn on<L: Lanes>(self, lanes: L) {
        let Self { net, from, count, linking: Linking { code, chosen, .. } } = self;
        chosen.clear();
        for near in from {
            if chosen.len() == count {
                break;
            }
            code.copy(net.code(near.slot), net.scale(near.slot));
            if chosen.iter().all(|kept| score(lanes, &net, code, kept.slot) <= near.score) {
                chosen.push(*near);
            }
        }
    }
}
