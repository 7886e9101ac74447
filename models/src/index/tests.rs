//! The index held to a plain list of vectors.

mod damage;
mod few;
mod young;

use std::collections::BTreeMap;

use proptest::prelude::*;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::*;
use crate::embed::{normalise, similarity};

const DIMENSIONS: usize = 24;
const EMBEDDER: Digest = Digest::from_bytes([7; 32]);

type Found = Vec<(u64, f32)>;

/// Unit vectors in clusters, as texts on a few subjects have; without clusters when `spread` is large.
fn vectors_like(count: usize, spread: f32, dimensions: usize, seed: u64) -> Vec<Vec<f32>> {
    let value = |random: &mut StdRng| random.random::<f32>() * 2.0 - 1.0;
    let mut random = StdRng::seed_from_u64(17);
    let centres: Vec<Vec<f32>> = (0..8).map(|_| (0..dimensions).map(|_| value(&mut random)).collect()).collect();
    let mut random = StdRng::seed_from_u64(seed);
    (0..count)
        .map(|at| {
            let mut vector: Vec<f32> =
                centres[at % 8].iter().map(|centre| centre + spread * value(&mut random)).collect();
            normalise(&mut vector);
            vector
        })
        .collect()
}

fn vectors(count: usize, seed: u64) -> Vec<Vec<f32>> {
    vectors_like(count, 0.7, DIMENSIONS, seed)
}

fn nearest(all: &BTreeMap<u64, Vec<f32>>, vector: &[f32], k: usize, filter: &dyn Fn(u64) -> bool) -> Found {
    let mut found: Found =
        all.iter().filter(|(id, _)| filter(**id)).map(|(id, other)| (*id, similarity(vector, other))).collect();
    found.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    found.truncate(k);
    found
}

/// How many of the true ten nearest are found, over some searches.
fn recall(
    search: &dyn Fn(&[f32]) -> Found,
    all: &BTreeMap<u64, Vec<f32>>,
    asked: &[Vec<f32>],
    filter: &dyn Fn(u64) -> bool,
) -> f32 {
    let (mut found, mut wanted) = (0, 0);
    for vector in asked {
        let result = search(vector);
        assert!(result.windows(2).all(|pair| pair[0].1 >= pair[1].1));
        for (id, score) in &result {
            assert!(filter(*id));
            assert_eq!(*score, similarity(vector, &all[id]), "the true score of {id}");
        }
        let expected = nearest(all, vector, 10, filter);
        wanted += expected.len();
        found += expected.iter().filter(|(id, _)| result.iter().any(|(other, _)| other == id)).count();
    }
    found as f32 / wanted as f32
}

struct Site {
    folder: tempfile::TempDir,
    index: Index,
    all: BTreeMap<u64, Vec<f32>>,
}

impl Site {
    fn new(dimensions: usize) -> Self {
        let index = Index::new(dimensions, EMBEDDER);
        Self { folder: tempfile::tempdir().unwrap(), index, all: BTreeMap::new() }
    }

    fn of(vectors: Vec<Vec<f32>>) -> Self {
        let mut site = Self::new(vectors[0].len());
        for (id, vector) in (0..).zip(vectors) {
            site.insert(id, &vector);
        }
        site.merge();
        site
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("manuals.index")
    }

    fn insert(&mut self, id: u64, vector: &[f32]) {
        self.index.insert(id, vector).unwrap();
        self.all.insert(id, vector.to_vec());
    }

    fn remove(&mut self, id: u64) {
        assert_eq!(self.index.remove(id), self.all.remove(&id).is_some());
    }

    fn merge(&mut self) {
        let mut merge = self.index.merge().unwrap();
        while merge.step(100).unwrap() {}
        self.index.adopt(merge.finish(&self.path()).unwrap()).unwrap();
    }

    fn recall(&self, asked: &[Vec<f32>], filter: Filter<'_>) -> f32 {
        let search = |vector: &[f32]| self.index.search(vector, 10, filter).unwrap();
        recall(&search, &self.all, asked, &|id| filter.passes(|| id))
    }
}

#[test]
fn what_was_merged_is_found_again_on_clustered_and_on_random_data() {
    for (name, spread, dimensions, least) in
        [("clustered", 0.7, 96, 0.98), ("random", 50.0, 96, 0.85), ("one", 0.7, 1, 0.0)]
    {
        let site = Site::of(vectors_like(4000, spread, dimensions, 11));
        let asked = vectors_like(60, spread, dimensions, 12);
        let found = site.recall(&asked, Filter::All);
        assert!(found >= least, "{name}: {found}");
        let opened = Index::open(&site.path(), dimensions, EMBEDDER).unwrap();
        for vector in &asked {
            let search = |index: &Index| index.search(vector, 10, Filter::All).unwrap();
            assert_eq!(search(&opened), search(&site.index), "{name}");
        }
    }
}

#[test]
fn a_filter_is_obeyed_and_one_that_few_pass_is_served_exactly() {
    let site = Site::of(vectors(4000, 1));
    let asked = vectors(40, 99);
    for (modulus, least) in [(1, 0.97), (2, 0.97), (3, 0.97), (10, 1.0), (400, 1.0), (4001, 1.0)] {
        let ids: Ids = (0..9000).filter(|id| id % modulus == 0).collect();
        let found = site.recall(&asked, Filter::Among(&ids));
        assert!(found >= least, "one in {modulus}: {found}");
        let passes = |id: u64| id.is_multiple_of(modulus);
        let found = site.recall(&asked, Filter::Where(&passes));
        assert!(found >= least, "one in {modulus} by its id: {found}");
    }
    assert_eq!(site.index.search(&asked[0], 10, Filter::Among(&Ids::default())).unwrap(), []);
}

#[test]
fn what_is_removed_or_replaced_is_hidden_at_once_and_its_space_freed_by_a_merge() {
    let mut site = Site::of(vectors(3000, 1));
    let asked = vectors(40, 99);
    let before = std::fs::metadata(site.path()).unwrap().len();
    for id in (0..3000).filter(|id| id % 4 == 0) {
        site.remove(id);
    }
    site.remove(0);
    let newer = vectors(3000, 2);
    for id in (0..3000).filter(|id| id % 4 == 1) {
        site.insert(id, &newer[id as usize]);
    }
    assert_eq!(site.index.len(), 2250);
    assert!(site.recall(&asked, Filter::All) > 0.97);
    assert!(site.index.is_due() && !site.index.is_merged());
    site.merge();
    assert!(!site.index.is_due() && site.index.is_merged());
    assert_eq!(site.index.len(), 2250);
    let after = std::fs::metadata(site.path()).unwrap().len();
    assert!(after < before * 3 / 4 + 256, "{before} bytes, then {after}");
    let row = 4 * newer[0].len() as u64 + 4;
    assert_eq!(after - mapped_bytes(&site.path()).unwrap(), 2250 * row, "the true vectors are not mapped");
    assert!(mapped_bytes(&site.path().with_extension("none")).is_err());
    assert!(site.recall(&asked, Filter::All) > 0.97);

    // Nearly all: what is left is linked anew.
    for id in (0..3000).filter(|id| id % 16 != 3) {
        site.remove(id);
    }
    site.merge();
    assert_eq!(site.recall(&asked, Filter::All), 1.0);
    for id in 0..3000 {
        site.remove(id);
    }
    site.merge();
    assert!(site.index.is_empty());
    assert_eq!(site.index.search(&asked[0], 10, Filter::All).unwrap(), []);
}

#[test]
fn many_merges_of_a_few_changes_find_as_much_as_one_of_all() {
    let mut site = Site::of(vectors(2400, 1));
    let asked = vectors(40, 99);
    let pool = vectors(4800, 2);
    for round in 0..8 {
        for at in 0..300 {
            let old = round * 300 + at;
            site.remove(old);
            site.insert(2400 + old, &pool[old as usize]);
        }
        site.merge();
        let found = site.recall(&asked, Filter::All);
        assert!(found > 0.97, "after {round} merges: {found}");
    }
}

#[test]
fn changes_during_a_merge_are_caught_up_with() {
    let mut site = Site::of(vectors(600, 1));
    let newer = vectors(600, 2);
    for id in 600..1200 {
        site.insert(id, &newer[id as usize - 600]);
    }
    let given_up = site.index.merge().unwrap().finish(&site.path()).unwrap();
    let mut merge = site.index.merge().unwrap();
    for id in (0..1200).step_by(3) {
        site.remove(id);
    }
    for id in (0..1200).step_by(5) {
        site.insert(id, &newer[(id as usize + 7) % 600]);
    }
    assert!(merge.step(10).unwrap());
    let merged = merge.finish(&site.path()).unwrap();
    assert!(site.index.adopt(given_up).unwrap_err().to_string().contains("given up"));
    site.index.adopt(merged).unwrap();
    assert_eq!(site.index.len(), site.all.len());
    let mut ids: Vec<u64> = site.index.ids().collect();
    ids.sort_unstable();
    assert_eq!(ids, site.all.keys().copied().collect::<Vec<_>>());
    assert!(site.recall(&vectors(40, 99), Filter::All) > 0.99);
}

#[test]
fn vectors_that_do_not_fit_are_refused() {
    let mut index = Index::new(2, EMBEDDER);
    let error = index.insert(1, &[1.0]).unwrap_err().to_string();
    assert!(error.contains("vector has 1 values: expected 2"), "{error}");
    assert!(index.insert(1, &[f32::NAN, 0.0]).is_err());
    assert!(index.search(&[1.0], 1, Filter::All).is_err());
    assert_eq!(index.search(&[1.0, 0.0], 3, Filter::All).unwrap(), []);
}

#[test]
fn a_vector_comes_back_as_it_was_given() {
    let mut site = Site::of(vectors(30, 1));
    site.index.fill([(3, vectors(1, 7)[0].as_slice())]).unwrap();
    site.index.remove(4);
    let mut expected: Vec<Option<Vec<f32>>> = vectors(30, 1).into_iter().map(Some).collect();
    (expected[3], expected[4]) = (Some(vectors(1, 7).remove(0)), None);
    for (id, expected) in (0..).zip(expected) {
        assert_eq!(site.index.vector(id).unwrap(), expected, "{id}");
    }
    assert_eq!((site.index.vector(30).unwrap(), site.index.len()), (None, 29));
}

#[test]
fn an_id_is_found_however_unevenly_ids_were_given() {
    let spread: [fn(u64) -> u64; 4] = [
        |at| 7 + at,
        |at| at * at * at,
        |at| if at < 250 { at } else { u64::MAX - 1_000 + at },
        |at| (at % 5) * 1_000_003 + at,
    ];
    for (which, id_of) in spread.into_iter().enumerate() {
        let mut site = Site::new(DIMENSIONS);
        for (at, vector) in (0..).zip(vectors(300, 9)) {
            site.insert(id_of(at), &vector);
        }
        site.merge();
        for id in site.all.keys().flat_map(|id| [id.saturating_sub(1), *id, id.saturating_add(1)]).chain([0, u64::MAX])
        {
            assert_eq!(site.index.vector(id).unwrap().as_ref(), site.all.get(&id), "{id} of spread {which}");
        }
    }
}

#[derive(Debug, Clone)]
enum Change {
    Insert(u64, usize),
    Remove(u64),
    Merge,
    Reopen,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        60 => (0u64..60, 0usize..100).prop_map(|(id, vector)| Change::Insert(id, vector)),
        30 => (0u64..60).prop_map(Change::Remove),
        1 => Just(Change::Merge),
        1 => Just(Change::Reopen),
    ]
}

/// An index of which a part is in the file, a part is young and a part of each was removed; made once.
static MIXED: std::sync::LazyLock<Site> = std::sync::LazyLock::new(|| {
    let mut site = Site::of(vectors(6_000, 21));
    for (id, vector) in (6_000..).zip(vectors(500, 22)) {
        site.insert(id, &vector);
    }
    (0..6_500).step_by(13).for_each(|id| site.remove(id));
    site
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_filter_that_few_pass_is_exact(
        ids in proptest::collection::vec(0u64..9_000, 0..700), from in 0u64..6_000, len in 0u64..700, k in 1usize..30, seed in any::<u64>(),
    ) {
        for passing in [ids.into_iter().collect::<Ids>(), (from..from + len).collect()] {
            let passes = |id: u64| passing.has(id);
            for vector in vectors(3, seed) {
                let expected = nearest(&MIXED.all, &vector, k, &passes);
                prop_assert_eq!(&MIXED.index.search(&vector, k, Filter::Among(&passing)).unwrap(), &expected);
                prop_assert_eq!(&MIXED.index.search(&vector, k, Filter::Where(&passes)).unwrap(), &expected);
            }
        }
    }

    #[test]
    fn after_any_changes_the_index_holds_what_a_map_would(
        changes in proptest::collection::vec(change(), 0..200),
        modulus in 1u64..4,
    ) {
        let pool = vectors(100, 5);
        let mut site = Site::new(DIMENSIONS);
        for change in changes {
            match change {
                Change::Insert(id, vector) => site.insert(id, &pool[vector]),
                Change::Remove(id) => site.remove(id),
                Change::Merge => site.merge(),
                // As after a restart: the file is mapped, and what it lacks or has in excess is brought.
                Change::Reopen if site.path().exists() => {
                    site.merge();
                    site.index = Index::open(&site.path(), DIMENSIONS, EMBEDDER).unwrap();
                }
                Change::Reopen => {}
            }
        }
        prop_assert_eq!(site.index.len(), site.all.len());
        let filter = |id: u64| id.is_multiple_of(modulus);
        let found = site.index.search(&pool[0], 5, Filter::Where(&filter)).unwrap();
        // So few are all compared.
        prop_assert_eq!(found, nearest(&site.all, &pool[0], 5, &filter));
    }

    #[test]
    fn a_scan_is_exact_whatever_the_vectors(
        seed in any::<u64>(), dimensions in 1usize..200, scale in prop_oneof![Just(1.0f32), Just(1e-3), Just(1e3)], spread in 0.0f32..1.0,
    ) {
        let scaled = |vector: Vec<f32>| vector.into_iter().map(|value| value * scale).collect::<Vec<f32>>();
        let mut all: Vec<Vec<f32>> = vectors_like(300, spread, dimensions, seed).into_iter().map(scaled).collect();
        all.push(vec![0.0; dimensions]);
        let site = Site::of(all);
        for vector in vectors_like(5, spread, dimensions, seed ^ 1) {
            let found = site.index.search(&vector, 7, Filter::All).unwrap();
            prop_assert_eq!(found, nearest(&site.all, &vector, 7, &|_| true));
        }
    }
}
