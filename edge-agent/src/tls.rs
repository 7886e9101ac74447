//! Clients of HTTP, with TLS to servers whose certificates this machine trusts. A gateway may have no certificates at all
//! (Debian without `ca-certificates`): plain HTTP works there too, and what asks for TLS is told why it fails.

use reqwest::{Client, ClientBuilder};

/// A client with these settings.
///
/// # Panics
/// When the settings contradict each other.
pub fn client(settings: impl Fn(ClientBuilder) -> ClientBuilder) -> Client {
    // A second installation in the process is refused and harmless.
    drop(rustls::crypto::ring::default_provider().install_default());
    settings(Client::builder()).build().unwrap_or_else(|error| {
        let why = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        tracing::warn!(
            why,
            "no server is trusted for TLS on this machine: install its CA certificates (ca-certificates)"
        );
        plain_client(settings)
    })
}

/// A client that trusts no server for TLS: for plain HTTP.
///
/// # Panics
/// When the settings contradict each other.
pub fn plain_client(settings: impl Fn(ClientBuilder) -> ClientBuilder) -> Client {
    drop(rustls::crypto::ring::default_provider().install_default());
    let builder = settings(Client::builder().tls_certs_only([]));
    builder.build().expect("an HTTP client with these settings can be made")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn plain_http_needs_no_certificate_and_tls_is_refused_with_a_reason() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let app = axum::Router::new().fallback(|| async { "here" });
        let serving = tokio::spawn(async move { axum::serve(listener, app).await });
        let client = plain_client(|builder| builder);
        let answer = client.get(format!("http://{address}")).send().await.expect("answered");
        assert_eq!(answer.text().await.expect("text"), "here");
        assert!(client.get(format!("https://{address}")).send().await.is_err());
        serving.abort();
    }
}
