//! The TLS port: connections with a client certificate of our own authority or without any, and the certificate's digest
//! handed to the requests.

use std::{io, sync::Arc, time::Duration};

use axum::{Extension, Router};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use rustls::{RootCertStore, ServerConfig, crypto::ring, server::WebPkiClientVerifier};
use shared::digest::Digest;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::Peer;
use crate::{Control, control::Error, keys::Keys};

/// Connections at once: a fleet of some thousand nodes with one connection each. Beyond it new ones wait.
const CONNECTIONS_MAX: usize = 8_192;
/// A slow link's handshake takes a few round trips; who takes longer is not a node.
const HANDSHAKE_MAX: Duration = Duration::from_secs(15);
/// How soon a connection that broke without a word is noticed.
const PING_EVERY: Duration = Duration::from_secs(10);
/// What a shutdown grants to requests that are being answered; held ones are repeated by their nodes.
pub const SHUTDOWN_MAX: Duration = Duration::from_secs(2);

/// Serves until `stop` is cancelled.
///
/// # Panics
/// Never: the semaphore is not closed.
pub async fn serve(listener: TcpListener, control: Arc<Control>, config: ServerConfig, stop: CancellationToken) {
    let config = Arc::new(config);
    let router = super::router(control);
    let connections = TaskTracker::new();
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let permit = tokio::select! {
            permit = Arc::clone(&room).acquire_owned() => permit.expect("the semaphore is never closed"),
            () = stop.cancelled() => break,
        };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file handles, most likely: give those that are open time to end.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = stop.cancelled() => break,
        };
        let (acceptor, router, stop) = (TlsAcceptor::from(Arc::clone(&config)), router.clone(), stop.clone());
        connections.spawn(async move {
            if let Err(error) = connection(stream, acceptor, router, stop).await {
                tracing::debug!(%error, "a connection ended");
            }
            drop(permit);
        });
    }
    connections.close();
    drop(tokio::time::timeout(SHUTDOWN_MAX, connections.wait()).await);
}

async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    router: Router,
    stop: CancellationToken,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    // Small answers must not wait for more to send.
    stream.set_nodelay(true)?;
    let handshake = tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(stream));
    let stream = handshake.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let certificates = stream.get_ref().1.peer_certificates();
    let peer = Peer(certificates.and_then(|chain| chain.first()).map(|certificate| Digest::of(certificate)));
    let service = TowerToHyperService::new(router.layer(Extension(peer)));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HANDSHAKE_MAX);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(PING_EVERY).keep_alive_timeout(PING_EVERY);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        ended = &mut connection => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(SHUTDOWN_MAX, connection).await.unwrap_or(Ok(()))
        }
    }
}

/// TLS with a fresh certificate for these host names and addresses of this server.
///
/// # Errors
/// When no certificate can be made for the names.
pub fn config(keys: &Keys, names: &[String]) -> Result<ServerConfig, Error> {
    let failed = |error: &dyn std::fmt::Display| Error::Io {
        operation: "set up TLS".to_owned(),
        source: io::Error::other(error.to_string()),
    };
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(keys.ca_der().clone()).map_err(|error| failed(&error))?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .map_err(|error| failed(&error))?;
    let (chain, key) = keys.server(names)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| failed(&error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| failed(&error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
