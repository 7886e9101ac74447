//! Which vectors a search may find.

/// What a search may find. What it may not is not looked at in vain: the fewer pass, the more the search goes by the filter.
#[derive(Clone, Copy)]
pub enum Filter<'f> {
    /// All.
    All,
    /// Those whose id passes; asked for ids that the search comes by, in no order.
    Where(&'f (dyn Fn(u64) -> bool + 'f)),
    /// Those whose id is one of these.
    Among(&'f Ids),
}

impl Filter<'_> {
    pub(super) fn is_all(&self) -> bool {
        matches!(self, Self::All)
    }

    #[inline(always)]
    pub(super) fn passes(&self, id: impl FnOnce() -> u64) -> bool {
        match self {
            Self::All => true,
            Self::Where(passes) => passes(id()),
            Self::Among(ids) => ids.has(id()),
        }
    }
}

/// Words for each id that a set of bits may take; sparser ids are kept as a list.
const WORDS_EACH: u64 = 2;
/// A set of bits from which ids were removed goes on so much sparser before it becomes a list: no set goes to and fro.
const WORDS_EACH_MAX: u64 = 4 * WORDS_EACH;

/// A set of ids, for filters that are used again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids(Set);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Set {
    /// In ascending order.
    List(Vec<u64>),
    /// A bit for each id up to the greatest or beyond, and how many are set.
    Bits { words: Vec<u64>, count: usize },
}

impl Default for Ids {
    fn default() -> Self {
        Self(Set::List(Vec::new()))
    }
}

impl FromIterator<u64> for Ids {
    fn from_iter<I: IntoIterator<Item = u64>>(ids: I) -> Self {
        let mut sorted: Vec<u64> = ids.into_iter().collect();
        // One pass where they come in order, as most do.
        sorted.sort_unstable();
        sorted.dedup();
        Self::of(sorted)
    }
}

impl Ids {
    fn of(sorted: Vec<u64>) -> Self {
        let words = sorted.last().map_or(0, |greatest| greatest / 64 + 1);
        if words > WORDS_EACH * sorted.len() as u64 {
            return Self(Set::List(sorted));
        }
        let mut bits = vec![0; words as usize];
        for id in &sorted {
            bits[(id / 64) as usize] |= 1 << (id % 64);
        }
        Self(Set::Bits { words: bits, count: sorted.len() })
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            Set::List(sorted) => sorted.len(),
            Set::Bits { count, .. } => *count,
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether an id is one of them.
    #[inline]
    #[must_use]
    pub fn has(&self, id: u64) -> bool {
        match &self.0 {
            Set::List(sorted) => sorted.binary_search(&id).is_ok(),
            Set::Bits { words, .. } => has(words, id),
        }
    }

    /// Puts an id in. Those that come in ascending order cost least.
    pub fn insert(&mut self, id: u64) {
        let is_far = id / 64 >= WORDS_EACH_MAX * (self.len() as u64 + 1);
        match &mut self.0 {
            Set::List(sorted) => {
                let Err(at) = sorted.binary_search(&id) else { return };
                sorted.insert(at, id);
                // Looked at when the list has doubled, so that it is rarely.
                if sorted.len().is_power_of_two() {
                    *self = Self::of(std::mem::take(sorted));
                }
            }
            Set::Bits { words, .. } if is_far && id / 64 >= words.len() as u64 => {
                let mut sorted: Vec<u64> = self.iter().collect();
                sorted.push(id);
                self.0 = Set::List(sorted);
            }
            Set::Bits { words, count } => {
                let word = (id / 64) as usize;
                if words.len() <= word {
                    words.resize(word + 1, 0);
                }
                *count += usize::from(!has(words, id));
                words[word] |= 1 << (id % 64);
            }
        }
    }

    /// Takes an id out.
    pub fn remove(&mut self, id: u64) {
        match &mut self.0 {
            Set::List(sorted) => {
                if let Ok(at) = sorted.binary_search(&id) {
                    sorted.remove(at);
                }
            }
            Set::Bits { words, count } => {
                if has(words, id) {
                    words[(id / 64) as usize] &= !(1 << (id % 64));
                    *count -= 1;
                    if words.len() as u64 > WORDS_EACH_MAX * *count as u64 {
                        self.0 = Set::List(self.iter().collect());
                    }
                }
            }
        }
    }

    /// In ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        let (sorted, words): (&[u64], &[u64]) = match &self.0 {
            Set::List(sorted) => (sorted, &[]),
            Set::Bits { words, .. } => (&[], words),
        };
        let set = (0u64..).zip(words).flat_map(|(at, word)| ones(*word).map(move |bit| 64 * at + bit));
        sorted.iter().copied().chain(set)
    }
}

#[inline]
fn has(words: &[u64], id: u64) -> bool {
    let word = usize::try_from(id / 64).ok().and_then(|word| words.get(word));
    word.is_some_and(|word| word >> (id % 64) & 1 == 1)
}

/// The places of a word's ones.
fn ones(word: u64) -> impl Iterator<Item = u64> {
    let next = |rest: &u64| Some(rest & (rest - 1)).filter(|rest| *rest != 0);
    std::iter::successors(Some(word).filter(|word| *word != 0), next).map(|rest| rest.trailing_zeros().into())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_set_holds_what_was_put_in_and_not_taken_out(
            first in proptest::collection::vec(0u64..3_000, 0..60),
            steps in proptest::collection::vec((any::<bool>(), prop_oneof![4 => 0u64..300, 1 => 0u64..100_000]), 0..400),
        ) {
            let (mut ids, mut plain): (Ids, BTreeSet<u64>) = (first.iter().copied().collect(), first.into_iter().collect());
            for (comes, id) in steps {
                if comes {
                    ids.insert(id);
                    plain.insert(id);
                } else {
                    ids.remove(id);
                    plain.remove(&id);
                }
                prop_assert_eq!((ids.len(), ids.has(id), ids.has(id + 64)), (plain.len(), comes, plain.contains(&(id + 64))));
            }
            prop_assert_eq!(ids.iter().collect::<Vec<_>>(), plain.iter().copied().collect::<Vec<_>>());
            if let Set::Bits { words, .. } = &ids.0 {
                prop_assert!(words.len() as u64 <= WORDS_EACH_MAX * (plain.len() as u64 + 1) + 1, "bounded by what it holds");
            }
        }
    }

    #[test]
    fn the_greatest_id_is_one_like_others() {
        let mut ids: Ids = (0..1_000).collect();
        ids.insert(u64::MAX);
        assert!(ids.has(u64::MAX) && ids.has(7) && ids.len() == 1_001);
    }
}
