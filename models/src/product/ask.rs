//! How weights are asked for before their turn, where one token alone is multiplied with them: that takes less time than bringing them.
//!
//! What is best differs from one processor to the next, and with the form of the weights. Q4_K of Qwen3-0.6B on one thread, tokens a
//! second: a Zen 5 core 42 by pages, 46 by nothing, 59 by lines 4 KB ahead; without AVX-512 33, 35, 45, and 59 by lines 16 KB ahead. Of the
//! 32 GB/s that a Zen 4 core reads, 28 by pages on large ones and 24 on small ones, 22 by nothing, 21 and 20 by lines into the second
//! cache. So each model finds out its own while it writes. Results are the same bits by all.

use std::time::Duration;

use crate::lanes::{Lanes, fetch};

/// The smallest pages that memory has; those of a mapped file are such, where the kernel has none larger for it.
const PAGE: usize = 4 << 10;
/// How far ahead the first line of a page is asked for, so that the page is known when its turn comes.
const PAGE_AHEAD: usize = 16 << 10;
/// Bytes that the processor brings at once.
const LINE: usize = 64;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Ask {
    /// Nothing: the processor sees by itself what comes next.
    Nothing,
    /// The first line of a page that comes soon; within a page the processor brings what follows.
    #[default]
    Pages,
    /// Each line, so many bytes before its turn.
    Lines(usize),
}

/// All that are tried.
const WAYS: [Ask; 5] = [Ask::Pages, Ask::Nothing, Ask::Lines(4 << 10), Ask::Lines(16 << 10), Ask::Lines(32 << 10)];
/// Tokens that are written in each way before one is chosen.
const TRIALS: usize = 4;
/// Tokens after which all are tried again: what else the machine does has changed, or a file lies in memory that did not.
const TOKENS: usize = 4_096;

impl Ask {
    /// Asks for what comes after a unit.
    #[inline(always)]
    pub(super) fn after<L: Lanes>(self, lanes: L, unit: &[u8]) {
        match self {
            Self::Nothing => {}
            Self::Pages => {
                let behind = (unit.as_ptr().addr() + unit.len()) % PAGE;
                if behind < unit.len() {
                    lanes.ask(unit, unit.len() - behind + PAGE_AHEAD);
                }
            }
            Self::Lines(ahead) => {
                for at in (0..unit.len()).step_by(LINE) {
                    fetch(unit, ahead + at);
                }
            }
        }
    }
}

/// Finds out which way is fastest, token by token.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// The least time of a token in each.
    least: [Option<Duration>; WAYS.len()],
    tokens: usize,
    best: usize,
}

impl Pace {
    /// How the next token is to be written.
    pub(crate) fn way(&self) -> Ask {
        WAYS[self.at()]
    }

    fn at(&self) -> usize {
        if self.tokens < TRIALS * WAYS.len() { self.tokens % WAYS.len() } else { self.best }
    }

    /// A token took so long that was written in the way that was told, with all the weights.
    pub(crate) fn took(&mut self, time: Duration) {
        if self.tokens < TRIALS * WAYS.len() {
            let least = &mut self.least[self.at()];
            *least = Some(least.map_or(time, |least| least.min(time)));
            let tried = (0..WAYS.len()).filter_map(|at| Some((self.least[at]?, at)));
            self.best = tried.min().map_or(0, |(_, at)| at);
        }
        self.tokens += 1;
        if self.tokens == TOKENS {
            *self = Self { best: self.best, ..Self::default() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fastest_way_is_found_and_looked_for_again() {
        let mut pace = Pace::default();
        let mut fastest = Ask::Lines(4 << 10);
        for round in 0..2 {
            for token in 0..TOKENS {
                let way = pace.way();
                let is_tried = token < TRIALS * WAYS.len();
                assert!(is_tried || way == fastest, "{round} {token}: {way:?}");
                // One in three is held up by what else the machine does.
                let held_up = if token % 3 == 0 { 50 } else { 0 };
                pace.took(Duration::from_millis(if way == fastest { 5 } else { 9 } + held_up));
            }
            fastest = Ask::Nothing;
        }
    }
}
