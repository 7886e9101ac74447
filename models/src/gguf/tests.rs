//! Kinds of blocks held to gguf-py, and files that lie.

use std::{fs::File, sync::Arc};

use proptest::prelude::*;

use super::{Gguf, Kind, Rows, Value};

impl Rows {
    /// The rows of a file that holds nothing else.
    pub(crate) fn of(bytes: &[u8], kind: Kind, count: usize, columns: usize) -> Self {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, bytes).unwrap();
        Self { file: Arc::<File>::new(file), path: "rows".into(), start: 0, kind, count, columns }
    }
}

#[derive(serde::Deserialize)]
struct Block {
    kind: u32,
    block: String,
    numbers: Vec<f32>,
}

#[test]
fn blocks_stand_for_the_numbers_that_gguf_py_says() {
    let blocks: Vec<Block> = serde_json::from_str(include_str!("../../reference/kinds.json")).unwrap();
    assert_eq!(blocks.len(), 20);
    for Block { kind, block, numbers } in blocks {
        let kind = Kind::from_number(kind).unwrap();
        let mut found = vec![0.0; numbers.len()];
        kind.unpack(&hex::decode(block).unwrap(), &mut found);
        for (at, (found, expected)) in found.iter().zip(&numbers).enumerate() {
            assert!((found - expected).abs() <= 2e-5 * expected.abs().max(1.0), "{kind:?} {at}: {found} {expected}");
        }
    }
}

/// A file of one value and one tensor of 4 rows of 32 numbers as Q8_0.
fn small() -> Vec<u8> {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3u32.to_le_bytes());
    bytes.extend(1u64.to_le_bytes());
    bytes.extend(1u64.to_le_bytes());
    let text = |bytes: &mut Vec<u8>, text: &str| {
        bytes.extend((text.len() as u64).to_le_bytes());
        bytes.extend(text.as_bytes());
    };
    text(&mut bytes, "a.list");
    bytes.extend(9u32.to_le_bytes());
    bytes.extend(8u32.to_le_bytes());
    bytes.extend(2u64.to_le_bytes());
    text(&mut bytes, "one");
    text(&mut bytes, "two");
    text(&mut bytes, "t");
    bytes.extend(2u32.to_le_bytes());
    bytes.extend(32u64.to_le_bytes());
    bytes.extend(4u64.to_le_bytes());
    bytes.extend(8u32.to_le_bytes());
    bytes.extend(0u64.to_le_bytes());
    bytes.resize(bytes.len().next_multiple_of(32) + 4 * 34, 0);
    bytes
}

fn open(bytes: &[u8]) -> Result<Gguf, crate::Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.gguf");
    std::fs::write(&path, bytes).unwrap();
    Gguf::open(&path)
}

#[test]
fn a_small_file_is_read_and_its_tensor_must_be_whole_and_of_the_shape_asked_for() {
    let file = open(&small()).unwrap();
    assert_eq!(file.value("a.list"), Some(&Value::Texts(vec!["one".into(), "two".into()])));
    assert_eq!(file.rows("t", 4, 32).unwrap().row_bytes(), 34);
    let message = |result: Result<Rows, crate::Error>| result.unwrap_err().to_string();
    assert!(message(file.rows("t", 5, 32)).ends_with("tensor t has shape [4, 32]: expected [5, 32]"));
    assert!(message(file.rows("u", 4, 32)).ends_with("tensor u is missing"));
    let cut = open(&small()[..small().len() - 1]).unwrap();
    assert!(message(cut.rows("t", 4, 32)).ends_with("cut off: tensor t runs past the end of the file"));
}

#[test]
fn tensors_that_share_bytes_are_refused_before_any_is_read() {
    let with_second_at = |offset: u64| {
        let mut bytes = small();
        bytes.truncate(bytes.len() - 4 * 34);
        bytes[8] = 2;
        let at = bytes.windows(9).rposition(|window| window == b"\x01\0\0\0\0\0\0\0t").unwrap();
        let tensor = bytes[at..at + 9 + 4 + 16 + 4].to_vec();
        bytes.truncate(at + tensor.len() + 8);
        bytes.extend(&tensor);
        bytes[at + tensor.len() + 8 + 8] = b'u';
        bytes.extend(offset.to_le_bytes());
        bytes.resize(bytes.len().next_multiple_of(32) + 2 * 4 * 34, 0);
        open(&bytes)
    };
    assert!(with_second_at(4 * 34).unwrap().rows("u", 4, 32).is_ok());
    for offset in [0, 1, 4 * 34 - 1] {
        let error = with_second_at(offset).err().unwrap().to_string();
        assert!(error.ends_with("small.gguf: tensors t and u overlap"), "{error}");
    }
}

#[test]
fn a_file_that_shrinks_while_it_is_open_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shrinks.gguf");
    std::fs::write(&path, small()).unwrap();
    let rows = Gguf::open(&path).unwrap().rows("t", 4, 32).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(200).unwrap();
    assert!(rows.unpack(3, &mut [0.0; 32]).unwrap_err().to_string().starts_with("cannot read"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Counts, lengths, types and offsets of any size, at any place.
    #[test]
    fn no_lie_in_a_header_takes_memory_or_panics(at in 4usize..140, lie in any::<u64>(), shift in 0u32..64, len in 1usize..9) {
        let mut bytes = small();
        let lie = (lie >> shift).to_le_bytes();
        for (byte, lie) in bytes[at..].iter_mut().zip(&lie[..len]) {
            *byte = *lie;
        }
        match open(&bytes) {
            Err(error) => prop_assert!(error.to_string().contains("small.gguf: "), "{error}"),
            Ok(file) => {
                for (count, columns) in [(4, 32), (1 << 40, 1 << 40), (usize::MAX, 32)] {
                    if let Ok(rows) = file.rows("t", count, columns) {
                        prop_assert!(rows.row_bytes() * rows.count <= bytes.len());
                    }
                }
            }
        }
    }
}
