//! The search through the graph: from level to level down to the ground, there along the nearest nodes found so far, and at last
//! from the landmarks, if one of them is nearer.
//!
//! Computes on bytes alone and allocates nothing once its scratch is large enough.

use std::{cmp::Ordering, collections::BinaryHeap};

use super::{
    beam::{Beam, Near},
    net::{GROUND, Link, Net, slot_of},
};
use crate::{
    index::codes::Code,
    lanes::{Compute, Lanes},
};

/// A landmark is gone to when it is nearer than the last of the best that a walk keeps, this part of all.
const LANDMARK_PART: usize = 4;

/// Which nodes may be found. Those that may not are still walked through.
pub(in crate::index) trait Passes {
    fn passes(&self, slot: u32) -> bool;
}

/// Every node may be found.
pub(in crate::index) struct All;

impl Passes for All {
    #[inline(always)]
    fn passes(&self, _slot: u32) -> bool {
        true
    }
}

/// What a search needs beside the graph, kept from one to the next.
#[derive(Default)]
pub(in crate::index) struct Scratch {
    seen: Vec<u8>,
    epoch: u8,
    pub(in crate::index) beam: Beam,
    /// Nodes that may not be found, but lead on.
    aside: BinaryHeap<Aside>,
}

struct Aside(Near);

impl Ord for Aside {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.score.total_cmp(&other.0.score).then(other.0.slot.cmp(&self.0.slot))
    }
}

impl PartialOrd for Aside {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Aside {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Aside {}

impl Scratch {
    fn begin(&mut self, len: usize, breadth: usize) {
        if self.seen.len() < len || self.epoch == u8::MAX {
            self.seen.clear();
            self.seen.resize(len, 0);
            self.epoch = 0;
        }
        self.epoch += 1;
        self.beam.begin(breadth);
        self.aside.clear();
    }

    /// Whether a node is seen for the first time; from now on it is not.
    #[inline(always)]
    fn is_new(&mut self, slot: u32) -> bool {
        let Some(seen) = self.seen.get_mut(slot as usize) else { return false };
        std::mem::replace(seen, self.epoch) != self.epoch
    }
}

/// How far a walk goes.
#[derive(Clone, Copy)]
pub(in crate::index) struct Reach {
    /// The level to walk on; 0 is the ground.
    pub(in crate::index) level: usize,
    /// How many of the best are kept, and walked on from.
    pub(in crate::index) breadth: usize,
    /// Vectors that are compared at most.
    pub(in crate::index) compared_max: usize,
}

impl Reach {
    /// A walk on a level that ends when nothing nearer is left to go to.
    pub(in crate::index) const fn full(level: usize, breadth: usize) -> Self {
        Self { level, breadth, compared_max: usize::MAX }
    }
}

/// A walk whose outcome is in the scratch's beam; false when it compared as many as it may and was not done.
pub(in crate::index) struct Walk<'w, P> {
    pub(in crate::index) net: Net<'w>,
    pub(in crate::index) asked: &'w Code,
    pub(in crate::index) from: u32,
    pub(in crate::index) reach: Reach,
    pub(in crate::index) passes: &'w P,
    pub(in crate::index) scratch: &'w mut Scratch,
}

impl<P: Passes> Compute for Walk<'_, P> {
    type Output = bool;

    #[inline(always)]
    fn on<L: Lanes>(self, lanes: L) -> bool {
        let Self { net, asked, from, reach, passes, scratch } = self;
        scratch.begin(net.len(), reach.breadth);
        scratch.is_new(from);
        let mut compared = 1;
        take(scratch, passes, Near { score: score(lanes, &net, asked, from), slot: from });
        let mut landmarks = if reach.level == 0 { net.landmarks } else { &[] };
        loop {
            while let Some(slot) = next(scratch) {
                let links = if reach.level == 0 { net.ground(slot) } else { net.above(reach.level, slot) };
                compared += meet(lanes, &net, asked, passes, scratch, links, f32::NEG_INFINITY);
                if compared > reach.compared_max {
                    return false;
                }
                if reach.level == 0
                    && let Some(near) = scratch.beam.peek()
                {
                    net.fetch_links(near.slot);
                }
            }
            if landmarks.is_empty() {
                return true;
            }
            // Not before: so they take no place from what the walk finds by itself. One that is not among the best of that leads nowhere
            // that is worth the way.
            let least = scratch.beam.nearness(reach.breadth / LANDMARK_PART);
            for some in landmarks.chunks(GROUND) {
                compared += meet(lanes, &net, asked, passes, scratch, some, least);
            }
            landmarks = &[];
        }
    }
}

/// Compares the nodes that links lead to and that were not seen yet, and takes those in that are nearer than `least` and good enough for
/// the beam; returns how many were compared.
#[inline(always)]
fn meet<L: Lanes, P: Passes>(
    lanes: L,
    net: &Net<'_>,
    asked: &Code,
    passes: &P,
    scratch: &mut Scratch,
    links: &[Link],
    least: f32,
) -> usize {
    let mut batch = [0; GROUND];
    let count = fresh(net, scratch, links, &mut batch);
    for slot in &batch[..count] {
        let near = Near { score: score(lanes, net, asked, *slot), slot: *slot };
        if near.score > scratch.beam.least().max(least) {
            take(scratch, passes, near);
        }
    }
    count
}

/// The node to walk on from, if any can still lead to something better.
#[inline(always)]
fn next(scratch: &mut Scratch) -> Option<u32> {
    let found = scratch.beam.peek();
    if let Some(Aside(aside)) =
        scratch.aside.peek().filter(|aside| found.is_none_or(|found| aside.0.score > found.score))
    {
        let slot = aside.slot;
        if aside.score <= scratch.beam.least() {
            return None;
        }
        scratch.aside.pop();
        return Some(slot);
    }
    scratch.beam.visit();
    found.map(|found| found.slot)
}

#[inline(always)]
fn take<P: Passes>(scratch: &mut Scratch, passes: &P, near: Near) {
    if passes.passes(near.slot) {
        scratch.beam.offer(near);
    } else {
        scratch.aside.push(Aside(near));
    }
}

/// The nodes that links lead to and that were not seen yet, their vectors on the way.
#[inline(always)]
fn fresh(net: &Net<'_>, scratch: &mut Scratch, links: &[Link], batch: &mut [u32; GROUND]) -> usize {
    let mut count = 0;
    for link in links {
        let Some(slot) = slot_of(*link, net.len()) else { continue };
        if scratch.is_new(slot) {
            net.fetch(slot);
            batch[count] = slot;
            count += 1;
        }
    }
    count
}

#[inline(always)]
pub(in crate::index) fn score<L: Lanes>(lanes: L, net: &Net<'_>, asked: &Code, slot: u32) -> f32 {
    asked.near(lanes, net.code(slot), net.scale(slot))
}

/// The way from the entry down to above a level: to the nearest node, on each level in turn.
pub(in crate::index) struct Descent<'w> {
    pub(in crate::index) net: Net<'w>,
    pub(in crate::index) asked: &'w Code,
    /// The level to stop above.
    pub(in crate::index) level: usize,
}

impl Compute for Descent<'_> {
    type Output = u32;

    #[inline(always)]
    fn on<L: Lanes>(self, lanes: L) -> u32 {
        let Self { net, asked, level } = self;
        let mut best = Near { score: score(lanes, &net, asked, net.entry), slot: net.entry };
        for level in (level + 1..=net.top).rev() {
            // Each step is nearer than the one before, so it ends; a file whose links lie may make it long, but not endless.
            loop {
                let before = best;
                for link in net.above(level, before.slot) {
                    let Some(slot) = slot_of(*link, net.len()) else { continue };
                    let near = Near { score: score(lanes, &net, asked, slot), slot };
                    if near.score > best.score {
                        best = near;
                    }
                }
                if best.slot == before.slot {
                    break;
                }
            }
        }
        best.slot
    }
}
