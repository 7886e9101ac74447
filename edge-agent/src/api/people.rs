//! The people who may answer questions on this node: a file with their names, their roles, and a salted hash (argon2id) of
//! each one's secret. There is nobody in it until somebody is added, and nobody has a secret that was not made for them.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use argon2::{
    Argon2,
    password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString},
};
use private::Origin;
use serde::{Deserialize, Serialize};

use crate::clock;

/// The file's name in the data folder.
pub const FILE: &str = "approvers.toml";

/// A chosen secret shorter than this is refused; a made one has 32 characters of 128 random bits.
pub const SECRET_LEN_MIN: usize = 12;
/// A longer one is not read: hashing it would only cost time.
const SECRET_LEN_MAX: usize = 1_024;
const NAME_LEN_MAX: usize = 120;
/// Wrong secrets in a row before a name has to wait.
const WRONG_MAX: u32 = 5;
/// The first wait; each wrong secret after it doubles the wait.
const WAIT_FIRST: Duration = Duration::from_secs(60);
/// With it a day allows about a hundred guesses.
const WAIT_MAX: Duration = Duration::from_secs(15 * 60);

/// Somebody who may answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    pub name: String,
    /// For whom they may answer: the `role` of `call: approve`.
    pub roles: Vec<String>,
    /// The secret's hash in PHC form.
    secret: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    person: Vec<Person>,
}

/// Why the list of people cannot be used or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Read(#[from] private::Error),
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{}: {detail}; expected [[person]] tables with name, roles and secret, as `edge-agent approvers add` writes them", path.display())]
    Broken { path: PathBuf, detail: String },
    #[error("{0}")]
    Unfit(String),
}

/// The people on this node, by name.
///
/// # Errors
/// When the file is there but cannot be read, or others may read or change it.
pub fn load(path: &Path) -> Result<Vec<Person>, Error> {
    let text = match private::read(path, Origin::Own) {
        Ok(text) => text,
        Err(error) if error.is_absent() => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let broken = |detail: String| Error::Broken { path: path.to_owned(), detail };
    let file: File = toml::from_str(&text).map_err(|error| broken(error.to_string()))?;
    for person in &file.person {
        PasswordHash::new(&person.secret)
            .map_err(|error| broken(format!("the secret of {:?} is no hash: {error}", person.name)))?;
    }
    Ok(file.person)
}

/// Adds a person; a running agent knows them at once. Without `secret` one is made. Answers the secret.
///
/// # Errors
/// When the name is taken, something is empty, the secret is too short, or the file cannot be written.
pub fn add(path: &Path, name: &str, roles: Vec<String>, secret: Option<String>) -> Result<String, Error> {
    let name = name.trim();
    if name.is_empty() || name.len() > NAME_LEN_MAX {
        return Err(Error::Unfit(format!("the name has {} bytes: expected 1 to {NAME_LEN_MAX}", name.len())));
    }
    if roles.is_empty() || roles.iter().any(|role| role.trim().is_empty()) {
        return Err(Error::Unfit("no role: expected at least one, such as the `role` of a `call: approve`".to_owned()));
    }
    let secret = secret.unwrap_or_else(|| hex::encode(clock::seed()));
    if !(SECRET_LEN_MIN..=SECRET_LEN_MAX).contains(&secret.len()) {
        return Err(Error::Unfit(format!(
            "the secret has {} bytes: expected {SECRET_LEN_MIN} to {SECRET_LEN_MAX}",
            secret.len()
        )));
    }
    let mut people = load(path)?;
    if people.iter().any(|person| person.name == name) {
        return Err(Error::Unfit(format!("{name} is there already; remove them first to change roles or secret")));
    }
    people.push(Person { name: name.to_owned(), roles, secret: hash(&secret)? });
    people.sort_by(|a, b| a.name.cmp(&b.name));
    store(path, people)?;
    Ok(secret)
}

/// Removes a person. `false`: there was none of this name.
///
/// # Errors
/// When the file cannot be read or written.
pub fn remove(path: &Path, name: &str) -> Result<bool, Error> {
    let mut people = load(path)?;
    let before = people.len();
    people.retain(|person| person.name != name.trim());
    let removed = people.len() < before;
    if removed {
        store(path, people)?;
    }
    Ok(removed)
}

fn store(path: &Path, person: Vec<Person>) -> Result<(), Error> {
    let text = toml::to_string(&File { person }).map_err(|error| Error::Unfit(error.to_string()))?;
    private::write(path, text.as_bytes()).map_err(|source| Error::Write { path: path.to_owned(), source })
}

fn hash(secret: &str) -> Result<String, Error> {
    let unfit = |error: argon2::password_hash::Error| Error::Unfit(format!("the secret cannot be hashed: {error}"));
    let salt = SaltString::encode_b64(&clock::seed()).map_err(unfit)?;
    Ok(Argon2::default().hash_password(secret.as_bytes(), &salt).map_err(unfit)?.to_string())
}

impl Person {
    fn knows(&self, secret: &str) -> bool {
        let hash = PasswordHash::new(&self.secret);
        hash.is_ok_and(|hash| Argon2::default().verify_password(secret.as_bytes(), &hash).is_ok())
    }
}

/// Why a person is not let in.
#[derive(Debug, PartialEq, Eq)]
pub enum Denied {
    /// Nobody is on the list.
    Nobody,
    /// No such name, or not its secret; which of the two is not said.
    Wrong,
    /// Too many wrong secrets: not before this has passed.
    Wait(Duration),
    /// The list cannot be read.
    Broken(String),
}

/// Asks people who they are. Guesses are taken one after another, so that none is free.
pub struct Door {
    path: PathBuf,
    /// By name; one entry stands for all names that are not on the list.
    wrong: tokio::sync::Mutex<HashMap<Option<String>, Wrong>>,
}

struct Wrong {
    count: u32,
    until: Instant,
}

impl Door {
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, wrong: tokio::sync::Mutex::default() }
    }

    /// The people who may answer, for pages.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub fn people(&self) -> Result<Vec<Person>, Error> {
        load(&self.path)
    }

    /// The person of this name, if the secret is theirs.
    pub async fn enter(&self, name: &str, secret: &str, now: Instant) -> Result<Person, Denied> {
        let people = self.people().map_err(|error| Denied::Broken(error.to_string()))?;
        if people.is_empty() {
            return Err(Denied::Nobody);
        }
        let known = people.iter().find(|person| person.name == name.trim()).cloned();
        let key = known.as_ref().map(|person| person.name.clone());
        let mut wrong = self.wrong.lock().await;
        // People who were removed meanwhile need no entry.
        wrong.retain(|name, _| name.as_ref().is_none_or(|name| people.iter().any(|person| person.name == *name)));
        let left = wrong.get(&key).map_or(Duration::ZERO, |wrong| wrong.until.saturating_duration_since(now));
        if !left.is_zero() {
            return Err(Denied::Wait(left));
        }
        // Somebody's hash is computed in any case, so that the time tells nothing of who is on the list.
        let asked = known.clone().unwrap_or_else(|| people[0].clone());
        let given: String = secret.trim_end_matches(['\r', '\n']).chars().take(SECRET_LEN_MAX).collect();
        let fits = tokio::task::spawn_blocking(move || asked.knows(&given)).await.unwrap_or(false);
        match known {
            Some(person) if fits => {
                wrong.remove(&key);
                Ok(person)
            }
            _ => {
                let entry = wrong.entry(key).or_insert(Wrong { count: 0, until: now });
                entry.count = entry.count.saturating_add(1);
                if entry.count >= WRONG_MAX {
                    let wait = WAIT_FIRST.saturating_mul(1 << (entry.count - WRONG_MAX).min(10)).min(WAIT_MAX);
                    entry.until = now + wait;
                }
                Err(Denied::Wrong)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn list() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        (folder, path)
    }

    #[tokio::test]
    async fn a_person_is_known_by_their_own_secret_alone_and_the_file_does_not_hold_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let (_folder, path) = list();
        let door = Door::new(path.clone());
        let now = Instant::now();
        assert_eq!(door.enter("Mia Keller", "", now).await.unwrap_err(), Denied::Nobody);
        let secret = add(&path, "Mia Keller", vec!["line-lead".to_owned()], None).unwrap();
        let other = add(&path, "Jon Frei", vec!["nurse".to_owned()], Some("twelve bytes".to_owned())).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("$argon2id$") && !text.contains(&secret) && !text.contains(&other), "{text}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let person = door.enter(" Mia Keller ", &format!("{secret}\n"), now).await.unwrap();
        assert_eq!((person.name.as_str(), person.roles), ("Mia Keller", vec!["line-lead".to_owned()]));
        for (name, secret) in [("Mia Keller", other.as_str()), ("Mia", &secret), ("", ""), ("Mia Keller", "")] {
            assert_eq!(door.enter(name, secret, now).await.unwrap_err(), Denied::Wrong, "{name}");
        }
        assert!(remove(&path, "Mia Keller").unwrap() && !remove(&path, "Mia Keller").unwrap());
        assert_eq!(door.enter("Mia Keller", &secret, now).await.unwrap_err(), Denied::Wrong);
    }

    #[tokio::test]
    async fn wrong_secrets_make_a_name_wait_longer_and_longer_and_nobody_else() {
        let (_folder, path) = list();
        let (mia, jon) = (
            add(&path, "Mia", vec!["lead".to_owned()], None).unwrap(),
            add(&path, "Jon", vec!["lead".to_owned()], None).unwrap(),
        );
        let door = Door::new(path);
        let now = Instant::now();
        for _ in 0..WRONG_MAX {
            assert_eq!(door.enter("Mia", "a wrong secret", now).await.unwrap_err(), Denied::Wrong);
        }
        assert_eq!(door.enter("Mia", &mia, now).await.unwrap_err(), Denied::Wait(WAIT_FIRST), "the right one too");
        assert!(door.enter("Jon", &jon, now).await.is_ok());
        let later = now + WAIT_FIRST + Duration::from_secs(1);
        assert_eq!(door.enter("Mia", "a wrong secret", later).await.unwrap_err(), Denied::Wrong);
        assert_eq!(door.enter("Mia", &mia, later).await.unwrap_err(), Denied::Wait(WAIT_FIRST * 2));
        assert!(door.enter("Mia", &mia, later + WAIT_FIRST * 3).await.is_ok());
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_what_was_expected() {
        let (_folder, path) = list();
        let lead = || vec!["lead".to_owned()];
        let check = |outcome: Result<String, Error>, expected: &str| {
            let error = outcome.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(add(&path, " ", lead(), None), "the name has 0 bytes");
        check(add(&path, "Mia", Vec::new(), None), "no role");
        check(add(&path, "Mia", lead(), Some("short".to_owned())), "the secret has 5 bytes: expected 12");
        add(&path, "Mia", lead(), None).unwrap();
        check(add(&path, "Mia", lead(), None), "is there already");
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o660)).unwrap();
        let error = load(&path).unwrap_err().to_string();
        assert!(error.contains("(mode 0660): `chmod 600 "), "{error}");
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        fs::write(&path, "[[person]]\nname = \"Mia\"\nroles = []\nsecret = \"hunter2hunter2\"\n").unwrap();
        let error = load(&path).unwrap_err().to_string();
        assert!(error.contains("the secret of \"Mia\" is no hash") && !error.contains("hunter2"), "{error}");
    }
}
