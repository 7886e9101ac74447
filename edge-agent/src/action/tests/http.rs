//! `call: http` against a server in the test.

use super::*;

async fn http(input: Value) -> Result<Value, Failure> {
    perform(&nowhere(), &call("http", input)).await.outcome
}

#[tokio::test]
async fn a_request_carries_what_the_task_says_and_the_effects_key() {
    let url = serve(Router::new().route("/echo", any(echo))).await;
    let output = http(json!({
        "method": "post",
        "endpoint": {"uri": format!("{url}/echo"), "authentication": {"basic": {"username": "u", "password": "p"}}},
        "headers": {"x-site": "basel"}, "query": {"tag": ["a b", 2]}, "body": {"n": 1}
    }))
    .await
    .expect("answered");
    assert_eq!(
        output,
        json!({
            "method": "POST", "uri": "/echo?tag=a+b&tag=2", "key": "run:/do/0/act", "auth": "Basic [secret authorization]",
            "type": "application/json", "x": "basel", "body": "{\"n\":1}"
        })
    );
}

#[tokio::test]
async fn the_output_is_content_raw_or_the_whole_response() {
    let text = get(|| async { ([("content-type", "text/plain"), ("x-made-by", "test")], "hello") });
    let url = serve(Router::new().route("/text", text)).await;
    let ask = |output: &str| json!({"method": "GET", "endpoint": format!("{url}/text"), "output": output});
    assert_eq!(http(ask("content")).await.expect("answered"), "hello");
    assert_eq!(http(ask("raw")).await.expect("answered"), "aGVsbG8=");
    let response = http(ask("response")).await.expect("answered");
    assert_eq!((&response["statusCode"], &response["content"]), (&json!(200), &json!("hello")));
    assert_eq!((&response["headers"]["x-made-by"], &response["request"]["method"]), (&json!("test"), &json!("GET")));
}

#[tokio::test]
async fn a_status_becomes_the_error_that_it_means() {
    let status = |uri: Uri| async move {
        let code: u16 = uri.path()[1..].parse().expect("a status");
        (axum::http::StatusCode::from_u16(code).expect("a status"), "no")
    };
    let url = serve(Router::new().fallback(status)).await;
    for (status, kind) in [
        (404, kind::COMMUNICATION),
        (401, kind::AUTHENTICATION),
        (403, kind::AUTHORIZATION),
        (504, kind::TIMEOUT),
        (500, kind::COMMUNICATION),
        (302, kind::COMMUNICATION),
    ] {
        let failure =
            http(json!({"method": "GET", "endpoint": format!("{url}/{status}")})).await.expect_err("no success");
        assert_eq!((failure.error.kind.as_str(), failure.error.status), (kind.0, status));
    }
}

#[tokio::test]
async fn a_redirect_is_followed_within_the_host_alone() {
    let elsewhere =
        serve(Router::new().route("/", get(|| async { "elsewhere" }))).await.replace("127.0.0.1", "localhost");
    let url = serve(
        Router::new()
            .route("/here", get(|| async { Redirect::temporary("/there") }))
            .route("/there", get(|| async { "there" }))
            .route("/away", get(move || async move { Redirect::temporary(&elsewhere) })),
    )
    .await;
    let ask =
        |path: &str, redirect: bool| json!({"method": "GET", "endpoint": format!("{url}{path}"), "redirect": redirect});
    assert_eq!(http(ask("/here", true)).await.expect("followed"), "there");
    assert!(http(ask("/here", false)).await.is_err_and(|failure| failure.error.status == 307));
    assert_ne!(http(ask("/away", true)).await.ok(), Some(json!("elsewhere")), "no permit names the other host");
}

#[tokio::test]
async fn an_answer_that_is_too_long_or_too_late_is_an_error() {
    let long = get(|| async { vec![b'x'; 5 << 20] });
    let late = get(std::future::pending::<&'static str>);
    let url = serve(Router::new().route("/long", long).route("/late", late)).await;
    let failure = http(json!({"method": "GET", "endpoint": format!("{url}/long")})).await.expect_err("too long");
    assert!(failure.error.detail.is_some_and(|detail| detail.contains("longer than")));
    let mut call = call("http", json!({"method": "GET", "endpoint": format!("{url}/late")}));
    call.deadline = Some(crate::clock::now().plus(Duration::from_millis(100)));
    let done = perform(&nowhere(), &call).await;
    assert_eq!(done.failure().error.kind, kind::TIMEOUT.0);
    let told = done.told();
    assert_eq!(told[1], format!("http: GET {url}/late\n\n -> no answer before the call was given up"), "{told:?}");
}

#[tokio::test]
async fn what_was_sent_and_failed_is_told_too() {
    let url = serve(Router::new().route("/no", any(|| async { (axum::http::StatusCode::CONFLICT, "taken") }))).await;
    let input = json!({"method": "POST", "endpoint": format!("{url}/no"), "body": {"n": 1}});
    let done = perform(&nowhere(), &call("http", input)).await;
    assert_eq!(done.failure().error.status, 409);
    let sent = format!("http: POST {url}/no\n\n{{\"n\":1}} -> 409 Conflict\n\ntaken");
    assert_eq!(done.told(), ["http 127.0.0.1 yes".to_owned(), sent]);
    let done = perform(&nowhere(), &call("http", json!({"method": "GET", "endpoint": "http://127.0.0.1:1"}))).await;
    assert!(done.told()[1].starts_with("http: GET http://127.0.0.1:1/\n\n -> {"), "{:?}", done.told());
}

#[tokio::test]
async fn what_policy_refuses_is_not_sent() {
    let mut call = call("http", json!({"method": "GET", "endpoint": "http://127.0.0.1:1"}));
    call.label.personal = true;
    let done = perform(&nowhere(), &call).await;
    assert_eq!(done.failure().error.kind, kind::AUTHORIZATION.0);
    assert_eq!(done.told(), ["http 127.0.0.1 no"]);
}

#[tokio::test]
async fn bodies_are_written_as_their_type_says() {
    let url = serve(Router::new().route("/echo", any(echo))).await;
    let ask = |kind: &str, body: Value| {
        http(
            json!({"method": "PUT", "endpoint": format!("{url}/echo"), "headers": {"content-type": kind, "x-no": null}, "body": body}),
        )
    };
    let form = ask("application/x-www-form-urlencoded", json!({"a": "x y", "b": [1, 2]})).await.expect("answered");
    assert_eq!(form["body"], "a=x+y&b=1&b=2");
    let parts = ask("multipart/form-data", json!({"a": "x", "o": {"n": 1}})).await.expect("answered");
    let boundary = parts["type"].as_str().and_then(|kind| kind.split_once("boundary=")).expect("named").1;
    let expected = format!("--{boundary}\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx\r\n");
    assert!(parts["body"].as_str().is_some_and(|body| body.starts_with(&expected)), "{parts}");
    assert_eq!(ask("text/csv", json!("a;b")).await.expect("answered")["body"], "a;b");
}

#[tokio::test]
async fn bytes_that_are_no_text_come_in_base64() {
    let url = serve(Router::new().route("/", get(|| async { vec![0_u8, 255, 7] }))).await;
    assert_eq!(http(json!({"method": "GET", "endpoint": url})).await.expect("answered"), "AP8H");
}
