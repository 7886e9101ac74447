//! What keeps a target from answering, as far as this node can see without asking it: a file, a digest, a key.

use models::{
    catalog::Digests,
    generate::{Compute, open_gguf},
};

use super::config::{Gguf, Key, Source, Target};

/// Something that is wrong with a target, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub target: String,
    pub found: String,
    pub advice: String,
}

/// How closely to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Look {
    /// Reads no model: for a start that must be fast.
    Quick,
    /// Also reads the head of each model, and whether its file holds what that tells of.
    Heads,
    /// Also holds each model against its digest, reading those that were not read before.
    Digests,
    /// Also reads all of a model but the weights.
    Thorough,
}

/// What is wrong with the targets, in their order.
#[must_use]
pub fn of(targets: &[Target], digests: &Digests, look: Look) -> Vec<Problem> {
    let problem = |target: &Target| {
        let (found, advice) = match &target.source {
            Source::Gguf(model) => of_file(target, model, digests, look)?,
            Source::Provider(provider) => of_key(provider.key.as_ref()?)?,
        };
        Some(Problem { target: target.name.clone(), found, advice })
    };
    targets.iter().filter_map(problem).collect()
}

fn of_file(target: &Target, model: &Gguf, digests: &Digests, look: Look) -> Option<(String, String)> {
    let file = model.file.display();
    let pull = match &model.hub {
        Some(_) => format!("run `edge-agent models pull {}`", target.name),
        None => "put the model's file there, or get one with `edge-agent models pull --repo OWNER/NAME --file FILE --digest \
                 sha256:..`"
            .to_owned(),
    };
    if !model.file.is_file() {
        return Some((format!("its file {file} is not there"), pull));
    }
    if look >= Look::Digests {
        match model.digest.map(|expected| (expected, digests.of(&model.file))) {
            Some((expected, Ok(found))) if found != expected => {
                return Some((format!("{file} is {found}: expected {expected}; it will be refused"), pull));
            }
            Some((_, Err(error))) => return Some((error.to_string(), "let the agent's user read the file".to_owned())),
            None | Some((_, Ok(_))) => {}
        }
    }
    if look == Look::Quick {
        return None;
    }
    let opened = open_gguf(&model.file, Compute::default());
    let examined = opened.and_then(|unloaded| if look == Look::Thorough { unloaded.examine() } else { Ok(()) });
    let advice = || "the route goes on to the next target: get another file, or take the target out".to_owned();
    examined.err().map(|error| (format!("cannot be loaded: {}", super::reply::chain(&error)), advice()))
}

fn of_key(key: &Key) -> Option<(String, String)> {
    match key {
        Key::Env(variable) => {
            let is_set = std::env::var(variable).is_ok_and(|value| !value.trim().is_empty());
            let found = format!("its key is not there: the environment variable {variable} is not set");
            (!is_set).then(|| (found, format!("set {variable} for the agent, or name a file with `key_file`")))
        }
        Key::File(file) => {
            let advice = "write the provider's key into that file, readable by the agent's user alone".to_owned();
            match private::read(file, private::Origin::Given) {
                Ok(text) if !text.trim().is_empty() => None,
                Ok(_) => Some((format!("its key is not there: {} is empty", file.display()), advice)),
                Err(error) => Some((format!("its key is not used: {:#}", anyhow::Error::new(error)), advice)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;
    use shared::digest::Digest;

    use super::*;

    #[test]
    fn a_missing_file_a_wrong_one_and_an_absent_key_are_named_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("m.gguf");
        std::fs::write(&file, b"other weights").unwrap();
        let gguf = |name: &str, file: &Path, repo: Option<&str>| -> Target {
            let digest = Digest::of(b"weights");
            serde_json::from_value(json!({"name": name, "kind": "gguf", "file": file, "digest": digest, "repo": repo}))
                .unwrap()
        };
        let cloud = |name: &str, key: &str, at: &str| -> Target {
            let mut value = json!({"name": name, "kind": "openai", "url": "http://x/v1", "model": "m"});
            value[key] = at.into();
            serde_json::from_value(value).unwrap()
        };
        let absent = folder.path().join("absent");
        let targets = [
            gguf("local/a", &absent, Some("a/b")),
            gguf("local/b", &absent, None),
            gguf("local/c", &file, Some("a/b")),
            serde_json::from_value(json!({"name": "local/d", "kind": "gguf", "file": &file})).unwrap(),
            serde_json::from_value(json!({"name": "local/e", "kind": "gguf", "file": misfit(folder.path())})).unwrap(),
            cloud("cloud/a", "key_env", "SKERRY_TEST_ABSENT"),
            cloud("cloud/b", "key_env", "PATH"),
            cloud("cloud/c", "key_file", &absent.display().to_string()),
        ];
        let told = |look| -> Vec<String> {
            of(&targets, &Digests::default(), look)
                .into_iter()
                .map(|problem| format!("{}: {}; {}", problem.target, problem.found, problem.advice))
                .collect()
        };
        let quick = told(Look::Quick);
        assert_eq!(quick.len(), 4, "{quick:?}");
        assert!(quick[0].starts_with("local/a: its file") && quick[0].ends_with("`edge-agent models pull local/a`"));
        assert!(quick[1].contains("--repo OWNER/NAME"), "{}", quick[1]);
        assert!(quick[2].contains("SKERRY_TEST_ABSENT is not set; set SKERRY_TEST_ABSENT"), "{}", quick[2]);
        assert!(quick[3].starts_with("cloud/c: its key is not used: cannot read"), "{}", quick[3]);
        let heads = told(Look::Heads);
        assert_eq!(heads.len(), 6, "{heads:?}");
        assert!(heads[2].starts_with("local/c: cannot be loaded: "), "{heads:?}");
        let digests = told(Look::Digests);
        assert_eq!(digests.len(), 6, "the misfit's head is good: {digests:?}");
        assert!(digests[2].contains("it will be refused; run `edge-agent models pull local/c`"), "{digests:?}");
        let thorough = told(Look::Thorough);
        assert!(thorough[2].contains("it will be refused; run `edge-agent models pull local/c`"), "{thorough:?}");
        assert!(thorough[3].starts_with("local/d: cannot be loaded: "), "{thorough:?}");
        assert!(
            thorough[4].starts_with("local/e: cannot be loaded: ") && thorough[4].contains("qwen7"),
            "{thorough:?}"
        );
    }

    #[test]
    fn a_model_that_is_cut_off_is_found_by_its_head() {
        let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/reference/tiny/tiny-qwen3.gguf");
        let bytes = std::fs::read(tiny).unwrap();
        let file = tempfile::NamedTempFile::with_suffix(".gguf").unwrap();
        std::fs::write(file.path(), &bytes[..bytes.len() - 1_000]).unwrap();
        let cut = serde_json::from_value(json!({"name": "local/a", "kind": "gguf", "file": file.path()})).unwrap();
        let told = of(&[cut], &Digests::default(), Look::Heads);
        assert!(told.len() == 1 && told[0].found.contains("cut off: tensor "), "{told:?}");
    }

    /// A model whose texts are split in a way that nobody knows: its weights are as they should be.
    fn misfit(folder: &Path) -> std::path::PathBuf {
        let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/reference/tiny/tiny-qwen3.gguf");
        let mut bytes = std::fs::read(tiny).unwrap();
        let key = b"tokenizer.ggml.pre";
        let at = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len();
        // The number of its type, a text, and the length of it.
        assert_eq!(bytes[at..at + 17], *b"\x08\0\0\0\x05\0\0\0\0\0\0\0qwen2");
        bytes[at + 16] = b'7';
        let path = folder.join("misfit.gguf");
        std::fs::write(&path, bytes).unwrap();
        path
    }
}
