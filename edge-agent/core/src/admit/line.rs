//! A queue and the places that it leads to: how long one waits there, who has to leave for whom, whose turn it is, and who makes way in the
//! middle of its work for somebody more important.

use std::time::Duration;

use shared::time::Timestamp;

use super::{
    queue::{Entered, Order, Place, Queue, Turn},
    speed::wait,
};

/// Why somebody is not served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("it takes about {} ms, {} of them for those before it; {} ms are left", expected.as_millis(), before.as_millis(), left.as_millis())]
    Late {
        /// With the wait.
        expected: Duration,
        before: Duration,
        /// Until the deadline.
        left: Duration,
    },
    #[error("{waiting} requests wait already, which is as many as may, and none of them is less important")]
    Full { waiting: usize },
    #[error("a more important request took the place in the full queue")]
    Displaced,
}

/// Those who wait, and those who are served.
#[derive(Debug)]
pub struct Line<T> {
    queue: Queue<T>,
    len_max: usize,
    /// So many are served at a time.
    places: usize,
    served: Vec<Served>,
}

/// One who is served. What nobody knows counts as nothing.
#[derive(Debug)]
struct Served {
    number: u64,
    turn: Turn,
    /// When it is expected to be done.
    ends: Option<Timestamp>,
    /// When it is expected to make way next, if somebody goes before.
    pauses: Option<Timestamp>,
}

/// What became of who came.
#[derive(Debug, PartialEq, Eq)]
pub struct Joined<T> {
    /// Names its place.
    pub number: u64,
    /// Those who have to leave, and why.
    pub left: Vec<(T, Refused)>,
}

impl<T> Line<T> {
    /// A line of so many who wait at most for so many places.
    #[must_use]
    pub const fn new(len_max: usize, places: usize) -> Self {
        Self { queue: Queue::new(len_max), len_max, places, served: Vec::new() }
    }

    /// How many wait.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// How many are served.
    #[must_use]
    pub const fn served(&self) -> usize {
        self.served.len()
    }

    /// Whether nobody waits or is served.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.served.is_empty()
    }

    /// Those who wait, in their order.
    pub fn items(&self) -> impl Iterator<Item = &T> {
        self.queue.items()
    }

    /// Removes those who no longer wait.
    pub fn retain(&mut self, waits: impl Fn(&T) -> bool) {
        self.queue.retain(waits);
    }

    /// Removes one who no longer waits; whether it did until now.
    pub fn remove(&mut self, number: u64) -> bool {
        self.queue.remove(number)
    }

    /// Who comes now with this turn waits so long.
    #[must_use]
    pub fn wait(&self, turn: &Turn, now: Timestamp) -> Duration {
        // A place that is free is taken at once, whatever the others have left.
        if self.served.len() < self.places && self.queue.is_empty() {
            return Duration::ZERO;
        }
        wait(busy(&self.served, turn.newest(), now), self.queue.before(turn), self.places)
    }

    /// Why who comes now with this turn would not be served in time.
    #[must_use]
    pub fn late(&self, turn: &Turn, now: Timestamp) -> Option<Refused> {
        let (before, left) = (self.wait(turn, now), turn.deadline?.since(now));
        let expected = before + turn.takes?;
        (expected > left).then_some(Refused::Late { expected, before, left })
    }

    /// Takes one in.
    ///
    /// # Errors
    /// When all places to wait are taken, by none that is less important.
    pub fn enter(&mut self, turn: Turn, item: T, now: Timestamp) -> Result<Joined<T>, Refused> {
        let mut left = match self.queue.enter(turn, item) {
            Entered::Waits => Vec::new(),
            Entered::Displaced(other) => vec![(other, Refused::Displaced)],
            Entered::Full(_) => return Err(Refused::Full { waiting: self.len_max }),
        };
        left.extend(self.overtaken(now));
        Ok(Joined { number: self.queue.newest(), left })
    }

    /// Takes one in who is turned away by nobody, however many wait.
    pub fn stay(&mut self, turn: Turn, item: T, now: Timestamp) -> Joined<T> {
        self.queue.stay(turn, item);
        Joined { left: self.overtaken(now), number: self.queue.newest() }
    }

    /// Those who stand behind somebody new, and may have been in time until then.
    fn overtaken(&mut self, now: Timestamp) -> Vec<(T, Refused)> {
        let late = self.queue.late(now, |order| busy(&self.served, order, now), self.places);
        let refused = |Place { turn, item, .. }: Place<T>| {
            let (before, left) = (self.wait(&turn, now), turn.deadline.map_or(Duration::ZERO, |end| end.since(now)));
            (item, Refused::Late { expected: before + turn.takes.unwrap_or_default(), before, left })
        };
        late.into_iter().map(refused).collect()
    }

    /// Whose turn it is, when a place is free; it has the place until it is done.
    pub fn next(&mut self, now: Timestamp) -> Option<Place<T>> {
        if self.served.len() >= self.places {
            return None;
        }
        let place = self.queue.take_first()?;
        let ends = place.turn.takes.map(|takes| now.plus(takes));
        self.served.push(Served { number: place.number(), turn: place.turn, ends, pauses: ends });
        Some(place)
    }

    /// Frees the place of one who is served, if it is.
    pub fn done(&mut self, number: u64) {
        self.served.retain(|served| served.number != number);
    }

    /// One who is served begins a piece of its work that takes so long, and makes way behind it if it must.
    pub fn begin_piece(&mut self, number: u64, takes: Option<Duration>, now: Timestamp) {
        if let Some(served) = self.served.iter_mut().find(|served| served.number == number) {
            served.pauses = takes.map(|takes| now.plus(takes));
        }
    }

    /// Has one who is served, and whose work will take so long still, stand where it stood, if somebody waits who goes before; whether it does.
    pub fn make_way(&mut self, number: u64, takes: Option<Duration>, item: impl FnOnce() -> T) -> bool {
        let Some(at) = self.served.iter().position(|served| served.number == number) else { return false };
        let turn = self.served[at].turn;
        if self.served.len() < self.places || !self.queue.has_before(turn.order(number)) {
            return false;
        }
        self.served.swap_remove(at);
        self.queue.take_back(number, Turn { takes, ..turn }, item());
        true
    }
}

/// What those who are served have left before one of this order may have a place.
fn busy(served: &[Served], order: Order, now: Timestamp) -> Duration {
    let left = |served: &Served| {
        let until = if order < served.turn.order(served.number) { served.pauses } else { served.ends };
        until.map_or(Duration::ZERO, |until| until.since(now))
    };
    served.iter().map(left).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::queue::Priority, *};

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn after(seconds: u64) -> Timestamp {
        NOW.plus(Duration::from_secs(seconds))
    }

    fn turn(priority: Priority, deadline_s: Option<u64>, takes_s: u64) -> Turn {
        Turn { priority, deadline: deadline_s.map(after), takes: Some(Duration::from_secs(takes_s)) }
    }

    fn late(expected_s: u64, before_s: u64, left_s: u64) -> Refused {
        let [expected, before, left] = [expected_s, before_s, left_s].map(Duration::from_secs);
        Refused::Late { expected, before, left }
    }

    #[test]
    fn one_waits_for_who_is_served_and_for_who_stands_before() {
        let mut line = Line::new(9, 1);
        let normal = |takes| turn(Priority::Normal, None, takes);
        assert_eq!(line.wait(&normal(1), NOW), Duration::ZERO);
        line.enter(normal(4), "served", NOW).expect("room");
        assert_eq!(line.next(NOW).map(|place| place.item), Some("served"));
        line.enter(normal(6), "waits", NOW).expect("room");
        assert_eq!(line.wait(&normal(1), after(1)), Duration::from_secs(3 + 6));
        assert_eq!(line.wait(&turn(Priority::Urgent, None, 1), after(1)), Duration::from_secs(3));
        assert_eq!(line.late(&turn(Priority::Batch, Some(10), 1), after(1)), Some(late(10, 9, 9)));
        assert_eq!(line.late(&turn(Priority::Batch, Some(11), 1), after(1)), None);
        assert_eq!((line.next(NOW), line.waiting(), line.served()), (None, 1, 1), "one at a time");
        assert_eq!(line.wait(&Turn { takes: None, ..normal(1) }, after(99)), Duration::from_secs(6));
    }

    #[test]
    fn who_is_overtaken_by_somebody_more_important_and_comes_too_late_has_to_leave() {
        let mut line = Line::new(2, 1);
        line.enter(turn(Priority::Normal, None, 5), 0, NOW).expect("room");
        assert!(line.next(NOW).is_some());
        line.enter(turn(Priority::Batch, Some(12), 6), 1, NOW).expect("room");
        let joined = line.enter(turn(Priority::Urgent, None, 2), 2, NOW).expect("room");
        assert_eq!(joined, Joined { number: 3, left: vec![(1, late(13, 7, 12))] });
        line.enter(turn(Priority::Batch, None, 1), 3, NOW).expect("room");
        let joined = line.enter(turn(Priority::Normal, None, 1), 4, NOW).expect("room of who is less important");
        assert_eq!(joined.left, [(3, Refused::Displaced)]);
        assert_eq!(line.enter(turn(Priority::Normal, None, 1), 5, NOW), Err(Refused::Full { waiting: 2 }));
        assert_eq!(line.stay(turn(Priority::Batch, None, 1), 6, NOW).left, []);
        assert!(line.remove(3) && !line.remove(3));
    }

    #[test]
    fn between_two_pieces_the_more_important_go_first_and_count_on_it() {
        let mut line = Line::new(9, 1);
        line.enter(turn(Priority::Normal, Some(90), 60), "long", NOW).expect("room");
        let long = line.next(NOW).expect("a free place").number();
        line.begin_piece(long, Some(Duration::from_secs(2)), NOW);
        assert!(!line.make_way(long, None, || "long"), "nobody waits");
        assert_eq!(line.late(&turn(Priority::Normal, Some(10), 1), NOW), None, "it waits for one piece");
        assert_eq!(line.late(&turn(Priority::Normal, Some(91), 50), NOW), Some(late(110, 60, 91)));
        line.enter(turn(Priority::Normal, Some(99), 1), "later", NOW).expect("room");
        assert!(!line.make_way(long, None, || "long"), "who goes behind it waits");
        line.enter(turn(Priority::Urgent, None, 1), "alarm", NOW).expect("room");
        assert!(line.make_way(long, Some(Duration::from_secs(58)), || "long"));
        assert!(!line.make_way(long, None, || "long"), "it is not served");
        let mut order = Vec::new();
        while let Some(place) = line.next(after(2)) {
            line.done(place.number());
            order.push(place.item);
        }
        assert_eq!((order, line.is_idle()), (vec!["alarm", "long", "later"], true));
    }

    proptest! {
        /// proptest prints the failing input and keeps its seed.
        #[test]
        fn nobody_is_lost_or_served_twice_and_no_place_is_taken_twice(
            (len_max, places) in (1usize..6, 1usize..4),
            steps in prop::collection::vec((0u8..6, 0u8..3, prop::option::of(0u64..50), 0u64..20), 0..80),
        ) {
            let priorities = [Priority::Urgent, Priority::Normal, Priority::Batch];
            let mut line = Line::new(len_max, places);
            let (mut at_work, mut gone, mut came): (Vec<(u64, usize)>, usize, usize) = (Vec::new(), 0, 0);
            for (step, priority, deadline, takes) in steps {
                let turn = turn(priorities[usize::from(priority)], deadline, takes);
                match step {
                    0 | 1 => {
                        came += 1;
                        match line.enter(turn, came, NOW) {
                            Ok(joined) => gone += joined.left.len(),
                            Err(refused) => {
                                prop_assert_eq!(refused, Refused::Full { waiting: len_max });
                                gone += 1;
                            }
                        }
                    }
                    2 => {
                        came += 1;
                        gone += line.stay(turn, came, NOW).left.len();
                    }
                    3 => {
                        let free = line.served() < places && line.waiting() > 0;
                        let next = line.next(NOW);
                        prop_assert_eq!(next.is_some(), free);
                        at_work.extend(next.map(|place| (place.number(), place.item)));
                    }
                    4 => {
                        if let Some((number, item)) = at_work.pop()
                            && !line.make_way(number, turn.takes, || item)
                        {
                            at_work.push((number, item));
                        }
                    }
                    _ => {
                        if let Some((number, _)) = at_work.pop() {
                            line.done(number);
                            gone += 1;
                        }
                    }
                }
                prop_assert_eq!(line.served(), at_work.len());
                prop_assert!(line.served() <= places);
                prop_assert_eq!(gone + at_work.len() + line.waiting(), came);
            }
            let mut items: Vec<usize> = line.items().copied().chain(at_work.iter().map(|(_, item)| *item)).collect();
            items.sort_unstable();
            items.dedup();
            prop_assert_eq!(items.len(), line.waiting() + at_work.len());
        }
    }
}
