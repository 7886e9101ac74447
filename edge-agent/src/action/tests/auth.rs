//! How calls prove who they are, against servers that check it as the RFCs say.

use std::{
    collections::BTreeMap,
    os::unix::fs::PermissionsExt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Form, Json,
    extract::State,
    http::{StatusCode, header},
};
use md5::Md5;
use sha2::{Digest as _, Sha256};
use shared::workflow::secret::reference;

use super::{
    config::{Calls, Secret},
    *,
};

fn ask(url: &str, authentication: Value) -> Value {
    json!({"method": "GET", "endpoint": {"uri": url, "authentication": authentication}})
}

fn hash(algorithm: &str, text: &str) -> String {
    match algorithm {
        "MD5" => hex::encode(Md5::digest(text)),
        _ => hex::encode(Sha256::digest(text)),
    }
}

/// A server that checks a digest (RFC 7616) for the user `u` with the password `p`.
async fn digest(State(algorithm): State<&'static str>, uri: Uri, headers: HeaderMap) -> Response {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let field = |name: &str| {
        let (_, rest) = given.split_once(&format!("{name}="))?;
        Some(rest.trim_start_matches('"').split(['"', ',']).next()?.to_owned())
    };
    let good = || {
        let login = hash(algorithm, "u:plant:p");
        let request = hash(algorithm, &format!("GET:{uri}"));
        let (nc, cnonce) = (field("nc")?, field("cnonce")?);
        let wanted = hash(algorithm, &format!("{login}:n0nce:{nc}:{cnonce}:auth:{request}"));
        (field("uri")? == uri.to_string() && field("response")? == wanted).then_some(())
    };
    match good() {
        Some(()) => "in".into_response(),
        None => {
            let challenge = format!(r#"Digest realm="plant", nonce="n0nce", qop="auth", algorithm={algorithm}"#);
            (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)]).into_response()
        }
    }
}

#[tokio::test]
async fn digest_answers_the_challenge_of_the_server() {
    for algorithm in ["MD5", "SHA-256"] {
        let url = serve(Router::new().route("/in", get(digest)).with_state(algorithm)).await;
        let login = |password: &str| json!({"digest": {"username": "u", "password": password}});
        let done = perform(&nowhere(), &call("http", ask(&format!("{url}/in?a=b"), login("p")))).await;
        assert_eq!(done.output(), "in", "{algorithm}");
        let done = perform(&nowhere(), &call("http", ask(&format!("{url}/in"), login("wrong")))).await;
        assert_eq!(done.failure().error.kind, kind::AUTHENTICATION.0);
        assert_eq!(done.failure().error.status, 401);
    }
}

#[tokio::test]
async fn basic_and_bearer_are_one_header() {
    let enter = get(|headers: HeaderMap| async move {
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let is_known = matches!(given, "Basic dTpw" | "Bearer t0ken");
        if is_known { StatusCode::NO_CONTENT } else { StatusCode::UNAUTHORIZED }
    });
    let url = serve(Router::new().route("/in", enter)).await;
    for authentication in [json!({"basic": {"username": "u", "password": "p"}}), json!({"bearer": {"token": "t0ken"}})]
    {
        let done = perform(&nowhere(), &call("http", ask(&format!("{url}/in"), authentication))).await;
        assert_eq!(done.output(), Value::Null);
    }
}

/// An authority that numbers its tokens, and a resource that takes the newest alone.
#[derive(Default)]
struct Authority {
    given: AtomicUsize,
    /// The number of the oldest token that is still taken.
    taken_from: AtomicUsize,
    expires_in: AtomicUsize,
    asked: std::sync::Mutex<Vec<(BTreeMap<String, String>, String)>>,
}

impl Authority {
    async fn serve(self: Arc<Self>) -> String {
        let router = Router::new()
            .route("/realm/oauth2/token", post(Self::token))
            .route("/realm/custom", post(Self::token))
            .route("/realm/.well-known/openid-configuration", get(Self::discover))
            .route("/in", get(Self::enter))
            .with_state(self);
        serve(router).await
    }

    async fn token(
        State(this): State<Arc<Self>>,
        headers: HeaderMap,
        Form(fields): Form<BTreeMap<String, String>>,
    ) -> Response {
        let basic = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let secret = fields.get("client_secret").map(String::as_str);
        let is_known = secret == Some("client-s3cret") || basic == "Basic bm9kZTpjbGllbnQtczNjcmV0";
        this.asked.lock().expect("free").push((fields, basic.to_owned()));
        if !is_known {
            return (StatusCode::UNAUTHORIZED, Json(json!({"error": "invalid_client"}))).into_response();
        }
        let number = this.given.fetch_add(1, Ordering::SeqCst);
        let expires_in = this.expires_in.load(Ordering::SeqCst);
        Json(json!({"access_token": format!("token-{number}"), "token_type": "Bearer", "expires_in": expires_in}))
            .into_response()
    }

    async fn discover(headers: HeaderMap) -> Json<Value> {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        Json(json!({"issuer": format!("http://{host}/realm"), "token_endpoint": format!("http://{host}/realm/custom")}))
    }

    async fn enter(State(this): State<Arc<Self>>, headers: HeaderMap) -> Response {
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let number = given.strip_prefix("Bearer token-").and_then(|number| number.parse::<usize>().ok());
        match number.filter(|number| *number >= this.taken_from.load(Ordering::SeqCst)) {
            // A server that repeats what it was asked with, as test servers do.
            Some(number) => Json(json!({"in": number, "headers": given})).into_response(),
            None => StatusCode::UNAUTHORIZED.into_response(),
        }
    }

    fn asked(&self) -> Vec<(BTreeMap<String, String>, String)> {
        self.asked.lock().expect("free").clone()
    }
}

fn grant(url: &str, more: Value) -> Value {
    let mut grant = json!({
        "authority": format!("{url}/realm"), "grant": "client_credentials",
        "client": {"id": "node", "secret": "client-s3cret"},
    });
    let more = more.as_object().cloned().unwrap_or_default();
    grant.as_object_mut().expect("an object").extend(more);
    grant
}

#[tokio::test]
async fn a_token_is_kept_until_it_expires_and_asked_anew_when_it_is_refused() {
    let authority = Arc::new(Authority::default());
    authority.expires_in.store(3_600, Ordering::SeqCst);
    let url = Arc::clone(&authority).serve().await;
    let action = nowhere();
    let ask = call("http", ask(&format!("{url}/in"), json!({"oauth2": grant(&url, json!({"scopes": ["a", "b"]}))})));
    for _ in 0..3 {
        assert_eq!(perform(&action, &ask).await.output()["in"], 0, "kept");
    }
    assert_eq!(authority.asked()[0].0["scope"], "a b");
    authority.taken_from.store(1, Ordering::SeqCst);
    let done = perform(&action, &ask).await;
    assert!(done.told().iter().any(|told| told.starts_with("oauth2: POST") && told.ends_with("200 OK\n\n")));
    assert_eq!(done.output()["in"], 1, "taken back before its time, asked once more");
    authority.taken_from.store(9, Ordering::SeqCst);
    assert_eq!(perform(&action, &ask).await.failure().error.status, 401, "once, and no more");
    assert_eq!(authority.asked().len(), 3);
    // A life within the margin: good for one call.
    authority.expires_in.store(10, Ordering::SeqCst);
    authority.taken_from.store(0, Ordering::SeqCst);
    let action = nowhere();
    perform(&action, &ask).await.output();
    perform(&action, &ask).await.output();
    assert_eq!(authority.asked().len(), 5);
}

#[tokio::test]
async fn grants_and_ways_of_the_client_to_say_who_it_is() {
    let authority = Arc::new(Authority::default());
    let url = Arc::clone(&authority).serve().await;
    let enter = |scheme: &str, more: Value| {
        let call = call("http", ask(&format!("{url}/in"), json!({scheme: grant(&url, more)})));
        async move { perform(&nowhere(), &call).await }
    };
    let basic = json!({"client": {"id": "node", "secret": "client-s3cret", "authentication": "client_secret_basic"}});
    enter("oauth2", basic).await.output();
    assert!(!authority.asked()[0].0.contains_key("client_secret"));
    enter("oauth2", json!({"grant": "password", "username": "u", "password": "p", "audiences": ["erp"]}))
        .await
        .output();
    let (fields, _) = authority.asked().remove(1);
    assert_eq!((&*fields["username"], &*fields["password"], &*fields["audience"]), ("u", "p", "erp"));
    let exchange = "urn:ietf:params:oauth:grant-type:token-exchange";
    let subject = json!({"token": "theirs", "type": "urn:ietf:params:oauth:token-type:access_token"});
    enter("oauth2", json!({"grant": exchange, "subject": subject})).await.output();
    assert_eq!(authority.asked()[2].0["subject_token"], "theirs");
    let discovered = enter("oidc", json!({"issuers": [format!("{url}/realm")]})).await;
    assert_eq!(discovered.output()["in"], 3);
    let foreign = enter("oidc", json!({"issuers": ["https://other"]})).await;
    assert!(foreign.detail().contains("none of `issuers`"), "{}", foreign.detail());
    let denied = enter("oauth2", json!({"client": {"id": "node", "secret": "wrong-one"}})).await;
    assert_eq!(denied.failure().error.kind, kind::AUTHENTICATION.0);
    assert!(
        denied.detail().contains("invalid_client") && !denied.detail().contains("wrong-one"),
        "{}",
        denied.detail()
    );
    let browser = enter("oauth2", json!({"grant": "authorization_code"})).await;
    assert_eq!(browser.failure().error.kind, kind::CONFIGURATION.0);
}

#[tokio::test]
async fn a_secret_is_used_and_appears_nowhere() {
    let authority = Arc::new(Authority::default());
    let url = Arc::clone(&authority).serve().await;
    let dir = tempfile::tempdir().expect("a folder");
    let keep = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("set");
        (name.to_owned(), Secret::File(path))
    };
    let secrets = [
        keep("erp", &grant(&url, json!({})).to_string()),
        keep("login", r#"{"username": "ann", "password": "passw0rd-1"}"#),
        keep("key", "bearer-k3y"),
    ];
    let action = with(Calls { secrets: secrets.into_iter().collect(), ..Calls::default() });
    let echo_url = serve(Router::new().route("/echo", any(echo))).await;
    let echo_url = format!("{echo_url}/echo");
    let mut said = Vec::new();
    for (url, scheme) in [
        (format!("{url}/in"), json!({"oauth2": reference("erp", None)})),
        (
            echo_url.clone(),
            json!({"basic": {"username": reference("login", Some("username")), "password": reference("login", Some("password"))}}),
        ),
        (echo_url.clone(), json!({"bearer": {"token": reference("key", Some("token"))}})),
        (
            format!("http://127.0.0.1:1/{}", reference("key", None)),
            json!({"bearer": {"token": reference("key", None)}}),
        ),
        (echo_url, json!({"digest": reference("key", None)})),
    ] {
        let done = perform(&action, &call("http", ask(&url, scheme))).await;
        said.extend(done.told());
        said.push(format!("{:?}", done.outcome));
    }
    let said = said.join("\n");
    assert!(said.contains("useSecret erp yes") && said.contains("[secret key]") && said.contains("[secret token]"));
    assert!(said.contains("authentication.digest: expected username and password"), "{said}");
    for secret in ["client-s3cret", "passw0rd-1", "bearer-k3y", "token-0", "YW5uOnBhc3N3MHJkLTE="] {
        assert!(!said.contains(secret), "{secret} in {said}");
    }
    let done = perform(&action, &call("http", ask(&url, json!({"bearer": {"token": reference("none", None)}})))).await;
    assert!(done.detail().contains("[secrets.none] in agent.toml"), "{}", done.detail());
}
