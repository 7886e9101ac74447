//! Who may ask, what is answered, and how a refusal reads.

use std::sync::Mutex;

use axum::{body::Body, http::Request, response::Response};
use shared::{
    id::RunId,
    ledger::entry::{Entry, Fact},
    time::Timestamp,
    wire::v1::Health,
};
use tower::ServiceExt as _;

use super::*;

struct Site {
    router: Router,
    token: String,
    store: Store,
    answers: Arc<Mutex<Vec<Answer>>>,
    steerings: Arc<Mutex<Vec<steer::Steering>>>,
    folder: tempfile::TempDir,
    _changes: watch::Sender<u64>,
}

fn live(health: Health) -> Live {
    Live {
        started: Timestamp::from_millis(0),
        health,
        complaints: vec!["the <broker> is away".to_owned()],
        broker: "mqtt://127.0.0.1:1883".to_owned(),
        findings_count: 0,
        ..metrics::tests::live()
    }
}

fn site(health: Health) -> Site {
    site_on(health, false)
}

fn site_on(health: Health, exposed: bool) -> Site {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("node.db")).unwrap();
    let token = Token::load_or_create(&folder.path().join("local-token")).unwrap();
    let text = std::fs::read_to_string(folder.path().join("local-token")).unwrap().trim().to_owned();
    let (sender, changes) = watch::channel(0);
    let answers = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&answers);
    let decide: Decide = Arc::new(move |answer| {
        kept.lock().unwrap().push(answer);
        Box::pin(async { Err(Declined::Conflict("already decided by Ada".to_owned())) })
    });
    let ask: ask::Ask = Arc::new(|asked| {
        Box::pin(async move {
            let ask::Asked { function, input, label } = asked;
            match function.as_str() {
                "search" => Ok(serde_json::json!({"asked": input, "label": label})),
                other => Err(Declined::Conflict(format!("{other} is nothing that a person asks for"))),
            }
        })
    });
    let steerings = Arc::new(Mutex::new(Vec::new()));
    let wishes = Arc::clone(&steerings);
    let steer: steer::Steer = Arc::new(move |steering| {
        wishes.lock().unwrap().push(steering);
        Box::pin(async { Err(Declined::Conflict("the run has ended".to_owned())) })
    });
    let handles = Handles {
        node: "basel".parse().unwrap(),
        jurisdiction: "CH".to_owned(),
        store: store.clone(),
        token,
        people: Arc::new(people::Door::new(folder.path().join(people::FILE))),
        hosts: vec!["gateway.local".to_owned()],
        exposed,
        key: Some("the key".to_owned()),
        live: Arc::new(move || live(health)),
        decide,
        steer,
        ask,
        changes,
    };
    Site { router: router(handles, Router::new()), token: text, store, answers, steerings, folder, _changes: sender }
}

impl Site {
    async fn send(&self, request: Request<Body>) -> Response {
        self.router.clone().oneshot(request).await.unwrap()
    }

    async fn get(&self, path: &str, header: Option<(&str, &str)>) -> (StatusCode, String) {
        let mut request = Request::get(path);
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        read(self.send(request.body(Body::empty()).unwrap()).await).await
    }

    async fn post(&self, path: &str, cookie: &str, form: &str) -> Response {
        let request = Request::post(path)
            .header(header::COOKIE, cookie)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(request.body(Body::from(form.to_owned())).unwrap()).await
    }

    /// Adds a person who may answer for `lead`; their secret.
    fn person(&self, name: &str) -> String {
        people::add(&self.folder.path().join(people::FILE), name, vec!["lead".to_owned()], None).unwrap()
    }

    fn decision(&self, body: &serde_json::Value) -> Request<Body> {
        let id = ApprovalId::derive(Timestamp::from_millis(1), b"a");
        Request::post(format!("/api/v1/approvals/{id}"))
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_string()))
            .unwrap()
    }

    async fn log_in(&self) -> String {
        let answer = self.post("/login", "", &format!("token={}", self.token)).await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        let cookie = answer.headers()[header::SET_COOKIE].to_str().unwrap();
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
        cookie.split(';').next().unwrap().to_owned()
    }
}

#[tokio::test]
async fn functions_are_asked_with_the_token_alone() {
    let site = site(Health::Healthy);
    let ask = |function: &str, token: &str, body: &str| {
        Request::post(format!("/api/v1/functions/{function}"))
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_owned()))
            .unwrap()
    };
    let body = r#"{"input": {"query": "oil"}, "label": {"class": "public"}}"#;
    let (status, _) = read(site.send(ask("search", "guessed", body)).await).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let (status, said) = read(site.send(ask("search", &site.token, body)).await).await;
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (status, &said["asked"]["query"], &said["label"]["class"]),
        (StatusCode::OK, &"oil".into(), &"public".into())
    );
    let (status, said) = read(site.send(ask("publish", &site.token, "{}")).await).await;
    assert!(status == StatusCode::CONFLICT && said.contains("publish is nothing that a person asks for"), "{said}");
}

async fn read(answer: Response) -> (StatusCode, String) {
    let status = answer.status();
    let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn health_and_metrics_are_open_and_health_says_when_the_node_fails() {
    let (status, body) = site(Health::Degraded).get("/health", None).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let failing = site(Health::Failing);
    let (status, body) = failing.get("/health", None).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(body.contains("broker"), "{body}");
    assert!(failing.get("/metrics", None).await.1.contains("skerry_healthy 0\n"));
}

#[tokio::test]
async fn the_admin_api_asks_for_the_token() {
    let site = site(Health::Healthy);
    assert_eq!(site.get("/api/v1/status", None).await.0, StatusCode::UNAUTHORIZED);
    let wrong = site.get("/api/v1/status", Some(("authorization", "Bearer skl_guess"))).await;
    assert_eq!(wrong.0, StatusCode::UNAUTHORIZED);
    let bearer = format!("Bearer {}", site.token);
    let (status, body) = site.get("/api/v1/status", Some(("authorization", &bearer))).await;
    assert_eq!(status, StatusCode::OK);
    let value: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&value["node"], &value["ledgerSize"]), (&"basel".into(), &0.into()));
}

#[tokio::test]
async fn pages_lead_to_the_door_until_one_logged_in() {
    let site = site(Health::Healthy);
    assert_eq!(site.get("/", None).await.0, StatusCode::SEE_OTHER);
    assert_eq!(site.get("/events", None).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(site.post("/login", "", "token=skl_wrong").await.status(), StatusCode::UNAUTHORIZED);
    let cookie = site.log_in().await;
    for path in ["/", "/feeds", "/runs", "/approvals", "/ledger"] {
        let (status, page) = site.get(path, Some(("cookie", &cookie))).await;
        assert_eq!(status, StatusCode::OK, "{path}: {page}");
    }
    let page = site.get("/", Some(("cookie", &cookie))).await.1;
    assert!(page.contains("the &lt;broker&gt; is away"), "text is escaped");
}

#[tokio::test]
async fn a_form_of_another_page_decides_nothing() {
    let site = site(Health::Healthy);
    let cookie = site.log_in().await;
    let id = ApprovalId::derive(Timestamp::from_millis(1), b"a");
    let shown = Digest::of(b"proposal");
    let secret = site.person("Ada");
    let fields = format!("shown={shown}&verdict=approved&by=Ada&secret={secret}");
    let path = format!("/approvals/{id}");
    let forged = site.post(&path, &cookie, &format!("form=guess&{fields}")).await;
    assert_eq!(forged.status(), StatusCode::FORBIDDEN);
    assert!(site.answers.lock().unwrap().is_empty());

    let page = site.get("/approvals", Some(("cookie", &cookie))).await.1;
    let form = page.split("name=\"form\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let (status, body) = read(site.post(&path, &cookie, &format!("form={form}&{fields}")).await).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(body.contains("already decided by Ada"), "{body}");
    {
        let answers = site.answers.lock().unwrap();
        assert_eq!((answers[0].shown, answers[0].by.as_str(), answers[0].place), (shown, "Ada", Place::LocalPage));
    }

    let wrong = format!("form={form}&shown={shown}&verdict=approved&by=Ada&secret=guess");
    let (status, body) = read(site.post(&path, &cookie, &wrong).await).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(body.contains("not of a person who may answer"), "{body}");
    assert_eq!(site.answers.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn where_nobody_may_answer_page_and_api_say_so_and_how_to_add_a_person() {
    let site = site(Health::Healthy);
    let cookie = site.log_in().await;
    let page = site.get("/approvals", Some(("cookie", &cookie))).await.1;
    assert!(page.contains("nobody may answer on this node") && page.contains("approvers add"), "{page}");
    let answer = serde_json::json!({"shown": Digest::of(b"p"), "verdict": "approved", "by": "Ada", "secret": "x"});
    let (status, body) = read(site.send(site.decision(&answer)).await).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(body.contains("approvers add"), "{body}");
    assert!(site.answers.lock().unwrap().is_empty());
    site.person("Ada");
    let page = site.get("/approvals", Some(("cookie", &cookie))).await.1;
    assert!(!page.contains("nobody may answer"), "a person who was added is known at once");
}

#[tokio::test]
async fn wrong_secrets_are_limited_and_the_person_is_told_how_long() {
    let site = site(Health::Healthy);
    site.person("Ada");
    let guess = serde_json::json!({"shown": Digest::of(b"p"), "verdict": "approved", "by": "Ada", "secret": "guess"});
    for _ in 0..5 {
        assert_eq!(site.send(site.decision(&guess)).await.status(), StatusCode::FORBIDDEN);
    }
    let (status, body) = read(site.send(site.decision(&guess)).await).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert!(body.contains("asked again in"), "{body}");
}

#[tokio::test]
async fn a_name_that_is_not_this_nodes_is_refused_everywhere() {
    let site = site(Health::Healthy);
    let cookie = site.log_in().await;
    for path in ["/", "/health", "/metrics", "/login", "/api/v1/status", "/approvals"] {
        let ask = |host: &str| {
            let request = Request::get(path).header(header::HOST, host).header(header::COOKIE, &cookie);
            site.send(request.body(Body::empty()).unwrap())
        };
        assert_eq!(ask("evil.example:8686").await.status(), StatusCode::MISDIRECTED_REQUEST, "{path}");
        for own in ["127.0.0.1:8686", "localhost:8686", "gateway.local"] {
            assert_ne!(ask(own).await.status(), StatusCode::MISDIRECTED_REQUEST, "{path} at {own}");
        }
    }
}

#[tokio::test]
async fn beyond_loopback_metrics_and_complaints_ask_for_the_key_and_health_stays_open() {
    let site = site_on(Health::Degraded, true);
    assert_eq!(site.get("/metrics", None).await.0, StatusCode::UNAUTHORIZED);
    let (status, body) = site.get("/health", None).await;
    assert_eq!((status, body.contains("broker")), (StatusCode::OK, false), "{body}");
    for key in ["the key", &site.token] {
        let bearer = format!("Bearer {key}");
        assert_eq!(site.get("/metrics", Some(("authorization", &bearer))).await.0, StatusCode::OK);
        assert!(site.get("/health", Some(("authorization", &bearer))).await.1.contains("broker"));
    }
}

#[tokio::test]
async fn an_answer_by_api_needs_a_name_and_is_bound_to_what_was_shown() {
    let site = site(Health::Healthy);
    let secret = site.person("Ada");
    let shown = Digest::of(b"proposal");
    let refused = [
        serde_json::json!({"shown": shown, "verdict": "approved", "by": "  ", "secret": secret}),
        serde_json::json!({"verdict": "approved", "by": "Ada", "secret": secret}),
        serde_json::json!({"shown": shown, "verdict": "approved", "by": "Ada"}),
        serde_json::json!({"shown": shown, "verdict": "approved", "by": "Ada", "secret": secret, "place": "local-page"}),
    ];
    for answer in refused {
        assert_eq!(site.send(site.decision(&answer)).await.status(), StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
    }
    assert!(site.answers.lock().unwrap().is_empty());
    let late = serde_json::json!({"shown": shown, "verdict": "rejected", "by": "Ada", "secret": secret});
    let (status, body) = read(site.send(site.decision(&late)).await).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(body.contains("already decided by Ada"), "{body}");
    let told = serde_json::json!({
        "shown": shown, "verdict": "rejected", "by": "Ada", "secret": secret, "place": "command-line", "comment": "no"
    });
    site.send(site.decision(&told)).await;
    let answers = site.answers.lock().unwrap();
    let places: Vec<_> = answers.iter().map(|answer| answer.place).collect();
    assert_eq!(places, [Place::Api, Place::CommandLine], "each is recorded where it was given");
    assert_eq!((answers[1].roles.as_slice(), answers[1].comment.as_deref()), (&["lead".to_owned()][..], Some("no")));
}

#[tokio::test]
async fn what_cannot_be_read_is_told_as_every_error_is() {
    let site = site(Health::Healthy);
    let bearer = format!("Bearer {}", site.token);
    let get = async |path: &str| site.get(path, Some(("authorization", &bearer))).await;
    for (path, wanted) in [
        ("/api/v1/runs?status=zz", "`status` is \"zz\": expected one of pending, running"),
        ("/api/v1/runs?limit=many", "limit: invalid digit"),
        ("/api/v1/runs?limit=0", "`limit` is 0: expected 1 to 1000"),
        ("/api/v1/runs?sattus=waiting", "unknown field `sattus`"),
        ("/api/v1/runs/no-run", "expected a ULID"),
        ("/api/v1/ledger?before=-1", "before: invalid digit"),
    ] {
        let (status, text) = get(path).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path}: {text}");
        let told: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(told["code"], "invalid");
        assert!(told["error"].as_str().unwrap().contains(wanted), "{path}: {text}");
    }
    let request =
        Request::post("/api/v1/runs").header("authorization", &bearer).header("content-type", "application/json");
    let (status, text) = read(site.send(request.body(Body::from("{\"workflow\": ")).unwrap()).await).await;
    assert_eq!((status, text.contains("\"code\":\"invalid\"")), (StatusCode::BAD_REQUEST, true), "{text}");
}

#[tokio::test]
async fn where_there_is_nothing_the_error_is_json_too() {
    let site = site(Health::Healthy);
    let bearer = format!("Bearer {}", site.token);
    let ask = async |method: &str, path: &str| {
        let request = Request::builder().method(method).uri(path).header("authorization", &bearer);
        let answer = site.send(request.body(Body::empty()).unwrap()).await;
        let allowed = answer.headers().get(header::ALLOW).map(|allowed| allowed.to_str().unwrap().to_owned());
        let (status, text) = read(answer).await;
        (status, serde_json::from_str::<serde_json::Value>(&text).unwrap_or_default(), allowed)
    };
    for path in ["/api/v1/nothing", "/api/v2/runs", "/nothing"] {
        let (status, told, _) = ask("GET", path).await;
        let error = format!("there is nothing at {path}: /openapi.json says what there is");
        assert_eq!((status, told), (StatusCode::NOT_FOUND, serde_json::json!({"error": error, "code": "unknown"})));
    }
    let (status, told, allowed) = ask("DELETE", "/api/v1/runs").await;
    assert_eq!((status, &told["code"]), (StatusCode::METHOD_NOT_ALLOWED, &"method".into()), "{told}");
    let allowed = allowed.unwrap();
    assert_eq!(told["error"], "DELETE is not taken at /api/v1/runs: the header `allow` says what is");
    assert!(allowed.contains("GET") && allowed.contains("POST"), "{allowed}");
    let (status, told, _) = ask("GET", "/v1/nothing").await;
    assert_eq!((status, &told["error"]["code"]), (StatusCode::NOT_FOUND, &"unknown".into()), "{told}");
    assert!(told["error"]["message"].as_str().unwrap().starts_with("there is nothing at /v1/nothing"), "{told}");
    let (status, told, _) = ask("GET", "/api/v1/approvals/zz").await;
    assert_eq!((status, &told["code"]), (StatusCode::BAD_REQUEST, &"invalid".into()));
    assert!(told["error"].as_str().unwrap().contains("\"zz\" is no approval id: expected a ULID"), "{told}");
}

#[tokio::test]
async fn the_ledger_is_told_newest_first_in_words() {
    let site = site(Health::Healthy);
    for version in ["0.1.0", "0.2.0"] {
        let fact = Fact::AgentStarted { version: version.to_owned() };
        let entry = Entry { at: Timestamp::from_millis(0), run: None, task: None, fact };
        site.store.write("append", move |tx| Ok(tx.append(&entry).map(drop)?)).await.unwrap();
    }
    let cookie = site.log_in().await;
    let page = site.get("/ledger", Some(("cookie", &cookie))).await.1;
    let (newer, older) = (page.find("version 0.2.0").unwrap(), page.find("version 0.1.0").unwrap());
    assert!(newer < older, "{page}");
}

#[test]
fn the_token_is_made_once_and_only_its_owner_may_read_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("local-token");
    Token::load_or_create(&path).unwrap();
    let first = std::fs::read_to_string(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(Token::load_or_create(&path).unwrap().is(first.trim()));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), first);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = Token::load_or_create(&path).err().unwrap().to_string();
    assert!(error.contains("local-token may be read by others") && error.contains("`chmod 600 "), "{error}");
}

#[tokio::test]
async fn what_is_described_is_served() {
    let site = site(Health::Healthy);
    let document: serde_json::Value = serde_json::from_str(include_str!("openapi.json")).unwrap();
    for (path, item) in document["paths"].as_object().unwrap().iter().filter(|(path, _)| !path.starts_with("/v1/")) {
        for method in item.as_object().unwrap().keys() {
            let path = path.replace("{id}", "x");
            let request = Request::builder().method(method.to_uppercase().as_str()).uri(&path);
            let request = request.header(header::AUTHORIZATION, format!("Bearer {}", site.token)).body(Body::empty());
            let status = site.router.clone().oneshot(request.unwrap()).await.unwrap().status();
            let known =
                ![StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED, StatusCode::UNAUTHORIZED].contains(&status);
            assert!(known, "{method} {path}: {status}");
        }
    }
}

/// A run of a workflow with two tasks of which it has taken one.
async fn add_run(site: &Site) -> RunId {
    let text = "document: { dsl: '1.0.3', namespace: plant, name: a, version: '1.2.0' }\n\
        do: [{ first: { set: { x: '<&>' } } }, { second: { set: { x: 1 } } }]";
    let run = RunId::derive(Timestamp::from_millis(1), b"run");
    let records = r#"[{"record":"started","at":"1970-01-01T00:00:00Z","input":{},"label":{"class":"internal"}},
        {"record":"list-opened","frame":0,"definition":"/do","place":"/do","data":{}},
        {"record":"task-started","frame":1,"list":0,"index":0,"name":"first","at":"1970-01-01T00:00:00Z"},
        {"record":"task-ended","frame":1,"at":"1970-01-01T00:00:00Z","output":{"x":"<&>"}}]"#;
    let insert = move |tx: &mut crate::store::Transaction<'_>| {
        let (connection, digest) = (tx.connection(), Digest::of(b"").to_string());
        connection.execute("INSERT INTO workflow VALUES (?1, 'plant/a', ?2)", [&digest, text])?;
        connection.execute(
            "INSERT INTO run (id, workflow, version, definition, bundle, trigger, input, label, status, created_at, changed_at) \
             VALUES (?1, 'plant/a', '1.2.0', ?2, ?2, 'by hand', '{}', '{\"class\":\"internal\"}', 'running', 1, 1)",
            [&run.to_string(), &digest],
        )?;
        connection.execute(
            "INSERT INTO run_step (run, seq, at, records) VALUES (?1, 0, 1, ?2)",
            [&run.to_string(), records],
        )?;
        Ok(())
    };
    site.store.write("add a run", insert).await.unwrap();
    run
}

#[tokio::test]
async fn the_page_of_a_run_draws_its_path_without_a_style_of_its_own() {
    let site = site(Health::Healthy);
    let run = add_run(&site).await;
    let cookie = site.log_in().await;
    let (status, page) = site.get(&format!("/runs/{run}"), Some(("cookie", &cookie))).await;
    assert_eq!(status, StatusCode::OK, "{page}");
    assert!(page.contains("class=\"flow run\"") && page.contains("class=\"box set completed\""), "{page}");
    assert!(
        page.contains("through version 1.2.0") && page.contains("<g class=\"box set\"><title>/do/1/second"),
        "{page}"
    );
    assert!(!page.contains("<style") && !page.contains("style="), "the page's policy refuses inline styles");
}

#[tokio::test]
async fn runs_are_steered_by_people_of_the_role_alone_and_by_forms_of_the_page_alone() {
    let site = site(Health::Healthy);
    let run = add_run(&site).await;
    let path = format!("/runs/{run}");
    let list = site.folder.path().join(people::FILE);
    let secret = people::add(&list, "Bo", vec![steer::ROLE.to_owned()], None).unwrap();
    let other = site.person("Ada");
    let cookie = site.log_in().await;
    let page = site.get(&path, Some(("cookie", &cookie))).await.1;
    assert!(page.contains("Cancel the run") && page.contains("Suspend") && !page.contains("Try again"), "{page}");
    let form = page.split("name=\"form\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    for (form, by, secret, expected) in [
        ("guess", "Bo", secret.as_str(), StatusCode::FORBIDDEN),
        (form, "Bo", "a wrong secret", StatusCode::FORBIDDEN),
        (form, "Ada", other.as_str(), StatusCode::FORBIDDEN),
    ] {
        let answer = site.post(&path, &cookie, &format!("form={form}&act=cancel&by={by}&secret={secret}")).await;
        assert_eq!(answer.status(), expected, "{by}");
    }
    assert!(site.steerings.lock().unwrap().is_empty());
    let given = format!("form={form}&act=cancel&by=Bo&secret={secret}&comment=enough");
    let (status, body) = read(site.post(&path, &cookie, &given).await).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(body.contains("the run has ended"), "{body}");
    let start =
        serde_json::json!({"workflow": "plant/a", "input": [1], "by": "Bo", "secret": secret, "place": "command-line"});
    let request = Request::post("/api/v1/runs")
        .header(header::AUTHORIZATION, format!("Bearer {}", site.token))
        .header(header::CONTENT_TYPE, "application/json");
    site.send(request.body(Body::from(start.to_string())).unwrap()).await;
    let told = site.steerings.lock().unwrap();
    assert_eq!(
        (&told[0].wish, told[0].place, told[0].comment.as_deref()),
        (&steer::Wish::Cancel(run), Place::LocalPage, Some("enough"))
    );
    let meant = steer::Wish::Start { workflow: "plant/a".to_owned(), input: serde_json::json!([1]) };
    assert_eq!((&told[1].wish, told[1].place, told[1].by.as_str()), (&meant, Place::CommandLine, "Bo"));
}
