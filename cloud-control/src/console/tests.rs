//! What the pages show, to whom, and that they stay live.

use axum::{
    body::Body,
    http::{Request, StatusCode},
    response::Response,
};
use shared::{digest::Digest, id::ApprovalId, time::Timestamp};
use tower::ServiceExt as _;

use super::*;
use crate::store::operators;

struct Place {
    control: Arc<Control>,
    router: Router,
    admin: String,
    _folder: tempfile::TempDir,
}

async fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let control = Control::open(folder.path(), "https://127.0.0.1:1".to_owned()).await.unwrap();
    let admin = control.first_operator(|_| Ok(())).await.unwrap().unwrap();
    Place { router: router(Arc::clone(&control)), control, admin, _folder: folder }
}

impl Place {
    async fn send(&self, request: Request<Body>) -> Response {
        self.router.clone().oneshot(request).await.unwrap()
    }

    async fn get(&self, path: &str, cookie: &str) -> (StatusCode, String) {
        read(self.send(Request::get(path).header(header::COOKIE, cookie).body(Body::empty()).unwrap()).await).await
    }

    async fn post(&self, path: &str, cookie: &str, form: &str) -> Response {
        let request = Request::post(path)
            .header(header::COOKIE, cookie)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(request.body(Body::from(form.to_owned())).unwrap()).await
    }

    async fn log_in(&self, secret: &str) -> String {
        let answer = self.post("/login", "", &format!("secret={secret}")).await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        let cookie = answer.headers()[header::SET_COOKIE].to_str().unwrap();
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
        cookie.split(';').next().unwrap().to_owned()
    }
}

async fn read(answer: Response) -> (StatusCode, String) {
    let status = answer.status();
    let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn nothing_is_shown_before_one_logged_in() {
    let place = place().await;
    for path in ["/", "/nodes/basel", "/runs", "/approvals", "/audit", "/audit/basel"] {
        assert_eq!(place.get(path, "").await.0, StatusCode::SEE_OTHER, "{path}");
    }
    assert_eq!(place.get("/events", "").await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(place.post("/login", "", "secret=guess").await.status(), StatusCode::UNAUTHORIZED);
    let cookie = place.log_in(&place.admin).await;
    for path in ["/", "/runs", "/runs?status=parked", "/approvals", "/audit", "/audit?fact=model-called"] {
        assert_eq!(place.get(path, &cookie).await.0, StatusCode::OK, "{path}");
    }
    assert_eq!(place.get("/nodes/nowhere", &cookie).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn pages_allow_no_script_from_elsewhere() {
    let place = place().await;
    let answer = place.send(Request::get("/login").body(Body::empty()).unwrap()).await;
    let policy = answer.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self'"), "{policy}");
    let page = read(answer).await.1;
    assert!(!page.contains("style=") && !page.contains("onclick") && !page.contains("://"), "{page}");
}

#[tokio::test]
async fn an_operator_who_was_removed_is_out_with_the_next_click() {
    let place = place().await;
    let admin = place.control.read("find", |c| operators::get(c, "admin")).await.unwrap().unwrap();
    let secret = place.control.create_operator(&admin, "ada", vec!["maintenance-lead".to_owned()]).await.unwrap();
    let cookie = place.log_in(&secret).await;
    assert_eq!(place.get("/", &cookie).await.0, StatusCode::OK);
    place.control.remove_operator(&admin, "ada").await.unwrap();
    assert_eq!(place.get("/", &cookie).await.0, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn a_form_of_another_page_is_refused() {
    let place = place().await;
    let cookie = place.log_in(&place.admin).await;
    let id = ApprovalId::derive(Timestamp::from_millis(1), b"a");
    let fields = format!("shown={}&verdict=approved", Digest::of(b"x"));
    let path = format!("/approvals/{id}");
    let forged = place.post(&path, &cookie, &format!("form=guess&{fields}")).await;
    assert_eq!(forged.status(), StatusCode::FORBIDDEN);
    let page = place.get("/", &cookie).await.1;
    let form = page.split("name=\"form\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let (status, body) = read(place.post(&path, &cookie, &format!("form={form}&{fields}")).await).await;
    assert_eq!(status, StatusCode::CONFLICT, "its own form passes, and the question is unknown: {body}");
    assert_eq!(place.post("/logout", &cookie, "form=guess").await.status(), StatusCode::FORBIDDEN);
    assert_eq!(place.post("/logout", &cookie, &format!("form={form}")).await.status(), StatusCode::SEE_OTHER);
    assert_eq!(place.get("/", &cookie).await.0, StatusCode::SEE_OTHER);
}
