//! What the scenarios stand on works: the brokers keep what they promise, the browser sees what is there.

use std::time::Duration;

use tests::{broker::Mosquitto, browser, mqtt::Client};

#[tokio::test]
async fn a_killed_mosquitto_still_has_what_it_acknowledged() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut broker = Mosquitto::start(folder.path()).await;
    let publisher = Client::connect("publisher", broker.port).await;
    publisher.retain("plant/state", "running").await;
    publisher.acknowledged(1, Duration::from_secs(5)).await;
    broker.settle().await;
    broker.kill_and_restart().await;
    let listener = Client::connect("listener", broker.port).await;
    listener.subscribe("plant/#").await;
    tests::wait::until("the retained message", Duration::from_secs(5), async || {
        listener.received().iter().any(|(topic, payload)| topic == "plant/state" && payload == b"running").then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_browser_runs_a_pages_script_and_draws_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let page = axum::response::Html(
        "<body style='background:linear-gradient(45deg,red,blue,lime)'><h1 id=a>before</h1>\
         <script>document.getElementById('a').textContent = 'af' + 'ter'</script>",
    );
    let app = axum::Router::new().route("/", axum::routing::get(async move || page));
    let server = tokio::spawn(async move { axum::serve(listener, app).await });
    let page = browser::look(&format!("http://{address}/"), None, folder.path()).await;
    server.abort();
    assert!(page.dom.contains("after"), "{}", page.dom);
    page.is_not_blank();
}
