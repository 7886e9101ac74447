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

/// Words for each id that a set of bits may take; sparser ids are kept as a list alone.
const WORDS_EACH: u64 = 2;

/// A set of ids, for filters that are used again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ids {
    sorted: Vec<u64>,
    /// A bit for each id up to the greatest, where they are not too sparse.
    bits: Vec<u64>,
}

impl FromIterator<u64> for Ids {
    fn from_iter<I: IntoIterator<Item = u64>>(ids: I) -> Self {
        let mut sorted: Vec<u64> = ids.into_iter().collect();
        sorted.sort_unstable();
        sorted.dedup();
        let words = sorted.last().map_or(0, |greatest| greatest / 64 + 1);
        let mut bits = Vec::new();
        if words <= WORDS_EACH * sorted.len() as u64 {
            bits.resize(words as usize, 0);
            for id in &sorted {
                bits[(id / 64) as usize] |= 1 << (id % 64);
            }
        }
        Self { sorted, bits }
    }
}

impl Ids {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// Whether an id is one of them.
    #[inline]
    #[must_use]
    pub fn has(&self, id: u64) -> bool {
        if self.bits.is_empty() {
            return self.sorted.binary_search(&id).is_ok();
        }
        usize::try_from(id / 64)
            .ok()
            .and_then(|word| self.bits.get(word))
            .is_some_and(|word| word >> (id % 64) & 1 == 1)
    }

    /// In ascending order.
    pub(super) fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.sorted.iter().copied()
    }
}
