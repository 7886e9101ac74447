//! The embedded broker, for sites that have none: the library `mqtt5` behind a gate (`gate.rs`) that lets a publisher
//! have its PUBACK only when the journal has the message.
//!
//! What it keeps for other subscribers (sessions, retained and queued messages) it writes a little later, without
//! waiting: that survives an orderly end, and a kill but for the last moments. Readings of feeds do not depend on it.

use std::{future::Future, net::SocketAddr, path::Path, pin::Pin, sync::Arc, time::Duration};

use mqtt5::broker::{
    AuthProvider, AuthResult, BrokerConfig, BrokerEventHandler, ClientConnectEvent, ClientPublishEvent, DynamicStorage,
    FileBackend, PublishAction, ResourceLimits, ResourceMonitor, StorageBackend as _, client_handler::ClientHandler,
    router::MessageRouter, storage::QueueLimits, sys_topics::BrokerStats, transport::BrokerTransport,
};
use mqtt5::{QoS, packet::connect::ConnectPacket, protocol::v5::reason_codes::ReasonCode};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, broadcast},
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{
    config::{Embedded, Protocol},
    connection::{Connection, Error, password},
    gate::{Gate, Held},
    ingest::{Door, Incoming},
    scan::TooLarge,
};
use crate::clock;

/// Clients at once; a site with more has a broker of its own.
const CLIENTS_MAX: usize = 1_000;
/// The largest packet; a client that sends more is cut off, as MQTT 5 says, and what it sent is quarantined.
pub const PACKET_LEN_MAX: usize = 1 << 20;
/// Messages that wait for one subscriber that is away; beyond it the oldest go.
const QUEUED_LEN_MAX: usize = 10_000;
const QUEUED_BYTES_MAX: usize = 16 << 20;
const RETAINED_MAX: usize = 10_000;
const RETAINED_LEN_MAX: usize = 256 << 10;
/// Messages under way to one subscriber inside the broker.
const CHANNEL_LEN_MAX: usize = 1_000;
const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(600);
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// The running broker.
pub struct Broker {
    address: SocketAddr,
    own: Connection,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Broker {
    /// Listens and serves.
    ///
    /// # Errors
    /// What is wrong with the settings, or why it cannot listen.
    pub async fn start(settings: &Embedded, data_dir: &Path, door: Door) -> Result<Self, Error> {
        if settings.users.is_empty() && !settings.listen.ip().is_loopback() {
            return Err(Error::Open { listen: settings.listen });
        }
        let tls = settings.tls.as_ref().map(|tls| acceptor(&tls.cert, &tls.key)).transpose()?;
        let listener = listen(settings.listen).await?;
        let address = listener.local_addr().map_err(|source| Error::Listen { listen: settings.listen, source })?;
        // The agent's own client comes in by a door of its own when the public one speaks TLS.
        let own_listener = match &tls {
            Some(_) => Some(listen(SocketAddr::from(([127, 0, 0, 1], 0))).await?),
            None => None,
        };
        let own_address = own_listener.as_ref().and_then(|listener| listener.local_addr().ok()).unwrap_or(address);
        let users = Users::read(settings)?;
        let own = Connection {
            host: if own_address.is_ipv6() { "::1" } else { "127.0.0.1" }.to_owned(),
            port: own_address.port(),
            protocol: Protocol::V5,
            credentials: (!settings.users.is_empty()).then(|| users.own.clone()),
            tls: None,
            keep_alive: Duration::from_secs(30),
        };
        let hub = Arc::new(Hub::open(&data_dir.join("broker"), users, door).await?);
        let stop = CancellationToken::new();
        let task = tokio::spawn(Arc::clone(&hub).serve(listener, tls, own_listener, stop.clone()));
        Ok(Self { address, own, stop, task })
    }

    /// Where it listens; the real port if 0 was asked for.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// How the agent's own clients reach it.
    #[must_use]
    pub const fn own(&self) -> &Connection {
        &self.own
    }

    /// Closes all connections and writes what waits to be written.
    pub async fn stop(self) {
        self.stop.cancel();
        drop(tokio::time::timeout(Duration::from_secs(5), self.task).await);
    }
}

/// What all connections share.
struct Hub {
    config: BrokerConfig,
    router: Arc<MessageRouter>,
    storage: Arc<DynamicStorage>,
    users: Arc<Users>,
    stats: Arc<BrokerStats>,
    monitor: Arc<ResourceMonitor>,
    door: Door,
    shutdown: broadcast::Sender<()>,
}

impl Hub {
    async fn open(directory: &Path, users: Users, door: Door) -> Result<Self, Error> {
        let failed = |error: mqtt5::MqttError| Error::Storage {
            path: directory.display().to_string(),
            reason: error.to_string(),
        };
        let limits = QueueLimits { max_messages: QUEUED_LEN_MAX, max_bytes: QUEUED_BYTES_MAX };
        let backend = FileBackend::with_queue_limits(directory, limits).await.map_err(failed)?;
        let storage = Arc::new(DynamicStorage::File(backend));
        let config = BrokerConfig {
            max_clients: CLIENTS_MAX,
            max_packet_size: PACKET_LEN_MAX,
            client_channel_capacity: CHANNEL_LEN_MAX,
            max_outbound_inflight: 1_000,
            sys_topics_enabled: false,
            max_retained_messages: RETAINED_MAX,
            max_retained_message_size: RETAINED_LEN_MAX,
            ..BrokerConfig::default()
        };
        let router =
            MessageRouter::with_storage(Arc::clone(&storage)).with_retained_limits(RETAINED_MAX, RETAINED_LEN_MAX);
        let expiry = u32::try_from(config.session_expiry_interval.as_secs()).unwrap_or(u32::MAX);
        router.recover_sessions(expiry).await.map_err(failed)?;
        storage.cleanup_expired().await.map_err(failed)?;
        router.initialize().await.map_err(failed)?;
        let limits = ResourceLimits {
            max_connections: CLIENTS_MAX,
            max_connections_per_ip: CLIENTS_MAX,
            max_message_rate_per_client: 0,
            max_bandwidth_per_client: 0,
            max_connection_rate: 10_000,
            rate_limit_window: Duration::from_secs(1),
        };
        Ok(Self {
            config,
            router: Arc::new(router),
            storage,
            users: Arc::new(users),
            stats: Arc::new(BrokerStats::new()),
            monitor: Arc::new(ResourceMonitor::new(limits)),
            door,
            shutdown: broadcast::channel(1).0,
        })
    }

    async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        tls: Option<TlsAcceptor>,
        own: Option<TcpListener>,
        stop: CancellationToken,
    ) {
        let room = Arc::new(Semaphore::new(CLIENTS_MAX));
        let mut connections = JoinSet::new();
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING_EVERY);
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                _ = housekeeping.tick() => {
                    if let Err(error) = self.storage.cleanup_expired().await {
                        tracing::warn!(%error, "cannot clean the embedded broker's storage");
                    }
                    self.router.sweep_sessions().await;
                    self.monitor.cleanup_expired_windows().await;
                    continue;
                }
                Some(_) = connections.join_next() => continue,
                accepted = listener.accept() => accepted.map(|(stream, peer)| (stream, peer, tls.clone())),
                accepted = accept(own.as_ref()) => accepted.map(|(stream, peer)| (stream, peer, None)),
            };
            match accepted {
                Err(error) => {
                    // Out of file descriptors, mostly: waiting is all that can help.
                    tracing::warn!(%error, "the embedded broker cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Ok((stream, peer, tls)) => {
                    let Ok(room) = Arc::clone(&room).try_acquire_owned() else {
                        tracing::warn!(%peer, "refused a connection: the embedded broker serves {CLIENTS_MAX} clients already");
                        continue;
                    };
                    let hub = Arc::clone(&self);
                    connections.spawn(async move {
                        hub.welcome(stream, peer, tls).await;
                        drop(room);
                    });
                }
            }
        }
        drop(self.shutdown.send(()));
        let ended = async { while connections.join_next().await.is_some() {} };
        drop(tokio::time::timeout(Duration::from_secs(3), ended).await);
        if let Err(error) = self.storage.shutdown().await {
            tracing::warn!(%error, "cannot write the embedded broker's storage");
        }
    }

    async fn welcome(&self, stream: TcpStream, peer: SocketAddr, tls: Option<TlsAcceptor>) {
        drop(stream.set_nodelay(true));
        let Some(tls) = tls else { return self.attend(stream, peer).await };
        match tokio::time::timeout(HANDSHAKE_WITHIN, tls.accept(stream)).await {
            Ok(Ok(stream)) => self.attend(stream, peer).await,
            Ok(Err(error)) => tracing::info!(%peer, %error, "TLS handshake failed"),
            Err(_) => tracing::info!(%peer, "TLS handshake timed out"),
        }
    }

    async fn attend(&self, stream: impl AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static, peer: SocketAddr) {
        let held = Arc::new(Held::default());
        let tap = Tap { door: self.door.clone(), held: Arc::clone(&held) };
        let (door, of) = (self.door.clone(), Arc::clone(&held));
        let refuse = Box::new(move |packet| refuse(&door, peer, of.client(), packet));
        let config = BrokerConfig { event_handler: Some(Arc::new(tap)), ..self.config.clone() };
        let handler = ClientHandler::new(
            BrokerTransport::WebSocket(Box::new(Gate::new(stream, peer, held, PACKET_LEN_MAX, refuse))),
            peer,
            Arc::new(config),
            Arc::clone(&self.router),
            Arc::clone(&self.users) as Arc<dyn AuthProvider>,
            Some(Arc::clone(&self.storage)),
            Arc::clone(&self.stats),
            Arc::clone(&self.monitor),
            self.shutdown.subscribe(),
        );
        if let Err(error) = Box::pin(handler.run()).await {
            tracing::debug!(%peer, %error, "a connection to the embedded broker ended");
        }
    }
}

/// Takes the messages of feeds out of one connection, into the journal.
struct Tap {
    door: Door,
    held: Arc<Held>,
}

/// What becomes of a packet that is too large: told, and quarantined if it belongs to a feed.
fn refuse(door: &Door, peer: SocketAddr, client: Arc<str>, packet: TooLarge) {
    let topic = packet.topic.as_deref().unwrap_or("unknown");
    tracing::warn!(
        %peer, client = %client, topic, bytes = packet.bytes,
        "disconnected a client: its packet is larger than the embedded broker takes ({PACKET_LEN_MAX} bytes)"
    );
    let Some(topic) = packet.topic.filter(|topic| door.wants(topic)) else { return };
    door.offer(Incoming {
        topic,
        payload: packet.payload.into(),
        received: clock::now(),
        dup: false,
        sender: client,
        packet_id: 0,
        receipt: None,
        cut_from: Some(packet.bytes),
    });
}

impl BrokerEventHandler for Tap {
    fn on_client_connect<'a>(&'a self, event: ClientConnectEvent) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        self.held.is_of(event.client_id);
        Box::pin(std::future::ready(()))
    }

    fn on_client_publish<'a>(
        &'a self,
        event: ClientPublishEvent,
    ) -> Pin<Box<dyn Future<Output = PublishAction> + Send + 'a>> {
        Box::pin(async move {
            if !self.door.wants(&event.topic) {
                return PublishAction::Continue;
            }
            let mut incoming = Incoming {
                topic: event.topic.as_ref().to_owned(),
                payload: event.payload,
                received: clock::now(),
                dup: event.packet_id.is_some_and(|packet_id| self.held.was_sent_before(packet_id)),
                sender: event.client_id,
                packet_id: event.packet_id.unwrap_or(0),
                receipt: None,
                cut_from: None,
            };
            if event.qos == QoS::AtMostOnce {
                self.door.offer(incoming);
            } else {
                incoming.receipt = Some((Arc::clone(&self.held) as _, self.held.give()));
                // A closed journal never says that it has the message, so the publisher keeps it.
                let _closed = self.door.bring(incoming).await;
            }
            PublishAction::Continue
        })
    }
}

/// Who may connect.
struct Users {
    /// Name and SHA-256 of the password.
    known: Vec<(String, [u8; 32])>,
    /// The agent's own name and password, made anew at each start.
    own: (String, String),
}

impl Users {
    fn read(settings: &Embedded) -> Result<Self, Error> {
        let own = ("skerry".to_owned(), hex::encode(clock::seed()));
        let mut known = Vec::new();
        for user in &settings.users {
            let place = format!("broker.embedded.users[{}]", user.name);
            let password = password(&place, &user.name, user.password_env.as_deref(), user.password_file.as_deref())?;
            known.push((user.name.clone(), Sha256::digest(password).into()));
        }
        if !known.is_empty() {
            known.push((own.0.clone(), Sha256::digest(&own.1).into()));
        }
        Ok(Self { known, own })
    }

    fn admit(&self, user: Option<&str>, password: Option<&[u8]>) -> bool {
        if self.known.is_empty() {
            return true;
        }
        let (Some(user), Some(password)) = (user, password) else { return false };
        let digest: [u8; 32] = Sha256::digest(password).into();
        // Digests are compared: how long that takes tells nothing of the password.
        self.known.iter().any(|(name, known)| name == user && *known == digest)
    }
}

impl AuthProvider for Users {
    fn authenticate<'a>(
        &'a self,
        connect: &'a ConnectPacket,
        peer: SocketAddr,
    ) -> Pin<Box<dyn Future<Output = mqtt5::Result<AuthResult>> + Send + 'a>> {
        Box::pin(async move {
            if self.admit(connect.username.as_deref(), connect.password.as_deref()) {
                return Ok(AuthResult::success());
            }
            tracing::warn!(%peer, user = connect.username.as_deref().unwrap_or(""), "the embedded broker refused a client: wrong user or password");
            Ok(AuthResult::fail(ReasonCode::BadUsernameOrPassword))
        })
    }

    fn authorize_publish<'a>(
        &'a self,
        _: &str,
        _: Option<&'a str>,
        topic: &'a str,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        // Topics with a dollar are the broker's own.
        Box::pin(std::future::ready(!topic.starts_with('$')))
    }

    fn authorize_subscribe<'a>(
        &'a self,
        _: &str,
        _: Option<&'a str>,
        _: &'a str,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        Box::pin(std::future::ready(true))
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { listen: address, source })
}

async fn accept(listener: Option<&TcpListener>) -> std::io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

fn acceptor(cert: &Path, key: &Path) -> Result<TlsAcceptor, Error> {
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |reason: String| Error::Certificates { path, reason }
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect);
    let chain = chain.map_err(|error| failed(cert)(error.to_string()))?;
    let secret = private::read(key, private::Origin::Given).map_err(Error::KeyFile)?;
    let secret = PrivateKeyDer::from_pem_slice(secret.as_bytes()).map_err(|error| failed(key)(error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, secret))
        .map_err(|error| failed(cert)(error.to_string()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
