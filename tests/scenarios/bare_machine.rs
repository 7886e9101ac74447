//! A gateway without CA certificates, as a minimal Debian is: plain HTTP works, for the command line and for workflows.

use std::time::Duration;

use tests::{
    agent::{Agent, Setup, site},
    process, wait,
};

const WITHOUT: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];
const NOWHERE: &str = "/nonexistent";

#[tokio::test]
async fn a_machine_without_certificates_speaks_plain_http() {
    let folder = tempfile::tempdir().expect("a folder");
    let site = site("tests/scenarios/sites/line", folder.path());
    let mut agent = Agent::new(folder.path(), &Setup::new("bare", &site));
    let health = format!("http://127.0.0.1:{}/health", agent.api);
    let workflow = format!(
        "document: {{ dsl: '1.0.3', namespace: line, name: look, version: '1.0.0' }}\nschedule: {{ every: PT1S }}\n\
         do: [{{ ask: {{ call: http, with: {{ method: get, endpoint: '{health}' }} }} }}]\n"
    );
    std::fs::write(site.join("workflows/look.yaml"), workflow).expect("a workflow can be written");
    agent.spawn_under(&format!("export {}={NOWHERE} {}={NOWHERE}", WITHOUT[0], WITHOUT[1]));
    agent.answers().await;

    let looked = wait::until("a run to have asked by HTTP", Duration::from_secs(30), async || {
        let runs = agent.json(&["runs", "--workflow", "line/look"]).await;
        let ended = |status: &&serde_json::Value| matches!(status.as_str(), Some("completed" | "faulted"));
        runs.as_array()?.iter().map(|run| &run["status"]).find(ended).cloned()
    });
    assert_eq!(looked.await, "completed");

    let mut doctor = agent.command(&["doctor"]);
    doctor.envs(WITHOUT.map(|name| (name, NOWHERE)));
    let said = process::run(&mut doctor, Duration::from_secs(120)).await;
    assert!(said.out.contains("runs; bundle"), "{}", said.out);
    agent.stop().await;
}

/// The device that takes nothing, as a full disk or a reader that went away.
const FULL: &str = "/dev/full";

#[test]
fn a_command_whose_output_cannot_be_written_says_so_and_ends() {
    if !std::path::Path::new(FULL).exists() {
        eprintln!("skipped: there is no {FULL} here");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let full = std::fs::File::options().write(true).open(FULL).expect("the device opens");
    let mut command = tests::binaries::command("edge-agent");
    let ended = command.arg("doctor").current_dir(folder.path()).stdout(full).output().expect("it runs");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(!ended.status.success() && said.contains("No space left") && !said.contains("panicked"), "{said}");
}
