//! The index held to a plain list of vectors.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::*;
use crate::embed::normalise;

const DIMENSIONS: usize = 24;

/// Unit vectors in clusters, as texts on a few subjects have.
fn vectors(count: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut value = || random.random::<f32>() * 2.0 - 1.0;
    let centres: Vec<Vec<f32>> = (0..8).map(|_| (0..DIMENSIONS).map(|_| value()).collect()).collect();
    let near = |at: usize| centres[at % centres.len()].clone();
    (0..count)
        .map(|at| {
            let mut vector: Vec<f32> = near(at).iter().map(|centre| centre + 0.7 * value()).collect();
            normalise(&mut vector);
            vector
        })
        .collect()
}

fn nearest(all: &BTreeMap<u64, Vec<f32>>, vector: &[f32], k: usize, filter: &dyn Fn(u64) -> bool) -> Vec<u64> {
    let mut found: Vec<(u64, f32)> =
        all.iter().filter(|(id, _)| filter(**id)).map(|(id, other)| (*id, similarity(vector, other))).collect();
    found.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    found.into_iter().take(k).map(|(id, _)| id).collect()
}

/// How many of the true ten nearest are found, over some searches.
fn recall(index: &Hnsw, all: &BTreeMap<u64, Vec<f32>>, filter: &dyn Fn(u64) -> bool) -> f32 {
    let (mut found, mut wanted) = (0, 0);
    for vector in vectors(40, 99) {
        let result = index.search(&vector, 10, filter).unwrap();
        assert!(result.windows(2).all(|pair| pair[0].1 >= pair[1].1));
        assert!(result.iter().all(|(id, _)| all.contains_key(id) && filter(*id)));
        let expected = nearest(all, &vector, 10, filter);
        wanted += expected.len();
        found += expected.iter().filter(|id| result.iter().any(|(other, _)| other == *id)).count();
    }
    found as f32 / wanted as f32
}

#[test]
fn the_graph_finds_nearly_all_of_the_nearest_also_with_filters_and_after_removals() {
    let mut index = Hnsw::of(Vectors::new(DIMENSIONS), 500);
    let mut all = BTreeMap::new();
    for (id, vector) in (0u64..).zip(vectors(3000, 1)) {
        index.insert(id, &vector).unwrap();
        all.insert(id, vector);
    }
    while index.tend(100) {}
    assert!((0..3000).all(|id| index.is_in_graph(id)));
    let with_graph = recall(&index, &all, &|_| true);
    assert!(with_graph > 0.95, "{with_graph}");
    assert!(recall(&index, &all, &|id| id % 10 < 7) > 0.95);
    assert_eq!(recall(&index, &all, &|id| id % 10 == 0), 1.0, "a selective filter is served exactly");

    for id in (0..3000).filter(|id| id % 4 == 0) {
        assert!(index.remove(id));
        all.remove(&id);
    }
    assert!(!index.remove(0));
    assert!(recall(&index, &all, &|_| true) > 0.95);

    // Replaced vectors are found where they are now; their dead nodes wear the graph out and it is made anew.
    for (id, vector) in (0u64..3000).zip(vectors(3000, 2)).filter(|(id, _)| id % 4 == 1) {
        index.insert(id, &vector).unwrap();
        all.insert(id, vector);
    }
    assert!(recall(&index, &all, &|_| true) > 0.95);
    while index.tend(100) {}
    assert!(recall(&index, &all, &|_| true) > 0.95);
}

#[test]
fn vectors_that_do_not_fit_are_refused() {
    let mut index = Hnsw::new(2);
    let error = index.insert(1, &[1.0]).unwrap_err().to_string();
    assert!(error.contains("vector has 1 values: expected 2"), "{error}");
    assert!(index.insert(1, &[f32::NAN, 0.0]).is_err());
    assert!(index.search(&[1.0], 1, &|_| true).is_err());
    assert_eq!(index.search(&[1.0, 0.0], 3, &|_| true).unwrap(), []);
}

#[test]
fn a_saved_index_comes_back_and_a_damaged_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("manuals.index");
    let mut index = Hnsw::new(DIMENSIONS);
    for (id, vector) in (7u64..).zip(vectors(50, 3)) {
        index.insert(id, &vector).unwrap();
    }
    index.save(&path).unwrap();
    let loaded = Hnsw::load(&path).unwrap();
    let question = &vectors(1, 4)[0];
    let search = |index: &Hnsw| index.search(question, 50, &|_| true).unwrap();
    assert_eq!((loaded.dimensions(), search(&loaded)), (DIMENSIONS, search(&index)));

    let whole = std::fs::read(&path).unwrap();
    let check = |bytes: &[u8], expected: &str| {
        std::fs::write(&path, bytes).unwrap();
        let error = Hnsw::load(&path).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(expected), "{error:?} lacks {expected:?}");
    };
    for len in [0, 10, 51, 52, 500, whole.len() - 1] {
        check(&whole[..len], "manuals.index: ");
    }
    for at in (0..whole.len()).step_by(97) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        check(&bytes, "manuals.index: ");
    }
    let mut huge = whole.clone();
    huge[12..20].copy_from_slice(&u64::MAX.to_le_bytes());
    check(&huge, "cut off or damaged");
    assert!(Hnsw::load(&folder.path().join("none")).err().unwrap().to_string().starts_with("cannot read"));
}

#[derive(Debug, Clone)]
enum Change {
    Insert(u64, usize),
    Remove(u64),
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn after_any_changes_the_index_holds_what_a_map_would(
        changes in proptest::collection::vec(
            prop_oneof![
                3 => (0u64..60, 0usize..100).prop_map(|(id, vector)| Change::Insert(id, vector)),
                1 => (0u64..60).prop_map(Change::Remove),
            ],
            0..200,
        ),
        graph_from in prop_oneof![Just(1usize), Just(30), Just(1000)],
        modulus in 1u64..4,
    ) {
        let pool = vectors(100, 5);
        let mut index = Hnsw::of(Vectors::new(DIMENSIONS), graph_from);
        let mut all = BTreeMap::new();
        for change in changes {
            match change {
                Change::Insert(id, vector) => {
                    index.insert(id, &pool[vector]).unwrap();
                    all.insert(id, pool[vector].clone());
                }
                Change::Remove(id) => prop_assert_eq!(index.remove(id), all.remove(&id).is_some()),
            }
        }
        prop_assert_eq!(index.len(), all.len());
        let filter = |id: u64| id.is_multiple_of(modulus);
        let found: Vec<u64> = index.search(&pool[0], 5, &filter).unwrap().into_iter().map(|(id, _)| id).collect();
        let expected = nearest(&all, &pool[0], 5, &filter);
        // So few nodes are all linked: the graph is exact here too, but for vectors that are equal.
        let cosines = |ids: &[u64]| ids.iter().map(|id| similarity(&pool[0], &all[id])).collect::<Vec<_>>();
        prop_assert_eq!(cosines(&found), cosines(&expected));
    }
}
