//! What is due when. All of it is in the store; in memory are the times that come next, up to a horizon that moves on when
//! they have struck. So a node with a hundred thousand waiting runs holds a few thousand times.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Mutex,
    time::Duration,
};

use edge_core::engine::effect::Ask;
use shared::{id::RunId, time::Timestamp};
use tokio::sync::Notify;

use crate::clock::Steady;

/// The clock is looked at again at least this often, because it may have been set meanwhile.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Times that are read from the store together: a second's worth for a node that does nothing else.
pub(super) const PAGE_LEN: usize = 1_024;

/// Times in memory; beyond it those furthest ahead are left to the store.
const KEPT_MAX: usize = 4 * PAGE_LEN;

/// What a time is set for. Each has at most one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Due {
    /// A run waits for a time or has a deadline.
    Run(RunId),
    /// A parked effect is to be asked again.
    Parked(RunId, Ask),
    /// A scheduled workflow starts.
    Schedule(String),
    /// Old runs are to be forgotten.
    Sweep,
}

/// A time that the store holds: when, and whose. In this order they strike.
pub(super) type Place = (Timestamp, RunId, Option<Ask>);

impl Due {
    /// Where the store has it; `None` for what is in memory alone.
    fn place(&self, at: Timestamp) -> Option<Place> {
        match self {
            Self::Run(run) => Some((at, *run, None)),
            Self::Parked(run, ask) => Some((at, *run, Some(*ask))),
            Self::Schedule(_) | Self::Sweep => None,
        }
    }
}

#[derive(Default)]
pub(super) struct Timers {
    set: Mutex<Set>,
    changed: Notify,
}

#[derive(Default)]
struct Set {
    order: BTreeSet<(Timestamp, Due)>,
    at: HashMap<Due, Timestamp>,
    /// How many of them the store holds too.
    stored: usize,
    horizon: Horizon,
    /// Set beyond the horizon while the store was being read, which may have missed them.
    aside: Option<Vec<(Due, Timestamp)>>,
}

/// Up to where the times of the store are in memory, or have struck.
#[derive(Default, Clone, PartialEq, Eq)]
enum Horizon {
    #[default]
    Nothing,
    UpTo(Place),
    All,
}

/// What comes next.
pub(super) enum Next {
    Due(Due),
    /// What lies beyond this place is to be read from the store, and given to `fill`.
    Read(Option<Place>),
}

impl Set {
    fn insert(&mut self, due: Due, at: Timestamp) {
        self.remove(&due);
        self.stored += usize::from(due.place(at).is_some());
        self.at.insert(due.clone(), at);
        self.order.insert((at, due));
    }

    fn remove(&mut self, due: &Due) -> bool {
        let Some(at) = self.at.remove(due) else { return false };
        self.stored -= usize::from(due.place(at).is_some());
        self.order.remove(&(at, due.clone()));
        true
    }

    /// Whether the store alone is to hold it.
    fn is_beyond(&self, due: &Due, at: Timestamp) -> bool {
        match (&self.horizon, due.place(at)) {
            (_, None) | (Horizon::All, _) => false,
            (Horizon::Nothing, Some(_)) => true,
            (Horizon::UpTo(horizon), Some(place)) => place > *horizon,
        }
    }

    /// Leaves what is furthest ahead to the store, when there is much.
    fn shrink(&mut self) {
        if self.stored <= KEPT_MAX {
            return;
        }
        let places: Vec<_> = self.order.iter().filter_map(|(at, due)| Some((due.place(*at)?, due.clone()))).collect();
        let (near, far) = places.split_at(KEPT_MAX / 2);
        // What has struck lies before all of these, so the last of the near is how far memory reaches.
        let Some((place, _)) = near.iter().max_by_key(|(place, _)| *place) else { return };
        self.horizon = Horizon::UpTo(*place);
        for (place, due) in near.iter().chain(far) {
            if self.is_beyond(due, place.0) {
                self.remove(due);
            }
        }
    }
}

impl Timers {
    /// Sets the time for this, in place of an earlier one; `None` takes it away. The store has it already.
    pub fn set(&self, due: Due, at: Option<Timestamp>) {
        let mut set = self.set.lock().expect("no thread panicked with the timers");
        let was_set = set.remove(&due);
        match at {
            None if !was_set => return,
            None => {}
            Some(at) if set.is_beyond(&due, at) => match &mut set.aside {
                Some(aside) => aside.push((due, at)),
                None => return,
            },
            Some(at) => {
                set.insert(due, at);
                set.shrink();
            }
        }
        drop(set);
        self.changed.notify_one();
    }

    /// Takes every scheduled start away.
    pub fn forget_schedules(&self) {
        let mut set = self.set.lock().expect("no thread panicked with the timers");
        let schedules: Vec<_> = set.at.keys().filter(|due| matches!(due, Due::Schedule(_))).cloned().collect();
        for schedule in &schedules {
            set.remove(schedule);
        }
    }

    /// Waits until something is due, and takes it; or says that the store is to be read on.
    pub async fn next(&self, clock: &Steady) -> Next {
        loop {
            let changed = self.changed.notified();
            let wait = {
                let mut set = self.set.lock().expect("no thread panicked with the timers");
                if set.stored == 0 && set.horizon != Horizon::All {
                    set.aside = Some(Vec::new());
                    return Next::Read(match &set.horizon {
                        Horizon::UpTo(place) => Some(*place),
                        Horizon::Nothing | Horizon::All => None,
                    });
                }
                let now = clock.now();
                match set.order.first() {
                    Some((at, due)) if *at <= now => {
                        let due = due.clone();
                        set.remove(&due);
                        return Next::Due(due);
                    }
                    Some((at, _)) => at.since(now).min(LOOK_AGAIN),
                    None => LOOK_AGAIN,
                }
            };
            // Either way the set is looked at again.
            tokio::select! {
                biased;
                () = changed => {}
                () = clock.pass(wait) => {}
            }
        }
    }

    /// Takes what was read; fewer than `PAGE_LEN` are the last that the store has.
    pub fn fill(&self, read: Vec<Place>) {
        let mut set = self.set.lock().expect("no thread panicked with the timers");
        set.horizon = match read.last() {
            Some(last) if read.len() >= PAGE_LEN => Horizon::UpTo(*last),
            _ => Horizon::All,
        };
        for (at, run, ask) in read {
            let due = ask.map_or(Due::Run(run), |ask| Due::Parked(run, ask));
            // What is in memory already is younger than what was read.
            if !set.at.contains_key(&due) {
                set.insert(due, at);
            }
        }
        for (due, at) in set.aside.take().unwrap_or_default() {
            if !set.is_beyond(&due, at) {
                set.insert(due, at);
            }
        }
        set.shrink();
    }

    /// The store could not be read: once more later.
    pub fn not_read(&self) {
        self.set.lock().expect("no thread panicked with the timers").aside = None;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn run(n: usize) -> RunId {
        RunId::derive(Timestamp::from_millis(1), &n.to_le_bytes())
    }

    /// A store of times, read by pages as the runner does.
    fn page(store: &BTreeMap<RunId, Timestamp>, after: Option<Place>) -> Vec<Place> {
        let mut all: Vec<Place> = store.iter().map(|(run, at)| (*at, *run, None)).collect();
        all.sort();
        all.into_iter().filter(|place| after.is_none_or(|after| *place > after)).take(PAGE_LEN).collect()
    }

    #[tokio::test]
    async fn every_time_strikes_once_and_in_order_though_memory_holds_few() {
        let timers = Timers::default();
        let clock = Steady::after(Timestamp::default());
        let at = |n: usize| Timestamp::from_millis(i64::try_from(n * 7_919 % 10_007).unwrap());
        let mut store: BTreeMap<RunId, Timestamp> = (0..10_000).map(|n| (run(n), at(n))).collect();
        let (mut struck, mut seen) = (Vec::new(), 0);
        while !store.is_empty() || struck.is_empty() {
            match timers.next(&clock).await {
                Next::Read(after) => {
                    let read = page(&store, after);
                    // While the page is on its way, somebody sets a time that it cannot know of.
                    if seen < 2 {
                        let late = run(20_000 + seen);
                        store.insert(late, Timestamp::from_millis(9_000));
                        timers.set(Due::Run(late), Some(Timestamp::from_millis(9_000)));
                        seen += 1;
                    }
                    timers.fill(read);
                }
                Next::Due(Due::Run(run)) => struck.push((store.remove(&run).expect("it strikes once"), run)),
                Next::Due(other) => panic!("nobody set {other:?}"),
            }
            assert!(timers.set.lock().unwrap().stored <= KEPT_MAX);
        }
        assert_eq!(struck.len(), 10_002);
        assert!(struck.is_sorted_by_key(|(at, _)| *at));
    }

    #[tokio::test]
    async fn what_is_set_while_all_is_in_memory_is_left_to_the_store_when_it_is_much() {
        let timers = Timers::default();
        let clock = Steady::after(Timestamp::default());
        assert!(matches!(timers.next(&clock).await, Next::Read(None)));
        timers.fill(Vec::new());
        let mut store = BTreeMap::new();
        for n in 0..3 * KEPT_MAX {
            let at = Timestamp::from_millis(i64::try_from(n * 31 % 5_003).unwrap());
            store.insert(run(n), at);
            timers.set(Due::Run(run(n)), Some(at));
            assert!(timers.set.lock().unwrap().stored <= KEPT_MAX);
        }
        let mut struck = 0;
        while !store.is_empty() {
            match timers.next(&clock).await {
                Next::Read(after) => timers.fill(page(&store, after)),
                Next::Due(Due::Run(run)) => struck += usize::from(store.remove(&run).is_some()),
                Next::Due(other) => panic!("nobody set {other:?}"),
            }
        }
        assert_eq!(struck, 3 * KEPT_MAX);
    }
}
