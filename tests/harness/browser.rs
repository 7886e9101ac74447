//! A real browser's look at a page: what it shows after its script ran, and whether anything is to be seen.

use std::{path::Path, process::Command, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use crate::{net, process};

/// A live connection keeps a page loading for ever; this ends it.
const LOOK: &str = "--timeout=3000";

/// What the browser made of a page.
pub struct Page {
    /// The document after its script ran.
    pub dom: String,
    /// A PNG of 1280 by 900 pixels.
    pub picture: Vec<u8>,
}

impl Page {
    /// Fails when nothing is to be seen: an empty page of one colour compresses to a few kB.
    ///
    /// # Panics
    /// When the picture is empty.
    pub fn is_not_blank(&self) {
        assert!(self.picture.starts_with(b"\x89PNG"), "the browser drew no picture");
        assert!(
            self.picture.len() > 10_000,
            "the page is blank: {} bytes of picture; its document:\n{}",
            self.picture.len(),
            self.dom
        );
    }
}

/// Opens a page in Chromium and lets its script run for some seconds of the page's own time. `cookie` is the session
/// of somebody who has logged in.
///
/// # Panics
/// When there is no Chromium or it does not end.
pub async fn look(url: &str, cookie: Option<&str>, folder: &Path) -> Page {
    let proxy = Proxy::start(url, cookie).await;
    let picture = folder.join("page.png");
    let url = proxy.url.as_str();
    let dom = chromium(folder, &[LOOK, "--dump-dom", url]).await;
    let shot = format!("--screenshot={}", picture.display());
    chromium(folder, &[LOOK, "--window-size=1280,900", "--hide-scrollbars", &shot, url]).await;
    let picture = std::fs::read(&picture).expect("the browser wrote its picture");
    Page { dom, picture }
}

async fn chromium(folder: &Path, arguments: &[&str]) -> String {
    let program = std::env::var("SKERRY_CHROMIUM").unwrap_or_else(|_| "chromium".to_owned());
    let mut command = Command::new(program);
    command
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
        .arg(format!("--user-data-dir={}", folder.join("browser").display()))
        .args(arguments);
    process::run(&mut command, Duration::from_secs(60)).await.ok()
}

/// Passes every request on with a cookie added: the browser's command line cannot be given one.
struct Proxy {
    url: String,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    async fn start(url: &str, cookie: Option<&str>) -> Self {
        let url: reqwest::Url = url.parse().expect("a URL");
        let upstream = Upstream {
            origin: url.origin().ascii_serialization(),
            cookie: cookie.map(|cookie| HeaderValue::from_str(cookie).expect("a cookie is a header")),
            client: net::http(),
        };
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has a free port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let app = Router::new().fallback(pass_on).with_state(upstream);
        let task = tokio::spawn(async move { axum::serve(listener, app).await.expect("the proxy serves") });
        Self { url: format!("http://127.0.0.1:{port}{}", url.path()), task }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone)]
struct Upstream {
    origin: String,
    cookie: Option<HeaderValue>,
    client: reqwest::Client,
}

async fn pass_on(State(upstream): State<Upstream>, request: Request) -> Response {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let mut onward = upstream.client.request(request.method().clone(), format!("{}{path}", upstream.origin));
    if let Some(cookie) = &upstream.cookie {
        onward = onward.header(header::COOKIE, cookie);
    }
    match onward.send().await {
        Ok(answer) => {
            let mut response = Response::builder().status(answer.status());
            for name in [header::CONTENT_TYPE, header::LOCATION, header::CACHE_CONTROL] {
                if let Some(value) = answer.headers().get(&name) {
                    response = response.header(name, value);
                }
            }
            response.body(Body::from_stream(answer.bytes_stream())).expect("copied headers are valid")
        }
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}
