//! The composition root: ports, control plane, console, shutdown.

use std::{
    fs::{File, OpenOptions, TryLockError},
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    api,
    control::{self, Control, Error},
    store::Store,
};

/// What the control plane is told at its start.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its folder: store, keys, files of bundles.
    pub data: PathBuf,
    /// Where nodes and operators connect, by TLS. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where the console is, in plain HTTP: a loopback address. `None`: no console.
    pub console: Option<SocketAddr>,
    /// The host name or address under which nodes reach this machine; it goes into join tokens and the certificate.
    pub host: String,
    /// Further names for the certificate.
    pub names: Vec<String>,
}

/// A control plane that serves.
pub struct Running {
    pub control: Arc<Control>,
    pub console: Option<SocketAddr>,
    stop: CancellationToken,
    tasks: TaskTracker,
    /// Held until it has ended.
    _claim: File,
}

impl Running {
    /// Ends it: no new request, a moment for those that are being answered.
    pub async fn shut_down(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Opens the folder and serves.
///
/// # Errors
/// When the folder cannot be used or a port cannot be had.
pub async fn start(options: Options) -> Result<Running, Error> {
    let Options { data, listen, console, host, names } = options;
    let claim = claim(&data)?;
    let (listener, address) = bind(listen).await?;
    let console = match console {
        Some(address) if !address.ip().is_loopback() => {
            let message =
                format!("the console speaks plain HTTP and stays on this machine; {address} is no loopback address");
            return Err(Error::Io { operation: "open the console".to_owned(), source: std::io::Error::other(message) });
        }
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    let control = Control::open(&data, url(&host, address.port())).await?;
    let mut sans = vec![host, "localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    sans.extend(names);
    if !address.ip().is_unspecified() {
        sans.push(address.ip().to_string());
    }
    sans.sort();
    sans.dedup();
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let (serving, stopped) = (Arc::clone(&control), stop.clone());
    let tls = api::config(control.keys(), &sans)?;
    tasks.spawn(api::serve(listener, serving, tls, stopped));
    let console = console.map(|(listener, address)| {
        let router = crate::console::router(Arc::clone(&control));
        let stopped = stop.clone();
        tasks.spawn(async move {
            let shutdown = stopped.clone().cancelled_owned();
            let serving = axum::serve(listener, router).with_graceful_shutdown(shutdown);
            // Open event streams never end by themselves.
            let limit = async {
                stopped.cancelled().await;
                tokio::time::sleep(api::SHUTDOWN_MAX).await;
            };
            tokio::select! { served = serving => drop(served), () = limit => {} }
        });
        address
    });
    Ok(Running { control, console, stop, tasks, _claim: claim })
}

/// Gives an operator of the control plane with this data folder, which must not run, a new secret and answers it.
///
/// # Errors
/// When there is no such control plane or operator, or it runs.
pub async fn reset_operator(data: &Path, name: &str) -> Result<String, Error> {
    let path = data.join("control.db");
    if !path.is_file() {
        let source = std::io::Error::other("no control plane ever ran in this folder");
        return Err(Error::Io { operation: format!("find {}", path.display()), source });
    }
    let _claim = claim(data)?;
    control::reset_operator(&Store::open(&path)?, name).await
}

/// Two control planes on one folder would send nodes and operators to whichever began last. The lock goes with the process.
fn claim(data: &Path) -> Result<File, Error> {
    let failed = |operation: &str, source| Error::Io { operation: format!("{operation} {}", data.display()), source };
    std::fs::create_dir_all(data).map_err(|source| failed("make the data folder", source))?;
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(data.join("lock"))
        .map_err(|source| failed("open the lock in", source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let message = "another control plane runs on it: stop it first, or name another --data-dir";
            Err(failed("use the data folder", std::io::Error::other(message)))
        }
        Err(TryLockError::Error(source)) => Err(failed("lock the data folder", source)),
    }
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let failed = |source| Error::Io { operation: format!("listen on {address}"), source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

fn url(host: &str, port: u16) -> String {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) if address != Ipv6Addr::UNSPECIFIED => format!("https://[{address}]:{port}"),
        _ => format!("https://{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_secret_that_reached_nobody_does_not_count_and_a_lost_one_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let url = || "https://127.0.0.1:1".to_owned();
        let control = Control::open(folder.path(), url()).await.unwrap();
        let missing = folder.path().join("missing/secret");
        let failed =
            control.first_operator(move |secret| Ok(crate::keys::write_secret(&missing, secret.as_bytes())?)).await;
        assert!(failed.is_err());
        let lost = control.first_operator(|_| Ok(())).await.unwrap().expect("there is no operator still");
        drop(control);

        let unknown = reset_operator(folder.path(), "ada").await.unwrap_err().to_string();
        assert_eq!(unknown, "there is no operator ada, but: admin");
        let secret = reset_operator(folder.path(), "admin").await.unwrap();
        let control = Control::open(folder.path(), url()).await.unwrap();
        assert_eq!(control.login(&lost).await.unwrap(), None);
        assert!(control.login(&secret).await.unwrap().expect("it counts").is_admin());
        let nothing = tempfile::tempdir().unwrap();
        let told = reset_operator(nothing.path(), "admin").await.unwrap_err().to_string();
        assert!(told.starts_with("cannot find "), "{told}");
        assert_eq!(std::fs::read_dir(nothing.path()).unwrap().count(), 0, "nothing is made");
    }
}
