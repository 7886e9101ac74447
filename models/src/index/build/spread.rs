//! Landmarks: a few nodes of which one is near every other, as far as so few can be.
//!
//! A walk goes on from the best that it has met. Among thousands that are alike these may be nothing but such, none of which leads to the
//! few that are about something else, although a way is there. So every walk compares the landmarks too. Each is the node that lies
//! farthest from those before it (Gonzalez 1985: no choice of as many has half the greatest distance that this one leaves), so whatever
//! lies farther from all else than that distance has a landmark of its own. A landmark with few nodes around it leads to each of them.
//!
//! Where there are more such subjects than landmarks, others are added for those that a walk does not find by their own vectors.

use super::Builder;
use crate::{
    index::{
        codes::Code,
        flat::{
            Flat, GROUND, Link, NONE, Net, slot_of,
            walk::{All, Descent, Reach, Walk, score},
        },
    },
    lanes::{Compute, Lanes},
};

/// Comparing them takes a search some microseconds, and choosing them as much as 256 looks at each vector.
const LANDMARKS: usize = 256;
/// With those that are added: four times as much, where subjects are many.
const LANDMARKS_MAX: usize = 1_024;
/// Nodes that are looked for, to be landmarks where they are not found: a search for each, and another look at each vector for each that is not.
const LOOKED_FOR_MAX: usize = 8_192;
/// Of them in one step.
const LOOKED_FOR_LEN: usize = 32;
/// How widely a node is looked for: no more widely than a search looks.
const BREADTH: usize = 64;
/// A landmark has links to all that are nearest to it when these are no more; the rest of its links are as they were.
const AROUND_MAX: usize = GROUND * 3 / 4;

/// What was chosen so far.
#[derive(Default)]
pub(super) struct Spread {
    landmarks: Vec<Link>,
    /// For each node, how near the nearest landmark is, and which it is; empty until the choice begins.
    nearest: Vec<(f32, u16)>,
    next: u32,
    /// Nodes that are still to be looked for, once that has begun.
    far: Option<Vec<u32>>,
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

    /// Chooses another landmark, or looks for some of the nodes that are far from all until one has to be a landmark; false when all are chosen and linked with what is around
    /// them.
    pub(in crate::index) fn spread(&mut self) -> bool {
        if self.spread.nearest.is_empty() {
            let nearest = vec![(f32::NEG_INFINITY, 0); self.len()];
            self.spread = Spread { nearest, next: self.entry, ..Spread::default() };
        }
        if self.spread.landmarks.len() < LANDMARKS.min(self.len()) {
            self.set_landmark(self.spread.next);
            return true;
        }
        let mut far = self.spread.far.take().unwrap_or_else(|| self.far());
        let rest = far.len().saturating_sub(LOOKED_FOR_LEN);
        while far.len() > rest
            && let Some(slot) = far.pop()
        {
            if !self.finds(slot) {
                self.set_landmark(slot);
                break;
            }
        }
        if !far.is_empty() && self.spread.landmarks.len() < LANDMARKS_MAX {
            self.spread.far = Some(far);
            return true;
        }
        let spread = std::mem::take(&mut self.spread);
        self.link_around(&spread);
        self.spread.landmarks = spread.landmarks;
        false
    }

    fn set_landmark(&mut self, slot: u32) {
        let mut spread = std::mem::take(&mut self.spread);
        let mut code = Code::new(0);
        code.copy(self.net().code(slot), self.net().scale(slot));
        let number = spread.landmarks.len() as u16;
        spread.landmarks.push(slot.to_le_bytes());
        let nearest = &mut spread.nearest;
        // It is chosen once, also when it is near nothing, not even itself.
        nearest[slot as usize] = (f32::INFINITY, number);
        spread.next = self.processor.compute(Cover { net: self.net(), landmark: &code, number, nearest });
        self.spread = spread;
    }

    /// The nodes that lie farthest from all landmarks, the farthest at the end.
    fn far(&self) -> Vec<u32> {
        let near = |slot: &u32| self.spread.nearest[*slot as usize].0;
        let mut far: Vec<u32> = (0..self.len() as u32).collect();
        far.sort_unstable_by(|a, b| near(a).total_cmp(&near(b)).then(a.cmp(b)));
        far.truncate(LOOKED_FOR_MAX);
        far.reverse();
        far
    }

    /// Whether a walk comes to a node that looks for its own vector, or to others that are as near to it: of equal ones it keeps some.
    fn finds(&mut self, slot: u32) -> bool {
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut code = Code::new(0);
        code.copy(self.net().code(slot), self.net().scale(slot));
        let from = self.processor.compute(Descent { net: self.net(), asked: &code, level: 0 });
        let reach = Reach::full(0, BREADTH);
        self.processor.compute(Walk {
            net: self.net(),
            asked: &code,
            from,
            reach,
            passes: &All,
            scratch: &mut scratch,
        });
        let own = self.processor.compute(Own { net: self.net(), code: &code, slot });
        let is_found = scratch.beam.found().iter().any(|near| near.slot == slot || near.score >= own);
        self.scratch = scratch;
        is_found
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

/// How near a node is to itself.
struct Own<'s> {
    net: Net<'s>,
    code: &'s Code,
    slot: u32,
}

impl Compute for Own<'_> {
    type Output = f32;

    #[inline(always)]
    fn on<L: Lanes>(self, lanes: L) -> f32 {
        score(lanes, &self.net, self.code, self.slot)
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
