//! Several events that belong together: which of them are wanted next, and when it is enough. The same rules hold for
//! `listen` and for `schedule.on`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::workflow::definition::{EventFilter, Strategy, Until};

use super::filter::Correlated;

/// What has come so far. Filters are numbered as they are written, those of `until` after the others.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gathered {
    /// The filters of an `all` that have had their event.
    pub filled: BTreeSet<u32>,
    /// The values that the first event fixed for those after it.
    pub correlation: BTreeMap<String, Value>,
    /// No more events are wanted.
    pub closed: bool,
}

/// An event that is wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct Taken {
    pub filter: u32,
    /// Values that this event fixes for those after it.
    pub fixes: Correlated,
    /// Whether it is one of those that were waited for, not one that `until` waits for.
    pub is_item: bool,
    /// No more events are wanted after it.
    pub closes: bool,
}

/// Every filter of a strategy in the order of their numbers.
pub fn filters(strategy: &Strategy) -> impl Iterator<Item = &EventFilter> {
    strategy.filters().iter().chain(until(strategy).map_or(&[][..], Strategy::filters))
}

/// The events that end the waiting for any of several.
#[must_use]
pub fn until(strategy: &Strategy) -> Option<&Strategy> {
    match strategy {
        Strategy::Any { until: Some(Until::Consumed(until)), .. } => Some(until),
        _ => None,
    }
}

impl Gathered {
    /// Whether an event is wanted. `fits` says whether it is what a filter means, and by which values it belongs to
    /// others; `expected` holds the values that are required of it, for each filter.
    #[must_use]
    pub fn offer(
        &self,
        strategy: &Strategy,
        expected: &[Correlated],
        fits: &dyn Fn(&EventFilter) -> Option<Correlated>,
    ) -> Option<Taken> {
        if self.closed {
            return None;
        }
        let offered = Offered { gathered: self, expected, fits };
        let first = u32::try_from(strategy.filters().len()).unwrap_or(u32::MAX);
        if let Some(taken) = until(strategy).and_then(|until| offered.to(until, first)) {
            return Some(Taken { is_item: false, ..taken });
        }
        let taken = offered.to(strategy, 0)?;
        // With an `until`, that alone says when it is enough.
        let open_ended = matches!(strategy, Strategy::Any { until: Some(_), .. });
        Some(Taken { closes: taken.closes && !open_ended, ..taken })
    }

    /// Remembers an event that was taken.
    pub fn take(&mut self, filter: u32, fixes: &Correlated, closes: bool) {
        self.filled.insert(filter);
        self.correlation.extend(fixes.clone());
        self.closed |= closes;
    }

    /// Whether this filter of the strategy still wants an event.
    #[must_use]
    pub fn wants(&self, strategy: &Strategy, number: u32) -> bool {
        let own = u32::try_from(strategy.filters().len()).unwrap_or(u32::MAX);
        let of = if number < own { Some(strategy) } else { until(strategy) };
        !self.closed && (!matches!(of, Some(Strategy::All(_))) || !self.filled.contains(&number))
    }
}

struct Offered<'o> {
    gathered: &'o Gathered,
    expected: &'o [Correlated],
    fits: &'o dyn Fn(&EventFilter) -> Option<Correlated>,
}

impl Offered<'_> {
    /// Offers the event to the strategy whose filters are numbered from `first`.
    fn to(&self, strategy: &Strategy, first: u32) -> Option<Taken> {
        let filters = strategy.filters();
        if filters.is_empty() && matches!(strategy, Strategy::Any { .. }) {
            return Some(Taken { filter: first, fixes: Correlated::new(), is_item: true, closes: true });
        }
        let all = matches!(strategy, Strategy::All(_));
        for (number, filter) in (first..).zip(filters) {
            if !(all && self.gathered.filled.contains(&number))
                && let Some(fixes) = self.fixes(filter, number)
            {
                let others = (first..).take(filters.len()).filter(|other| *other != number);
                let closes = !all || others.into_iter().all(|other| self.gathered.filled.contains(&other));
                return Some(Taken { filter: number, fixes, is_item: true, closes });
            }
        }
        None
    }

    /// `Some`: the event is what the filter means, and fixes these values.
    fn fixes(&self, filter: &EventFilter, number: u32) -> Option<Correlated> {
        let found = (self.fits)(filter)?;
        let required = self.expected.get(number as usize);
        let mut fixes = Correlated::new();
        for (name, value) in found {
            match required.and_then(|values| values.get(&name)).or_else(|| self.gathered.correlation.get(&name)) {
                Some(wanted) if *wanted == value => {}
                Some(_) => return None,
                None => drop(fixes.insert(name, value)),
            }
        }
        Some(fixes)
    }
}
