//! Loopback ports and a client for HTTP.

use std::{
    net::{Ipv4Addr, TcpListener},
    sync::Once,
    time::Duration,
};

/// A port that nothing listened on a moment ago.
///
/// # Panics
/// When loopback has none left.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// Makes ring the one provider of cryptography of this process; a second call changes nothing.
pub fn install_crypto() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let _already = rustls::crypto::ring::default_provider().install_default();
    });
}

/// A client that keeps cookies out, follows no redirect, and gives up after half a minute (held requests take 25 s).
///
/// # Panics
/// Never in practice: its settings are fixed.
#[must_use]
pub fn http() -> reqwest::Client {
    install_crypto();
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(30))
        .build()
        .expect("fixed settings are valid")
}
