//! Files that are cut off, lie about themselves, or are broken anyhow.

use proptest::prelude::*;

use super::*;

#[test]
fn a_cut_off_file_is_refused_wherever_it_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let whole = std::fs::read(path("tiny-qwen3")).unwrap();
    let file = folder.path().join("cut.gguf");
    for part in 0..60 {
        std::fs::write(&file, &whole[..whole.len() * part / 60]).unwrap();
        let error = load_gguf(&file).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("cut.gguf: "), "{part}: {error:?}");
    }
    let error = load_gguf(&folder.path().join("none.gguf")).err().unwrap().to_string();
    assert!(error.starts_with("cannot read"), "{error}");
}

#[test]
fn a_file_that_lies_about_itself_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let whole = std::fs::read(path("tiny-qwen3")).unwrap();
    let check = |key: &str, from: &[u8], to: &[u8], expected: &str| {
        let file = folder.path().join("lie.gguf");
        let mut bytes = whole.clone();
        let mut key_at = bytes.windows(key.len()).position(|window| window == key.as_bytes()).unwrap();
        // Past the key and the number of its type.
        key_at += if key == "GGUF" { 0 } else { key.len() + 4 };
        let at = key_at + bytes[key_at..].windows(from.len()).position(|window| window == from).unwrap();
        bytes[at..at + to.len()].copy_from_slice(to);
        std::fs::write(&file, bytes).unwrap();
        let error = load_gguf(&file).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(expected), "{error:?} lacks {expected:?}");
    };
    check("GGUF", b"GGUF", b"GGML", "not a GGUF file");
    check("GGUF", &3u32.to_le_bytes(), &9u32.to_le_bytes(), "GGUF version 9");
    check("qwen3.block_count", &2u32.to_le_bytes(), &3u32.to_le_bytes(), "tensor blk.2.attn_norm.weight is missing");
    check(
        "qwen3.block_count",
        &2u32.to_le_bytes(),
        &0u32.to_le_bytes(),
        "qwen3.block_count is 0: expected a whole number from 1 to 512",
    );
    check("qwen3.attention.head_count", &4u32.to_le_bytes(), &3u32.to_le_bytes(), "3 heads of 32 in 2 groups");
    check("qwen3.embedding_length", &64u32.to_le_bytes(), &80u32.to_le_bytes(), "tensor token_embd.weight has shape");
    check("qwen3.embedding_length", &64u32.to_le_bytes(), &65u32.to_le_bytes(), "expected multiples of 16");
    check("tokenizer.ggml.tokens", &8u32.to_le_bytes(), &4u32.to_le_bytes(), "lie.gguf: ");
    check(
        "blk.0.attn_q.weight",
        &64u64.to_le_bytes(),
        &u64::MAX.to_le_bytes(),
        "tensor blk.0.attn_q.weight is larger than the file",
    );
    check("blk.0.attn_q.weight", &64u64.to_le_bytes(), &32u64.to_le_bytes(), "tensor blk.0.attn_q.weight has shape");
    check("blk.0.attn_q.weight", &64u64.to_le_bytes(), &128u64.to_le_bytes(), "overlap");
    check("general.architecture", b"qwen3", b"mamba", "general.architecture is \"mamba\"");
    check("tokenizer.chat_template", b"{%-", b"{%%", "tokenizer.chat_template: ");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn no_flipped_bytes_make_it_panic(flips in proptest::collection::vec((0usize..20_000, any::<u8>()), 1..4)) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("flipped.gguf");
        let mut bytes = std::fs::read(path("tiny-llama2")).unwrap();
        for (at, value) in flips {
            bytes[at] = value;
        }
        std::fs::write(&file, bytes).unwrap();
        if let Ok(chat) = load_gguf(&file) {
            let _ = chat.generate(&Request { max_tokens: 2, ..Request::ask("a") }, &mut |_| ControlFlow::Continue(()));
        }
    }
}
