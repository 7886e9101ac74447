//! Documents run as the command line would run them: to the output, the exit code and the sentence.

use clap::Parser;
use serde_json::json;
use shared::id::RunId;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

/// A folder of documents, run as the command line would.
struct Folder(tempfile::TempDir);

impl Folder {
    fn with(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Self(folder)
    }

    /// The run of a document that has ended, and with it all that it ran.
    async fn looked_at(&self, file: &str) -> (RunId, Vec<RunDetail>) {
        let file = self.0.path().join(file);
        let args = Line::try_parse_from(["run", file.to_str().unwrap()]).unwrap().args;
        let play = Play::of(&args, Arc::new(read(&args.file).unwrap()), true).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let desk = Desk::open(&args, None, folder.path()).unwrap();
        let store = desk.store.clone();
        let (detail, _) = watch::play(play, desk).await.unwrap();
        (detail.summary.run, store.read("look", watch::details).await.unwrap())
    }

    /// How the run ended and what the command line says of it.
    async fn run(&self, file: &str, options: &[&str]) -> (RunDetail, Result<ExitCode, String>) {
        let file = self.0.path().join(file);
        let words = ["run", file.to_str().unwrap()].into_iter().chain(options.iter().copied());
        let args = Line::try_parse_from(words).unwrap().args;
        let workflow = Arc::new(read(&args.file).unwrap());
        let play = Play::of(&args, Arc::clone(&workflow), true).unwrap();
        let store = tempfile::tempdir().unwrap();
        let desk = Desk::open(&args, None, store.path()).unwrap();
        let (detail, ending) = watch::play(play, desk).await.unwrap();
        let context = Context { config_path: PathBuf::new(), json: false };
        let told = finish(Path::new("w.yaml"), &workflow, &detail, ending, &context);
        (detail, told.map_err(|failure| failure.to_string()))
    }
}

fn document(name: &str, tasks: &str) -> String {
    format!("document: {{ dsl: '1.0.3', namespace: test, name: {name}, version: '0.1.0' }}\n{tasks}")
}

async fn run(tasks: &str, options: &[&str]) -> (RunDetail, Result<ExitCode, String>) {
    Folder::with(&[("w.yaml", &document("w", tasks))]).run("w.yaml", options).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_runs_to_its_end_with_the_events_that_it_listens_for() {
    let tasks = "do: [{ a: { set: { n: '${ .n + 1 }' } } }, { l: { listen: { to: { all: [{ with: { type: x } }, \
        { with: { type: y } }] } } } }]";
    let events = ["--event", r#"{"type": "x", "data": 1}"#, "--event", r#"{"type": "y", "data": 2}"#];
    let (detail, told) = run(tasks, &[&["--input", r#"{"n": 1}"#], &events[..]].concat()).await;
    assert_eq!((told, detail.output), (Ok(ExitCode::SUCCESS), Some(json!([1, 2]))));
    assert_eq!(watch::begun("", &detail.tasks[0]), r#"> /do/0/a  {"n":1}"#);
    assert!(watch::ended("", &detail.tasks[0]).starts_with(r#"< /do/0/a  {"n":2}  ("#));
}

#[tokio::test(flavor = "multi_thread")]
async fn models_documents_and_other_workflows_of_the_bundle_are_there() {
    let tasks = "do:\n- find: { call: retrieve, with: { query: 'bearing noise', topK: 1 } }\n\
        - say: { call: infer, with: { prompt: '${ \"What does bearing noise mean? \" + (. | tostring) }' } }\n\
        - kind: { call: classify, with: { text: 'it screams', cases: [{ text: 'it screams', label: loud }, \
          { text: 'it hums', label: quiet }] } }\n\
        - more: { run: { workflow: { namespace: test, name: other, version: '0.1.0', input: { n: 1 } } } }";
    let folder = Folder::with(&[
        ("workflows/w.yaml", &document("w", tasks)),
        ("workflows/other.yaml", &document("other", "do: [{ a: { set: { got: '${ .n }' } } }]")),
        ("workflows/broken.yaml", "document: ["),
        ("documents/manual/press.md", "# Press\n\nBearing noise means that the grease is old.\n"),
    ]);
    let (detail, told) = folder.run("workflows/w.yaml", &[]).await;
    assert_eq!((told, detail.output), (Ok(ExitCode::SUCCESS), Some(json!({"got": 1}))));
    let output = |task: usize| detail.tasks[task].output.as_deref().unwrap().to_string();
    assert!(output(0).contains("grease is old"), "{}", output(0));
    assert!(output(1).contains("local/extract"), "{}", output(1));
    assert!(output(2).contains("loud"), "{}", output(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_goes_out_and_an_error_is_told_with_its_place() {
    let app = axum::Router::new().route("/ok", axum::routing::get(|| async { axum::Json(json!({"warm": true})) }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let get = |name: &str, path: &str| {
        format!("- {name}:\n    call: http\n    with: {{ method: get, endpoint: 'http://127.0.0.1:{port}/{path}' }}\n")
    };
    let (detail, told) = run(&format!("do:\n{}", get("a", "ok")), &[]).await;
    assert_eq!((told, detail.output), (Ok(ExitCode::SUCCESS), Some(json!({"warm": true}))));
    let (detail, told) = run(&format!("do:\n{}{}", get("a", "ok"), get("b", "none")), &[]).await;
    let told = told.unwrap_err();
    assert!(told.starts_with("w.yaml:6:3: /do/1/b: the run faulted: 404 communication: "), "{told}");
    assert!(watch::ended("", &detail.tasks[1]).starts_with("! /do/1/b  404 communication: "));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fell_into_one_look_is_told_in_the_order_in_which_it_happened() {
    let tasks = "do:\n- t: { try: [{ a: { set: { n: 1 } } }, { b: { raise: { error: { type: x, status: 500 } } } }], catch: { do: [{ c: { set: { n: 2 } } }] } }\n\
        - more: { run: { workflow: { namespace: test, name: other, version: '0.1.0' } } }";
    let folder = Folder::with(&[
        ("w.yaml", &document("w", tasks)),
        ("other.yaml", &document("other", "do: [{ o: { set: { n: 3 } } }]")),
    ]);
    let (own, all) = folder.looked_at("w.yaml").await;
    let lines = watch::Told::new(true).lines(&all, own);
    let heads: Vec<_> = lines.iter().map(|line| line.split("  ").next().unwrap().to_owned()).collect();
    let expected = [
        "> /do/0/t",
        "> /do/0/t/try/0/a",
        "< /do/0/t/try/0/a",
        "> /do/0/t/try/1/b",
        "! /do/0/t/try/1/b",
        "> /do/0/t/catch/do/0/c",
        "< /do/0/t/catch/do/0/c",
        "< /do/0/t",
        "> /do/1/more (workflow)",
        "> test/other: /do/0/o",
        "< test/other: /do/0/o",
        "< /do/1/more",
    ];
    assert_eq!(heads, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_that_is_not_there_is_missed_in_the_folder() {
    let (_, told) = run("do: [{ a: { run: { workflow: { namespace: t, name: r4x, version: latest } } } }]", &[]).await;
    let told = told.unwrap_err();
    assert!(
        told.ends_with("there is no workflow t/r4x:latest here: expected it in the folder of the document"),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_outgrew_what_one_may_do_is_told_with_its_place() {
    let tasks = "do:\n- all:\n    for: { in: '${ [range(400)] }' }\n    do:\n    - each: { for: { in: '${ [range(400)] }' }, do: [{ s: { set: { x: 1 } } }] }";
    let (_, told) = run(tasks, &[]).await;
    assert!(told.unwrap_err().starts_with("w.yaml:6:7: /do/0/all/do/0/each: "));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_allowed_says_how_to_allow_it() {
    let (_, told) = run("do: [{ p: { call: publish, with: { topic: t, payload: 1 } } }]", &[]).await;
    let told = told.unwrap_err();
    assert!(told.starts_with("w.yaml:2:8: /do/0/p: ") && told.ends_with("give --broker mqtt://HOST:1883"), "{told}");
    let (_, told) = run("do: [{ s: { run: { shell: { command: 'true' } } } }]", &[]).await;
    let told = told.unwrap_err();
    assert!(told.ends_with("give --allow-run"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_asks_a_person_is_answered_as_the_options_say() {
    let ask = "do: [{ q: { call: approve, with: { role: lead, title: 'Stop it?', proposal: { pump: 7 } } } }]";
    for (option, approved) in [("--yes", true), ("--no", false)] {
        let (detail, told) = run(ask, &[option]).await;
        assert_eq!(told, Ok(ExitCode::SUCCESS));
        assert_eq!(detail.output.unwrap()["approved"], json!(approved));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_starts_nothing_and_events_start_nothing_else() {
    let tasks = "schedule: { every: PT1S }\ndo: [{ e: { emit: { event: { with: { source: 'https://h', type: x } } } } }, { w: { wait: PT1.5S } }]";
    let folder = Folder::with(&[
        ("w.yaml", &document("w", tasks)),
        (
            "on.yaml",
            &document("on", "schedule: { on: { one: { with: { type: x } } } }\ndo: [{ s: { set: { a: 1 } } }]"),
        ),
    ]);
    let began = std::time::Instant::now();
    let (detail, told) = folder.run("w.yaml", &[]).await;
    assert_eq!((told, detail.tasks.len()), (Ok(ExitCode::SUCCESS), 2));
    assert!(began.elapsed() >= std::time::Duration::from_millis(1_500), "waits are waited");
}

#[test]
fn an_event_is_checked_and_completed() {
    let made = event((1, &r#"{"type": "x"}"#.to_owned())).unwrap();
    assert_eq!((made.id.as_str(), made.source.as_str()), ("event-2", "/command-line"));
    for (broken, told) in [
        ("{", "--event {: this is no JSON: it ends too early"),
        ("x", "--event x: this is no JSON: expected a value, at line 1, column 1"),
        ("[]", "--event []: expected an object with `type`"),
        (r#"{"id": "a"}"#, r#"--event {"id": "a"}: missing field `type`"#),
        (r#"{"type": 5}"#, r#"--event {"type": 5}: invalid type: integer `5`, expected a string"#),
    ] {
        assert_eq!(event((0, &broken.to_owned())).unwrap_err().to_string(), told);
    }
}
