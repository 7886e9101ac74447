//! `run: shell`, `script` and `container` with real programs.

use std::path::{Path, PathBuf};

use super::{
    config::{Container, Run},
    *,
};

fn run() -> Run {
    let is_root = super::super::process::is_root();
    let toml = if is_root { "user = \"nobody\"" } else { "as_agent = true" };
    toml::from_str(toml).expect("valid")
}

fn node(run: Run) -> Action {
    with(Calls { run: Some(run), ..Calls::default() })
}

/// Rules that permit what the tests run.
fn rules() -> PolicySet {
    let rule = r#"@id("processes") permit (principal, action == Action::"run", resource)
        unless { resource.name like "*forbidden*" };"#;
    PolicySet::parse(&[("run.cedar".to_owned(), rule.to_owned())]).expect("valid rules")
}

async fn go(run: Run, function: &str, input: Value) -> Done {
    perform_by(&rules(), &node(run), &call(function, input)).await
}

#[tokio::test]
async fn a_shell_command_has_input_arguments_environment_and_the_key() {
    let command = "input=$(cat)\necho \"STDIN was: $input\"\necho \"ARGS are $1 $2\"\necho \"$site $SKERRY_KEY\"; echo bad >&2; exit 3";
    let input = json!({"command": command, "stdin": "Hello", "arguments": ["Foo", 2], "environment": {"site": "basel"}, "return": "all"});
    let done = go(run(), "shell", input).await;
    let told = done.told();
    assert!(told[0].starts_with("run input=$(cat)") && told[1].starts_with("shell: input=$(cat)"), "{told:?}");
    let stdout = "STDIN was: Hello\nARGS are Foo 2\nbasel run:/do/0/act\n";
    assert_eq!(done.output(), json!({"code": 3, "stdout": stdout, "stderr": "bad\n"}));
}

#[tokio::test]
async fn the_task_says_what_becomes_its_output() {
    for (returns, expected) in
        [("stdout", json!("out")), ("stderr", json!("err")), ("code", json!(0)), ("none", Value::Null)]
    {
        let input = json!({"command": "printf out; printf err >&2", "return": returns});
        assert_eq!(go(run(), "shell", input).await.output(), expected, "{returns}");
    }
    let done = go(run(), "shell", json!({"command": "echo why >&2; exit 9"})).await;
    assert_eq!(done.failure().error.kind, kind::RUNTIME.0);
    assert!(done.detail().contains("ended with code 9: why"), "{}", done.detail());
    let done = go(run(), "shell", json!({"command": "exit 9", "return": "code"})).await;
    assert_eq!(done.output(), 9);
}

#[tokio::test]
async fn scripts_run_by_their_interpreter() {
    let module = "import { readFileSync } from 'node:fs';\nconst stdin = readFileSync(process.stdin.fd, 'utf8');\n\
        const [_, __, arg] = process.argv;\nconsole.log(stdin, arg, process.env.foo);";
    let older = "const fs = require('fs'); console.log(fs.readFileSync(0, 'utf8'), process.argv[2], process.env.foo)";
    let python = "import sys, os\nprint(sys.stdin.read(), sys.argv[1], os.environ['foo'])";
    for (language, code) in
        [("js", module), ("javascript", older), ("python", python), ("sh", "echo \"$(cat) $1 $foo\"")]
    {
        let input = json!({"language": language, "code": code, "stdin": "Hi", "arguments": ["hello"], "environment": {"foo": "bar"}});
        assert_eq!(go(run(), "script", input).await.output(), "Hi hello bar\n", "{language}");
    }
    let done = go(run(), "script", json!({"language": "cobol", "code": "x"})).await;
    assert!(done.detail().contains("expected js, python or sh"));
}

#[tokio::test]
async fn nothing_runs_where_node_or_policy_do_not_allow_it() {
    let input = || json!({"command": "echo forbidden"});
    let done = go(run(), "shell", input()).await;
    assert_eq!(done.failure().error.kind, kind::AUTHORIZATION.0);
    assert_eq!(done.told(), ["run echo forbidden no"]);
    let done = perform(&node(run()), &call("shell", json!({"command": "true"}))).await;
    assert_eq!(done.failure().error.kind, kind::AUTHORIZATION.0, "the default rules permit no process");
    let done = perform_by(&rules(), &nowhere(), &call("shell", json!({"command": "true"}))).await;
    assert!(done.detail().contains("expected [run] in agent.toml"), "{}", done.detail());
    let root = Run { user: Some("root".to_owned()), as_agent: false, ..run() };
    let done = go(root, "shell", json!({"command": "true"})).await;
    assert!(done.detail().contains("never run as root"), "{}", done.detail());
    let nobody = Run { user: Some("no-such-user".to_owned()), as_agent: false, ..run() };
    assert!(go(nobody, "shell", json!({"command": "true"})).await.detail().contains("no user \"no-such-user\""));
}

/// What a process can see and do: who it is, its groups, rights, files, folder, environment and limits.
#[tokio::test]
async fn a_process_is_confined() {
    let secret = tempfile::NamedTempFile::new().expect("a file of the agent's");
    let probe = format!(
        "id -u; id -G; grep NoNewPrivs /proc/self/status; ls /proc/self/fd | wc -l; pwd; env | cut -d= -f1 | sort | xargs; \
         ulimit -c; ulimit -n; cat {} 2>&1; ps -o sid= -p $$ | tr -d ' '; echo $$; touch here; ls -A",
        secret.path().display()
    );
    let done = go(run(), "shell", json!({"command": probe, "return": "all"})).await.output();
    let said: Vec<&str> = done["stdout"].as_str().expect("text").lines().collect();
    if super::super::process::is_root() {
        assert_eq!((said[0], said[1]), ("65534", "65534"), "nobody, in no other group: {said:?}");
        assert!(said[8].contains("Permission denied"), "{said:?}");
    }
    assert_eq!(said[2].split_whitespace().last(), Some("1"), "{said:?}");
    // The three, and what `ls` itself opens.
    assert_eq!(said[3], "4", "{said:?}");
    let folder = PathBuf::from(said[4]);
    assert!(said[4].contains("/skerry-") && !folder.exists(), "its folder is gone: {said:?}");
    assert_eq!(said[5], "HOME LANG PATH PWD SKERRY_KEY", "{said:?}");
    assert_eq!((said[6], said[7]), ("0", "256"), "{said:?}");
    let tail = &said[said.len() - 3..];
    assert_eq!((tail[0], tail[2]), (tail[1], "here"), "it leads its session, in an empty folder: {said:?}");
}

#[tokio::test]
async fn limits_of_time_output_and_memory_hold() {
    let small = || Run { timeout_s: 30, output_kb: 1, memory_mb: 64, file_mb: 1, ..run() };
    let dir = tempfile::tempdir().expect("a folder");
    let pids = dir.path().join("pids");
    std::fs::write(&pids, "").expect("made");
    std::fs::set_permissions(&pids, std::os::unix::fs::PermissionsExt::from_mode(0o666)).expect("open");
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("open");
    let endless = format!("sleep 600 & echo $! >> {0}; echo $$ >> {0}; sleep 600", pids.display());
    let done = go(Run { timeout_s: 1, ..small() }, "shell", json!({"command": endless})).await;
    assert_eq!(done.failure().error.kind, kind::TIMEOUT.0, "{}", done.detail());
    let started = std::fs::read_to_string(&pids).expect("written");
    assert_eq!(started.lines().count(), 2);
    for pid in started.lines() {
        assert!(ends(pid).await, "{pid} goes on");
    }
    let done = go(small(), "shell", json!({"command": "yes"})).await;
    assert!(done.detail().contains("more than 1024 bytes"), "{}", done.detail());
    let hungry = json!({"language": "python", "code": "x = bytearray(300_000_000)"});
    let done = go(small(), "script", hungry).await;
    assert!(done.detail().contains("MemoryError"), "{}", done.detail());
    // 128 and the number of SIGXFSZ.
    let done = go(small(), "shell", json!({"command": "head -c 3000000 /dev/zero > big; echo $?"})).await;
    assert_eq!(done.output(), "153\n");
}

#[tokio::test]
async fn who_gives_a_call_up_ends_its_processes() {
    let dir = tempfile::tempdir().expect("a folder");
    let pid = dir.path().join("pid");
    std::fs::write(&pid, "").expect("made");
    std::fs::set_permissions(&pid, std::os::unix::fs::PermissionsExt::from_mode(0o666)).expect("open");
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("open");
    let mut asked = call("shell", json!({"command": format!("echo $$ > {}; sleep 600", pid.display())}));
    asked.deadline = Some(crate::clock::now().plus(Duration::from_millis(500)));
    let done = perform_by(&rules(), &node(run()), &asked).await;
    assert_eq!(done.failure().error.kind, kind::TIMEOUT.0);
    assert!(ends(std::fs::read_to_string(&pid).expect("written").trim()).await);
}

#[tokio::test]
async fn nobody_waits_for_a_process_that_is_not_awaited() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("done");
    std::fs::write(&file, "").expect("made");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o666)).expect("open");
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("open");
    let command = format!("read go < /dev/null; echo done > {}", file.display());
    let done = go(run(), "shell", json!({"command": command, "await": false})).await;
    assert_eq!(done.output(), Value::Null);
    until("the file is written", || std::fs::read_to_string(&file).is_ok_and(|text| text == "done\n")).await;
}

#[tokio::test]
async fn a_container_needs_an_engine_that_the_node_names() {
    let done = go(run(), "container", json!({"image": "hello-world"})).await;
    assert!(done.detail().contains("[run.container] in agent.toml"), "{}", done.detail());
    let engine = |engine: &str| Container {
        engine: PathBuf::from(engine),
        volumes: vec![PathBuf::from("/srv/open")],
        ports: false,
    };
    let with = |name: &str| Run { container: Some(engine(name)), ..run() };
    for (more, expected) in [
        (json!({"volumes": {"/etc": "/x"}}), "volumes: \"/etc\" is not below"),
        (json!({"volumes": {"/srv/open/../../etc": "/x"}}), "is not below"),
        (json!({"ports": {"80": 80}}), "expected `ports = true`"),
        (json!({"lifetime": {"cleanup": "eventually"}}), "lifetime.after: expected"),
    ] {
        let mut input = json!({"image": "alpine"});
        input.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        let done = go(with("docker"), "container", input).await;
        assert!(done.detail().contains(expected), "{}", done.detail());
    }
    let done = go(with("/no/such/engine"), "container", json!({"image": "alpine"})).await;
    assert!(done.detail().contains("cannot start /no/such/engine"), "{}", done.detail());
}

/// The command line that an engine would get: a program in its place says what it was given.
#[tokio::test]
async fn an_engine_is_given_what_the_task_says() {
    let dir = tempfile::tempdir().expect("a folder");
    let engine = dir.path().join("engine");
    let script = "#!/bin/sh\nprintf '%s\\n' \"$@\"; echo \"site=$site\"; cat\n";
    std::fs::write(&engine, script).expect("written");
    std::fs::set_permissions(&engine, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
    let container = Container { engine, volumes: vec![PathBuf::from("/srv/open")], ports: true };
    let run = Run { container: Some(container), ..run() };
    let input = json!({
        "image": "alpine", "name": "hello w", "command": "cat; echo $1", "arguments": ["Foo"], "stdin": "in",
        "environment": {"site": "s3cret-basel"}, "volumes": {"/srv/open/a": "/data"}, "ports": {"8080": 80},
        "lifetime": {"cleanup": "always"}, "pullPolicy": "always",
    });
    let output = go(run, "container", input).await.output();
    let said = output.as_str().expect("text");
    let before: Vec<&str> = said.lines().take_while(|line| *line != "alpine").collect();
    for option in ["--rm", "--env=site", "--env=SKERRY_KEY", "--volume=/srv/open/a:/data", "--publish=8080:80"] {
        assert!(before.contains(&option), "{option} in {said}");
    }
    assert!(said.contains("--name\nhello-w\n--pull\nalways\n"), "{said}");
    assert!(said.ends_with("alpine\nsh\n-c\ncat; echo $1\nsh\nFoo\nsite=s3cret-basel\nin"), "{said}");
}

/// Whether a process ends within a while.
async fn ends(pid: &str) -> bool {
    let gone = || {
        let status = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat"));
        status.map_or(true, |status| status.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')))
    };
    until("the process ends", gone).await;
    true
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let waited = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waited).await.unwrap_or_else(|_| panic!("{what}: not within 10 s"));
}
