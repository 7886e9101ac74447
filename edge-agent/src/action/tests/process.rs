//! `run: shell`, `script` and `container` with real programs.

use std::path::{Path, PathBuf};

use super::{
    config::{Container, Run},
    *,
};
use crate::testing::until;

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
    assert!(
        go(nobody.clone(), "shell", json!({"command": "true"})).await.detail().contains("no user \"no-such-user\"")
    );
    // What the doctor says of it, without a process.
    assert!(process_problems(&run()).is_empty(), "{:?}", process_problems(&run()));
    let told = process_problems(&Run { work_dir: "/no/such/folder".into(), ..nobody });
    assert!(
        told[0].contains("no user \"no-such-user\"") && told[1].starts_with("work_dir: /no/such/folder"),
        "{told:?}"
    );
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
    let child = "python3 -c 'import time; x = bytearray(40_000_000); time.sleep(600)' &";
    let done = go(small(), "shell", json!({"command": format!("{child} {child} wait")})).await;
    assert!(done.detail().contains("more than 64 MB together"), "{}", done.detail());
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
        (json!({"environment": {"site": "basel\nPATH=/x"}}), "environment: site: expected one line"),
        (json!({"environment": {"#site": "basel"}}), "expected letters, digits"),
    ] {
        let mut input = json!({"image": "alpine"});
        input.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        let done = go(with("docker"), "container", input).await;
        assert!(done.detail().contains(expected), "{}", done.detail());
    }
    let done = go(with("/no/such/engine"), "container", json!({"image": "alpine"})).await;
    assert!(done.detail().contains("cannot start /no/such/engine"), "{}", done.detail());
}

/// A program in an engine's place: says what it was given, and writes down what else it is told.
fn engine(dir: &Path) -> Run {
    let path = dir.join("engine");
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" != run ]; then echo \"$@\" >> {}; [ \"$1\" = ps ] && echo abc123; exit 0; fi\n\
         printf '%s\\n' \"$@\"; for word in \"$@\"; do case \"$word\" in --env-file=*) file=${{word#*=}};; esac; done\n\
         stat -c %a \"$file\"; cat \"$file\"; echo \"own: $LD_PRELOAD $DOCKER_HOST $site\"; cat\n",
        dir.join("told").display()
    );
    std::fs::write(&path, script).expect("written");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
    let container = Container { engine: path, volumes: vec![dir.to_owned()], ports: true };
    Run { container: Some(container), ..run() }
}

#[tokio::test]
async fn an_engine_is_given_what_the_task_says() {
    let dir = tempfile::tempdir().expect("a folder");
    let volume = dir.path().canonicalize().expect("a path").display().to_string();
    let input = json!({
        "image": "alpine", "name": "hello w", "command": "cat; echo $1", "arguments": ["Foo"], "stdin": "in",
        "environment": {"site": "s3cret-basel", "LD_PRELOAD": "/x.so", "DOCKER_HOST": "tcp://x"},
        "volumes": {&volume: "/data"}, "ports": {"8080": 80}, "lifetime": {"cleanup": "always"}, "pullPolicy": "always",
    });
    let output = go(engine(dir.path()), "container", input).await.output();
    let said = output.as_str().expect("text");
    let before: Vec<&str> = said.lines().take_while(|line| *line != "alpine").collect();
    let volume = format!("--volume={volume}:/data");
    for option in ["--rm", "--pull=always", &volume, "--publish=8080:80"] {
        assert!(before.contains(&option), "{option} in {said}");
    }
    let named = before.iter().find_map(|option| option.strip_prefix("--name=")).expect("a name").to_owned();
    assert!(named.starts_with("skerry-hello-w-"), "{named}");
    assert!(!before.iter().any(|option| option.contains("s3cret")), "`ps` would show it: {said}");
    let variables = "DOCKER_HOST=tcp://x\nLD_PRELOAD=/x.so\nSKERRY_KEY=run:/do/0/act\nsite=s3cret-basel\n";
    let end = format!("alpine\nsh\n-c\ncat; echo $1\nsh\nFoo\n600\n{variables}own:   \nin");
    assert!(said.ends_with(&end), "for the container, not for the engine: {said}");
    // What an earlier try left goes first; then only what this call has made.
    let key = shared::digest::Digest::of(b"run:/do/0/act");
    let asked = format!("ps --all --quiet --filter label=skerry-key={key}\nrm --force abc123\nrm --force {named}\n");
    until("the engine is told", || std::fs::read_to_string(dir.path().join("told")).is_ok_and(|told| told == asked))
        .await;
}

#[tokio::test]
async fn a_container_is_removed_unless_the_task_keeps_it() {
    for (lifetime, removed, told) in [
        (Value::Null, true, "rm --force skerry-run-"),
        (json!({"cleanup": "never"}), false, "kill skerry-run-"),
        (json!({"cleanup": "eventually", "after": "PT0.01S"}), false, "rm --force skerry-run-"),
    ] {
        let dir = tempfile::tempdir().expect("a folder");
        let mut input = json!({"image": "alpine"});
        if !lifetime.is_null() {
            input["lifetime"] = lifetime.clone();
        }
        let output = go(engine(dir.path()), "container", input).await.output();
        let options = output.as_str().expect("text").lines().take_while(|line| *line != "alpine");
        assert_eq!(options.filter(|option| *option == "--rm").count(), usize::from(removed), "{lifetime}");
        let file = dir.path().join("told");
        until("the engine is told", || std::fs::read_to_string(&file).is_ok_and(|text| text.contains(told))).await;
    }
}

#[tokio::test]
async fn processes_that_nobody_waits_for_are_few() {
    let node = node(Run { timeout_s: 2, ..run() });
    let start = || call("shell", json!({"command": "exec sleep 600", "await": false}));
    for _ in 0..8 {
        assert_eq!(perform_by(&rules(), &node, &start()).await.output(), Value::Null);
    }
    let done = perform_by(&rules(), &node, &start()).await;
    assert!(done.detail().contains("8 processes with `await: false` run already"), "{}", done.detail());
    let waited = call("shell", json!({"command": "echo here"}));
    assert_eq!(perform_by(&rules(), &node, &waited).await.output(), "here\n", "a task that waits has its own turn");
    let again = async {
        while perform_by(&rules(), &node, &start()).await.outcome.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), again).await.expect("places are free again");
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

#[tokio::test]
async fn folders_that_a_killed_agent_left_are_swept_and_no_others() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut own = Run { work_dir: dir.path().to_owned(), ..run() };
    own.resolve(Path::new("/"), Path::new("/srv/node"));
    let mark = own.mark.clone().expect("of this node");
    let left = format!("skerry-{mark}-00ff");
    let others = [format!("skerry-{mark}-notes"), "skerry-00ff".to_owned(), "skerry-0123456789ab-00ff".to_owned()];
    for name in others.iter().chain([&left]) {
        std::fs::create_dir(dir.path().join(name)).expect("made");
        std::fs::write(dir.path().join(name).join("script.sh"), "true").expect("written");
    }
    assert_eq!((sweep_processes(&own), sweep_processes(&own)), (1, 0));
    assert!(!dir.path().join(&left).exists() && others.iter().all(|name| dir.path().join(name).exists()));
    let marked = Run { mark: Some(mark.clone()), ..run() };
    let done = go(marked, "shell", json!({"command": "pwd"})).await.output();
    assert!(done.as_str().is_some_and(|path| path.contains(&format!("/skerry-{mark}-"))), "{done}");
}
