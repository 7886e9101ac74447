//! Nodes that are left when others were taken out, and nodes that no way leads to.

use super::{Builder, link::room};
use crate::{
    Error,
    index::{
        codes::Code,
        flat::{
            Flat, Link, Marks, NONE, slot_of,
            walk::{All, Descent, Reach, Scratch, Walk},
        },
    },
};

/// How widely a node that no way leads to looks for others.
const BREADTH: usize = 64;

impl Builder {
    /// Copies a node of a mapped index, without its links.
    ///
    /// # Errors
    /// When there is no room left.
    pub(in crate::index) fn copy(&mut self, flat: &Flat, slot: u32) -> Result<u32, Error> {
        let net = flat.net();
        let level = u8::try_from(flat.level(slot)).unwrap_or(0);
        self.push(net.code(slot), net.scale(slot), flat.error(slot), level)
    }

    /// Gives a copied node the links it had. In place of one to a node that is gone come those that led on from there, as many as
    /// there is room for. `moved` says where a node is now, `NONE` when it is gone.
    pub(in crate::index) fn relink(&mut self, flat: &Flat, from: u32, to: u32, moved: &[Link]) {
        let net = flat.net();
        let now = |slot: u32| slot_of(moved.get(slot as usize).copied().unwrap_or(NONE), moved.len());
        for level in 0..=flat.level(from) {
            let links = |slot| if level == 0 { net.ground(slot) } else { net.above(level, slot) };
            let slots = |slot| links(slot).iter().filter_map(|link| slot_of(*link, net.len()));
            let mut kept: Vec<u32> = slots(from).filter_map(now).collect();
            let lost = slots(from).filter(|slot| now(*slot).is_none());
            let beyond: Vec<u32> = lost.flat_map(slots).filter_map(now).filter(|slot| *slot != to).collect();
            if beyond.is_empty() {
                for (link, slot) in self.row_mut(to, level).iter_mut().zip(kept) {
                    *link = slot.to_le_bytes();
                }
                continue;
            }
            kept.extend(beyond);
            kept.sort_unstable();
            kept.dedup();
            self.link_anew(to, level, &kept);
        }
    }

    /// Has the search begin at the first of the nodes that reach highest.
    pub(in crate::index) fn enter(&mut self) {
        let highest = (0u32..).zip(&self.levels).max_by_key(|(slot, level)| (**level, std::cmp::Reverse(*slot)));
        self.entry = highest.map_or(0, |(slot, _)| slot);
    }

    /// Links nodes that no way leads to with what is near them, until a way leads to each; true when one did already. A round
    /// may cut off another node in turn, so there are few rounds, not one.
    pub(in crate::index) fn join(&mut self, scratch: &mut Scratch) -> bool {
        let lonely = self.lonely();
        for slot in &lonely {
            let mut code = Code::new(0);
            code.copy(self.net().code(*slot), self.net().scale(*slot));
            let from = self.processor.compute(Descent { net: self.net(), asked: &code, level: 0 });
            let reach = Reach::full(0, BREADTH);
            self.processor.compute(Walk { net: self.net(), asked: &code, from, reach, passes: &All, scratch });
            let found: Vec<u32> =
                scratch.beam.found().iter().map(|near| near.slot).filter(|near| near != slot).collect();
            self.link_anew(*slot, 0, &found);
            // The nearest with a place to spare, else the nearest gives up its last, farthest link.
            let has_place = |near: &&u32| self.net().ground(**near).contains(&NONE);
            let Some(near) = found.iter().find(has_place).or(found.first()).copied() else { continue };
            let row = self.row_mut(near, 0);
            let place = row.iter().position(|link| *link == NONE).unwrap_or(room(0) - 1);
            row[place] = slot.to_le_bytes();
        }
        lonely.is_empty()
    }

    /// Nodes that no way along the ground leads to from where searches begin or from a landmark.
    fn lonely(&self) -> Vec<u32> {
        let net = self.net();
        let mut seen = vec![false; net.len()];
        let mut stack = vec![net.entry];
        stack.extend(net.landmarks.iter().filter_map(|landmark| slot_of(*landmark, net.len())));
        while let Some(slot) = stack.pop() {
            if seen.get(slot as usize) == Some(&false) {
                seen[slot as usize] = true;
                stack.extend(net.ground(slot).iter().filter_map(|link| slot_of(*link, net.len())));
            }
        }
        (0u32..).zip(seen).filter(|(_, seen)| !seen).map(|(slot, _)| slot).collect()
    }
}

/// Marks where each node that is left is now, given those that are gone.
pub(in crate::index) fn moved(len: usize, gone: &Marks) -> (Vec<u32>, Vec<Link>) {
    let kept: Vec<u32> = (0..len as u32).filter(|slot| !gone.has(*slot)).collect();
    let mut moved = vec![NONE; len];
    for (new, old) in (0u32..).zip(&kept) {
        moved[*old as usize] = new.to_le_bytes();
    }
    (kept, moved)
}
