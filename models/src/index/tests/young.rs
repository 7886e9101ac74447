//! What is not in the file: few vectors are compared, many have a graph.

use std::collections::BTreeMap;

use super::*;
use crate::index::exact::Vectors;

#[test]
fn the_graph_finds_nearly_all_of_the_nearest_also_with_filters_and_after_removals() {
    let mut young = Young::over(Vectors::new(DIMENSIONS), 500);
    let mut all = BTreeMap::new();
    for (id, vector) in (0u64..).zip(vectors(3000, 1)) {
        young.insert(id, &vector).unwrap();
        all.insert(id, vector);
    }
    let asked = vectors(40, 99);
    let found = |young: &Young, all: &BTreeMap<u64, Vec<f32>>, filter: &dyn Fn(u64) -> bool| {
        recall(&|vector| young.search(vector, 10, filter), all, &asked, filter)
    };
    while young.tend(100) {}
    assert!((0..3000).all(|id| young.is_in_graph(id)));
    let with_graph = found(&young, &all, &|_| true);
    assert!(with_graph > 0.95, "{with_graph}");
    assert!(found(&young, &all, &|id| id % 10 < 7) > 0.95);
    assert_eq!(found(&young, &all, &|id| id % 10 == 0), 1.0, "a selective filter is served exactly");

    for id in (0..3000).filter(|id| id % 4 == 0) {
        assert!(young.remove(id));
        all.remove(&id);
    }
    assert!(!young.remove(0));
    assert!(found(&young, &all, &|_| true) > 0.95);

    // Replaced vectors are found where they are now; their dead nodes wear the graph out and it is made anew.
    for (id, vector) in (0u64..3000).zip(vectors(3000, 2)).filter(|(id, _)| id % 4 == 1) {
        young.insert(id, &vector).unwrap();
        all.insert(id, vector);
    }
    assert!(found(&young, &all, &|_| true) > 0.95);
    while young.tend(100) {}
    assert!(found(&young, &all, &|_| true) > 0.95);
}
