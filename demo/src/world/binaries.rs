//! The programs that the demo starts: built if need be, found beside the demo's own executable.

use std::{env, ffi::OsStr, path::PathBuf, process::Command};

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
            // What Cargo tells the program that it runs, scripts of dependencies take for a change: they would be built anew, and this program
            // with them while it runs.
            for (name, _) in env::vars_os().filter(|(name, _)| is_of_run(name)) {
                build.env_remove(name);
            }
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

/// Whether Cargo sets a variable for a program that it runs, of its package.
fn is_of_run(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    ["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"]
        .iter()
        .any(|of| name.starts_with(of))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cargo_says_of_the_package_that_it_runs_is_no_matter_of_a_build() {
        for name in ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_PKG_VERSION"] {
            assert!(is_of_run(name.as_ref()), "{name}");
        }
        for name in ["CARGO", "CARGO_HOME", "CARGO_TARGET_DIR", "CARGO_NET_OFFLINE", "PATH"] {
            assert!(!is_of_run(name.as_ref()), "{name}");
        }
    }
}
