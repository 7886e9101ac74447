//! Documents in files of this machine, that somebody adds: which there are below a path, and their text.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use edge_core::site::{DEPTH_MAX, DOCUMENTS_MAX, Kind};
use reader::Form;

use super::reading;

/// Why a file is not kept that will be as it should be in a moment.
pub const BEING_WRITTEN: &str = "it is being written to";

/// Why a file or folder is left out whose name is no text.
const NAMELESS: &str = "its name is no UTF-8: rename it";

/// Why there are none.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no file or folder {}", .0.display())]
    Missing(PathBuf),
    #[error("{} is neither a file nor a folder", .0.display())]
    Special(PathBuf),
    #[error("{} is no document: expected .md, .txt, .html, .pdf or .csv", .0.display())]
    Form(PathBuf),
    #[error("{} holds no document: expected .md, .txt, .html, .pdf or .csv", .0.display())]
    Empty(PathBuf),
    #[error("{} holds more than {most} documents: add the folders within one by one, each with an --index of its own", folder.display())]
    Many { folder: PathBuf, most: usize },
    #[error("cannot read the folder {}: {source}", folder.display())]
    Unreadable { folder: PathBuf, source: std::io::Error },
}

/// What is below a path.
#[derive(Debug, Default)]
pub struct Documents {
    /// By the ids that they are kept under: a file's name, or its place within the folder.
    pub files: BTreeMap<String, PathBuf>,
    /// What is within and is not read, by its place, with why.
    pub closed: BTreeMap<String, String>,
}

/// The documents of a path. Below a folder names that begin with a dot, links, and what is no file are left out: who may write there does not
/// choose what else of this machine is read.
///
/// # Errors
/// When there are none, or more than a bundle may have, or the folder itself cannot be read.
pub fn documents(path: &Path) -> Result<Documents, Error> {
    at_most(DOCUMENTS_MAX, path)
}

fn at_most(most: usize, path: &Path) -> Result<Documents, Error> {
    let mut found = Documents::default();
    if path.is_dir() {
        walk(path, path, 0, most, &mut found)?;
        let is_empty = found.files.is_empty() && found.closed.is_empty();
        return if is_empty { Err(Error::Empty(path.to_owned())) } else { Ok(found) };
    }
    if !path.is_file() {
        return Err(if path.exists() { Error::Special(path.to_owned()) } else { Error::Missing(path.to_owned()) });
    }
    let name = name(path);
    if Form::of(&name).is_none() {
        return Err(Error::Form(path.to_owned()));
    }
    found.files.insert(name, path.to_owned());
    Ok(found)
}

/// Whose a document of some name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    Nobody,
    /// That of whoever asks.
    This,
    Other,
}

/// The name that a file of what was added is kept under: its id, or, where that is another's, with as many of the folders above as make it one of its
/// own. `None` where all are others'.
pub fn name_of(added: &Path, id: &str, owner: impl Fn(&str) -> Owner) -> Option<String> {
    let is_folder = added.is_dir();
    let mut above = if is_folder { Some(added) } else { added.parent() };
    let (mut name, mut free) = (id.to_owned(), None);
    loop {
        // With the folders above it may read as another file within.
        let is_of_another = is_folder && name != id && added.join(&name).is_file();
        match owner(&name) {
            Owner::This if !is_of_another => return Some(name),
            Owner::Nobody if !is_of_another && free.is_none() => free = Some(name.clone()),
            _ => {}
        }
        let Some(folder) = above.and_then(Path::file_name) else { return free };
        name = format!("{}/{name}", folder.to_string_lossy());
        above = above.and_then(Path::parent);
    }
}

/// Whether `name_of` may give a name to a file of what was added. Looks at no file.
pub(super) fn may_be_named(added: &Path, id: &str, name: &str) -> bool {
    let Some(before) = name.strip_suffix(id) else { return false };
    let above = if self::name(added) == id { added.parent() } else { Some(added) };
    let is_above = |folders| above.is_some_and(|above| above.ends_with(folders));
    before.is_empty() || before.strip_suffix('/').is_some_and(|folders| !folders.is_empty() && is_above(folders))
}

/// Whether what was added has a file that is kept under this name.
pub fn holds(added: &Path, name: &str, owner: impl Fn(&str) -> Owner) -> bool {
    let shorter = name.match_indices('/').map(|(at, _)| &name[at + 1..]);
    let mut ids = std::iter::once(name).chain(shorter).filter(|id| may_be_named(added, id, name));
    ids.any(|id| has(added, id) && name_of(added, id, &owner).as_deref() == Some(name))
}

/// Whether what was added has a file of this id.
fn has(added: &Path, id: &str) -> bool {
    added.join(id).is_file() || (name(added) == id && added.is_file())
}

/// The id that a file has that was added by itself.
pub(super) fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn walk(root: &Path, folder: &Path, depth: usize, most: usize, found: &mut Documents) -> Result<(), Error> {
    let unreadable = |source| Error::Unreadable { folder: folder.to_owned(), source };
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(unreadable)?);
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        let parts = path.strip_prefix(root).unwrap_or(&path).components();
        let id = parts.map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/");
        // Its name as text may be another one's too.
        if entry.file_name().to_str().is_none() && (kind.is_dir() || Form::of(&id).is_some()) {
            found.closed.insert(id, NAMELESS.to_owned());
        } else if kind.is_dir() && depth == DEPTH_MAX {
            found.closed.insert(id, format!("is more than {DEPTH_MAX} folders deep: add it by itself"));
        } else if kind.is_dir() {
            match walk(root, &path, depth + 1, most, found) {
                Err(Error::Unreadable { source, .. }) => {
                    drop(found.closed.insert(id, format!("cannot be read: {source}")))
                }
                walked => walked?,
            }
        } else if kind.is_file() && Form::of(&id).is_some() {
            found.files.insert(id, path);
            if found.files.len() > most {
                return Err(Error::Many { folder: root.to_owned(), most });
            }
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
    // Without a wait for whoever writes into a pipe.
    let opened = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(unreadable)?;
    let metadata = opened.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err("is not a file".to_owned());
    }
    let kind = Kind::of(&file).map_err(|problem| problem.message)?;
    if kind.admit(&file, metadata.len()).is_err() {
        let (bytes, most) = (metadata.len(), kind.bytes_max() >> 20);
        let what = if kind == Kind::Binary { "a PDF" } else { "a text" };
        return Err(format!("has {bytes} bytes: {what} may have {most} MB; divide it, and add the parts"));
    }
    let mut content = Vec::new();
    opened.take(metadata.len() + 1).read_to_end(&mut content).map_err(unreadable)?;
    if content.len() as u64 > metadata.len() { Err(BEING_WRITTEN.to_owned()) } else { Ok(content) }
}

/// Its text.
///
/// # Errors
/// Why it has none, for people.
pub fn text(id: &str, content: Vec<u8>) -> Result<String, String> {
    let text = reading::text(id, content)?;
    if super::is_blank(&text) { Err("holds no text".to_owned()) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn a_file_whose_name_is_anothers_has_the_folders_above_before_it() {
        let folder = tempfile::tempdir().expect("a folder");
        for path in ["a/x.md", "a/sub/y.md", "a/a/z.md"] {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, "text").expect("written");
        }
        let (a, by_itself) = (folder.path().join("a"), folder.path().join("a/x.md"));
        let owned = |names: &'static [(&str, Owner)]| {
            move |name: &str| names.iter().find(|(own, _)| *own == name).map_or(Owner::Nobody, |(_, owner)| *owner)
        };
        let named = |added: &Path, id: &str, names| name_of(added, id, owned(names)).expect("a name");
        assert_eq!(named(&a, "sub/y.md", &[]), "sub/y.md");
        assert_eq!(named(&a, "sub/y.md", &[("sub/y.md", Owner::Other)]), "a/sub/y.md");
        assert_eq!(named(&by_itself, "x.md", &[("x.md", Owner::Other)]), "a/x.md");
        assert_eq!(named(&a, "x.md", &[("a/x.md", Owner::This)]), "a/x.md", "it stays where it was put");
        let above = folder.path().file_name().expect("a name").to_string_lossy().into_owned();
        assert_eq!(named(&a, "z.md", &[("z.md", Owner::Other)]), format!("{above}/a/z.md"), "a/z.md is another file");
        assert_eq!(name_of(&a, "x.md", |_| Owner::Other), None);
        let may_be = |added: &str, id, name| may_be_named(Path::new(added), id, name);
        for name in ["sub/y.md", "pump/sub/y.md", "srv/pump/sub/y.md"] {
            assert!(may_be("/srv/pump", "sub/y.md", name), "{name}");
        }
        assert!(may_be("/srv/pump/x.md", "x.md", "pump/x.md"));
        for (id, name) in [("y.md", "pump/sub/y.md"), ("y.md", "/y.md"), ("y.md", "2026/y.md"), ("y.md", "pumpy.md")] {
            assert!(!may_be("/srv/pump", id, name), "{name}");
        }
        let holds = |added: &Path, name: &str, names| holds(added, name, owned(names));
        let own: &[_] = &[("x.md", Owner::This)];
        assert!(holds(&a, "x.md", own) && holds(&by_itself, "x.md", own) && !holds(&a, "y.md", own));
        let above: &[_] = &[("x.md", Owner::Other), ("a/x.md", Owner::This)];
        assert!(holds(&a, "a/x.md", above) && holds(&by_itself, "a/x.md", above) && !holds(&a, "x.md", above));
        assert!(!holds(&a, "a/x.md", own), "it is kept under a name without the folder");
    }

    #[test]
    fn what_shows_nothing_is_no_text() {
        for blank in ["", " \n\t\u{a0}", "\u{feff}\u{feff}\u{200b}\n\u{2060}\u{200c}\u{200d}", "\u{ad}\u{200e}\u{2066}"]
        {
            assert_eq!(text("a.md", blank.into()), Err("holds no text".to_owned()), "{blank:?}");
        }
        assert_eq!(text("a.md", "\u{200b}a".into()), Ok("\u{200b}a".to_owned()));
    }

    #[test]
    fn a_folder_that_is_too_deep_is_named_and_the_others_are_kept() {
        let root = tempfile::tempdir().expect("a folder");
        let deepest = vec!["d"; DEPTH_MAX].join("/");
        std::fs::create_dir_all(root.path().join(&deepest).join("e")).expect("made");
        for id in ["a.md".to_owned(), format!("{deepest}/b.md"), format!("{deepest}/e/c.md")] {
            std::fs::write(root.path().join(id), "text").expect("written");
        }
        let found = documents(root.path()).expect("documents");
        assert_eq!(found.files.into_keys().collect::<Vec<_>>(), ["a.md".to_owned(), format!("{deepest}/b.md")]);
        let why = "is more than 16 folders deep: add it by itself".to_owned();
        assert_eq!(found.closed, BTreeMap::from([(format!("{deepest}/e"), why)]));
    }

    #[test]
    fn a_folder_gives_its_documents_by_their_places_and_leaves_the_rest() {
        let folder = tempfile::tempdir().expect("a folder");
        for path in ["a.md", "sub/b.txt", ".git/c.md", "d.exe", "sub/.hidden.md"] {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, "text").expect("written");
        }
        let outside = tempfile::NamedTempFile::with_suffix(".md").expect("a file");
        std::os::unix::fs::symlink(outside.path(), folder.path().join("link.md")).expect("linked");
        std::os::unix::fs::symlink("/dev/zero", folder.path().join("zero.txt")).expect("linked");
        let pipe = folder.path().join("pipe.md");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo is there");
        assert!(made.success());
        let ids = |path: &Path| documents(path).expect("documents").files.into_keys().collect::<Vec<_>>();
        assert_eq!(ids(folder.path()), ["a.md", "sub/b.txt"]);
        assert_eq!(ids(&folder.path().join("a.md")), ["a.md"]);
        assert!(at_most(2, folder.path()).is_ok());
        let many = at_most(1, folder.path()).expect_err("two").to_string();
        assert!(many.contains("holds more than 1 documents"), "{many}");
        assert_eq!(content("i", "pipe.md", &pipe), Err("is not a file".to_owned()), "nobody waits for a writer");
        assert_eq!(content("i", "a.md", &folder.path().join("a.md")), Ok(b"text".to_vec()));
        std::fs::write(folder.path().join("LOUD.TXT"), "text").expect("written");
        for name in [&b"M\xfcller.md"[..], b"M\xf6ller.md", b"M\xfcller.exe"] {
            std::fs::write(folder.path().join(std::ffi::OsStr::from_bytes(name)), "text").expect("written");
        }
        let found = documents(folder.path()).expect("documents");
        assert_eq!(found.files.into_keys().collect::<Vec<_>>(), ["LOUD.TXT", "a.md", "sub/b.txt"]);
        assert_eq!(
            found.closed.into_keys().collect::<Vec<_>>(),
            ["M\u{fffd}ller.md"],
            "told, and not taken one for the other"
        );
        assert!(documents(&folder.path().join("d.exe")).expect_err("none").to_string().contains("is no document"));
        for special in [&pipe, Path::new("/dev/zero")] {
            let why = documents(special).expect_err("none").to_string();
            assert_eq!(why, format!("{} is neither a file nor a folder", special.display()));
        }
        assert!(documents(&folder.path().join("none")).expect_err("none").to_string().contains("there is no file"));
    }
}
