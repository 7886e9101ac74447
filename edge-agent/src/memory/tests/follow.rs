//! Files that were added are followed: what a look finds due, and what it does not.

use std::path::PathBuf;

use super::{kept::kept_as, *};

/// A folder that is followed, with what the agent would do at each look.
struct Plant {
    site: Site,
    root: PathBuf,
    followed: Followed,
}

async fn perform(site: &Site, function: &str, input: Value) -> Value {
    kept_as("run:/do/0/follow", site, function, input, DataClass::Public).await.expect("done").output
}

async fn follow(site: &Site, path: &Path) -> Value {
    perform(site, "follow", json!({"index": "notes", "source": "plant", "path": path})).await
}

impl Plant {
    async fn of(files: &[(&str, &str)], path: &str) -> Self {
        Self::beside(&[], files, path).await
    }

    async fn beside(others: &[(&str, Option<&str>)], files: &[(&str, &str)], path: &str) -> Self {
        let site = site(&[]).await;
        let root = site.dir.path().join("plant");
        write(&root, files);
        for (id, source) in others {
            let mut input = json!({"index": "notes", "id": id, "text": format!("Of {source:?}.")});
            if let Some(source) = source {
                input["source"] = (*source).into();
            }
            perform(&site, "remember", input).await;
        }
        let path = root.join(path);
        assert_eq!(follow(&site, &path).await, json!({"unreadable": null}));
        let nowhere = follow(&site, &root.join("none")).await;
        assert!(
            nowhere["unreadable"].as_str().is_some_and(|why| why.contains("there is no file or folder")),
            "{nowhere}"
        );
        let followed = site.memory.followed().expect("a list").remove(0);
        Self { site, root, followed }
    }

    /// One look, done with: the names of what was kept and of what was forgotten.
    async fn look(&self) -> Result<(Vec<String>, Vec<String>), String> {
        let (mut kept, mut gone) = (Vec::new(), Vec::new());
        let (memory, followed) = (&self.site.memory, &self.followed);
        for due in tokio::task::block_in_place(|| memory.look(followed))? {
            match due {
                Due::Read { id, file, .. } => {
                    let Some(read) = tokio::task::block_in_place(|| memory.read(followed, &id, &file))? else {
                        continue;
                    };
                    tokio::task::block_in_place(|| memory.announce(followed, &id, &read)).expect("noted");
                    let input = json!({"index": "notes", "id": read.name, "text": read.text, "source": "plant"});
                    perform(&self.site, "remember", input).await;
                    tokio::task::block_in_place(|| memory.note(followed, &id, &read)).expect("noted");
                    kept.push(read.name);
                }
                Due::Gone { id } => {
                    let name = tokio::task::block_in_place(|| memory.left_by(followed, &id))?;
                    if let Some(name) = name {
                        perform(&self.site, "forget", json!({"index": "notes", "id": name, "source": "plant"})).await;
                        gone.push(name);
                    }
                    tokio::task::block_in_place(|| memory.unnote(followed, &id)).expect("noted");
                }
            }
        }
        Ok((kept, gone))
    }

    async fn finds(&self, kept: &[&str], gone: &[&str]) {
        let found = self.look().await.expect("a look");
        let expected = (kept.iter().map(ToString::to_string).collect(), gone.iter().map(ToString::to_string).collect());
        assert_eq!(found, expected);
    }

    /// How many texts go by this name.
    async fn forget(&self, name: &str) -> Value {
        perform(&self.site, "forget", json!({"index": "notes", "id": name})).await["forgotten"].clone()
    }

    /// Writes with a time of its own, so that the clock's grain does not matter.
    fn write(&self, file: &str, text: &str, seconds: u64) {
        write(&self.root, &[(file, text)]);
        let opened = std::fs::File::options().append(true).open(self.root.join(file)).expect("a file");
        let at = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds);
        opened.set_modified(at).expect("dated");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_new_changed_or_gone_is_due_and_nothing_else_is_read() {
    let plant = Plant::of(&[("a.md", "The pump leaks."), ("sub/b.txt", "The belt slips."), ("c.docx", "x")], "").await;
    plant.finds(&["a.md", "sub/b.txt"], &[]).await;
    plant.finds(&[], &[]).await;
    plant.write("a.md", "The pump is dry.", 1);
    plant.write("d.csv", "part,price\nseal,3\n", 1);
    plant.finds(&["a.md", "d.csv"], &[]).await;
    // Touched, not changed: read, and found to be what it was.
    plant.write("a.md", "The pump is dry.", 2);
    plant.finds(&[], &[]).await;
    assert_eq!(tokio::task::block_in_place(|| plant.site.memory.look(&plant.followed)), Ok(Vec::new()));
    std::fs::remove_file(plant.root.join("a.md")).expect("removed");
    // A program that saves a file may take it away for a moment.
    plant.finds(&[], &[]).await;
    plant.finds(&[], &["a.md"]).await;
    plant.write("a.md", "The pump is back.", 3);
    plant.finds(&["a.md"], &[]).await;
    // A whole folder beside others.
    std::fs::remove_dir_all(plant.root.join("sub")).expect("removed");
    plant.finds(&[], &[]).await;
    plant.finds(&[], &["sub/b.txt"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_away_takes_nothing_away() {
    let plant = Plant::of(&[("a.md", "The pump leaks."), ("disk/b.txt", "The belt slips.")], "").await;
    plant.finds(&["a.md", "disk/b.txt"], &[]).await;
    // A mount inside the folder: its place is there, and empty.
    let away = plant.site.dir.path().join("away");
    std::fs::rename(plant.root.join("disk"), &away).expect("away");
    std::fs::create_dir(plant.root.join("disk")).expect("a mount point");
    for _ in 0..3 {
        plant.finds(&[], &[]).await;
    }
    std::fs::remove_dir(plant.root.join("disk")).expect("removed");
    std::fs::rename(&away, plant.root.join("disk")).expect("back");
    plant.finds(&[], &[]).await;
    // The whole folder, and then its empty place.
    std::fs::rename(&plant.root, &away).expect("away");
    assert!(plant.look().await.expect_err("away").contains("there is no file or folder"));
    std::fs::create_dir(&plant.root).expect("a mount point");
    for _ in 0..3 {
        assert!(plant.look().await.expect_err("away").contains("holds no document"));
    }
    std::fs::remove_dir(&plant.root).expect("removed");
    std::fs::rename(&away, &plant.root).expect("back");
    plant.finds(&[], &[]).await;
    let documents = plant.site.documents();
    assert_eq!(documents.len(), 2, "{documents:?}");
    // On another device.
    let sql = "UPDATE memory_file SET device = device + 1 WHERE id = 'a.md'";
    let store = &plant.site.memory.inner.store;
    store.write("set", move |tx| Ok(tx.connection().execute(sql, []).map(drop)?)).await.expect("set");
    std::fs::remove_file(plant.root.join("a.md")).expect("removed");
    for _ in 0..3 {
        plant.finds(&[], &[]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_by_itself_is_followed_too_and_what_is_forgotten_stays_so() {
    let plant = Plant::of(&[("a.md", "The pump leaks."), ("b.md", "The belt slips.")], "a.md").await;
    plant.finds(&["a.md"], &[]).await;
    plant.write("b.md", "The belt is new.", 1);
    plant.finds(&[], &[]).await;
    let forget = async |which: Value| perform(&plant.site, "forget", which).await["forgotten"].clone();
    assert_eq!(forget(json!({"index": "notes", "id": "a.md"})).await, 1);
    plant.write("a.md", "The pump leaks again.", 2);
    plant.finds(&[], &[]).await;
    let again = json!({"index": "notes", "source": "plant", "path": plant.followed.path});
    perform(&plant.site, "follow", again).await;
    plant.finds(&["a.md"], &[]).await;
    std::fs::remove_file(plant.root.join("a.md")).expect("removed");
    plant.finds(&[], &[]).await;
    plant.finds(&[], &["a.md"]).await;
    plant.write("a.md", "The pump.", 3);
    plant.finds(&["a.md"], &[]).await;
    assert_eq!(forget(json!({"index": "notes", "source": "plant"})).await, 1);
    assert_eq!(plant.site.memory.followed().expect("a list"), [], "followed no more");
}

/// `docs add` keeps the texts before the folder is looked at for the first time.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_forgotten_before_the_first_look_stays_so_too() {
    let files = [("a.md", "The pump leaks."), ("sub/a.md", "The belt slips."), ("b.md", "The fan is loud.")];
    let plant = beside(&[("a.md", Some("plant")), ("sub/a.md", Some("plant"))], &files).await;
    let forget = async |id: &str| perform(&plant.site, "forget", json!({"index": "notes", "id": id})).await;
    assert_eq!(forget("sub/a.md").await["forgotten"], 1);
    plant.finds(&["a.md", "b.md"], &[]).await;
    plant.write("sub/a.md", "The belt is new.", 1);
    plant.finds(&[], &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_gone_before_the_first_look_is_found_gone() {
    let files = [("a.md", "The pump leaks."), ("b.md", "The fan is loud."), ("c.md", "The belt slips.")];
    let kept = [("a.md", Some("plant")), ("b.md", Some("elsewhere")), ("c.md", None)];
    let plant = beside(&kept, &files).await;
    for file in ["a.md", "b.md"] {
        std::fs::remove_file(plant.root.join(file)).expect("removed");
    }
    plant.finds(&["plant/c.md"], &[]).await;
    plant.finds(&[], &["a.md"]).await;
    let names: Vec<_> = plant.site.documents().into_iter().map(|(_, path)| path).collect();
    assert_eq!(names, ["remembered:b.md", "remembered:c.md", "remembered:plant/c.md"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_path_keeps_with_the_same_source_does_not_go_with_a_file_of_its_name() {
    for text in ["The pump leaks.", "The pump is dry."] {
        let plant = Plant::of(&[("a.md", "The pump leaks."), ("b.md", "The fan is loud.")], "").await;
        plant.finds(&["a.md", "b.md"], &[]).await;
        let root = plant.site.dir.path().join("other");
        write(&root, &[("a.md", text), ("d.md", "The belt slips.")]);
        assert_eq!(follow(&plant.site, &root).await, json!({"unreadable": null}));
        let Plant { site, root: first, followed: of_first } = plant;
        let followed = site.memory.followed().expect("a list").remove(1);
        let other = Plant { site, root, followed };
        // The same text is the same document; another is told.
        assert_eq!(other.look().await.is_ok(), text == "The pump leaks.");
        std::fs::remove_file(other.root.join("a.md")).expect("removed");
        other.finds(if text == "The pump leaks." { &[] } else { &["d.md"] }, &[]).await;
        other.finds(&[], &[]).await;
        assert_eq!(other.site.documents().len(), 3);
        let plant = Plant { site: other.site, root: first, followed: of_first };
        plant.write("a.md", "The pump is back.", 1);
        plant.finds(&["a.md"], &[]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forgotten_while_it_is_being_kept_stays_so() {
    let plant = Plant::of(&[("b.md", "The fan is loud.")], "").await;
    plant.finds(&["b.md"], &[]).await;
    plant.write("a.md", "The pump leaks.", 1);
    let (memory, file) = (&plant.site.memory, plant.root.join("a.md"));
    let read = tokio::task::block_in_place(|| memory.read(&plant.followed, "a.md", &file)).expect("read").expect("new");
    tokio::task::block_in_place(|| memory.announce(&plant.followed, "a.md", &read)).expect("noted");
    let input = json!({"index": "notes", "id": "a.md", "text": read.text, "source": "plant"});
    perform(&plant.site, "remember", input).await;
    assert_eq!(plant.forget("a.md").await, 1);
    tokio::task::block_in_place(|| memory.note(&plant.followed, "a.md", &read)).expect("noted");
    plant.write("a.md", "The pump leaks again.", 2);
    plant.finds(&[], &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forgotten_by_its_subject_stays_so_though_its_folder_has_none() {
    let plant = Plant::of(&[("a.md", "The pump leaks."), ("b.md", "The fan is loud.")], "").await;
    plant.finds(&["a.md", "b.md"], &[]).await;
    let about = json!({"index": "notes", "id": "a.md", "text": "Mia mended it.", "source": "plant", "subject": "Mia"});
    perform(&plant.site, "remember", about).await;
    let forgotten = perform(&plant.site, "forget", json!({"index": "notes", "subject": "Mia"})).await;
    assert_eq!(forgotten["forgotten"], 1);
    plant.write("a.md", "Mia mended it again.", 1);
    plant.finds(&[], &[]).await;
}

/// Has texts of other places in the index, before the folder is followed.
async fn beside(others: &[(&str, Option<&str>)], files: &[(&str, &str)]) -> Plant {
    Plant::beside(others, files, "").await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_forgotten_or_gone_leaves_those_that_its_name_ends_like() {
    let files = [("readme.md", "The pump."), ("sub/readme.md", "The belt."), ("sub/b.md", "The fan.")];
    let plant = beside(&[("sub/readme.md", Some("elsewhere"))], &files).await;
    plant.finds(&["readme.md", "sub/b.md", "plant/sub/readme.md"], &[]).await;
    std::fs::remove_file(plant.root.join("sub/readme.md")).expect("removed");
    plant.finds(&[], &[]).await;
    plant.finds(&[], &["plant/sub/readme.md"]).await;
    let names = |plant: &Plant| plant.site.documents().into_iter().map(|(_, path)| path).collect::<Vec<_>>();
    assert_eq!(names(&plant), ["remembered:readme.md", "remembered:sub/b.md", "remembered:sub/readme.md"]);
    plant.write("readme.md", "The pump is dry.", 1);
    plant.write("sub/readme.md", "The belt is back.", 1);
    plant.finds(&["readme.md", "plant/sub/readme.md"], &[]).await;
    assert_eq!(plant.forget("plant/sub/readme.md").await, 1);
    plant.write("readme.md", "The pump is wet.", 2);
    plant.write("sub/readme.md", "The belt is torn.", 2);
    plant.finds(&["readme.md"], &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_without_source_takes_no_file_with_it() {
    let files = [("readme.md", "The pump."), ("b.md", "The belt.")];
    let plant = beside(&[("readme.md", None), ("2026/b.md", None)], &files).await;
    plant.finds(&["b.md", "plant/readme.md"], &[]).await;
    // Once they are there, and once they are not.
    for (seals, count) in [(1, 1), (2, 0)] {
        assert_eq!((plant.forget("readme.md").await, plant.forget("2026/b.md").await), (count.into(), count.into()));
        for file in ["readme.md", "b.md"] {
            plant.write(file, &format!("The pump has {seals} seals."), seals);
        }
        plant.finds(&["b.md", "plant/readme.md"], &[]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_one_name_and_source_are_told_with_the_folders_before_it_too() {
    let plant = beside(&[("readme.md", Some("elsewhere"))], &[("readme.md", "The pump.")]).await;
    plant.finds(&["plant/readme.md"], &[]).await;
    let other = plant.site.dir.path().join("north/plant");
    write(&other, &[("readme.md", "The fan.")]);
    perform(&plant.site, "follow", json!({"index": "notes", "source": "plant", "path": other})).await;
    let memory = &plant.site.memory;
    let followed = memory.followed().expect("a list").into_iter().find(|one| one.path == other).expect("followed");
    let read = tokio::task::block_in_place(|| memory.read(&followed, "readme.md", &other.join("readme.md")));
    let told = format!("{} has one of this name with the same source, too", plant.followed.path.display());
    assert_eq!(read, Err(told));
}
