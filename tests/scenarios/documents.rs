//! Documents of several forms are found by their pages, headings and rows, and one that was made to break its reader breaks
//! nothing but itself.
//!
//! `documents/bomb.pdf` has a page of 1.5 GB of spaces, deflated twice to a few kilobytes; `documents/manual.pdf` one sentence.

use std::time::Duration;

use serde_json::json;
use tests::{binaries, process};

const BOUND: Duration = Duration::from_secs(60);
const HEAD: &str = "document: { dsl: '1.0.3', namespace: line, name: look, version: '1.0.0' }\n";

#[tokio::test]
async fn documents_are_found_by_page_heading_and_row_beside_one_that_breaks_its_reader() {
    let folder = tempfile::tempdir().expect("a folder");
    let manuals = folder.path().join("documents/manuals");
    std::fs::create_dir_all(&manuals).expect("a folder");
    std::fs::create_dir_all(folder.path().join("workflows")).expect("a folder");
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/documents");
    for name in ["bomb.pdf", "manual.pdf"] {
        std::fs::copy(here.join(name), manuals.join(name)).expect("copied");
    }
    let page =
        "<html><body><nav>Home</nav><h1>Press</h1><h2>Oil</h2><p>The hydraulic oil is ISO VG 46.</p></body></html>";
    std::fs::write(manuals.join("press.html"), page).expect("written");
    std::fs::write(manuals.join("codes.csv"), "code;meaning\nE17;emergency stop pressed\nE18;door open\n")
        .expect("written");
    // Files of a few megabytes that would come to gigabytes: a title above a hundred thousand sections, and nothing but sections.
    let title = format!("# {}\n{}", "t".repeat(3 << 20), "## a\nx\n".repeat(100_000));
    std::fs::write(manuals.join("title.md"), title).expect("written");
    std::fs::write(manuals.join("sections.md"), "# a\nx\n".repeat(500_000)).expect("written");
    std::fs::write(manuals.join("nested.html"), "<div>".repeat(20_000)).expect("written");
    let wide = format!("{}\n{}", "name;".repeat(10_000), format!("{}\n", "1;".repeat(10_000)).repeat(100));
    std::fs::write(manuals.join("wide.csv"), wide).expect("written");
    let text = format!(
        "{HEAD}do: [{{ find: {{ call: retrieve, with: {{ index: manuals, query: '${{ .query }}', topK: 1 }} }} }}]\n"
    );
    std::fs::write(folder.path().join("workflows/look.yaml"), text).expect("written");
    for (query, document, place) in [
        ("fan belt of the cooler", "manual.pdf", "Page 1"),
        ("hydraulic oil ISO VG 46", "press.html", "Press > Oil"),
        ("E17 emergency stop", "codes.csv", "Row 2"),
    ] {
        let mut command = binaries::command("edge-agent");
        let input = json!({ "query": query }).to_string();
        command.args(["workflow", "run", "workflows/look.yaml", "--input", &input]).current_dir(folder.path());
        let said = process::run(&mut command, BOUND).await;
        assert_eq!(said.code(), 0, "{}", said.err);
        let found = &said.printed()["passages"][0];
        assert_eq!((&found["document"], &found["place"]), (&json!(document), &json!(place)), "{query}: {}", said.out);
    }
    let bomb = std::fs::File::open(manuals.join("bomb.pdf")).expect("a document");
    let mut reader = binaries::command("edge-agent");
    let ended = reader.args(["read-document", "pdf"]).stdin(bomb).output().expect("the reader starts");
    assert!(!ended.status.success() || String::from_utf8_lossy(&ended.stdout).contains("error"), "{:?}", ended.status);
}
