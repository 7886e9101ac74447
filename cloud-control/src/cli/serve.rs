//! `cloud-control serve`.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;
use serde_json::json;
use shared::digest::Digest;

use super::{
    Failure, Form,
    client::{ADDRESS_FILE, CA_FILE},
    with_sources,
};
use crate::serve::{Options, Running, start};

#[derive(Debug, Args)]
pub(super) struct Serve {
    /// The folder for store, keys and bundles; made at the first start. Back it up: with the keys in it the nodes know this
    /// control plane.
    #[arg(long, env = "SKERRY_CONTROL_DATA_DIR", default_value = "skerry-control", value_name = "DIR")]
    data_dir: PathBuf,
    /// Where nodes and operators connect, by TLS.
    #[arg(long, default_value = "0.0.0.0:7443", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// Where the console is, in plain HTTP on this machine; put a TLS proxy before it to reach it from elsewhere.
    #[arg(long, default_value = "127.0.0.1:7480", value_name = "ADDRESS:PORT")]
    console: SocketAddr,
    /// The host name or address under which nodes reach this machine; it goes into join tokens and the certificate. By
    /// default the machine's host name, or the address to listen on if there is one.
    #[arg(long, env = "SKERRY_CONTROL_HOST")]
    host: Option<String>,
    /// A further name or address for the certificate; may be repeated.
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<String>,
    /// Write the first start's secret of the operator `admin` to this file instead of printing it.
    #[arg(long, value_name = "FILE")]
    secret_out: Option<PathBuf>,
}

impl Serve {
    pub(super) async fn run(self, form: Form) -> Result<(), Failure> {
        let host = self.host.unwrap_or_else(|| {
            let ip = self.listen.ip();
            if ip.is_unspecified() { host_name() } else { ip.to_string() }
        });
        let options = Options {
            data: self.data_dir.clone(),
            listen: self.listen,
            console: Some(self.console),
            host,
            names: self.names,
        };
        let running = start(options).await.map_err(|error| Failure::Failed(with_sources(&error)))?;
        let keys = running.control.keys();
        let ca_file = self.data_dir.join(CA_FILE);
        for (path, content) in [(&ca_file, keys.ca_pem()), (&self.data_dir.join(ADDRESS_FILE), running.control.url())] {
            std::fs::write(path, content)
                .map_err(|error| Failure::Failed(format!("cannot write {}: {error}", path.display())))?;
        }
        let to_file = self.secret_out.is_some();
        let deliver = move |secret: &str| match &self.secret_out {
            Some(path) => Ok(crate::keys::write_secret(path, secret.as_bytes())?),
            None => Ok(()),
        };
        // Last of what may fail, so that a secret which nobody saw never counts.
        let secret = running.control.first_operator(deliver).await;
        let secret = secret.map_err(|error| Failure::Failed(with_sources(&error)))?.filter(|_| !to_file);
        announce(form, &running, &ca_file, secret.as_deref());
        until_told().await;
        tracing::info!("shutting down");
        running.shut_down().await;
        Ok(())
    }
}

fn announce(form: Form, running: &Running, ca_file: &std::path::Path, secret: Option<&str>) {
    let url = running.control.url();
    let authority: Digest = running.control.keys().ca_digest();
    let console = running.console.map(|address| format!("http://{address}")).unwrap_or_default();
    if form == Form::Json {
        let line = json!({
            "url": url, "console": console, "ca_file": ca_file, "ca_sha256": authority, "admin_secret": secret,
        });
        println!("{line}");
        return;
    }
    println!("Skerry control plane {}", env!("CARGO_PKG_VERSION"));
    println!("  nodes and operators  {url}");
    println!("  console              {console}");
    println!("  authority            {authority}");
    if let Some(secret) = secret {
        println!();
        println!("This is its first start. The secret of the operator `admin`, shown this once and stored nowhere:");
        println!();
        println!("  {secret}");
        println!();
        println!("Log in to the console with it, or: export SKERRY_CONTROL_SECRET={secret}");
    }
}

/// Until Ctrl-C or SIGTERM.
async fn until_told() {
    let interrupted = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        let terminated = async {
            match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
                Ok(mut signal) => drop(signal.recv().await),
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            told = interrupted => drop(told),
            () = terminated => {}
        }
    }
    #[cfg(not(unix))]
    drop(interrupted.await);
}

/// The machine's name, as other machines of the network most likely know it.
fn host_name() -> String {
    let read =
        std::fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| std::fs::read_to_string("/etc/hostname"));
    let name = read.unwrap_or_default().trim().to_owned();
    if name.is_empty() { "localhost".to_owned() } else { name }
}
