//! A search of a mapped index: a walk or a scan over bytes, then the true vectors of the few that may be among the nearest.

use super::{
    Flat, Row,
    beam::Near,
    layout::id_of,
    scan::{Scan, Within, split},
    walk::{All, Descent, Passes, Reach, Scratch, Walk},
};
use crate::{
    Error,
    embed::similarity,
    index::{codes::Code, exact::Best, filter::Filter},
};

/// Of an index of at most so many vectors all are compared, which is exact and takes a millisecond.
pub(in crate::index) const ALL_MAX: usize = 20_000;
/// Of a larger one, those that pass a filter when they are no more than this.
const SCAN_MAX: usize = 1_000;
/// Vectors that a walk compares for each that it keeps, roughly: for choosing between a walk and a scan.
const COMPARED_EACH: f32 = 12.0;
/// What a scan spends on a vector, by what a walk does: it goes along the memory, a walk here and there.
const SCAN_SHARE: f32 = 0.75;
/// Looking up one id takes about as long as going by so many of them.
const LOOKED_UP_PART: usize = 24;
/// How many ids are asked for the share that a filter lets pass.
const SAMPLE: usize = 128;
/// Rounding to bytes moves a score by this many of its standard deviations at most, nearly always.
const DEVIATIONS: f32 = 3.0;

/// Slots that are marked.
#[derive(Default, Clone)]
pub(in crate::index) struct Marks {
    words: Vec<u64>,
    count: usize,
}

impl Marks {
    pub(in crate::index) fn set(&mut self, slot: u32) -> bool {
        let (word, bit) = (slot as usize / 64, 1 << (slot % 64));
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        let is_new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.count += usize::from(is_new);
        is_new
    }

    #[inline(always)]
    pub(in crate::index) fn has(&self, slot: u32) -> bool {
        self.words.get(slot as usize / 64).is_some_and(|word| word >> (slot % 64) & 1 == 1)
    }

    pub(in crate::index) fn count(&self) -> usize {
        self.count
    }
}

/// What is asked of a mapped index.
pub(in crate::index) struct Asked<'a> {
    pub(in crate::index) vector: &'a [f32],
    pub(in crate::index) breadth: usize,
    pub(in crate::index) filter: &'a Filter<'a>,
    /// Slots that cannot be found any more.
    pub(in crate::index) gone: &'a Marks,
}

/// What a search needs, kept from one to the next so that none is made anew.
#[derive(Default)]
pub(in crate::index) struct Room {
    pub(super) code: Option<[Code; 2]>,
    pub(super) scratch: Scratch,
    pub(super) slots: Vec<u32>,
    pub(super) within: Vec<Within>,
    left: Vec<f32>,
    pub(super) row: Row,
}

struct Allowed<'a> {
    ids: &'a [[u8; 8]],
    asked: &'a Asked<'a>,
}

impl Passes for Allowed<'_> {
    #[inline(always)]
    fn passes(&self, slot: u32) -> bool {
        !self.asked.gone.has(slot) && self.asked.filter.passes(|| id_of(self.ids, slot))
    }
}

impl Flat {
    /// Offers the nearest vectors to what was found elsewhere. Not all of the nearest may be met; those that are offered have
    /// their true scores.
    ///
    /// # Errors
    /// When the disk does not give a true vector, or a damaged one.
    pub(in crate::index) fn search(&self, asked: &Asked<'_>, room: &mut Room, best: &mut Best) -> Result<(), Error> {
        if self.len() == asked.gone.count() {
            return Ok(());
        }
        let [code, rest] = room.code.get_or_insert_with(|| std::array::from_fn(|_| Code::new(self.dimensions())));
        code.take(asked.vector);
        let passing = self.passing(asked);
        let breadth = asked.breadth.max(best.room());
        let walked = self.len() > ALL_MAX && passing > SCAN_MAX && {
            let share = passing as f32 / self.len() as f32;
            let walk_costs = COMPARED_EACH * breadth as f32 / share;
            // What passes may lie far away: a walk that does not come near it is given up for the scan.
            let compared_max = if asked.filter.is_all() { usize::MAX } else { passing / 2 };
            walk_costs < SCAN_SHARE * passing as f32
                && self.walk(asked, code, Reach { compared_max, ..Reach::full(0, breadth) }, &mut room.scratch)
                && room.scratch.beam.found().len() >= best.room()
        };
        if walked {
            return self.rescore(asked.vector, code.scale, room.scratch.beam.found(), &mut room.row, best);
        }
        self.allowed(asked, passing, &mut room.slots);
        let length = split(asked.vector, [code, rest], &mut room.left);
        let (parts, sure) = ([&*code, &*rest], &mut room.scratch.beam);
        let (slots, within) = (&room.slots, &mut room.within);
        self.processor.compute(Scan { flat: self, slots, parts, length, best, sure, within });
        self.settle(asked.vector, within, &mut room.row, best)
    }

    fn walk(&self, asked: &Asked<'_>, code: &Code, reach: Reach, scratch: &mut Scratch) -> bool {
        let net = self.net();
        let from = self.processor.compute(Descent { net, asked: code, level: 0 });
        if asked.filter.is_all() && asked.gone.count() == 0 {
            return self.processor.compute(Walk { net, asked: code, from, reach, passes: &All, scratch });
        }
        let passes = &Allowed { ids: self.ids(), asked };
        self.processor.compute(Walk { net, asked: code, from, reach, passes, scratch })
    }

    /// About how many vectors can be found.
    fn passing(&self, asked: &Asked<'_>) -> usize {
        let alive = self.len() - asked.gone.count();
        match asked.filter {
            Filter::All => alive,
            Filter::Among(ids) => ids.len().min(alive),
            Filter::Where(passes) => {
                let step = self.len().div_ceil(SAMPLE);
                let sample = (0..self.len() as u32).step_by(step);
                let (mut count, mut passed) = (0usize, 0usize);
                for slot in sample {
                    count += 1;
                    passed += usize::from(passes(self.id(slot)));
                }
                alive * passed / count.max(1)
            }
        }
    }

    /// Every slot that can be found.
    fn allowed(&self, asked: &Asked<'_>, passing: usize, slots: &mut Vec<u32>) {
        slots.clear();
        let allowed = Allowed { ids: self.ids(), asked };
        match asked.filter {
            // So few are looked up one by one; going through all ids takes longer.
            Filter::Among(ids) if passing * LOOKED_UP_PART < self.len() => {
                slots.extend(ids.iter().filter_map(|id| self.slot(id)).filter(|slot| allowed.passes(*slot)));
            }
            _ => {
                // Written whether it passes or not: whether it does cannot be foreseen, and a wrong guess costs more.
                slots.resize(self.len(), 0);
                let mut count = 0;
                for slot in 0..self.len() as u32 {
                    slots[count] = slot;
                    count += usize::from(allowed.passes(slot));
                }
                slots.truncate(count);
            }
        }
    }

    /// Reads the true vectors of what was found, from the nearest on, as long as one may still be among the best.
    fn rescore(&self, vector: &[f32], scale: f32, found: &[Near], row: &mut Row, best: &mut Best) -> Result<(), Error> {
        for near in found {
            let own = self.net().scale(near.slot);
            // The rounding of a value is even between plus and minus half its scale.
            let deviation = ((scale * scale + own * own) / 12.0).sqrt();
            if near.score + DEVIATIONS * deviation < best.least() {
                break;
            }
            self.read(near.slot, row)?;
            best.offer(self.id(near.slot), similarity(vector, &row.values));
        }
        Ok(())
    }

    /// Reads the true vectors of what a scan left, until no other can be better than what was found.
    fn settle(&self, vector: &[f32], within: &mut [Within], row: &mut Row, best: &mut Best) -> Result<(), Error> {
        within.sort_unstable_by(|a, b| b.most.total_cmp(&a.most));
        for Within { slot, most } in within {
            if *most < best.least() {
                break;
            }
            self.read(*slot, row)?;
            best.offer(self.id(*slot), similarity(vector, &row.values));
        }
        Ok(())
    }
}
