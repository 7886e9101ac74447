//! What a search's filter needs to know of every chunk of an index, in memory: whose it is told apart by, and until when it is kept. Which chunks
//! pass a filter is kept from one search to the next and follows each change, so that no search lists them. What was found is looked at once
//! more in the store before it is given to anybody: this here may lag behind, and then finds less.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use models::index::Ids;
use shared::label::Label;

use super::{locks::lock, room};

/// Filters of an index whose outcome is kept; the one that was asked for least lately makes room. Each takes a bit for every chunk of the
/// store, or eight bytes for every one that passes, whichever is less.
const FILTERS_MAX: usize = 16;

/// What all chunks of a document have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Kin {
    /// `None`: it cannot be read, and then nobody is cleared for it.
    pub label: Option<Label>,
    /// A document of the bundle, a text or an episode, as the store tells them apart.
    pub form: i64,
    pub source: Option<String>,
    pub outcome: Option<String>,
}

/// What is looked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Wanted {
    /// What those are cleared for who are to see it; without one all is found.
    pub clearance: Option<Label>,
    /// Where it came from.
    pub source: Option<String>,
    /// Episodes are looked for, and nothing else; or all else.
    pub episodes: bool,
    /// What the episodes came to.
    pub outcomes: Option<Vec<String>>,
}

impl Wanted {
    pub(super) fn passes(&self, kin: &Kin) -> bool {
        let Self { clearance, source, episodes, outcomes } = self;
        let covers = |clearance: &Label| kin.label.as_ref().is_some_and(|label| clearance.covers(label));
        (kin.form == room::EPISODES) == *episodes
            && clearance.as_ref().is_none_or(covers)
            && source.as_ref().is_none_or(|source| kin.source.as_ref() == Some(source))
            && outcomes.as_ref().is_none_or(|any| kin.outcome.as_ref().is_some_and(|own| any.contains(own)))
    }
}

/// The chunks that pass a filter.
#[derive(Clone)]
pub(super) struct Passing {
    pub ids: Arc<Ids>,
    /// Whether all of the index do.
    pub is_all: bool,
}

/// The chunks of one index.
#[derive(Default)]
pub(super) struct Roster {
    kins: Vec<Group>,
    by_kin: HashMap<Kin, u32>,
    /// Places in `kins` that nobody has.
    free: Vec<u32>,
    chunks: BTreeMap<u64, u32>,
    /// When chunks are over, by the memory's age, both ways; most never are.
    ends: BTreeSet<(i64, u64)>,
    end_of: BTreeMap<u64, i64>,
    /// Chunks that are over, and still in the store.
    over: BTreeSet<u64>,
    /// Chunks that were removed before whoever stored them could say so here.
    early: BTreeSet<u64>,
    made: Mutex<Vec<(Wanted, Arc<Ids>)>>,
}

struct Group {
    kin: Kin,
    count: usize,
}

impl Roster {
    /// Whether nobody needs it any more.
    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.over.is_empty() && self.early.is_empty()
    }

    pub(super) fn has(&self, id: u64) -> bool {
        self.chunks.contains_key(&id)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = u64> + '_ {
        self.chunks.keys().copied()
    }

    /// Takes in a chunk, over at this age if at some; false when it was removed already.
    pub(super) fn insert(&mut self, id: u64, kin: &Kin, ends: Option<i64>) -> bool {
        if self.early.remove(&id) {
            return false;
        }
        self.leave(id);
        let place = self.place(kin);
        self.kins[place as usize].count += 1;
        self.chunks.insert(id, place);
        if let Some(end) = ends {
            self.ends.insert((end, id));
            self.end_of.insert(id, end);
        }
        for (wanted, ids) in self.made.get_mut().unwrap_or_else(PoisonError::into_inner) {
            if wanted.passes(kin) {
                Arc::make_mut(ids).insert(id);
            }
        }
        true
    }

    /// The same chunks under another label, say.
    pub(super) fn change(&mut self, ids: &[u64], kin: &Kin) {
        for id in ids {
            if self.has(*id) {
                self.insert(*id, kin, self.end_of.get(id).copied());
            }
        }
    }

    /// Takes a chunk out for good: ids are not used twice.
    pub(super) fn remove(&mut self, id: u64) {
        if !self.leave(id) && !self.over.remove(&id) {
            self.early.insert(id);
        }
    }

    /// Takes out what is over at this age; its ids.
    pub(super) fn end(&mut self, age: i64) -> Vec<u64> {
        let over: Vec<u64> = self.ends.range(..=(age, u64::MAX)).map(|(_, id)| *id).collect();
        for id in &over {
            self.leave(*id);
            self.over.insert(*id);
        }
        over
    }

    pub(super) fn has_ended(&self, age: i64) -> bool {
        self.ends.first().is_some_and(|(end, _)| *end <= age)
    }

    fn leave(&mut self, id: u64) -> bool {
        let Some(place) = self.chunks.remove(&id) else { return false };
        if let Some(end) = self.end_of.remove(&id) {
            self.ends.remove(&(end, id));
        }
        let group = &mut self.kins[place as usize];
        group.count -= 1;
        if group.count == 0 {
            self.by_kin.remove(&group.kin);
            self.free.push(place);
        }
        for (_, ids) in self.made.get_mut().unwrap_or_else(PoisonError::into_inner) {
            if ids.has(id) {
                Arc::make_mut(ids).remove(id);
            }
        }
        true
    }

    fn place(&mut self, kin: &Kin) -> u32 {
        if let Some(place) = self.by_kin.get(kin) {
            return *place;
        }
        let group = Group { kin: kin.clone(), count: 0 };
        let place = match self.free.pop() {
            Some(place) => {
                self.kins[place as usize] = group;
                place
            }
            None => {
                self.kins.push(group);
                u32::try_from(self.kins.len() - 1).expect("fewer documents than that have room in a store")
            }
        };
        self.by_kin.insert(kin.clone(), place);
        place
    }

    /// The chunks that pass.
    pub(super) fn passing(&self, wanted: &Wanted) -> Passing {
        let mut made = lock(&self.made);
        let at = made.iter().position(|(own, _)| own == wanted);
        let entry = match at {
            Some(at) => made.remove(at),
            None => (wanted.clone(), Arc::new(self.list(wanted))),
        };
        if made.len() == FILTERS_MAX {
            made.remove(0);
        }
        let ids = Arc::clone(&entry.1);
        made.push(entry);
        Passing { is_all: ids.len() == self.chunks.len(), ids }
    }

    fn list(&self, wanted: &Wanted) -> Ids {
        let passes: Vec<bool> = self.kins.iter().map(|group| wanted.passes(&group.kin)).collect();
        self.chunks.iter().filter(|(_, place)| passes[**place as usize]).map(|(id, _)| *id).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use shared::label::DataClass;

    use super::*;

    const CLASSES: [DataClass; 3] = [DataClass::Public, DataClass::Internal, DataClass::Restricted];

    fn label(class: usize) -> Label {
        Label { class: CLASSES[class], ..Label::default() }
    }

    fn kin((class, form, source, outcome): (usize, i64, Option<u8>, u8)) -> Kin {
        let outcome = (form == room::EPISODES).then(|| format!("outcome {outcome}"));
        Kin { label: Some(label(class)), form, source: source.map(|source| format!("source {source}")), outcome }
    }

    fn any_kin() -> impl Strategy<Value = Kin> {
        (0..3usize, 0..3i64, proptest::option::of(0..3u8), 0..2u8).prop_map(kin)
    }

    fn any_wanted() -> impl Strategy<Value = Wanted> {
        let outcomes = proptest::option::of(prop_oneof![Just(vec![0u8]), Just(vec![0, 1]), Just(vec![])]);
        let wanted = (proptest::option::of(0..3usize), proptest::option::of(0..3u8), any::<bool>(), outcomes);
        wanted.prop_map(|(clearance, source, episodes, outcomes)| Wanted {
            clearance: clearance.map(label),
            source: source.map(|source| format!("source {source}")),
            episodes,
            outcomes: outcomes.map(|all| all.iter().map(|own| format!("outcome {own}")).collect()),
        })
    }

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u64, Kin, Option<i64>),
        Remove(u64),
        Change(u64, Kin),
        End(i64),
        Look(Wanted),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..400u64, any_kin(), proptest::option::of(0..100i64)).prop_map(|(id, kin, end)| Step::Insert(id, kin, end)),
            2 => (0..400u64).prop_map(Step::Remove),
            1 => (0..400u64, any_kin()).prop_map(|(id, kin)| Step::Change(id, kin)),
            1 => (0..30i64).prop_map(Step::End),
            3 => any_wanted().prop_map(Step::Look),
        ]
    }

    proptest! {
        #[test]
        fn what_passes_is_what_a_look_at_every_chunk_finds(steps in proptest::collection::vec(any_step(), 1..120)) {
            let (mut roster, mut plain) = (Roster::default(), BTreeMap::<u64, (Kin, Option<i64>)>::new());
            let mut gone = BTreeSet::new();
            for step in steps {
                match step {
                    Step::Insert(id, kin, end) => {
                        // An id is given once; one that went before it came does not come.
                        if !plain.contains_key(&id) && !roster.insert(id, &kin, end) {
                            prop_assert!(gone.remove(&id));
                            continue;
                        }
                        plain.entry(id).or_insert((kin, end));
                    }
                    Step::Remove(id) => {
                        roster.remove(id);
                        if plain.remove(&id).is_none() {
                            gone.insert(id);
                        }
                    }
                    Step::Change(id, kin) => {
                        roster.change(&[id], &kin);
                        if let Some(own) = plain.get_mut(&id) {
                            own.0 = kin;
                        }
                    }
                    Step::End(age) => {
                        roster.end(age);
                        plain.retain(|_, (_, end)| end.is_none_or(|end| end > age));
                        prop_assert!(!roster.has_ended(age));
                    }
                    Step::Look(wanted) => {
                        let passing = roster.passing(&wanted);
                        let expected: Ids =
                            plain.iter().filter(|(_, (kin, _))| wanted.passes(kin)).map(|(id, _)| *id).collect();
                        prop_assert!(plain.keys().all(|id| passing.ids.has(*id) == expected.has(*id)));
                        prop_assert_eq!((passing.ids.len(), passing.is_all), (expected.len(), expected.len() == plain.len()));
                        prop_assert!(roster.made.lock().unwrap().len() <= FILTERS_MAX);
                    }
                }
            }
        }
    }
}
