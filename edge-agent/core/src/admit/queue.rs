//! The queue before a model: by priority, within one priority by deadline, and then by arrival. It has a length and a rule for when it is
//! full, and lets nobody wait who cannot be served in time.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use shared::time::Timestamp;

use super::speed::wait;

/// What goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// An alarm, or a person who waits.
    Urgent,
    #[default]
    Normal,
    /// What may be done when nothing else is to do.
    Batch,
}

/// When somebody's turn should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    pub priority: Priority,
    /// When the caller gives up.
    pub deadline: Option<Timestamp>,
    /// How long the answer will take from its beginning; `None`: nobody knows yet.
    pub takes: Option<Duration>,
}

/// One who waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place<T> {
    pub turn: Turn,
    number: u64,
    /// It is not turned away when the queue is full, and takes nobody's place.
    stays: bool,
    pub item: T,
}

/// What a place is sorted by.
pub(super) type Order = (Priority, bool, Option<Timestamp>, u64);

/// A bounded queue, in the order in which it is served.
#[derive(Debug)]
pub struct Queue<T> {
    len_max: usize,
    arrived: u64,
    waiting: Vec<Place<T>>,
}

/// What became of one who came.
#[derive(Debug, PartialEq, Eq)]
pub enum Entered<T> {
    Waits,
    /// The queue was full, and the last of a lower priority had to leave.
    Displaced(T),
    /// The queue is full of what is as important.
    Full(T),
}

impl Turn {
    /// Who has no deadline comes after all who have one.
    pub(super) fn order(&self, number: u64) -> Order {
        (self.priority, self.deadline.is_none(), self.deadline, number)
    }

    /// Of one who comes now.
    pub(super) fn newest(&self) -> Order {
        self.order(u64::MAX)
    }
}

impl<T> Place<T> {
    /// Names it for as long as it waits or is served; counted up from 1.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    fn order(&self) -> Order {
        self.turn.order(self.number)
    }
}

impl<T> Queue<T> {
    #[must_use]
    pub const fn new(len_max: usize) -> Self {
        Self { len_max, arrived: 0, waiting: Vec::new() }
    }

    #[must_use]
    pub const fn len(&self) -> usize {
        self.waiting.len()
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes one in, behind those who go first. When the queue is full, whoever is last and of a lower priority leaves; a nearer deadline
    /// alone drives nobody out.
    pub fn enter(&mut self, turn: Turn, item: T) -> Entered<T> {
        let mut displaced = None;
        if self.waiting.iter().filter(|place| !place.stays).count() >= self.len_max {
            let last = self.waiting.iter().rposition(|place| !place.stays);
            match last.filter(|&last| self.waiting[last].turn.priority > turn.priority) {
                Some(last) => displaced = Some(self.waiting.remove(last).item),
                None => return Entered::Full(item),
            }
        }
        self.stand(turn, item, false);
        displaced.map_or(Entered::Waits, Entered::Displaced)
    }

    /// Takes one in who is turned away by nobody, however many wait: work that has to be done some time, and of which whoever does it brings
    /// one piece at a time.
    pub fn stay(&mut self, turn: Turn, item: T) {
        self.stand(turn, item, true);
    }

    fn stand(&mut self, turn: Turn, item: T, stays: bool) {
        self.arrived += 1;
        self.insert(Place { turn, number: self.arrived, stays, item });
    }

    fn insert(&mut self, place: Place<T>) {
        let at = self.waiting.partition_point(|other| other.order() < place.order());
        self.waiting.insert(at, place);
    }

    /// The number of who came last.
    pub(super) const fn newest(&self) -> u64 {
        self.arrived
    }

    /// Takes one back who was served for a while. What is begun is not turned away.
    pub(super) fn take_back(&mut self, number: u64, turn: Turn, item: T) {
        self.insert(Place { turn, number, stays: true, item });
    }

    /// Whether somebody waits who goes before.
    pub(super) fn has_before(&self, order: Order) -> bool {
        self.waiting.first().is_some_and(|first| first.order() < order)
    }

    /// Those who wait, in their order.
    pub fn items(&self) -> impl Iterator<Item = &T> {
        self.waiting.iter().map(|place| &place.item)
    }

    /// Whose turn it is.
    pub fn take_first(&mut self) -> Option<Place<T>> {
        if self.waiting.is_empty() { None } else { Some(self.waiting.remove(0)) }
    }

    /// Removes those who no longer wait.
    pub fn retain(&mut self, waits: impl Fn(&T) -> bool) {
        self.waiting.retain(|place| waits(&place.item));
    }

    /// Removes one by its number; whether it waited.
    pub fn remove(&mut self, number: u64) -> bool {
        let at = self.waiting.iter().position(|place| place.number == number);
        at.map(|at| self.waiting.remove(at)).is_some()
    }

    /// How long those take together who would be served before one who comes now. Those of whom nobody knows count as nothing.
    #[must_use]
    pub fn before(&self, turn: &Turn) -> Duration {
        let own = turn.newest();
        let ahead = self.waiting.iter().take_while(|place| place.order() < own);
        ahead.filter_map(|place| place.turn.takes).sum()
    }

    /// Takes out those who can no longer be served in time, so many at a time, where those who are served have so much left that goes before.
    pub(super) fn late(&mut self, now: Timestamp, busy: impl Fn(Order) -> Duration, places: usize) -> Vec<Place<T>> {
        let (mut ahead, mut late) = (Duration::ZERO, Vec::new());
        let mut at = 0;
        while at < self.waiting.len() {
            let turn = self.waiting[at].turn;
            let takes = turn.takes.unwrap_or_default();
            let ends = now.plus(wait(busy(self.waiting[at].order()), ahead, places) + takes);
            if turn.takes.is_some() && turn.deadline.is_some_and(|deadline| ends > deadline) {
                late.push(self.waiting.remove(at));
            } else {
                ahead += takes;
                at += 1;
            }
        }
        late
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn turn(priority: Priority, deadline_s: Option<u64>, takes_s: Option<u64>) -> Turn {
        let second = Duration::from_secs;
        Turn { priority, deadline: deadline_s.map(|s| NOW.plus(second(s))), takes: takes_s.map(second) }
    }

    fn served<T>(mut queue: Queue<T>) -> Vec<T> {
        std::iter::from_fn(|| queue.take_first()).map(|place| place.item).collect()
    }

    #[test]
    fn the_important_go_first_then_the_nearest_deadline_then_who_came_first() {
        use Priority::{Batch, Normal, Urgent};
        let mut queue = Queue::new(9);
        for (priority, deadline, name) in [
            (Batch, Some(1), "batch soon"),
            (Normal, None, "first without end"),
            (Normal, Some(9), "late"),
            (Normal, Some(3), "soon"),
            (Normal, None, "second without end"),
            (Urgent, Some(60), "alarm"),
        ] {
            assert_eq!(queue.enter(turn(priority, deadline, None), name), Entered::Waits);
        }
        let expected = ["alarm", "soon", "late", "first without end", "second without end", "batch soon"];
        assert_eq!(served(queue), expected);
    }

    #[test]
    fn a_full_queue_gives_the_last_place_of_a_lower_priority_to_who_is_more_important() {
        use Priority::{Batch, Normal, Urgent};
        let mut queue = Queue::new(2);
        assert_eq!(queue.enter(turn(Batch, None, None), 1), Entered::Waits);
        assert_eq!(queue.enter(turn(Normal, None, None), 2), Entered::Waits);
        assert_eq!(queue.enter(turn(Batch, Some(1), None), 3), Entered::Full(3), "a deadline drives nobody out");
        assert_eq!(queue.enter(turn(Normal, None, None), 4), Entered::Displaced(1));
        assert_eq!(queue.enter(turn(Normal, None, None), 5), Entered::Full(5));
        assert_eq!(queue.enter(turn(Urgent, None, None), 6), Entered::Displaced(4));
        assert_eq!(served(queue), [6, 2]);
    }

    #[test]
    fn who_stays_is_turned_away_by_nobody_and_takes_nobodys_place() {
        use Priority::{Batch, Normal, Urgent};
        let mut queue = Queue::new(1);
        for name in ["chore", "another"] {
            queue.stay(turn(Batch, None, None), name);
        }
        assert_eq!(queue.enter(turn(Batch, Some(9), None), "batch"), Entered::Waits);
        assert_eq!(queue.enter(turn(Normal, None, None), "normal"), Entered::Displaced("batch"));
        assert_eq!(queue.enter(turn(Normal, None, None), "second"), Entered::Full("second"));
        queue.take_back(1, turn(Normal, None, None), "begun");
        assert_eq!(queue.enter(turn(Urgent, None, None), "alarm"), Entered::Displaced("normal"));
        assert!(queue.remove(2) && !queue.remove(2));
        assert_eq!(served(queue), ["alarm", "begun", "chore"]);
    }

    #[test]
    fn who_cannot_be_served_in_time_is_told_at_once() {
        use Priority::{Normal, Urgent};
        let mut queue = Queue::new(9);
        let patient = turn(Normal, Some(10), Some(4));
        queue.enter(patient, "patient");
        queue.enter(turn(Normal, None, Some(4)), "no hurry");
        assert_eq!(queue.before(&turn(Normal, Some(20), Some(1))).as_secs(), 4);
        assert_eq!(queue.before(&turn(Urgent, None, Some(1))).as_secs(), 0);
        let busy = |_| Duration::from_secs(6);
        assert!(queue.late(NOW, busy, 1).is_empty());
        queue.enter(turn(Urgent, None, Some(3)), "alarm");
        let late = queue.late(NOW, busy, 1);
        assert_eq!(late.into_iter().map(|place| place.item).collect::<Vec<_>>(), ["patient"], "6 + 3 + 4 s > 10 s");
        assert_eq!(served(queue), ["alarm", "no hurry"]);
    }

    proptest! {
        /// proptest prints the failing input and keeps its seed.
        #[test]
        fn nobody_is_lost_and_the_order_holds(
            len_max in 1usize..8,
            comers in prop::collection::vec((0u8..3, prop::option::of(0u64..50), prop::option::of(0u64..20), any::<bool>()), 0..60),
        ) {
            let priorities = [Priority::Urgent, Priority::Normal, Priority::Batch];
            let mut queue = Queue::new(len_max);
            let (mut away, mut served_now, mut count) = (Vec::new(), Vec::new(), 0);
            for (at, (priority, deadline, takes, serves)) in comers.iter().enumerate() {
                match queue.enter(turn(priorities[usize::from(*priority)], *deadline, *takes), at) {
                    Entered::Waits => {}
                    Entered::Displaced(other) => {
                        prop_assert!(comers[other].0 > *priority);
                        away.push(other);
                    }
                    Entered::Full(own) => away.push(own),
                }
                count += 1;
                prop_assert!(queue.len() <= len_max);
                if *serves {
                    let first = queue.take_first().expect("one just came, or the queue was full");
                    served_now.push(first.item);
                    prop_assert!(queue.waiting.iter().all(|other| first.order() < other.order()));
                }
                let late = queue.late(NOW, |_| Duration::ZERO, 1);
                for place in &late {
                    prop_assert!(place.turn.deadline.is_some() && place.turn.takes.is_some());
                }
                away.extend(late.into_iter().map(|place| place.item));
                prop_assert!(queue.late(NOW, |_| Duration::ZERO, 1).is_empty(), "who is left is in time");
            }
            prop_assert_eq!(away.len() + served_now.len() + queue.len(), count);
        }
    }
}
