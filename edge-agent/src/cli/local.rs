//! Talking to the agent that runs on this machine, over its local API.

use std::time::Duration;

use serde_json::Value;

use super::{Failure, small_runtime};
use crate::{agent, config::Config, tls};

/// What an agent answers at once.
const WITHIN: Duration = Duration::from_secs(30);

/// The running agent of a configuration.
pub(super) struct Local {
    address: String,
    token: String,
}

impl Local {
    /// Finds the address and the token that the running agent left in its data folder.
    pub(super) fn find(config: &Config) -> Result<Self, Failure> {
        let configured = config.api.listen.to_string();
        let address = std::fs::read_to_string(config.data_dir.join(agent::ADDRESS_FILE)).unwrap_or(configured);
        let address = address.trim().to_owned();
        let token = private::read(&config.data_dir.join(agent::TOKEN_FILE), private::Origin::Own);
        let token = token.map_err(|error| {
            if error.is_absent() {
                return Failure::NotRunning { address: address.clone() };
            }
            Failure::Failed(anyhow::Error::new(error).context("cannot ask the agent without its token"))
        })?;
        Ok(Self { address, token: token.trim().to_owned() })
    }

    pub(super) fn get(&self, path: &str) -> Result<Value, Failure> {
        self.ask(reqwest::Method::GET, path, None, WITHIN)
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.post_within(path, body, WITHIN)
    }

    /// The same for what may take longer.
    pub(super) fn post_within(&self, path: &str, body: &Value, within: Duration) -> Result<Value, Failure> {
        self.ask(reqwest::Method::POST, path, Some(body), within)
    }

    fn ask(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Option<&Value>,
        within: Duration,
    ) -> Result<Value, Failure> {
        small_runtime()?.block_on(async {
            let failed = |error: reqwest::Error| {
                if error.is_connect() {
                    Failure::NotRunning { address: self.address.clone() }
                } else {
                    Failure::Failed(
                        anyhow::Error::new(error).context(format!("cannot ask the agent at {}", self.address)),
                    )
                }
            };
            // The agent is on this machine: its token is nothing for a proxy.
            let client = tls::plain_client(|client| client.no_proxy().timeout(within));
            let mut request = client.request(method, format!("http://{}{path}", self.address)).bearer_auth(&self.token);
            if let Some(body) = body {
                request = request.json(body);
            }
            let response = request.send().await.map_err(failed)?;
            let status = response.status();
            let value: Value = response.json().await.unwrap_or(Value::Null);
            if status.is_success() {
                return Ok(value);
            }
            let reason = value.get("error").and_then(Value::as_str).map_or_else(|| status.to_string(), str::to_owned);
            Err(match status.as_u16() {
                404 => Failure::NotFound(reason),
                400 | 409 | 410 | 422 => Failure::Input(reason),
                403 | 429 => Failure::Failed(anyhow::anyhow!(reason)),
                _ => Failure::Failed(anyhow::anyhow!("the agent answered {status}: {reason}")),
            })
        })
    }
}
