//! Asking the agents and the control plane what they know, through the same APIs that everyone uses.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, bail};
use reqwest::{Client, Method};
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(20);

/// An API with its secret.
#[derive(Clone)]
pub struct Api {
    base: String,
    secret: String,
    client: Client,
}

impl Api {
    /// An agent's admin API.
    ///
    /// # Errors
    /// When no client can be made.
    pub fn of_agent(address: &str, token: &str) -> anyhow::Result<Self> {
        let client = Client::builder().timeout(TIMEOUT).no_proxy().build()?;
        Ok(Self { base: format!("http://{address}/api/v1"), secret: token.to_owned(), client })
    }

    /// The control plane's operator API, trusting its own authority alone.
    ///
    /// # Errors
    /// When the authority's file cannot be read.
    pub fn of_control(url: &str, ca: &Path, secret: &str) -> anyhow::Result<Self> {
        let pem = std::fs::read(ca).with_context(|| format!("cannot read {}", ca.display()))?;
        let authority = reqwest::Certificate::from_pem(&pem)?;
        let client = Client::builder().timeout(TIMEOUT).no_proxy().tls_certs_only([authority]).build()?;
        Ok(Self { base: format!("{url}/operator/v1"), secret: secret.to_owned(), client })
    }

    /// The same API for somebody else.
    pub fn with_secret(&self, secret: &str) -> Self {
        Self { secret: secret.to_owned(), ..self.clone() }
    }

    /// # Errors
    /// When it does not answer, or refuses: with its own words.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.ask(Method::GET, path, None).await
    }

    /// # Errors
    /// As `get`.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.ask(Method::POST, path, Some(body)).await
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let url = format!("{}{path}", self.base);
        let mut request = self.client.request(method, &url).bearer_auth(&self.secret);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.with_context(|| format!("{url} does not answer"))?;
        let status = answer.status();
        let text = answer.text().await?;
        if !status.is_success() {
            bail!("{url} says {status}: {text}");
        }
        serde_json::from_str(&text).with_context(|| format!("{url} answers something other than JSON"))
    }
}
