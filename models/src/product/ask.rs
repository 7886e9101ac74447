//! How weights are asked for before their turn: few tokens are multiplied with them in less time than it takes to bring them.
//!
//! What is best differs from one processor to the next, and with the form of the weights. Q4_K_M of a model of 1.5B on one thread of a
//! Zen 5 core, ms a token: 54 by pages or by nothing, 31 by lines 4 KB ahead, 29 by lines 8 KB, 31 by 16; without AVX-512 64, 36, 31 and 29.
//! Of the 32 GB/s that a Zen 4 core reads, 28 by pages on large ones and 24 on small ones, 22 by nothing, 21 and 20 by lines into the second
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
    #[default]
    Nothing,
    /// The first line of a page that comes soon; within a page the processor brings what follows.
    Pages,
    /// Each line, so many bytes before its turn.
    Lines(usize),
}

/// All that are tried.
pub(super) const WAYS: [Ask; 5] =
    [Ask::Lines(8 << 10), Ask::Lines(16 << 10), Ask::Lines(4 << 10), Ask::Pages, Ask::Nothing];
/// Looks at a way before one is chosen: of several, a moment in which something else ran is not the least.
const LOOKS: usize = 4;
/// After one look, two and three a way that took more than so many times the fastest's time is not looked at again.
const HOPELESS: [f64; LOOKS - 1] = [1.5, 1.1, 1.1];
/// Tokens after which all are tried again: what else the machine does has changed, or a file lies in memory that did not.
const TOKENS: usize = 1_024;

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
    /// Of each way the least time of a token, and how many tokens were written so.
    looks: [(Option<Duration>, usize); WAYS.len()],
    tokens: usize,
    next: usize,
    /// What was chosen the last time.
    best: usize,
}

impl Pace {
    /// How the next token is to be written whose time is told.
    pub(crate) fn way(&self) -> Ask {
        WAYS[self.next]
    }

    /// How all else is computed: in the way that was fastest until now.
    pub(crate) fn best(&self) -> Ask {
        WAYS[self.fastest().map_or(self.best, |(_, at)| at)]
    }

    /// A token took so long that was written in the way that was told, with all the weights.
    pub(crate) fn took(&mut self, time: Duration) {
        self.tokens += 1;
        if self.tokens == TOKENS {
            *self = Self { next: self.next, best: self.next, ..Self::default() };
            return;
        }
        let (least, looks) = &mut self.looks[self.next];
        if *looks < LOOKS {
            *least = Some(least.map_or(time, |least| least.min(time)));
            *looks += 1;
            self.next = self.choose();
        }
    }

    fn fastest(&self) -> Option<(Duration, usize)> {
        (0..WAYS.len()).filter_map(|at| Some((self.looks[at].0?, at))).min()
    }

    /// The way that was looked at least often of those that may be the fastest, or the fastest.
    fn choose(&self) -> usize {
        let fastest = self.fastest();
        let may_be = |at: &usize| match (self.looks[*at], fastest) {
            ((Some(least), looks), Some((fastest, _))) => {
                HOPELESS.get(looks - 1).is_some_and(|times| least <= fastest.mul_f64(*times))
            }
            _ => true,
        };
        let unsure = (0..WAYS.len()).filter(may_be).min_by_key(|at| self.looks[*at].1);
        unsure.or(fastest.map(|(_, at)| at)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of each token the way it was written in, where each way but the fastest takes so many times as long.
    fn written(fastest: Ask, times: f64, held_up: impl Fn(usize) -> Duration) -> Vec<Ask> {
        let mut pace = Pace::default();
        let mut ways = Vec::new();
        for token in 0..TOKENS {
            let way = pace.way();
            let time = Duration::from_millis(10).mul_f64(if way == fastest { 1.0 } else { times });
            pace.took(time + held_up(token));
            ways.push(way);
        }
        ways
    }

    #[test]
    fn the_fastest_way_is_found_though_some_tokens_are_held_up() {
        for fastest in WAYS {
            let ways = written(fastest, 1.05, |token| Duration::from_millis(if token % 3 == 0 { 4 } else { 0 }));
            let tried = LOOKS * WAYS.len();
            assert!(ways[tried..].iter().all(|way| *way == fastest), "{fastest:?}: {ways:?}");
        }
    }

    #[test]
    fn what_is_slower_is_tried_twice_and_what_is_much_slower_once() {
        for (times, looks) in [(1.4, 2), (1.6, 1)] {
            for fastest in WAYS {
                let ways = written(fastest, times, |_| Duration::ZERO);
                let others = ways.iter().filter(|way| **way != fastest).count();
                assert_eq!(others, looks * (WAYS.len() - 1), "{fastest:?}: {ways:?}");
            }
        }
    }

    #[test]
    fn all_are_tried_again_after_a_while() {
        let mut pace = Pace::default();
        for fastest in [Ask::Lines(4 << 10), Ask::Nothing] {
            let mut last = pace.way();
            for token in 0..TOKENS {
                last = pace.way();
                let is_tried = token < LOOKS * WAYS.len();
                assert!(is_tried || pace.best() == fastest, "what is not timed goes the same way: {token}");
                pace.took(Duration::from_millis(if last == fastest { 5 } else { 9 }));
            }
            assert_eq!(last, fastest);
        }
    }
}
