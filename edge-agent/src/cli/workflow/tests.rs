//! What the command line says of documents that it cannot take.

use super::*;

#[test]
fn what_cannot_be_read_is_a_problem_of_its_own_file() {
    let folder = tempfile::tempdir().unwrap();
    let told = |name: &str| {
        let said = document(&folder.path().join(name)).unwrap_err().to_string();
        said.replace(&format!("{}/", folder.path().display()), "")
    };
    std::fs::write(folder.path().join("latin.yaml"), b"document:\n  name: caf\xe9\n").unwrap();
    std::fs::write(folder.path().join("empty.yaml"), "").unwrap();
    assert_eq!(told("latin.yaml"), "latin.yaml:2:12: expected text in UTF-8");
    assert!(told("none.yaml").starts_with("none.yaml: this cannot be read: No such file"), "{}", told("none.yaml"));
    assert!(told("empty.yaml").ends_with(": expected a workflow: an object with `document` and `do`"));
    assert!(matches!(read(&folder.path().join("none.yaml")), Err(Failure::Input(_))));
}
