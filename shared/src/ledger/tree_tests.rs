//! The tree against its own definition, written naively, and against other people's proofs.

use proptest::prelude::*;

use super::*;

fn leaves(count: u64) -> Vec<Hash> {
    (0..count).map(|n| Hash::leaf(&n.to_be_bytes())).collect()
}

/// RFC 6962's definition, word for word.
fn defined_root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Hash::empty(),
        [one] => *one,
        more => {
            let k = usize::try_from(split(more.len() as u64)).expect("small");
            Hash::node(&defined_root(&more[..k]), &defined_root(&more[k..]))
        }
    }
}

fn hash_of(leaves: &[Hash], range: &Range<u64>) -> Hash {
    let place = |n: u64| usize::try_from(n).expect("small");
    leaves[place(range.start)..place(range.end)].iter().copied().collect::<Tail>().root()
}

fn inclusion(leaves: &[Hash], index: u64) -> Vec<Hash> {
    inclusion_ranges(index, leaves.len() as u64).iter().map(|range| hash_of(leaves, range)).collect()
}

#[test]
fn roots_are_those_of_the_reference_implementation() {
    // The eight leaves and the roots of certificate-transparency's own tests (merkletree/merkle_tree_test.cc).
    let bodies = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    let roots = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let mut tail = Tail::default();
    assert_eq!(hex::encode(tail.root().0), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    for (body, root) in bodies.iter().zip(roots) {
        tail.push(Hash::leaf(&hex::decode(body).expect("hex")));
        assert_eq!(hex::encode(tail.root().0), root, "{} leaves", tail.size());
    }
}

#[test]
fn every_inclusion_and_consistency_proof_of_small_trees_holds() {
    let all = leaves(40);
    for size in 0..=all.len() {
        let now = &all[..size];
        let tail: Tail = now.iter().copied().collect();
        assert_eq!(tail.root(), defined_root(now));
        assert_eq!(Tail::from_bytes(tail.size(), &tail.to_bytes()), Some(tail.clone()));
        for index in 0..size as u64 {
            let leaf = &now[usize::try_from(index).expect("small")];
            verify_inclusion(leaf, index, size as u64, &inclusion(now, index), &tail.root()).expect("holds");
        }
        for old in 0..=size {
            let before: Tail = now[..old].iter().copied().collect();
            let proof = prove_extension(&before, &now[old..]);
            verify_consistency((old as u64, &before.root()), (size as u64, &tail.root()), &proof)
                .unwrap_or_else(|error| panic!("{old} to {size}: {error}"));
        }
    }
}

#[test]
fn a_tail_whose_roots_do_not_fit_its_size_is_refused() {
    assert_eq!(Tail::from_bytes(3, &[0; 32]), None);
    assert_eq!(Tail::from_bytes(1, &[0; 31]), None);
    assert!(Tail::from_bytes(3, &[0; 64]).is_some());
}

/// A damaged copy of a proof: one hash changed, left out, doubled, or put behind.
fn damaged(proof: &[Hash], how: usize, place: usize) -> Option<Vec<Hash>> {
    let mut proof = proof.to_vec();
    let len = proof.len();
    match how % 4 {
        0 => proof.get_mut(place % len.max(1))?.0[place % 32] ^= 1,
        1 if len > 0 => drop(proof.remove(place % len)),
        2 if len > 0 => proof.insert(place % len, proof[place % len]),
        3 => proof.push(Hash::leaf(b"garbage")),
        _ => return None,
    }
    Some(proof)
}

proptest! {
    #[test]
    fn a_damaged_inclusion_proof_never_holds(size in 1_u64..300, at in any::<u64>(), how in 0_usize..4, place in any::<usize>()) {
        let all = leaves(size);
        let index = at % size;
        let root = defined_root(&all);
        let leaf = &all[usize::try_from(index).expect("small")];
        let proof = inclusion(&all, index);
        prop_assert_eq!(verify_inclusion(leaf, index, size, &proof, &root), Ok(()));
        if let Some(bad) = damaged(&proof, how, place) {
            prop_assert!(verify_inclusion(leaf, index, size, &bad, &root).is_err());
        }
        prop_assert!(verify_inclusion(leaf, size, size, &proof, &root).is_err());
        prop_assert!(verify_inclusion(&Hash::leaf(b"other"), index, size, &proof, &root).is_err());
        if size > 1 {
            prop_assert!(verify_inclusion(leaf, (index + 1) % size, size, &proof, &root).is_err());
        }
    }

    #[test]
    fn a_rewritten_history_is_never_consistent(old in 1_u64..200, more in 0_u64..200, touched in any::<u64>(), how in 0_usize..4, place in any::<usize>()) {
        let new = old + more;
        let all = leaves(new);
        let cut = usize::try_from(old).expect("small");
        let before: Tail = all[..cut].iter().copied().collect();
        let proof = prove_extension(&before, &all[cut..]);
        let root = defined_root(&all);
        prop_assert_eq!(verify_consistency((old, &before.root()), (new, &root), &proof), Ok(()));
        if let Some(bad) = damaged(&proof, how, place) {
            prop_assert!(verify_consistency((old, &before.root()), (new, &root), &bad).is_err());
        }
        let mut forged = all.clone();
        forged[usize::try_from(touched % old).expect("small")] = Hash::leaf(b"forged");
        let forged_before: Tail = forged[..cut].iter().copied().collect();
        let forged_proof = prove_extension(&forged_before, &forged[cut..]);
        prop_assert!(verify_consistency((old, &before.root()), (new, &defined_root(&forged)), &forged_proof).is_err());
    }
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vector {
    leaf_idx: u64,
    tree_size: u64,
    root: Option<String>,
    leaf_hash: Option<String>,
    proof: Option<Vec<String>>,
    desc: String,
    want_err: bool,
}

impl Vector {
    fn holds(&self) -> bool {
        let hash = |text: &Option<String>| Hash::from_base64(text.as_deref()?);
        let proof = self.proof.iter().flatten().map(|text| Hash::from_base64(text)).collect::<Option<Vec<_>>>();
        let (Some(leaf), Some(root), Some(proof)) = (hash(&self.leaf_hash), hash(&self.root), proof) else {
            return false;
        };
        verify_inclusion(&leaf, self.leaf_idx, self.tree_size, &proof, &root).is_ok()
    }
}

#[test]
fn inclusion_vectors_of_transparency_dev_agree() {
    let suite = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/suites/merkle/testdata/inclusion");
    let mut folders = vec![suite];
    let mut count = 0;
    while let Some(folder) = folders.pop() {
        let Ok(items) = std::fs::read_dir(&folder) else {
            eprintln!("skipped: {} is not there", folder.display());
            return;
        };
        for path in items.map(|item| item.expect("readable").path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "json") {
                let text = std::fs::read_to_string(&path).expect("readable");
                let vector: Vector = serde_json::from_str(&text).expect("a test vector");
                assert_eq!(vector.holds(), !vector.want_err, "{}: {}", path.display(), vector.desc);
                count += 1;
            }
        }
    }
    assert!(count > 50, "only {count} vectors were found");
}
