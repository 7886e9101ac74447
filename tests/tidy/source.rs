//! Reading the checkout: its files, and Rust text without its comments and strings.
//!
//! No full parser: the shapes looked for (paths, calls, attributes) are plain once comments and strings are gone.

use std::path::{Path, PathBuf};

/// The root of the checkout.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the checkout").to_owned()
}

/// A file of the checkout: its path relative to the root, with `/`, and its text.
pub struct File {
    pub path: String,
    pub text: String,
}

/// Every text file under a folder of the checkout whose name ends so; build output and hidden tool folders left out.
pub fn files(folder: &str, endings: &[&str]) -> Vec<File> {
    let root = root();
    let mut found = Vec::new();
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.expect("a folder of the checkout can be read").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_dir() {
                if !matches!(name, "target" | ".git" | "node_modules") {
                    folders.push(path);
                }
            } else if endings.iter().any(|ending| name.ends_with(ending))
                && let Ok(text) = std::fs::read_to_string(&path)
            {
                let path = path.strip_prefix(&root).expect("under the root").to_string_lossy().replace('\\', "/");
                found.push(File { path, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// The text with every comment and the inside of every string and character literal blanked; line breaks stay, so that
/// offsets and line numbers hold.
pub fn code_of(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes.get(at + 1) == Some(&b'/') => line_end(bytes, at),
            b'/' if bytes.get(at + 1) == Some(&b'*') => block_comment_end(bytes, at),
            b'r' if !joins_word(bytes, at) => match raw_string_end(bytes, at) {
                Some(end) => end,
                None => at + 1,
            },
            b'"' => string_end(bytes, at),
            b'\'' => character_end(bytes, at),
            _ => at + 1,
        };
        if end > at + 1 {
            for byte in &mut code[at..end] {
                if *byte != b'\n' {
                    *byte = b' ';
                }
            }
        }
        at = end;
    }
    String::from_utf8_lossy(&code).into_owned()
}

/// The 1-based line of an offset.
pub fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count() + 1
}

/// The part of a file that is test code: all of it under `tests/` or when its name says so, else from the first
/// `#[cfg(test)]` on a `mod` with a body (tests stand last). `None` when there is none.
pub fn tests_start(path: &str, code: &str) -> Option<usize> {
    let name = path.rsplit('/').next().unwrap_or(path);
    if path.starts_with("tests/") || path.contains("/tests/") || name.ends_with("tests.rs") || name == "fixtures.rs" {
        return Some(0);
    }
    let with_body = regex::Regex::new(r"#\[cfg\(test\)\]\s*(?:#\[[^\]]*\]\s*)*mod \w+ \{").expect("a valid pattern");
    with_body.find(code).map(|found| found.start())
}

fn joins_word(bytes: &[u8], at: usize) -> bool {
    at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_') && bytes[at - 1] != b'b'
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |length| at + length)
}

fn block_comment_end(bytes: &[u8], at: usize) -> usize {
    let (mut depth, mut next) = (1, at + 2);
    while next < bytes.len() && depth > 0 {
        match &bytes[next..] {
            [b'/', b'*', ..] => (depth, next) = (depth + 1, next + 2),
            [b'*', b'/', ..] => (depth, next) = (depth - 1, next + 2),
            _ => next += 1,
        }
    }
    next
}

fn raw_string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let hashes = bytes[at + 1..].iter().take_while(|byte| **byte == b'#').count();
    if bytes.get(at + 1 + hashes) != Some(&b'"') {
        return None;
    }
    let close = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
    let body = at + 2 + hashes;
    let length = bytes[body..].windows(close.len()).position(|window| window == close)?;
    Some(body + length + close.len())
}

fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut next = at + 1;
    while next < bytes.len() && bytes[next] != b'"' {
        next += if bytes[next] == b'\\' { 2 } else { 1 };
    }
    (next + 1).min(bytes.len())
}

/// A character literal's end; a lifetime ends where it begins.
fn character_end(bytes: &[u8], at: usize) -> usize {
    match &bytes[at + 1..] {
        [b'\\', _, rest @ ..] => {
            rest.iter().take(10).position(|byte| *byte == b'\'').map_or(at + 1, |length| at + 4 + length)
        }
        [_, b'\'', ..] => at + 3,
        _ => {
            // A character of several bytes is a literal too: 'ä'.
            let width = std::str::from_utf8(&bytes[at + 1..(at + 5).min(bytes.len())])
                .map_or_else(|error| error.valid_up_to(), str::len);
            let first = std::str::from_utf8(&bytes[at + 1..at + 1 + width]).ok().and_then(|text| text.chars().next());
            match first {
                Some(c) if !c.is_ascii() && bytes.get(at + 1 + c.len_utf8()) == Some(&b'\'') => at + 2 + c.len_utf8(),
                _ => at + 1,
            }
        }
    }
}

#[test]
fn comments_and_strings_are_blanked_and_lines_kept() {
    let text = "use a; // use b\n/* c /* d */ e */ let s = \"f \\\" g\"; let r = r#\"h \" i\"#;\nlet q = '\"'; fn j<'k>() {} 'ä' l";
    let code = code_of(text);
    assert_eq!(code.len(), text.len());
    assert_eq!(code.matches('\n').count(), 2);
    for gone in ["b", "c", "d", "f", "g", "h", "ä", "\""] {
        assert!(!code.contains(&format!(" {gone} ")) && !code.contains('"'), "{gone} stayed in {code:?}");
    }
    for kept in ["use a;", "let s =", "fn j<'k>() {}", " l"] {
        assert!(code.contains(kept), "{kept} is gone from {code:?}");
    }
}
