//! Whether files that hold secrets are closed to others: the agent's own, and those that its configuration names.

use std::path::PathBuf;

use private::{Error, Origin};

use super::Check;
use crate::{
    action::config::Secret,
    agent,
    api::people,
    config::Config,
    inference::config::{Key, Source},
    sync::identity,
};

pub(super) fn check(config: &Config) -> Check {
    let files = files(config);
    let (mut there, mut open, mut missing) = (0, Vec::new(), Vec::new());
    for (path, origin) in &files {
        match private::look(path, *origin) {
            Ok(()) => there += 1,
            // The agent makes its own when it needs them.
            Err(error) if error.is_absent() && *origin == Origin::Own => {}
            Err(error @ Error::Read { .. }) => missing.push(format!("{:#}", anyhow::Error::new(error))),
            Err(error) => open.push(error.to_string()),
        }
    }
    if !open.is_empty() {
        let advice =
            "run what stands after each: what others may read is not used, and the agent does not start with it";
        return Check::broken("secrets", open.join("\n"), advice);
    }
    if !missing.is_empty() {
        let advice = "write them, readable by the agent's user alone, or correct the configuration";
        return Check::warning("secrets", missing.join("\n"), advice);
    }
    Check::ok("secrets", format!("{there} files, closed to others"))
}

fn files(config: &Config) -> Vec<(PathBuf, Origin)> {
    let data = &config.data_dir;
    let own = [agent::TOKEN_FILE, people::FILE].map(|name| data.join(name));
    let own = own.into_iter().chain(identity::files(data)).map(|path| (path, Origin::Own));
    let keys = config.targets.iter().filter_map(|target| match &target.source {
        Source::Provider(provider) => match provider.key.as_ref()? {
            Key::File(path) => Some(path),
            Key::Env(_) => None,
        },
        Source::Gguf(_) => None,
    });
    let named = config.secrets.values().filter_map(|secret| match secret {
        Secret::File(path) => Some(path),
        Secret::Env(_) => None,
    });
    let (broker, embedded) = (&config.broker, &config.broker.embedded);
    let given = config.api.key_file.iter().chain(&broker.password_file);
    let given = given.chain(embedded.users.iter().filter_map(|user| user.password_file.as_ref()));
    let given = given.chain(embedded.tls.iter().map(|tls| &tls.key)).chain(keys).chain(named);
    own.chain(given.map(|path| (path.clone(), Origin::Given))).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::cli::doctor::State;

    #[test]
    fn every_file_with_a_secret_is_looked_at() {
        let dir = tempfile::tempdir().expect("a folder");
        let text = "name = \"a\"\njurisdiction = \"CH\"\ndata_dir = \"data\"\n[api]\nkey_file = \"api\"\n\
            [broker]\nurl = \"mqtt://h\"\nusername = \"u\"\npassword_file = \"broker\"\n\
            [broker.embedded]\nusers = [{ name = \"u\", password_file = \"user\" }]\ntls = { cert = \"c\", key = \"tls\" }\n\
            [[targets]]\nname = \"cloud/a\"\nkind = \"openai\"\nurl = \"http://x/v1\"\nmodel = \"m\"\nkey_file = \"target\"\n\
            [secrets.erp]\nfile = \"erp\"\n";
        let file = dir.path().join("agent.toml");
        std::fs::write(&file, text).expect("written");
        let config = Config::load(&file).expect("a configuration");
        std::fs::create_dir_all(dir.path().join("data/identity")).expect("made");
        let given = ["api", "broker", "user", "tls", "target", "erp"];
        let own = [
            "data/local-token",
            "data/approvers.toml",
            "data/identity/ledger.key",
            "data/identity/membership.json",
            "data/identity/enrollment.key",
        ];
        let told = check(&config);
        assert!(told.state == State::Warning && told.found.lines().count() == given.len(), "{told:?}");
        for name in given.iter().chain(&own) {
            private::write(&dir.path().join(name), b"x").expect("written");
        }
        assert_eq!(check(&config).found, "11 files, closed to others");
        for name in given.iter().chain(&own) {
            let path = dir.path().join(name);
            let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("set");
            mode(0o644);
            let told = check(&config);
            assert!(told.state == State::Broken && told.found.contains("(mode 0644): `chmod 6"), "{name}: {told:?}");
            mode(0o600);
        }
    }
}
