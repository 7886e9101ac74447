//! Landmarks: a few nodes of which one is near every other, as far as so few can be.
//!
//! A walk goes on from the best that it has met. Among thousands that are alike these may be nothing but such, none of which leads to the
//! few that are about something else, although a way is there. So every walk compares the landmarks too. Each is the node that lies
//! farthest from those before it (Gonzalez 1985: no choice of as many has half the greatest distance that this one leaves), so whatever
//! lies farther from all else than that distance has a landmark of its own. A landmark with few nodes around it leads to each of them.

use super::Builder;
use crate::{
    index::{
        codes::Code,
        flat::{Flat, GROUND, Link, NONE, Net, slot_of, walk::score},
    },
    lanes::{Compute, Lanes},
};

/// Comparing them takes a search some microseconds, and choosing them as much as 256 looks at each vector.
const LANDMARKS: usize = 256;
/// A landmark has links to all that are nearest to it when these are no more; the rest of its links are as they were.
const AROUND_MAX: usize = GROUND * 3 / 4;

/// What was chosen so far.
#[derive(Default)]
pub(super) struct Spread {
    landmarks: Vec<Link>,
    /// For each node, how near the nearest landmark is, and which it is; empty until the choice begins.
    nearest: Vec<(f32, u16)>,
    next: u32,
}

impl Spread {
    pub(super) fn landmarks(&self) -> &[Link] {
        &self.landmarks
    }
}

impl Builder {
    /// Has the landmarks of a mapped index for its own until others are chosen, so that new nodes find what they belong to.
    pub(in crate::index) fn bring_landmarks(&mut self, flat: &Flat, moved: &[Link]) {
        let now = |landmark: &Link| slot_of(*landmark, moved.len()).map(|slot| moved[slot as usize]);
        self.spread.landmarks = flat.net().landmarks.iter().filter_map(now).filter(|slot| *slot != NONE).collect();
    }

    /// Chooses another landmark; false when all are chosen and linked with what is around them.
    pub(in crate::index) fn spread(&mut self) -> bool {
        let mut spread = std::mem::take(&mut self.spread);
        if spread.nearest.is_empty() {
            spread.landmarks.clear();
            spread.nearest = vec![(f32::NEG_INFINITY, 0); self.len()];
            spread.next = self.entry;
        }
        let is_over = spread.landmarks.len() == LANDMARKS.min(self.len());
        if is_over {
            self.link_around(&spread);
            spread.nearest = Vec::new();
        } else {
            let mut code = Code::new(0);
            code.copy(self.net().code(spread.next), self.net().scale(spread.next));
            let number = spread.landmarks.len() as u16;
            spread.landmarks.push(spread.next.to_le_bytes());
            let nearest = &mut spread.nearest;
            // It is chosen once, also when it is near nothing, not even itself.
            nearest[spread.next as usize] = (f32::INFINITY, number);
            spread.next = self.processor.compute(Cover { net: self.net(), landmark: &code, number, nearest });
        }
        self.spread = spread;
        !is_over
    }

    /// Has each landmark that few are nearest to lead to these.
    fn link_around(&mut self, spread: &Spread) {
        let mut around: Vec<Vec<u32>> = vec![Vec::new(); spread.landmarks.len()];
        for (slot, (near, number)) in (0u32..).zip(&spread.nearest) {
            let around = &mut around[usize::from(*number)];
            if *near < f32::INFINITY && around.len() <= AROUND_MAX {
                around.push(slot);
            }
        }
        for (landmark, around) in spread.landmarks.iter().zip(around).filter(|(_, around)| around.len() <= AROUND_MAX) {
            let row = self.row_mut(u32::from_le_bytes(*landmark), 0);
            let mut links: Vec<Link> = around.iter().map(|slot| slot.to_le_bytes()).collect();
            let before = row.iter().filter(|link| !links.contains(link)).copied().collect::<Vec<_>>();
            links.extend(before);
            for (link, new) in row.iter_mut().zip(links) {
                *link = new;
            }
        }
    }
}

/// Notes for each node whether a new landmark is the nearest; returns the node that lies farthest from all.
struct Cover<'s> {
    net: Net<'s>,
    landmark: &'s Code,
    number: u16,
    nearest: &'s mut [(f32, u16)],
}

impl Compute for Cover<'_> {
    type Output = u32;

    #[inline(always)]
    fn on<L: Lanes>(self, lanes: L) -> u32 {
        let Self { net, landmark, number, nearest } = self;
        let mut farthest = (f32::INFINITY, 0);
        for (slot, nearest) in (0u32..).zip(nearest) {
            let near = score(lanes, &net, landmark, slot);
            if near > nearest.0 {
                *nearest = (near, number);
            }
            if nearest.0 < farthest.0 {
                farthest = (nearest.0, slot);
            }
        }
        farthest.1
    }
}
