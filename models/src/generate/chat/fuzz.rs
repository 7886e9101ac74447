//! Files that lie: whatever stands in one, loading it gives a model or an error that names the file, in bounded memory, without a panic.

use std::{ops::ControlFlow, path::Path};

use proptest::prelude::*;

use super::{Chat, Compute, tests::path, tokens::Tokens};
use crate::{
    Error,
    generate::{Generator, Request},
    gguf::Gguf,
};

/// What is done to a file's bytes.
#[derive(Debug, Clone)]
enum Lie {
    Cut(prop::sample::Index),
    Byte(prop::sample::Index, u8),
    /// A number in place of another, in so many bytes.
    Number(prop::sample::Index, u64, usize),
    /// The length of a text, list or dimension, where one stands.
    Length(prop::sample::Index, u64),
    /// The type of a value, or of a tensor.
    Kind(prop::sample::Index, u32),
    Insert(prop::sample::Index, Vec<u8>),
    Remove(prop::sample::Index, usize),
    Repeat(prop::sample::Index, usize),
}

fn numbers() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(1),
        Just(u64::from(u32::MAX)),
        Just(u64::MAX),
        Just(i64::MAX as u64),
        Just(1 << 31),
        Just(1 << 40),
        0..70_000u64,
        any::<u64>(),
    ]
}

fn lies() -> impl Strategy<Value = Lie> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        1 => at().prop_map(Lie::Cut),
        3 => (at(), any::<u8>()).prop_map(|(at, byte)| Lie::Byte(at, byte)),
        3 => (at(), numbers(), prop::sample::select(vec![1usize, 2, 4, 8])).prop_map(|(at, n, len)| Lie::Number(at, n, len)),
        3 => (at(), numbers()).prop_map(|(at, number)| Lie::Length(at, number)),
        3 => (at(), 0..40u32).prop_map(|(at, kind)| Lie::Kind(at, kind)),
        1 => (at(), prop::collection::vec(any::<u8>(), 1..9)).prop_map(|(at, bytes)| Lie::Insert(at, bytes)),
        1 => (at(), 1..40usize).prop_map(|(at, len)| Lie::Remove(at, len)),
        1 => (at(), 1..200usize).prop_map(|(at, len)| Lie::Repeat(at, len)),
    ]
}

/// Where keys and names of tensors end in a header: after each stands what the file says of it.
fn ends_of_names(bytes: &[u8], header: usize) -> Vec<usize> {
    let is_name = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._".contains(byte);
    let end = |at: usize| {
        let len = u64::from_le_bytes(bytes[at..at + 8].try_into().ok()?) as usize;
        let name = bytes.get(at + 8..(at + 8).checked_add(len)?)?;
        (len > 4 && len < 80 && name.contains(&b'.') && name.iter().all(is_name)).then_some(at + 8 + len)
    };
    (24..header).filter_map(end).collect()
}

fn tell(lie: Lie, bytes: &mut Vec<u8>, header: usize) {
    let header = header.min(bytes.len());
    if header < 64 {
        return;
    }
    let put = |bytes: &mut Vec<u8>, at: usize, number: u64, len: usize| {
        for (to, from) in bytes.iter_mut().skip(at).zip(&number.to_le_bytes()[..len]) {
            *to = *from;
        }
    };
    let names = ends_of_names(bytes, header - 16);
    match lie {
        Lie::Cut(at) => bytes.truncate(at.index(header)),
        Lie::Byte(at, byte) => bytes[at.index(header)] = byte,
        Lie::Number(at, number, len) => put(bytes, at.index(header), number, len),
        Lie::Length(at, number) if !names.is_empty() => put(bytes, names[at.index(names.len())] + 8, number, 8),
        Lie::Kind(at, kind) if !names.is_empty() => put(bytes, names[at.index(names.len())], kind.into(), 4),
        Lie::Length(..) | Lie::Kind(..) => {}
        Lie::Insert(at, new) => drop(bytes.splice(at.index(header)..at.index(header), new)),
        Lie::Remove(at, len) => drop(bytes.drain(at.index(header)..(at.index(header) + len).min(header))),
        Lie::Repeat(at, len) => {
            let at = at.index(header);
            let again = bytes[at..(at + len).min(header)].to_vec();
            drop(bytes.splice(at..at, again));
        }
    }
}

fn check(file: &Path) -> Result<(), TestCaseError> {
    let compute = Compute { threads: std::num::NonZero::new(1), ..Compute::default() };
    match Chat::load_with(file, compute) {
        Ok(chat) => {
            // What it says may be nonsense; a request may be refused.
            drop(chat.generate(&Request { max_tokens: 2, ..Request::ask("a") }, &mut |_| ControlFlow::Continue(())));
        }
        Err(Error::File { path, message }) => {
            prop_assert!(path == file && !message.is_empty());
        }
        Err(Error::Io { path, .. }) => prop_assert!(path == file),
        Err(error) => prop_assert!(false, "of another kind: {error}"),
    }
    Ok(())
}

/// The most memory that this process ever had, in bytes, where the system tells.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) << 10
}

#[test]
fn a_file_that_lies_gives_an_error_that_names_it_in_bounded_memory() {
    for name in ["tiny-llama2", "tiny-qwen3-q8", "tiny-gemma3", "tiny-phi3", "tiny-lfm2"] {
        let whole = std::fs::read(path(name)).unwrap();
        // The tensors' bytes may be anything; what stands before them is told.
        let header = whole.len() * 2 / 3;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("lie.gguf");
        let before = peak();
        let config = ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() };
        let mut runner = proptest::test_runner::TestRunner::new(config);
        let told = runner.run(&prop::collection::vec(lies(), 1..4), |lies| {
            let mut bytes = whole.clone();
            for lie in lies {
                tell(lie, &mut bytes, header);
            }
            std::fs::write(&file, bytes).unwrap();
            check(&file)
        });
        // What was told is in the error, and makes the same file again.
        told.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(peak() - before < 256 << 20, "{name}: {} MB more", (peak() - before) >> 20);
    }
}

#[test]
fn words_that_a_model_split_are_gone_with_it() {
    let words: String = (0..10_000).map(|number| format!(" w{number}")).collect();
    let split = |times: usize| {
        for _ in 0..times {
            let tokens = Tokens::load(&Gguf::open(&path("tiny-qwen3")).unwrap()).unwrap();
            assert!(tokens.encode(&words).unwrap().len() > 10_000);
        }
        peak()
    };
    let (once, often) = (split(3), split(30));
    assert!(often < once + (16 << 20), "{once} bytes after 3 models, {often} after 33");
}
