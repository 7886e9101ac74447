//! `cargo demo`: a plant, three agents and a control plane on this machine, and a story told with them.

mod content;
mod plant;
mod story;
mod world;

use std::{io::IsTerminal as _, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};
use story::{Pace, Screen, Story};
use tokio::signal::unix::{SignalKind, signal};
use world::{ON_SITE, World, binaries::Binaries};

/// Sensors, decisions and people at three sites, with and without the link to the cloud: in two minutes, on this machine.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    part: Option<Part>,
    /// End after the story: with 0 if everything that it tells of was really seen, else with 1 and what was missing.
    #[arg(long, conflicts_with = "keep")]
    once: bool,
    /// Stay after the story, even where nobody sits at a terminal.
    #[arg(long)]
    keep: bool,
    /// Give a person this many seconds to answer in the console before the demo answers.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    person: u64,
    /// A scene stands for at least this many seconds; by default 20 at a terminal, else 0.
    #[arg(long, value_name = "SECONDS")]
    pace: Option<u64>,
    /// Where stores and logs go; a folder that does not exist yet. Without it they are gone afterwards.
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

/// With six scenes, the story takes about two minutes.
const READING_SECONDS: u64 = 20;

impl Cli {
    fn pace(&self) -> Pace {
        let scene = self.pace.unwrap_or_else(|| if std::io::stdout().is_terminal() { READING_SECONDS } else { 0 });
        Pace { scene: Duration::from_secs(scene), person: Duration::from_secs(self.person) }
    }
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Only the simulated plant, against brokers that are already there.
    Plant(plant::run::Options),
    /// Only the bundle directory of one group, to look at or to start an agent with.
    Content(content::Options),
}

#[tokio::main]
async fn main() -> ExitCode {
    // TLS wants one provider of cryptography for the process; nobody chose before.
    drop(rustls::crypto::ring::default_provider().install_default());
    let cli = Cli::parse();
    let done = match &cli.part {
        Some(Part::Plant(options)) => plant::run::run(options).await.map(|()| ExitCode::SUCCESS),
        Some(Part::Content(options)) => content::run(options).map(|()| ExitCode::SUCCESS),
        None => demo(&cli).await,
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

async fn demo(cli: &Cli) -> anyhow::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate())?;
    let asked_to_end = async {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
    };
    tokio::pin!(asked_to_end);
    let binaries = Binaries::find()?;
    let (folder, _gone_afterwards) = match &cli.dir {
        Some(folder) => {
            std::fs::create_dir(folder)?;
            (folder.canonicalize()?, None)
        }
        None => {
            let folder = tempfile::Builder::new().prefix("skerry-demo-").tempdir()?;
            (folder.path().to_owned(), Some(folder))
        }
    };
    let screen = Screen::new();
    let say = |step: &str| screen.say(step);
    let started = tokio::select! {
        world = World::start(&folder, &binaries, &say) => world?,
        () = &mut asked_to_end => return Ok(ExitCode::from(130)),
    };
    offer(&screen, &started);
    let mut story = Story::new(started, screen, cli.pace());
    let told = tokio::select! {
        told = story.tell() => Some(told),
        () = &mut asked_to_end => None,
    };
    let stays = cli.keep || (!cli.once && std::io::stdout().is_terminal());
    let screen = Screen::new();
    let code = match &told {
        Some(Ok(missing)) => end(&screen, missing),
        Some(Err(error)) => {
            screen.missed(&format!("{error:#}"));
            ExitCode::FAILURE
        }
        None => ExitCode::from(130),
    };
    if stays && matches!(told, Some(Ok(_))) {
        offer(&screen, &story.world);
        screen.say("Everything goes on running. Ctrl-C ends it.");
        asked_to_end.await;
    }
    screen.say("ending every process");
    story.world.stop().await;
    Ok(code)
}

fn end(screen: &Screen, missing: &[String]) -> ExitCode {
    if missing.is_empty() {
        screen.say("\nThat is the story. Everything in it was read back from the running programs.");
        return ExitCode::SUCCESS;
    }
    screen.missed(&format!("{} of what the story tells was not seen:\n{}", missing.len(), missing.join("\n")));
    ExitCode::FAILURE
}

fn offer(screen: &Screen, world: &World) {
    screen.say("");
    screen.offer("console", &world.control.console);
    screen.offer("  operator secret", &world.control.admin_secret);
    for (site, node) in &world.nodes {
        screen.offer(&format!("local page of {site}"), &node.page);
        screen.offer("  local token", &node.token);
        screen.offer("  to answer there", &format!("{ON_SITE}, secret {}", node.on_site_secret));
    }
}
