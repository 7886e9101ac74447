//! Files that are cut off, damaged or lie: an error or the right answer, never a crash.

use std::{fs::OpenOptions, os::unix::fs::FileExt as _, path::Path, sync::LazyLock};

use super::*;

fn search(path: &Path, asked: &[Vec<f32>]) -> Result<Vec<Found>, Error> {
    let index = Index::open(path, DIMENSIONS, EMBEDDER)?;
    asked.iter().map(|vector| index.search(vector, 10, Filter::All)).collect()
}

/// An index of so many vectors, and its file.
fn written(count: usize) -> (Site, Vec<u8>) {
    let site = Site::of(vectors(count, 3));
    let bytes = std::fs::read(site.path()).unwrap();
    (site, bytes)
}

#[test]
fn every_truncation_is_refused() {
    let (site, whole) = written(20);
    let file = OpenOptions::new().write(true).open(site.path()).unwrap();
    for len in (0..whole.len()).rev() {
        file.set_len(len as u64).unwrap();
        let error = Index::open(&site.path(), DIMENSIONS, EMBEDDER).err().unwrap().to_string();
        assert!(error.contains("manuals.index: "), "{len} bytes: {error}");
    }
    std::fs::write(site.path(), [whole.as_slice(), b"more"].concat()).unwrap();
    assert!(Index::open(&site.path(), DIMENSIONS, EMBEDDER).err().unwrap().to_string().contains("cut off or damaged"));
    assert!(
        Index::open(&site.folder.path().join("none"), 1, EMBEDDER)
            .err()
            .unwrap()
            .to_string()
            .starts_with("cannot read")
    );
}

#[test]
fn every_byte_that_changed_is_noticed_or_does_no_harm() {
    let (site, whole) = written(20);
    let asked = vectors(3, 4);
    let right = search(&site.path(), &asked).unwrap();
    let file = OpenOptions::new().write(true).open(site.path()).unwrap();
    let mut noticed = 0;
    for at in 0..whole.len() {
        file.write_all_at(&[whole[at] ^ 1 << (at % 8)], at as u64).unwrap();
        match search(&site.path(), &asked) {
            Ok(found) => assert_eq!(found, right, "byte {at}"),
            Err(error) => {
                assert!(error.to_string().contains("manuals.index: "), "byte {at}: {error}");
                noticed += 1;
            }
        }
        file.write_all_at(&whole[at..=at], at as u64).unwrap();
    }
    // Gaps between the sections are harmless, and so are rows that no search reads.
    assert!(noticed > whole.len() / 2, "{noticed} of {}", whole.len());
}

#[test]
fn another_embedder_and_another_length_are_refused() {
    let (site, _) = written(40);
    let error = Index::open(&site.path(), DIMENSIONS, Digest::from_bytes([8; 32])).err().unwrap().to_string();
    assert!(error.contains("made by the embedder"), "{error}");
    assert!(Index::open(&site.path(), DIMENSIONS + 1, EMBEDDER).is_err());
}

#[test]
fn an_index_whose_vectors_are_damaged_serves_without_its_file_and_is_filled_again() {
    let (mut site, whole) = written(300);
    let asked = vectors(3, 4);
    let right = search(&site.path(), &asked).unwrap();
    let merge = site.index.merge().unwrap();
    let file = OpenOptions::new().write(true).open(site.path()).unwrap();
    let row_len = 4 * DIMENSIONS + 4;
    for at in (whole.len() - 300 * row_len..whole.len()).step_by(row_len) {
        file.write_all_at(&[whole[at] ^ 1], at as u64).unwrap();
    }
    let error = site.index.search(&asked[0], 10, Filter::All).err().unwrap();
    assert!(error.is_unreadable() && error.to_string().contains("is not as it was written"), "{error}");
    assert!(merge.finish(&site.folder.path().join("next")).err().unwrap().is_unreadable());

    let all = vectors(300, 3);
    site.index.insert(7, &all[7]).unwrap();
    assert!(site.index.drop_file());
    assert!(!site.index.drop_file());
    assert_eq!(site.index.ids().collect::<Vec<_>>(), [7], "what came since stays");
    assert_eq!(site.index.search(&all[7], 10, Filter::All).unwrap().len(), 1);
    site.index.fill((0..).zip(all.iter().map(Vec::as_slice))).unwrap();
    let found: Vec<_> = asked.iter().map(|vector| site.index.search(vector, 10, Filter::All).unwrap()).collect();
    assert_eq!(found, right);
    site.merge();
    assert_eq!(search(&site.path(), &asked).unwrap(), right);
}

/// Puts the checks right that a change of a file's content made wrong.
fn forge(bytes: &mut [u8]) {
    let sections = flat::sections(bytes);
    for (range, at) in sections {
        let check = bytes.get(range).map(crc32fast::hash).unwrap_or_default();
        bytes[at..at + 4].copy_from_slice(&check.to_le_bytes());
    }
    let check = crc32fast::hash(&bytes[..252]);
    bytes[252..256].copy_from_slice(&check.to_le_bytes());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_file_that_lies_consistently_crashes_nothing(
        lies in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..40),
        header in proptest::collection::vec((8usize..72, any::<u8>()), 0..2),
        many in any::<bool>(),
    ) {
        static WHOLE: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| [written(30).1, written(1200).1]);
        let site = Site::new(DIMENSIONS);
        let mut bytes = WHOLE[usize::from(many)].clone();
        for (at, byte) in lies {
            let at = 256 + at.index(bytes.len() - 256);
            bytes[at] = byte;
        }
        for (at, byte) in header {
            bytes[at] = byte;
        }
        forge(&mut bytes);
        std::fs::write(site.path(), &bytes).unwrap();
        // What it finds is its own affair.
        let _ = search(&site.path(), &vectors(3, 4));
        if let Ok(mut index) = Index::open(&site.path(), DIMENSIONS, EMBEDDER) {
            let _ = (0..20).filter(|id| index.remove(*id)).count();
            let merged = index.merge().and_then(|merge| merge.finish(&site.folder.path().join("next")));
            let _ = merged.and_then(|merged| index.adopt(merged));
        }
    }
}

#[test]
fn a_crash_before_the_new_file_is_in_place_leaves_the_old_one_served() {
    let (mut site, whole) = written(300);
    let asked = vectors(3, 4);
    let right = search(&site.path(), &asked).unwrap();
    for (id, vector) in (1000..).zip(vectors(50, 9)) {
        site.insert(id, &vector);
    }
    // What a crash leaves at any point: a part of the new file beside the old one.
    let beside = site.path().with_extension("partial");
    for len in [0, 100, whole.len() / 2, whole.len()] {
        std::fs::write(&beside, &whole[..len]).unwrap();
        assert_eq!(search(&site.path(), &asked).unwrap(), right);
    }
    // The next merge is not hindered by it.
    site.merge();
    assert!(!beside.exists());
    assert_eq!(Index::open(&site.path(), DIMENSIONS, EMBEDDER).unwrap().len(), 350);
}

#[test]
fn a_merge_that_cannot_be_written_leaves_everything_as_it_was() {
    let (mut site, _) = written(300);
    site.insert(1000, &vectors(1, 9)[0]);
    let merge = site.index.merge().unwrap();
    let error = merge.finish(&site.folder.path().join("missing/manuals.index")).err().unwrap().to_string();
    assert!(error.starts_with("cannot write"), "{error}");
    assert!(site.recall(&vectors(10, 99), Filter::All) > 0.97);
    site.merge();
    assert_eq!(site.index.len(), 301);
}
