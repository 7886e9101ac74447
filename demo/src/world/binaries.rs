//! The programs that the demo starts: built if need be, found beside the demo's own executable.

use std::{env, path::PathBuf, process::Command};

use anyhow::{Context as _, ensure};

/// The two binaries.
#[derive(Debug, Clone)]
pub struct Binaries {
    pub edge_agent: PathBuf,
    pub cloud_control: PathBuf,
}

impl Binaries {
    /// Builds them when Cargo started the demo, with Cargo's own progress, and finds them.
    ///
    /// # Errors
    /// When the build fails or there is no such file.
    pub fn find() -> anyhow::Result<Self> {
        let own = env::current_exe().context("cannot find the demo's own executable")?;
        let folder = own.parent().context("an executable lies in a folder")?;
        if let Some(cargo) = env::var_os("CARGO") {
            // The workspace's default members, as `cargo demo` itself builds them: another choice of packages would choose
            // other features, and compile the dependencies a second time.
            let mut build = Command::new(cargo);
            build.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).arg("build");
            if folder.file_name().is_some_and(|name| name == "release") {
                build.arg("--release");
            }
            let status = build.status().context("cannot run cargo")?;
            ensure!(status.success(), "cargo could not build edge-agent and cloud-control");
        }
        let find = |name: &str| {
            let path = folder.join(name);
            ensure!(
                path.is_file(),
                "{} is not there; start the demo with `cargo demo`, which builds it",
                path.display()
            );
            Ok(path)
        };
        Ok(Self { edge_agent: find("edge-agent")?, cloud_control: find("cloud-control")? })
    }
}
