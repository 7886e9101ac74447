//! Whether a folder's files can be a bundle: what every node would refuse is refused before it is signed.

use shared::{
    policy::PolicySet,
    problem::{Problem, Problems},
    workflow::Workflow,
};

/// Top-level files and folders of a bundle, as nodes read them.
const KNOWN: [&str; 5] = ["feeds.yaml", "workflows", "policies", "documents", "cases"];

/// Checks files by path and content, each parsed as the nodes parse it. What only a node can know (whether a topic or model is
/// there) is not checked.
///
/// # Errors
/// Every mistake that was found, with file, line and what was expected.
pub fn check(files: &[(String, Vec<u8>)]) -> Result<(), Problems> {
    let mut problems = Vec::new();
    let mut policies = Vec::new();
    for (path, content) in files {
        match file(path, content) {
            Ok(Some(policy)) => policies.push((path.clone(), policy)),
            Ok(None) => {}
            Err(Problems(found)) => problems.extend(found),
        }
    }
    // Rules are read together: their names must differ over all files.
    if let Err(Problems(found)) = PolicySet::parse(&policies) {
        problems.extend(found);
    }
    if problems.is_empty() { Ok(()) } else { Err(Problems(problems)) }
}

/// Checks one file. Answers its text if it is a policy.
fn file(path: &str, content: &[u8]) -> Result<Option<String>, Problems> {
    let top = path.split('/').next().unwrap_or(path);
    if !KNOWN.contains(&top) {
        let expected = format!("is not part of a bundle: expected {}", KNOWN.join(", "));
        return Err(one(path, None, None, expected));
    }
    let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
    match (top, extension) {
        ("workflows", "yaml" | "yml") => Workflow::parse(path, utf8(path, content)?).map(|_| None),
        ("policies", "cedar") => utf8(path, content).map(|text| Some(text.to_owned())),
        ("feeds.yaml", _) | (_, "yaml" | "yml") => yaml(path, content).map(|()| None),
        ("cases", "jsonl") => json_lines(path, content).map(|()| None),
        ("workflows", _) => {
            Err(one(path, None, None, "is no workflow: expected a file that ends with .yaml".to_owned()))
        }
        ("policies", _) => Err(one(path, None, None, "is no policy: expected a file that ends with .cedar".to_owned())),
        _ => Ok(None),
    }
}

fn yaml(path: &str, content: &[u8]) -> Result<(), Problems> {
    let text = utf8(path, content)?;
    let value: Result<serde_yaml_ng::Value, _> = serde_yaml_ng::from_str(text);
    match value {
        Ok(serde_yaml_ng::Value::Mapping(_)) => Ok(()),
        Ok(_) => Err(one(path, None, None, "expected a YAML mapping at the top".to_owned())),
        Err(error) => {
            let place = error.location().map(|location| (location.line(), location.column()));
            let (line, column) = place.map_or((None, None), |(line, column)| (number(line), number(column)));
            Err(one(path, line, column, error.to_string()))
        }
    }
}

fn json_lines(path: &str, content: &[u8]) -> Result<(), Problems> {
    let text = utf8(path, content)?;
    let wrong = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()).filter_map(|(line, case)| {
        let value: Result<serde_json::Value, _> = serde_json::from_str(case);
        let fits = value.is_ok_and(|value| value["text"].is_string() && value["label"].is_string());
        (!fits).then(|| Problem {
            file: path.to_owned(),
            line: Some(line),
            column: None,
            field: String::new(),
            message: r#"expected {"text": "..", "label": ".."}"#.to_owned(),
        })
    });
    let problems: Vec<Problem> = wrong.take(20).collect();
    if problems.is_empty() { Ok(()) } else { Err(Problems(problems)) }
}

fn utf8<'a>(path: &str, content: &'a [u8]) -> Result<&'a str, Problems> {
    std::str::from_utf8(content).map_err(|error| {
        let line = content[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        one(path, number(line), None, "expected UTF-8 text".to_owned())
    })
}

fn number(n: usize) -> Option<u32> {
    u32::try_from(n).ok()
}

fn one(file: &str, line: Option<u32>, column: Option<u32>, message: String) -> Problems {
    Problems(vec![Problem { file: file.to_owned(), line, column, field: String::new(), message }])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(path: &str, content: &[u8]) -> String {
        check(&[(path.to_owned(), content.to_vec())])
            .map_or_else(|problems| problems.to_string(), |()| "good".to_owned())
    }

    #[test]
    fn a_broken_file_is_named_with_its_line() {
        assert_eq!(said("feeds.yaml", b"feeds: []"), "good");
        assert_eq!(said("documents/manuals/press.md", b"# Press"), "good");
        assert!(said("feeds.yaml", b"a: 1\nb: [").starts_with("feeds.yaml:"));
        assert!(said("workflows/a.txt", b"x").contains("expected a file that ends with .yaml"));
        assert!(said("notes.txt", b"x").contains("is not part of a bundle"));
        let second = said("cases/faults.jsonl", b"{\"text\":\"a\",\"label\":\"b\"}\n{}");
        assert!(second.starts_with("cases/faults.jsonl:2"), "{second}");
        assert!(said("feeds.yaml", b"a: 1\n\xff").starts_with("feeds.yaml:2"));
        assert!(said("workflows/a.yaml", b"do: nothing").starts_with("workflows/a.yaml:"));
        assert!(said("policies/a.cedar", b"permit (principal").starts_with("policies/a.cedar"));
    }
}
