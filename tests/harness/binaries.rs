//! The binaries under test, built once.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The checkout's root.
///
/// # Panics
/// Never in practice: the package lies in the checkout.
#[must_use]
pub fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the checkout")
}

/// Where the binaries lie: `SKERRY_BIN_DIR` when `tests/run` built them, else built here, with the features of the whole
/// workspace so that nothing is built twice.
///
/// # Panics
/// When they cannot be built.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        if let Some(folder) = std::env::var_os("SKERRY_BIN_DIR") {
            return PathBuf::from(folder);
        }
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo)
            .args(["build", "--quiet", "--workspace", "--bins"])
            .current_dir(checkout())
            .status()
            .expect("cargo can be run");
        assert!(built.success(), "the binaries under test cannot be built");
        // The test itself lies in <target>/<profile>/deps.
        let test = std::env::current_exe().expect("a process knows its file");
        test.ancestors().nth(2).expect("a test lies two folders deep").to_owned()
    })
}

/// A command that runs one of them. Nothing of the developer's own settings reaches it.
#[must_use]
pub fn command(name: &str) -> Command {
    let mut command = Command::new(folder().join(name));
    command.env("RUST_BACKTRACE", "1").env("NO_COLOR", "1");
    // Under cargo the demo builds what it starts; here that has been done.
    command.env_remove("CARGO");
    let others = |key: &str| {
        key.starts_with("SKERRY_") || key.ends_with("_API_KEY") || key.to_ascii_lowercase().ends_with("_proxy")
    };
    for (key, _) in std::env::vars().filter(|(key, _)| others(key)) {
        command.env_remove(key);
    }
    command
}
