//! `call: mcp` against a server in the test, and against the one that the protocol's own Python library makes.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{Json, extract::State, http::StatusCode};

use super::{config::Run, *};

fn web(url: &str, method: &str, parameters: Value) -> Value {
    json!({"method": method, "parameters": parameters, "transport": {"http": {"endpoint": format!("{url}/mcp")}}})
}

async fn mcp(action: &Action, input: Value) -> Done {
    perform(action, &call("mcp", input)).await
}

/// A server that answers in JSON or, for `slow`, in a stream with a question of its own in front.
#[derive(Default)]
struct Server {
    opened: AtomicUsize,
    replies: AtomicUsize,
    /// Sessions with a smaller number are forgotten.
    known_from: AtomicUsize,
}

impl Server {
    async fn serve(self: Arc<Self>) -> String {
        serve(Router::new().route("/mcp", post(Self::hear)).with_state(self)).await
    }

    async fn hear(State(this): State<Arc<Self>>, headers: HeaderMap, Json(message): Json<Value>) -> Response {
        let id = message["id"].clone();
        let result = |result: Value| Json(json!({"jsonrpc": "2.0", "id": id, "result": result})).into_response();
        if message["method"] == "initialize" {
            let session = this.opened.fetch_add(1, Ordering::SeqCst).to_string();
            let version = message["params"]["protocolVersion"].clone();
            let hello =
                json!({"protocolVersion": version, "capabilities": {}, "serverInfo": {"name": "t", "version": "1"}});
            return ([("mcp-session-id", session)], result(hello)).into_response();
        }
        let session = headers.get("mcp-session-id").and_then(|id| id.to_str().ok()?.parse::<usize>().ok());
        if session.is_none_or(|session| session < this.known_from.load(Ordering::SeqCst)) {
            return StatusCode::NOT_FOUND.into_response();
        }
        if headers.get("mcp-protocol-version").is_none() {
            return StatusCode::BAD_REQUEST.into_response();
        }
        match (message["method"].as_str(), message["params"]["name"].as_str()) {
            (None, _) => {
                this.replies.fetch_add(1, Ordering::SeqCst);
                StatusCode::ACCEPTED.into_response()
            }
            (Some("notifications/initialized"), _) => StatusCode::ACCEPTED.into_response(),
            (Some("tools/call"), Some("slow")) => {
                let question = json!({"jsonrpc": "2.0", "id": "q", "method": "roots/list"});
                let answer =
                    json!({"jsonrpc": "2.0", "id": id, "result": {"content": [{"type": "text", "text": "late"}]}});
                let stream = format!(": hello\n\ndata: {question}\n\nevent: message\ndata: {answer}\n\n");
                ([("content-type", "text/event-stream")], stream).into_response()
            }
            (Some("tools/call"), Some("fails")) => {
                result(json!({"isError": true, "content": [{"type": "text", "text": "no pump"}]}))
            }
            (Some("tools/call"), Some("never")) => std::future::pending().await,
            (Some("tools/call"), Some("long")) => result(json!({"content": [{"text": "x".repeat(5 << 20)}]})),
            (Some("tools/call"), Some(name)) => {
                let arguments = &message["params"]["arguments"];
                result(json!({"content": [{"type": "text", "text": format!("{name} {arguments}")}]}))
            }
            (Some("tools/list"), _) => result(json!({"tools": [{"name": "echo"}]})),
            _ => {
                let error = json!({"code": -32601, "message": "no such method"});
                Json(json!({"jsonrpc": "2.0", "id": id, "error": error})).into_response()
            }
        }
    }
}

#[tokio::test]
async fn a_session_is_opened_once_and_again_when_the_server_forgot_it() {
    let server = Arc::new(Server::default());
    let url = Arc::clone(&server).serve().await;
    let action = nowhere();
    let done = mcp(&action, web(&url, "tools/call", json!({"name": "echo", "arguments": {"n": 1}}))).await;
    let told = done.told();
    assert_eq!(told[..2], ["http 127.0.0.1 yes", "mcp 127.0.0.1/echo yes"]);
    assert!(told[2].starts_with("mcp: 127.0.0.1 tools/call {\"name\":\"echo\""), "{told:?}");
    assert_eq!(done.output()["content"][0]["text"], "echo {\"n\":1}");
    let list = mcp(&action, web(&url, "tools/list", json!({}))).await.output();
    assert_eq!((list["tools"][0]["name"].as_str(), server.opened.load(Ordering::SeqCst)), (Some("echo"), 1));
    server.known_from.store(1, Ordering::SeqCst);
    mcp(&action, web(&url, "tools/list", json!({}))).await.output();
    assert_eq!(server.opened.load(Ordering::SeqCst), 2);
    let late = mcp(&action, web(&url, "tools/call", json!({"name": "slow"}))).await.output();
    assert_eq!((late["content"][0]["text"].as_str(), server.replies.load(Ordering::SeqCst)), (Some("late"), 1));
}

#[tokio::test]
async fn what_goes_wrong_is_an_error_that_says_what() {
    let url = Arc::new(Server::default()).serve().await;
    let ask = |name: &str| web(&url, "tools/call", json!({"name": name}));
    for (input, kind, expected) in [
        (ask("fails"), kind::RUNTIME, "the tool failed: no pump"),
        (web(&url, "prompts/list", json!({})), kind::RUNTIME, "error -32601: no such method"),
        (ask("long"), kind::RUNTIME, "more than 4194304 bytes"),
        (web("http://127.0.0.1:1", "tools/list", json!({})), kind::COMMUNICATION, "127.0.0.1:1: "),
        (json!({"method": "tools/list", "transport": {}}), kind::VALIDATION, "exactly one of http and stdio"),
    ] {
        let done = mcp(&nowhere(), input).await;
        assert_eq!(done.failure().error.kind, kind.0, "{}", done.detail());
        assert!(done.detail().contains(expected), "{}", done.detail());
    }
    let mut never = ask("never");
    never["timeout"] = json!({"milliseconds": 200});
    let done = mcp(&nowhere(), never).await;
    assert_eq!(done.failure().error.kind, kind::TIMEOUT.0);
    assert!(done.told().last().is_some_and(|told| told.starts_with("mcp: ")), "{:?}", done.told());
}

/// A server of the protocol's own Python library.
const PYTHON: &str = r#"
import os, sys
from mcp.server.mcpserver import MCPServer
server = MCPServer("plant")
count = 0

@server.tool()
def add(a: int, b: int) -> int:
    """Adds."""
    global count
    count += 1
    return a + b

@server.tool()
def called() -> str:
    """How often, and by whom."""
    return f"{count} {os.environ.get('SITE')} {os.getuid()}"

@server.tool()
def fail() -> str:
    """Fails."""
    raise ValueError("no pump")

@server.resource("plant://pumps")
def pumps() -> str:
    """Pumps."""
    return "p1"

@server.prompt()
def ask(name: str) -> str:
    """Asks."""
    return f"How is {name}?"

if sys.argv[1] == "stdio":
    server.run("stdio")
else:
    server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
"#;

/// A Python with `mcp`, as tests/run installs it.
fn python() -> Option<PathBuf> {
    let python = std::env::var_os("SKERRY_MCP_PYTHON").map(PathBuf::from);
    let python = python.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/skerry/mcp/bin/python")));
    let python = python.filter(|python| python.exists());
    if python.is_none() {
        eprintln!("no Python with `mcp`: tests/run installs one, and SKERRY_MCP_PYTHON names another");
    }
    python
}

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

async fn check_python(action: &Action, rules: &PolicySet, transport: Value) {
    let ask = async |method: &str, parameters: Value| {
        let input = json!({"method": method, "parameters": parameters, "transport": transport});
        let mut call = call("mcp", input);
        call.deadline = Some(crate::clock::now().plus(Duration::from_secs(60)));
        perform_by(rules, action, &call).await
    };
    let list = ask("tools/list", json!({})).await.output();
    assert_eq!(list["tools"].as_array().map(Vec::len), Some(3), "{list}");
    let sum = ask("tools/call", json!({"name": "add", "arguments": {"a": 2, "b": 3}})).await.output();
    assert_eq!(sum["content"][0]["text"], "5");
    let failed = ask("tools/call", json!({"name": "fail", "arguments": {}})).await;
    assert!(failed.detail().contains("the tool failed"), "{}", failed.detail());
    let read = ask("resources/read", json!({"uri": "plant://pumps"})).await.output();
    assert_eq!(read["contents"][0]["text"], "p1");
    let prompt = ask("prompts/get", json!({"name": "ask", "arguments": {"name": "p1"}})).await.output();
    assert_eq!(prompt["messages"][0]["content"]["text"], "How is p1?");
    let called = ask("tools/call", json!({"name": "called", "arguments": {}})).await.output();
    let called = called["content"][0]["text"].as_str().expect("text").to_owned();
    assert!(called.starts_with("1 "), "one server for all calls: {called}");
}

#[tokio::test]
async fn a_python_server_over_http() {
    let Some(python) = python() else { return };
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("an address");
    let mut command = Command::new(python);
    command.args(["-c", PYTHON, &free.port().to_string()]).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("python starts");
    let stderr = child.stderr.take().expect("piped");
    let _ended = Ended(child);
    let ready = tokio::task::spawn_blocking(move || {
        let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
        let ready = lines.any(|line| line.contains("running on"));
        // Goes on reading, so that the server can go on writing.
        std::thread::spawn(move || lines.count());
        ready
    });
    let ready = tokio::time::timeout(Duration::from_secs(60), ready).await.expect("in time").expect("read");
    assert!(ready, "the server says that it listens");
    let transport = json!({"http": {"endpoint": format!("http://127.0.0.1:{}/mcp", free.port())}});
    check_python(&nowhere(), &PolicySet::default_rules(), transport).await;
}

#[tokio::test]
async fn a_python_server_over_standard_streams_is_confined() {
    let Some(python) = python() else { return };
    let is_root = super::super::process::is_root();
    let run: Run = toml::from_str(if is_root { "user = \"nobody\"" } else { "as_agent = true" }).expect("valid");
    let run = Run { memory_mb: 1_024, ..run };
    // Where the user that it runs as can read it.
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("open");
    let packages = packages(&python, dir.path());
    let transport = json!({"stdio": {
        "command": "python3", "arguments": ["-c", PYTHON, "stdio"],
        "environment": {"PYTHONPATH": packages, "SITE": "basel"},
    }});
    let action = with(Calls { run: Some(run), ..Calls::default() });
    let rule = r#"@id("python") permit (principal, action in [Action::"run", Action::"mcp"], resource);"#;
    let rules = PolicySet::parse(&[("run.cedar".to_owned(), rule.to_owned())]).expect("valid rules");
    check_python(&action, &rules, transport.clone()).await;
    let input = json!({"method": "tools/call", "parameters": {"name": "called"}, "transport": transport});
    let done = perform_by(&rules, &action, &call("mcp", input.clone())).await;
    assert!(done.told()[1].starts_with("mcp python3/called yes"), "{:?}", done.told());
    let user = if is_root { "65534".to_owned() } else { own_user() };
    assert_eq!(done.output()["content"][0]["text"], format!("1 basel {user}"));
    let done = perform(&action, &call("mcp", input)).await;
    assert_eq!(done.failure().error.kind, kind::AUTHORIZATION.0, "by default no process runs");
}

fn own_user() -> String {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").expect("there").uid().to_string()
}

/// A copy of the libraries for the system's own Python.
fn packages(python: &Path, into: &Path) -> PathBuf {
    let print = "import mcp, os; print(os.path.dirname(os.path.dirname(mcp.__file__)))";
    let found = Command::new(python).args(["-c", print]).output().expect("python runs");
    let from = String::from_utf8(found.stdout).expect("a path");
    let copied = Command::new("cp").arg("-r").arg(from.trim()).arg(into).status().expect("cp runs");
    assert!(copied.success());
    into.join("site-packages")
}
