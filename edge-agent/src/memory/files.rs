//! Documents in files of this machine, that somebody adds: which there are below a path, and their text.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use edge_core::site::{DEPTH_MAX, Kind};
use reader::Form;

use super::reading;

/// Why there are none.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no file or folder {}", .0.display())]
    Missing(PathBuf),
    #[error("{} is no document: expected .md, .txt, .html, .pdf or .csv", .0.display())]
    Form(PathBuf),
    #[error("{} holds no document: expected .md, .txt, .html, .pdf or .csv", .0.display())]
    Empty(PathBuf),
    #[error("{} is more than {DEPTH_MAX} folders deep", .0.display())]
    Deep(PathBuf),
    #[error("cannot read the folder {}: {source}", folder.display())]
    Unreadable { folder: PathBuf, source: std::io::Error },
}

/// The documents of a path by the ids that they are kept under: a file's name, or its place within the folder. Names that begin with a dot
/// and links to folders are left out.
///
/// # Errors
/// When there are none, or a folder cannot be read.
pub fn documents(path: &Path) -> Result<BTreeMap<String, PathBuf>, Error> {
    let mut found = BTreeMap::new();
    if path.is_dir() {
        walk(path, path, 0, &mut found)?;
        return if found.is_empty() { Err(Error::Empty(path.to_owned())) } else { Ok(found) };
    }
    if !path.is_file() {
        return Err(Error::Missing(path.to_owned()));
    }
    let name = name(path);
    if Form::of(&name).is_none() {
        return Err(Error::Form(path.to_owned()));
    }
    found.insert(name, path.to_owned());
    Ok(found)
}

/// The id that a file has that was added by itself.
pub(super) fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn walk(root: &Path, folder: &Path, depth: usize, found: &mut BTreeMap<String, PathBuf>) -> Result<(), Error> {
    if depth > DEPTH_MAX {
        return Err(Error::Deep(folder.to_owned()));
    }
    let unreadable = |source| Error::Unreadable { folder: folder.to_owned(), source };
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.')) {
            continue;
        }
        if path.is_dir() {
            // A link could lead round in a circle.
            if !path.is_symlink() {
                walk(root, &path, depth + 1, found)?;
            }
            continue;
        }
        let parts = path.strip_prefix(root).unwrap_or(&path).components();
        let id = parts.map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/");
        if Form::of(&id).is_some() {
            found.insert(id, path);
        }
    }
    Ok(())
}

/// The content of a file that is to be kept under an id.
///
/// # Errors
/// Why it cannot be kept, for people.
pub fn content(index: &str, id: &str, path: &Path) -> Result<Vec<u8>, String> {
    let file = format!("documents/{index}/{id}");
    let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
    let len = path.metadata().map_err(unreadable)?.len();
    Kind::of(&file).and_then(|kind| kind.admit(&file, len)).map_err(|problem| problem.message)?;
    std::fs::read(path).map_err(unreadable)
}

/// Its text.
///
/// # Errors
/// Why it has none, for people.
pub fn text(id: &str, content: Vec<u8>) -> Result<String, String> {
    let text = reading::text(id, content)?;
    if text.trim().is_empty() { Err("holds no text".to_owned()) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_gives_its_documents_by_their_places_and_leaves_the_rest() {
        let folder = tempfile::tempdir().expect("a folder");
        for path in ["a.md", "sub/b.txt", ".git/c.md", "d.exe", "sub/.hidden.md"] {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, "text").expect("written");
        }
        let found = documents(folder.path()).expect("documents");
        assert_eq!(found.keys().collect::<Vec<_>>(), ["a.md", "sub/b.txt"]);
        assert_eq!(documents(&folder.path().join("a.md")).expect("one").keys().collect::<Vec<_>>(), ["a.md"]);
        assert!(documents(&folder.path().join("d.exe")).expect_err("none").to_string().contains("is no document"));
        assert!(documents(&folder.path().join("none")).expect_err("none").to_string().contains("there is no file"));
    }
}
