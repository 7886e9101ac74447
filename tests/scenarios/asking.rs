//! A person asks the node's documents on the command line, with no agent and with one: added, found, answered with citations, taken away;
//! and the ledger tells of all of it.

use serde_json::Value;
use tests::agent::{Agent, Setup};

fn documents(found: &Value) -> Vec<String> {
    let found = found.as_array().expect("a list").iter();
    found.map(|one| one["document"].as_str().expect("a name").to_owned()).collect()
}

#[tokio::test]
async fn files_that_were_added_are_followed_by_the_agent() {
    let folder = tempfile::tempdir().expect("a folder");
    let manuals = folder.path().join("manuals");
    std::fs::create_dir_all(&manuals).expect("made");
    let write = |name: &str, text: &str| std::fs::write(manuals.join(name), text).expect("written");
    write("oil.md", "# Oil\n\nThe press takes ISO VG 46.\n");
    write("belt.md", "# Belt\n\nThe fan has a belt B17.\n");
    let more = "[memory]\nfollow_every = \"PT1S\"\n";
    let setup = Setup { site: None, more, ..Setup::new("following", folder.path()) };
    let mut agent = Agent::new(folder.path(), &setup);
    let path = manuals.display().to_string();
    let added = agent.json(&["docs", "add", &path, "--source", "manuals"]).await;
    assert_eq!((added["kept"].as_array().map(Vec::len), &added["followed"]), (Some(2), &true.into()), "{added}");
    agent.start().await;
    let finds = async |expected: &[&str]| {
        let wait = async { while documents(&agent.json(&["docs", "list"]).await) != expected {} };
        tokio::time::timeout(std::time::Duration::from_secs(60), wait).await.unwrap_or_else(|_| panic!("{expected:?}"));
    };
    write("seal.md", "# Seals\n\nSeal kit SK-40 fits the main cylinder.\n");
    finds(&["remembered:belt.md", "remembered:oil.md", "remembered:seal.md"]).await;
    std::fs::remove_file(manuals.join("belt.md")).expect("removed");
    finds(&["remembered:oil.md", "remembered:seal.md"]).await;
    let told = agent.json(&["ledger", "list", "--fact", "tool-called", "--limit", "50"]).await;
    assert!(told.as_array().is_some_and(|entries| entries.len() >= 4), "each is in the ledger: {told}");
    agent.cli(&["docs", "remove", "--source", "manuals"]).await.ok();
    finds(&[]).await;
    agent.stop().await;
}

#[tokio::test]
async fn files_of_one_name_in_different_folders_are_documents_of_their_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(&path, text).expect("written");
        path.parent().expect("a folder").display().to_string()
    };
    let press = write("press/readme.md", "The press takes ISO VG 46.\n");
    let pump = write("pump/readme.md", "The pump has a seal kit.\n");
    let more = "[memory]\nfollow_every = \"PT1S\"\n";
    let setup = Setup { site: None, more, ..Setup::new("names", folder.path()) };
    let mut agent = Agent::new(folder.path(), &setup);
    agent.cli(&["docs", "add", &press]).await.ok();
    let added = agent.json(&["docs", "add", &pump]).await;
    assert_eq!(added["kept"], serde_json::json!(["pump/readme.md"]), "{added}");
    let both = ["remembered:pump/readme.md", "remembered:readme.md"];
    assert_eq!(documents(&agent.json(&["docs", "list"]).await), both);
    // The same path under another source is told; without one it stays as it was.
    let again = agent.cli(&["docs", "add", &pump, "--source", "shelf"]).await;
    assert!(
        again.code() == 2 && again.err.contains(&format!("was added to documents before with the source {pump}")),
        "{}",
        again.err
    );
    // Of what is given one source by hand, names tell what is the same.
    for (one, other, source) in [("north", "south", "plans"), ("east/hall", "west/hall", "halls")] {
        let [one, other] = [one, other].map(|folder| write(&format!("{folder}/plan.md"), folder));
        agent.cli(&["docs", "add", &one, "--source", source, "--index", "plans"]).await.ok();
        let told = agent.cli(&["docs", "add", &other, "--source", source, "--index", "plans"]).await;
        assert!(told.code() == 1 && told.err.contains(&format!("{one} has one of this name")), "{}", told.err);
    }
    agent.cli(&["docs", "remove", "--source", "halls"]).await.ok();
    let north = write("north/plan.md", "North, again.");
    let again = agent.json(&["docs", "add", &north, "--index", "plans"]).await;
    assert_eq!((&again["kept"], &again["source"]), (&serde_json::json!(["plan.md"]), &"plans".into()), "{again}");
    agent.cli(&["docs", "remove", "--source", "plans"]).await.ok();
    let told = agent.cli(&["docs", "add", &north, "--index", "sessions"]).await;
    assert!(told.code() == 2 && told.err.contains("--index sessions: it holds conversations"), "{}", told.err);
    for (asked, expected) in [(["ask", ""], "the question is empty"), (["docs", "search"], "QUERY")] {
        let told = agent.cli(&asked).await;
        assert!(told.code() == 2 && told.err.contains(expected), "{}", told.err);
    }
    agent.cli(&["docs", "add", &north, "--index", "plans"]).await.ok();
    agent.cli(&["docs", "remove", "plan.md"]).await.ok();
    let left = agent.cli(&["docs", "remove", "--source", &north]).await.ok();
    assert!(
        left.contains(&format!("plans does not follow {north} any more")) && left.contains("No document"),
        "{left}"
    );

    agent.start().await;
    write("pump/readme.md", "The pump has seal kit SK-40.\n");
    let finds = async |words: &str, name: &str| {
        // A search that finds nothing yet ends with 3.
        let found = async || agent.cli(&["docs", "search", words, "--top", "1", "--json"]).await.printed();
        let is = |found: &Value| found[0]["document"] == *name && found[0]["text"].to_string().contains(words);
        let wait = async { while !is(&found().await) {} };
        tokio::time::timeout(std::time::Duration::from_secs(60), wait).await.unwrap_or_else(|_| panic!("{words}"));
    };
    finds("SK-40", "remembered:pump/readme.md").await;
    finds("ISO VG 46", "remembered:readme.md").await;
    agent.cli(&["docs", "remove", "readme.md"]).await.ok();
    assert_eq!(documents(&agent.json(&["docs", "list"]).await), ["remembered:pump/readme.md"]);
    write("pump/readme.md", "The pump has seal kit SK-41.\n");
    finds("SK-41", "remembered:pump/readme.md").await;
    agent.stop().await;
}

#[tokio::test]
async fn a_path_stands_for_what_it_leads_to_and_a_slip_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    std::fs::create_dir(at("manuals")).expect("made");
    std::fs::write(at("manuals/pump-2.md"), "The pump has seal kit SK-40.\n").expect("written");
    std::os::unix::fs::symlink(at("manuals/pump-2.md"), at("pump.md")).expect("linked");
    std::os::unix::fs::symlink(at("manuals"), at("newest")).expect("linked");
    let setup = Setup { site: None, ..Setup::new("paths", folder.path()) };
    let agent = Agent::new(folder.path(), &setup);
    for (path, what) in [(at("pump.md"), "kept"), (at("manuals/pump-2.md"), "unchanged")] {
        let added = agent.json(&["docs", "add", &path]).await;
        assert_eq!(added[what], serde_json::json!(["pump-2.md"]), "{added}");
    }
    let refused = async |asked: &[&str], code: i32, part: &str| {
        let told = agent.cli(asked).await;
        assert!(told.code() == code && told.err.contains(part), "{asked:?}: {}", told.err);
    };
    refused(&["docs", "list", "--index", "documnts"], 3, "in the index documnts; there are some in documents").await;
    refused(&["docs", "remove", "a.md", "--index", "nix"], 3, "in the index nix; there are some in documents").await;
    refused(&["docs", "search", "seal", "--top", "0"], 2, "1..=100").await;
    refused(&["ask", "Which seal?", "--top", "101"], 2, "1..=100").await;
    refused(&["docs", "remove", "--source", ""], 2, "--source").await;
    agent.cli(&["docs", "add", &at("newest"), "--source", "shelf", "--index", "manuals"]).await.ok();
    refused(&["docs", "remove", "--source", &at("newest")], 3, "was added with the source shelf: give --source").await;
    refused(&["docs", "remove", "--source", &at("newest"), "--index", "documents"], 3, "nothing that was added").await;
    let removed = agent.json(&["docs", "remove", "--source", &at("pump.md")]).await;
    assert_eq!(removed["forgotten"], 1, "{removed}");
    // What is shown on one line is taken as it is shown.
    std::fs::write(at("fan\n3.md"), "The fan has a belt.\n").expect("written");
    agent.cli(&["docs", "add", &at("fan\n3.md"), "--index", "fans"]).await.ok();
    let listed = agent.cli(&["docs", "list", "--index", "fans"]).await.ok();
    assert!(listed.contains(r"remembered:fan\n3.md") && listed.contains(&at(r"fan\n3.md")), "{listed}");
    assert_eq!(agent.json(&["docs", "remove", r"fan\n3.md"]).await["forgotten"], 1);
    agent.cli(&["docs", "add", &at("fan\n3.md"), "--index", "fans"]).await.ok();
    assert_eq!(agent.json(&["docs", "remove", "--source", &at(r"fan\n3.md")]).await["forgotten"], 1);
    assert_eq!(agent.json(&["docs", "remove", "--source", "shelf"]).await["forgotten"], 1);
}

#[tokio::test]
async fn documents_are_added_asked_and_taken_away_with_an_agent_and_without() {
    let folder = tempfile::tempdir().expect("a folder");
    let manuals = folder.path().join("manuals");
    std::fs::create_dir_all(manuals.join("pumps")).expect("made");
    let write = |name: &str, text: &str| std::fs::write(manuals.join(name), text).expect("written");
    write("pumps/leak.md", "# Leaks\n\nWhen the pump leaks, stop the pump and close the valve V7.\n");
    write("oil.txt", "The hydraulic oil of the press is ISO VG 46.\n");
    write("notes.docx", "nothing that is read");
    let manuals = manuals.display().to_string();
    let mut agent = Agent::new(folder.path(), &Setup { site: None, ..Setup::new("asking", folder.path()) });

    let added = agent.json(&["docs", "add", &manuals, "--index", "manuals"]).await;
    assert_eq!(added["kept"], serde_json::json!(["oil.txt", "pumps/leak.md"]), "{added}");
    let interview = folder.path().join("interview.md");
    std::fs::write(&interview, "# Interview\n\nMia Keller heard the pump knock on Monday.\n").expect("written");
    let interview = interview.display().to_string();
    let more = ["--label", "confidential", "--personal", "--subject", "Mia Keller"];
    agent.cli(&[&["docs", "add", &interview], more.as_slice()].concat()).await.ok();
    // Added again in other words it is as strict and as personal as it was; another file of the same source takes nothing away.
    std::fs::write(&interview, "# Interview\n\nMia Keller heard the pump knock on Monday, twice.\n").expect("written");
    let again = agent.json(&["docs", "add", &interview]).await;
    assert_eq!((&again["kept"], &again["removed"]), (&serde_json::json!(["interview.md"]), &serde_json::json!([])));
    let notes = ["one.md", "two.md"].map(|name| folder.path().join(name));
    for note in &notes {
        std::fs::write(note, "Grease the bearing.\n").expect("written");
        agent.cli(&["docs", "add", &note.display().to_string(), "--source", "notes", "--index", "notes"]).await.ok();
    }
    assert_eq!(
        documents(&agent.json(&["docs", "list", "--index", "notes"]).await),
        ["remembered:one.md", "remembered:two.md"]
    );
    agent.cli(&["docs", "remove", "--source", "notes"]).await.ok();

    let question = "What to do when the pump leaks?";
    let told = agent.cli(&["ask", question]).await.ok();
    assert!(told.contains("stop the pump") && told.contains("remembered:pumps/leak.md, Leaks"), "{told}");

    let nothing = agent.cli(&["ask", "Who wrote Romeo and Juliet?"]).await;
    assert_eq!(nothing.code(), 3, "{}", nothing.err);
    for part in ["nothing in the documents answers this", "the indexes documents, manuals", "--any"] {
        assert!(nothing.err.contains(part), "{}", nothing.err);
    }
    let called = agent.json(&["ledger", "list", "--fact", "model-called", "--limit", "9"]).await;
    let answers =
        || called.as_array().expect("a list").iter().filter(|entry| entry.to_string().contains("local/extract"));
    assert_eq!(answers().count(), 1, "of the two questions one was answered: {called}");
    assert_eq!(agent.cli(&["ask", "Who wrote Romeo and Juliet?", "--any"]).await.code(), 0);

    agent.start().await;
    let answer = agent.json(&["ask", question, "--index", "manuals"]).await;
    assert!(answer["text"].as_str().is_some_and(|text| text.contains("V7") && text.contains("[1]")), "{answer}");
    assert_eq!((&answer["target"], &answer["label"]["class"]), (&"local/extract".into(), &"internal".into()));
    std::fs::remove_file(folder.path().join("manuals/oil.txt")).expect("removed");
    std::fs::write(folder.path().join("manuals/belt.md"), "# Belt\n\nThe belt of the fan is of type B17.\n")
        .expect("written");
    let again = agent.json(&["docs", "add", &manuals, "--index", "manuals"]).await;
    let parts = |name: &str| again[name].as_array().map(|all| all.iter().map(ToString::to_string).collect::<String>());
    assert_eq!(parts("kept").as_deref(), Some("\"belt.md\""), "{again}");
    assert_eq!(parts("unchanged").as_deref(), Some("\"pumps/leak.md\""), "{again}");
    assert_eq!(parts("removed").as_deref(), Some("\"oil.txt\""), "{again}");
    assert_eq!(
        documents(&agent.json(&["docs", "search", "belt of the fan", "--top", "1"]).await),
        ["remembered:belt.md"]
    );
    let personal = agent.json(&["docs", "search", "Who heard the pump knock?", "--top", "1"]).await;
    assert_eq!(
        (&personal[0]["label"]["class"], &personal[0]["label"]["personal"]),
        (&"confidential".into(), &true.into())
    );
    agent.cli(&["docs", "remove", "--subject", "Mia Keller"]).await.ok();
    let listed = agent.json(&["docs", "list"]).await;
    assert_eq!(documents(&listed), ["remembered:belt.md", "remembered:pumps/leak.md"]);
    assert_eq!(agent.cli(&["docs", "remove", "--subject", "Mia Keller"]).await.code(), 3);
    agent.stop().await;

    agent.cli(&["docs", "remove", "belt.md"]).await.ok();
    assert_eq!(documents(&agent.json(&["docs", "list"]).await), ["remembered:pumps/leak.md"]);
    assert_eq!(
        agent.cli(&["ask", "Wer gewann die Meisterschaft?", "--index", "documents"]).await.code(),
        2,
        "no such index any more"
    );
    agent.cli(&["ledger", "verify"]).await.ok();
    for fact in ["policy-decided", "retrieved", "route-chosen", "model-called", "tool-called"] {
        let told = agent.json(&["ledger", "list", "--fact", fact, "--limit", "1"]).await;
        assert!(told.as_array().is_some_and(|entries| !entries.is_empty()), "the ledger tells nothing of {fact}");
    }
}
