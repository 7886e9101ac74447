//! Memory: whether a model fits beside what is there, and which idle models make room for it. A machine that runs out of memory kills
//! the whole agent, so what does not fit is refused before it is loaded.

use std::fmt;

/// Bytes that a model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    pub weights: u64,
    /// Vocabulary, and what is between the layers.
    pub work: u64,
    /// Keys and values of the shortest conversation that is worth loading it for.
    pub cache: u64,
}

/// What bounds memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Limit {
    /// The memory of the machine.
    Machine,
    /// That of a control group that the agent is in, by its path.
    Group(String),
    /// `memory` under `[inference]`.
    Configured,
}

/// A bound and how much is left of it, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    pub limit: Limit,
    pub total: u64,
    pub free: u64,
    /// What stays free for the rest of the node: its index and its queues.
    pub rest: u64,
}

/// What the kernel tells of the memory of a control group, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// All of it, pages of files among it.
    pub used: u64,
    /// Pages of files that were not needed lately, and of those that were.
    pub inactive_files: u64,
    pub active_files: u64,
}

impl Usage {
    /// What of a limit is free, beside weights of so many bytes that are mapped from files. The kernel would let those go for whoever
    /// comes, and every answer would wait for the disk: so they are taken, whether or not they are in memory at the moment.
    #[must_use]
    pub fn free(&self, total: u64, mapped: u64) -> u64 {
        // Which of the pages are the weights' nobody tells. They are counted by themselves, so none of them may count a second time: of
        // those that were needed lately as many as they may be are not.
        let reclaimable = self.inactive_files.saturating_add(self.active_files.min(mapped));
        total.saturating_sub(self.used.saturating_sub(reclaimable)).saturating_sub(mapped)
    }
}

/// What of a machine's memory is free, beside weights that are mapped from files: what the kernel calls available has all pages of files
/// in it that it could let go, the weights' too.
#[must_use]
pub const fn free_of_machine(available: u64, mapped: u64) -> u64 {
    available.saturating_sub(mapped)
}

/// A model that is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    pub name: String,
    /// Without its keys and values.
    pub bytes: u64,
    /// Whether an answer of it is being written.
    pub is_busy: bool,
}

/// The keys and values of all models together, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheUse {
    /// The most they should have.
    pub wanted: u64,
    /// What they have.
    pub used: u64,
    /// What of it belongs to answers that are being written.
    pub claimed: u64,
}

/// A model that is to be loaded, and the memory as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    pub name: String,
    pub needs: Needs,
    pub bounds: Vec<Bound>,
    /// The longest unused first.
    pub loaded: Vec<Loaded>,
    pub cache: CacheUse,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Unload these, then load it; from then on keys and values have so many bytes together.
    Load {
        unload: Vec<String>,
        cache: u64,
    },
    Refuse(Refusal),
}

/// Why a model is not loaded, with the numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub name: String,
    pub needs: Needs,
    /// The bound that it does not fit in, as if every idle model were unloaded; one that it never fits in before others.
    pub bound: Bound,
    /// Models that answer now; when they are done there may be room.
    pub busy: Vec<String>,
}

/// Loads it if it fits, with as few idle models unloaded as will do, the longest unused first.
#[must_use]
pub fn plan(ask: &Ask) -> Plan {
    let idle: Vec<&Loaded> = ask.loaded.iter().filter(|loaded| !loaded.is_busy && loaded.name != ask.name).collect();
    let fixed = ask.needs.weights.saturating_add(ask.needs.work);
    let least = ask.needs.cache.max(ask.cache.claimed);
    let mut freed = 0;
    for count in 0..=idle.len() {
        freed += count.checked_sub(1).map_or(0, |last| idle[last].bytes);
        let room = ask.bounds.iter().map(|bound| room(bound, freed, &ask.cache).checked_sub(fixed)).min();
        // Without any bound there is room for all that is wanted.
        if let Some(cache) = room.unwrap_or(Some(u64::MAX)).filter(|cache| *cache >= least) {
            let unload = idle[..count].iter().map(|loaded| loaded.name.clone()).collect();
            return Plan::Load { unload, cache: cache.min(ask.cache.wanted.max(least)) };
        }
    }
    let never = ask.bounds.iter().find(|bound| ask.needs.whole() > bound.most());
    let tightest = || ask.bounds.iter().min_by_key(|bound| room(bound, freed, &ask.cache));
    let bound = never.or_else(tightest).cloned().unwrap_or(Bound { limit: Limit::Machine, total: 0, free: 0, rest: 0 });
    let free = bound.free.saturating_add(freed).saturating_add(ask.cache.used - ask.cache.claimed.min(ask.cache.used));
    let busy = ask.loaded.iter().filter(|loaded| loaded.is_busy).map(|loaded| loaded.name.clone()).collect();
    Plan::Refuse(Refusal {
        name: ask.name.clone(),
        needs: ask.needs,
        bound: Bound { free: free.min(bound.total), ..bound },
        busy,
    })
}

/// Bytes that keys and values may have together when nothing is to be loaded.
#[must_use]
pub fn cache_limit(bounds: &[Bound], cache: &CacheUse) -> u64 {
    let room = bounds.iter().map(|bound| room(bound, 0, cache)).min().unwrap_or(u64::MAX);
    room.min(cache.wanted).max(cache.claimed)
}

/// Bytes within a bound for what is loaded and for all keys and values, those that are there among them.
const fn room(bound: &Bound, freed: u64, cache: &CacheUse) -> u64 {
    bound.free.saturating_add(freed).saturating_add(cache.used).saturating_sub(bound.rest)
}

impl Needs {
    const fn whole(&self) -> u64 {
        self.weights.saturating_add(self.work).saturating_add(self.cache)
    }
}

impl Bound {
    /// Bytes that a model may have when nothing else is loaded.
    const fn most(&self) -> u64 {
        self.total.saturating_sub(self.rest)
    }
}

impl Refusal {
    /// Whether no memory that comes free would suffice.
    #[must_use]
    pub const fn is_for_good(&self) -> bool {
        self.needs.whole() > self.bound.most()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, needs, bound, busy } = self;
        let Needs { weights, work, cache } = *needs;
        let (whole, total, place) = (mb(needs.whole()), mb_down(bound.total), bound.limit.place());
        write!(
            f,
            "{name} needs {whole} MB (weights {}, work {}, keys and values {})",
            mb(weights),
            mb(work),
            mb(cache)
        )?;
        if self.is_for_good() {
            write!(f, " and never fits into the {total} MB {place}")?;
        } else {
            write!(f, "; free are {} of {total} MB {place}", mb_down(bound.free))?;
        }
        if bound.rest > 0 {
            write!(f, ", and {} of them stay for the node's index and queues", mb(bound.rest))?;
        }
        if !busy.is_empty() && !self.is_for_good() {
            write!(f, "; {} answers now and may make room later", busy.join(", "))?;
        }
        write!(f, ": take a smaller model or a smaller quantisation of it")?;
        match &bound.limit {
            Limit::Machine if self.is_for_good() => Ok(()),
            Limit::Machine => write!(f, ", or end what else runs here"),
            Limit::Group(_) => write!(f, ", or raise the group's limit (MemoryMax of a systemd unit)"),
            Limit::Configured => write!(f, ", or raise `memory`"),
        }
    }
}

impl Limit {
    fn place(&self) -> String {
        match self {
            Self::Machine => "of this machine".to_owned(),
            Self::Group(path) => format!("of the control group {path}"),
            Self::Configured => "of `memory` under [inference]".to_owned(),
        }
    }
}

/// Megabytes of 1,048,576 bytes, rounded up, with a comma before every three digits.
fn mb(bytes: u64) -> String {
    grouped(bytes.div_ceil(1 << 20))
}

/// The same, rounded down: of what is free nobody should be promised too much.
fn mb_down(bytes: u64) -> String {
    grouped(bytes >> 20)
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MB: u64 = 1 << 20;

    /// `a 300, b 200 busy`, the longest unused first.
    fn loaded(text: &str) -> Vec<Loaded> {
        let one = |text: &str| {
            let mut words = text.split(' ');
            let name = words.next().unwrap_or_default().to_owned();
            let bytes = words.next().and_then(|mb| mb.parse::<u64>().ok()).unwrap_or_default() * MB;
            Loaded { name, bytes, is_busy: words.next() == Some("busy") }
        };
        text.split(", ").filter(|text| !text.is_empty()).map(one).collect()
    }

    fn ask(weights: u64, free: u64, there: &str) -> Ask {
        Ask {
            name: "local/new".to_owned(),
            needs: Needs { weights: weights * MB, work: 20 * MB, cache: 30 * MB },
            bounds: vec![Bound { limit: Limit::Machine, total: 2048 * MB, free: free * MB, rest: 32 * MB }],
            loaded: loaded(there),
            cache: CacheUse { wanted: 256 * MB, used: 0, claimed: 0 },
        }
    }

    fn check(ask: &Ask, expected: &str) {
        let said = match plan(ask) {
            Plan::Load { unload, cache } => format!("unload [{}], keys and values {}", unload.join(" "), cache / MB),
            Plan::Refuse(_) => "refuse".to_owned(),
        };
        assert_eq!(said, expected, "{ask:?}");
    }

    #[test]
    fn what_fits_is_loaded_and_keys_and_values_get_what_is_left() {
        check(&ask(500, 1000, ""), "unload [], keys and values 256");
        check(&ask(500, 700, ""), "unload [], keys and values 148");
        check(&ask(500, 582, ""), "unload [], keys and values 30");
        check(&ask(500, 581, ""), "refuse");
    }

    #[test]
    fn the_longest_unused_make_room_and_no_more_of_them_than_needed() {
        check(&ask(500, 300, "a 300, b 200, c 400"), "unload [a], keys and values 48");
        check(&ask(500, 200, "a 300, b 200, c 400"), "unload [a b], keys and values 148");
        check(&ask(500, 200, "a 300 busy, b 200, c 400"), "unload [b c], keys and values 248");
        check(&ask(500, 200, "a 300 busy, b 200 busy"), "refuse");
    }

    #[test]
    fn every_bound_counts_and_what_answers_hold_is_not_taken_from_them() {
        let mut ask = ask(500, 1000, "");
        ask.bounds.push(Bound { limit: Limit::Configured, total: 600 * MB, free: 500 * MB, rest: 32 * MB });
        check(&ask, "refuse");
        ask.cache = CacheUse { used: 100 * MB, claimed: 0, ..ask.cache };
        check(&ask, "unload [], keys and values 48");
        ask.cache.claimed = 60 * MB;
        check(&ask, "refuse");
    }

    #[test]
    fn a_refusal_tells_the_numbers_and_what_to_do() {
        let mut ask = ask(1940, 610, "b 200 busy");
        let Plan::Refuse(refusal) = plan(&ask) else { panic!("it does not fit") };
        assert_eq!(
            refusal.to_string(),
            "local/new needs 1,990 MB (weights 1,940, work 20, keys and values 30); free are 610 of 2,048 MB of this machine, and 32 of \
             them stay for the node's index and queues; b answers now and may make room later: take a smaller model or a smaller \
             quantisation of it, or end what else runs here"
        );
        ask.bounds[0] = Bound { limit: Limit::Configured, rest: 0, ..ask.bounds[0].clone() };
        let Plan::Refuse(refusal) = plan(&ask) else { panic!("it does not fit") };
        let expected = "610 of 2,048 MB of `memory` under [inference]; b answers now and may make room later: take a smaller model or a \
            smaller quantisation of it, or raise `memory`";
        assert!(refusal.to_string().ends_with(expected), "{refusal}");
    }

    #[test]
    fn what_never_fits_is_told_apart_from_what_does_not_fit_now() {
        let refusal = |ask: &Ask| match plan(ask) {
            Plan::Refuse(refusal) => refusal,
            Plan::Load { .. } => panic!("it does not fit: {ask:?}"),
        };
        assert!(!refusal(&ask(1966, 610, "b 200 busy")).is_for_good(), "all of the machine but what the node keeps");
        let mut ask = ask(1967, 610, "b 200 busy");
        let told = refusal(&ask);
        assert!(told.is_for_good());
        assert_eq!(
            told.to_string(),
            "local/new needs 2,017 MB (weights 1,967, work 20, keys and values 30) and never fits into the 2,048 MB of this machine, and \
             32 of them stay for the node's index and queues: take a smaller model or a smaller quantisation of it"
        );
        // The other bound is tighter now, and may have room later.
        ask.bounds.insert(0, Bound { limit: Limit::Group("/a".to_owned()), total: 4096 * MB, free: 0, rest: 0 });
        assert!(refusal(&ask).is_for_good());
        ask.bounds[1] = Bound { limit: Limit::Configured, total: 2016 * MB, free: 2016 * MB, rest: 0 };
        let expected = " and never fits into the 2,016 MB of `memory` under [inference]: take a smaller model or a smaller quantisation of it, \
                        or raise `memory`";
        assert!(refusal(&ask).to_string().ends_with(expected), "{}", refusal(&ask));
    }

    #[test]
    fn keys_and_values_grow_back_when_there_is_room_again() {
        let cache = CacheUse { wanted: 256 * MB, used: 40 * MB, claimed: 20 * MB };
        let bound = |free: u64| [Bound { limit: Limit::Machine, total: 2048 * MB, free: free * MB, rest: 32 * MB }];
        assert_eq!(cache_limit(&bound(1000), &cache), 256 * MB);
        assert_eq!(cache_limit(&bound(100), &cache), 108 * MB);
        assert_eq!(cache_limit(&bound(0), &cache), 20 * MB, "what answers hold stays");
        assert_eq!(cache_limit(&[], &cache), 256 * MB);
    }

    #[test]
    fn weights_that_are_mapped_are_taken_wherever_their_pages_are() {
        let free = |used, inactive_files, active_files, mapped| {
            Usage { used, inactive_files, active_files }.free(1000, mapped)
        };
        assert_eq!(free(500, 0, 0, 0), 500);
        assert_eq!(free(500, 150, 80, 0), 650, "idle pages of files are free");
        for (used, inactive, active) in [(500, 300, 0), (500, 0, 300), (500, 100, 200), (200, 0, 0), (350, 150, 0)] {
            assert_eq!(free(used, inactive, active, 300), 500, "200 beside 300 of weights: {used} {inactive} {active}");
        }
        assert_eq!(free(1000, 0, 900, 950), 0);
        assert_eq!((free_of_machine(700, 300), free_of_machine(200, 300)), (400, 0));
    }

    proptest! {
        /// Of a group's pages only the kernel knows which are the weights'. proptest prints the failing input and keeps its seed.
        #[test]
        fn weights_are_counted_once_whatever_the_kernel_holds_of_them(
            total in 0u64..4000,
            (anonymous, idle, busy) in (0u64..1500, 0u64..1500, 0u64..1500),
            (active, inactive, absent) in (0u64..1000, 0u64..1000, 0u64..1000),
        ) {
            let mapped = active + inactive + absent;
            let usage = Usage {
                used: anonymous + idle + busy + active + inactive,
                inactive_files: idle + inactive,
                active_files: busy + active,
            };
            let free = usage.free(total, mapped);
            prop_assert!(free <= total.saturating_sub(anonymous + mapped), "weights count as free: {free}");
            prop_assert!(free >= total.saturating_sub(anonymous + mapped + busy), "weights count twice: {free}");
        }

        /// proptest prints the failing input and keeps its seed.
        #[test]
        fn what_is_loaded_fits_every_bound_and_what_is_refused_would_not(
            sizes in (0u64..4000, 0u64..200, 0u64..200),
            bounds in prop::collection::vec((0u64..5000, 0u64..5000), 1..4),
            there in prop::collection::vec((0u64..1500, any::<bool>()), 0..6),
            cache in (0u64..600, 0u64..300, 0u64..300),
            rest in 0u64..300,
        ) {
            let (used, claimed) = (cache.1.max(cache.2), cache.1.min(cache.2));
            let ask = Ask {
                name: "new".to_owned(),
                needs: Needs { weights: sizes.0, work: sizes.1, cache: sizes.2 },
                bounds: bounds.iter().map(|(a, b)| Bound { limit: Limit::Machine, total: *a.max(b), free: *a.min(b), rest }).collect(),
                loaded: there.iter().enumerate().map(|(at, (bytes, is_busy))| Loaded { name: at.to_string(), bytes: *bytes, is_busy: *is_busy }).collect(),
                cache: CacheUse { wanted: cache.0, used, claimed },
            };
            let idle: u64 = ask.loaded.iter().filter(|loaded| !loaded.is_busy).map(|loaded| loaded.bytes).sum();
            let takes = |cache: u64| sizes.0 + sizes.1 + rest + cache;
            match plan(&ask) {
                Plan::Load { unload, cache } => {
                    let freed = |names: &[String]| -> u64 { names.iter().map(|name| ask.loaded[name.parse::<usize>().unwrap()].bytes).sum() };
                    prop_assert!(unload.iter().all(|name| !ask.loaded[name.parse::<usize>().unwrap()].is_busy));
                    prop_assert!(cache >= sizes.2.max(claimed));
                    for bound in &ask.bounds {
                        prop_assert!(takes(cache) <= bound.free + freed(&unload) + used);
                    }
                    if let Some((_, fewer)) = unload.split_last() {
                        let least = takes(sizes.2.max(claimed));
                        prop_assert!(ask.bounds.iter().any(|bound| least > bound.free + freed(fewer) + used), "one too many was unloaded");
                    }
                }
                Plan::Refuse(_) => {
                    let least = takes(sizes.2.max(claimed));
                    prop_assert!(ask.bounds.iter().any(|bound| least > bound.free + idle + used));
                }
            }
        }
    }
}
