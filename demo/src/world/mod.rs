//! What the demo sets up: one control plane, three agents with their uplinks, one plant. Each is a process of its own on
//! free loopback ports.

pub mod ask;
pub mod binaries;
pub mod link;
mod plant;
mod process;

use std::{
    collections::BTreeMap,
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use shared::wire::token::JoinToken;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
};

use crate::content;
use ask::Api;
use binaries::Binaries;
use link::{Link, Way};
pub use plant::Plant;
use process::Process;

/// The sites, where they stand, and what their country is called.
pub const SITES: [(&str, &str, &str); 3] =
    [("hamburg", "DE", "Germany"), ("basel", "CH", "Switzerland"), ("houston", "US", "United States")];
/// The person who answers on the console's side, and their role.
pub const OPERATOR: &str = "ada-lindqvist";
const ROLE: &str = "maintenance-lead";
/// The person who answers at the gateways themselves.
pub const ON_SITE: &str = "Vreni Probst-Muster";
/// How long a process may take until it answers; a busy machine of two cores needs some of it.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Everything that runs.
pub struct World {
    pub control: ControlPlane,
    pub nodes: BTreeMap<&'static str, Node>,
    pub plant: Plant,
    /// What `cloud/large` is.
    pub cloud: String,
}

/// The control plane.
pub struct ControlPlane {
    process: Process,
    pub console: String,
    pub admin_secret: String,
    pub operator: Api,
}

/// An agent, with the two links that make its uplink.
pub struct Node {
    process: Process,
    pub page: String,
    pub token: String,
    pub api: Api,
    /// The secret of `ON_SITE` on this node.
    pub on_site_secret: String,
    uplink: Link,
    cloud: Link,
}

impl Node {
    /// Cuts the way to the control plane and to the cloud.
    pub fn cut(&self) {
        self.uplink.cut();
        self.cloud.cut();
    }

    /// Gives it back.
    pub fn mend(&self) {
        self.uplink.mend();
        self.cloud.mend();
    }
}

/// A large model: the one whose key is set, or houston's.
struct Cloud {
    words: String,
    toml: String,
    /// Whether agents reach it through `HTTPS_PROXY`.
    proxied: bool,
}

impl World {
    /// Starts everything but the plant's faults. `told` is called before each slow step.
    ///
    /// # Errors
    /// When something does not start; what it said is in the error.
    pub async fn start(folder: &Path, binaries: &Binaries, told: &dyn Fn(&str)) -> anyhow::Result<Self> {
        told("starting the control plane");
        let control = ControlPlane::start(folder, binaries).await?;
        let mut nodes = BTreeMap::new();
        let mut cloud_links = Vec::new();
        let mut words = String::new();
        for (site, jurisdiction, _) in SITES {
            told(&format!("{site}: pushing its signed bundle, enrolling, starting the agent"));
            let cloud = Link::open(Way::Closed).await?;
            let model = cloud_model(cloud.address());
            cloud_links.push((cloud.clone(), model.proxied));
            words.clone_from(&model.words);
            let node = start_node(folder, binaries, &control, site, jurisdiction, cloud, &model).await?;
            nodes.insert(site, node);
        }
        let houston = nodes["houston"].page.trim_start_matches("http://").parse()?;
        for (link, proxied) in cloud_links {
            link.lead(if proxied { Way::Asked } else { Way::To(houston) });
        }
        told("waiting until every node runs its bundle");
        let mut brokers = Vec::new();
        for (site, node) in &mut nodes {
            brokers.push((*site, node.ready().await?));
        }
        told("starting the plant: 37 machines at three sites, one second is one minute");
        let plant = Plant::start(folder, &brokers)?;
        Ok(Self { control, nodes, plant, cloud: words })
    }

    /// Fails when a process ended by itself.
    ///
    /// # Errors
    /// Then, with the end of its log.
    pub fn check(&mut self) -> anyhow::Result<()> {
        self.control.process.check()?;
        self.plant.check()?;
        self.nodes.values_mut().try_for_each(|node| node.process.check())
    }

    /// Ends every process, the plant first.
    pub async fn stop(self) {
        self.plant.stop().await;
        let agents = self.nodes.into_values().map(|node| node.process.stop());
        futures::future::join_all(agents).await;
        self.control.process.stop().await;
    }
}

impl ControlPlane {
    async fn start(folder: &Path, binaries: &Binaries) -> anyhow::Result<Self> {
        let data = folder.join("control");
        let mut command = Command::new(&binaries.cloud_control);
        command.arg("serve").arg("--data-dir").arg(&data);
        command.args(["--listen", "127.0.0.1:0", "--console", "127.0.0.1:0", "--host", "127.0.0.1", "--json"]);
        let (mut process, pipes) = Process::start("cloud-control", command, &folder.join("control.log"))?;
        let mut lines = BufReader::new(pipes.output).lines();
        let line = tokio::time::timeout(START_LIMIT, lines.next_line())
            .await
            .context("the control plane does not start")??;
        if line.is_none() {
            // It has closed its output, so it ends; its log says why.
            tokio::time::sleep(Duration::from_millis(200)).await;
            process.check()?;
        }
        let ready: Value = serde_json::from_str(&line.context("the control plane said nothing")?)?;
        // What it prints later is of no use, but a full pipe would stop it.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let text =
            |name: &str| ready[name].as_str().map(str::to_owned).with_context(|| format!("no {name:?} in {ready}"));
        let (console, admin_secret) = (text("console")?, text("admin_secret")?);
        let admin = Api::of_control(&text("url")?, &PathBuf::from(text("ca_file")?), &admin_secret)?;
        let made = admin.post("/operators", &serde_json::json!({"name": OPERATOR, "roles": [ROLE]})).await?;
        let operator = admin.with_secret(made["secret"].as_str().context("no secret for the operator")?);
        let console = if console.contains("://") { console } else { format!("http://{console}") };
        Ok(Self { process, console, admin_secret, operator })
    }

    /// The command line of this control plane.
    fn command(&self, folder: &Path, binaries: &Binaries) -> Command {
        let mut command = Command::new(&binaries.cloud_control);
        command.env("SKERRY_CONTROL_DATA_DIR", folder.join("control")).env("SKERRY_CONTROL_SECRET", &self.admin_secret);
        command
    }
}

async fn start_node(
    folder: &Path,
    binaries: &Binaries,
    control: &ControlPlane,
    site: &'static str,
    jurisdiction: &str,
    cloud: Link,
    model: &Cloud,
) -> anyhow::Result<Node> {
    let bundle = folder.join(format!("{site}-bundle"));
    content::assemble(site, &bundle)?;
    let mut push = control.command(folder, binaries);
    push.args(["bundle", "push"]).arg(&bundle).args(["--group", site, "--create-group", "--name", site]);
    process::output(push).await.with_context(|| format!("cannot push the bundle of {site}"))?;

    let mut create = control.command(folder, binaries);
    create.args(["token", "create", "--group", site, "--valid", "1h"]);
    let mut token: JoinToken = process::output(create).await?.parse()?;
    // The node joins through its own uplink, which the demo can cut.
    let address: SocketAddr = token.url.trim_start_matches("https://").parse().context("the token names no address")?;
    let uplink = Link::open(Way::To(address)).await?;
    token.url = format!("https://{}", uplink.address());

    let home = folder.join(site);
    fs::create_dir(&home)?;
    let config = home.join("agent.toml");
    fs::write(&config, configuration(site, jurisdiction, model))?;
    let mut enroll = Command::new(&binaries.edge_agent);
    enroll.arg("enroll").arg("--config").arg(&config).env("SKERRY_JOIN_TOKEN", token.to_string());
    process::output(enroll).await.with_context(|| format!("{site} cannot enrol"))?;

    let mut add = Command::new(&binaries.edge_agent);
    add.args(["approvers", "add", ON_SITE, "--role", ROLE, "--json", "--config"]).arg(&config);
    let added: Value = serde_json::from_str(&process::output(add).await?)?;
    let on_site_secret = added["secret"].as_str().context("no secret for the person on site")?.to_owned();

    let mut run = Command::new(&binaries.edge_agent);
    run.arg("run").arg("--config").arg(&config);
    // What stands for the cloud is on this machine, whatever proxy the user has.
    run.env_remove("no_proxy").env("NO_PROXY", "127.0.0.1");
    if model.proxied {
        run.env_remove("https_proxy").env("HTTPS_PROXY", format!("http://{}", cloud.address()));
    }
    let (mut process, _) = Process::start(site, run, &folder.join(format!("{site}.log")))?;
    let (page, token) = whereabouts(&home.join("data"), &mut process).await?;
    let api = Api::of_agent(&page, &token)?;
    Ok(Node { process, page: format!("http://{page}"), token, api, on_site_secret, uplink, cloud })
}

/// Waits until the agent has said where its page is and what opens it.
async fn whereabouts(data: &Path, process: &mut Process) -> anyhow::Result<(String, String)> {
    let deadline = tokio::time::Instant::now() + START_LIMIT;
    loop {
        let read = |name: &str| fs::read_to_string(data.join(name)).map(|text| text.trim().to_owned()).ok();
        if let (Some(address), Some(token)) = (read("local-address"), read("local-token"))
            && !address.is_empty()
            && !token.is_empty()
        {
            return Ok((address, token));
        }
        process.check()?;
        ensure!(tokio::time::Instant::now() < deadline, "an agent does not start within {START_LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

impl Node {
    /// Waits until the node runs its bundle and gives the address of its broker.
    async fn ready(&mut self) -> anyhow::Result<SocketAddr> {
        let deadline = tokio::time::Instant::now() + START_LIMIT;
        loop {
            self.process.check()?;
            if let Ok(status) = self.api.get("/status").await
                && !status["bundle"].is_null()
                && let Some(address) = status["broker"].as_str().and_then(|url| url.strip_prefix("mqtt://"))
            {
                return address.parse().with_context(|| format!("{address:?} is no address of a broker"));
            }
            if tokio::time::Instant::now() > deadline {
                bail!("the agent at {} does not run its bundle within {START_LIMIT:?}", self.page);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn configuration(site: &str, jurisdiction: &str, model: &Cloud) -> String {
    format!(
        "# Written by the demo.\nname = \"{site}\"\njurisdiction = \"{jurisdiction}\"\ndata_dir = \"data\"\n\n\
         [broker.embedded]\nlisten = \"127.0.0.1:0\"\n\n[api]\nlisten = \"127.0.0.1:0\"\n\n{}",
        model.toml
    )
}

/// What `cloud/large` is: a provider whose key is in the environment, else houston's own endpoint.
fn cloud_model(link: SocketAddr) -> Cloud {
    let target = |kind: &str, url: &str, model: &str, key: &str, provider: &str, prices: (f64, f64)| {
        let key = if key.is_empty() { String::new() } else { format!("key_env = \"{key}\"\n") };
        format!(
            "[[targets]]\nname = \"cloud/large\"\nkind = \"{kind}\"\nurl = \"{url}\"\nmodel = \"{model}\"\n{key}\
             jurisdiction = \"US\"\nprovider = \"{provider}\"\nprice_in = {:?}\nprice_out = {:?}\n",
            prices.0, prices.1
        )
    };
    let set = |name: &str| env::var(name).is_ok_and(|key| !key.is_empty());
    let chosen = |default: &str| env::var("SKERRY_DEMO_MODEL").unwrap_or_else(|_| default.to_owned());
    if set("ANTHROPIC_API_KEY") {
        let model = chosen("claude-haiku-4-5");
        let url = "https://api.anthropic.com/v1";
        let toml = target("anthropic", url, &model, "ANTHROPIC_API_KEY", "anthropic", (1.0, 5.0));
        return Cloud { words: format!("{model} at Anthropic"), toml, proxied: true };
    }
    if set("OPENAI_API_KEY") {
        let model = chosen("gpt-4o-mini");
        let toml = target("openai", "https://api.openai.com/v1", &model, "OPENAI_API_KEY", "openai", (0.15, 0.6));
        return Cloud { words: format!("{model} at OpenAI"), toml, proxied: true };
    }
    let toml = target("openai", &format!("http://{link}/v1"), "local/extract", "", "houston", (0.15, 0.6));
    Cloud { words: "houston's OpenAI-compatible endpoint (no key is set)".to_owned(), toml, proxied: false }
}
