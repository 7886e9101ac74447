//! What operators ask for: tokens, bundles, rollbacks, answers to questions, other operators.

use std::time::Duration;

use edge_core::site::Check;
use serde::{Deserialize, Serialize};
use shared::{
    bundle::{
        floor,
        manifest::{File, Manifest},
    },
    digest::Digest,
    id::{ApprovalId, NodeName},
    ledger::entry::Verdict,
    wire::{token::JoinToken, v1::Answer},
};

use super::{Change, Control, Error, Wake, absent, invalid};
use crate::{
    clock,
    fleet::{Refused, Why, approval, rollout},
    store::{
        self, actions, approvals,
        bundles::{self, Bundle},
        ledger, nodes,
        operators::{self, ADMIN, Operator},
        tokens::{self, Token},
    },
};

/// A token that is good for longer than this is a standing door.
const TOKEN_VALID_MAX: Duration = Duration::from_secs(90 * 24 * 3600);

/// A bundle whose files are here already.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PushRequest {
    pub name: String,
    /// The group that shall run it from now on.
    pub group: String,
    /// Make the group if there is none of the name; otherwise an unknown one is taken for a slip of the pen.
    #[serde(default)]
    pub create_group: bool,
    /// Push it as a new version although the group shall run exactly these files already: a node that went back from a
    /// bundle does not try it again.
    #[serde(default)]
    pub again: bool,
    pub files: Vec<File>,
}

/// A bundle that was pushed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Pushed {
    pub digest: Digest,
    pub name: String,
    pub version: u64,
    pub group: String,
    /// Whether the group shall run exactly these files already, so that nothing was done.
    pub unchanged: bool,
    /// The nodes that went back from these files or would not take them, when nothing was done.
    #[serde(default)]
    pub rejected_by: Vec<NodeName>,
}

/// Let a group go back.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollBackRequest {
    pub group: String,
    pub to: Digest,
}

impl Control {
    /// Makes a join token for one node of this group.
    ///
    /// # Errors
    /// When the operator may not, or the group or the time is out of bounds.
    pub async fn create_token(&self, by: &Operator, group: &str, valid: Duration) -> Result<JoinToken, Error> {
        admin(by)?;
        check_name("group", group)?;
        if valid.is_zero() || valid > TOKEN_VALID_MAX {
            return Err(invalid("valid", "a token is good for 1 second to 90 days"));
        }
        let (secret, now) = (clock::secret(), clock::now());
        let digest = Digest::of(secret.as_bytes());
        let expires = now.plus(valid);
        let token = Token {
            id: digest.short(),
            group: group.to_owned(),
            created: now,
            by: by.name.clone(),
            expires,
            used: None,
            node: None,
        };
        self.store
            .write::<_, Error>("make a join token", move |c| {
                bundles::add_group(c, &token.group)?;
                let what = format!("made join token {} for group {}, good until {expires}", token.id, token.group);
                actions::record(c, now, &token.by, &what)?;
                tokens::insert(c, &token, digest).map(Ok)
            })
            .await?;
        self.changed(Change::Access);
        Ok(JoinToken { url: self.url.clone(), ca_sha256: self.keys.ca_digest(), secret, exp: expires })
    }

    /// Signs a bundle and makes it what the group shall run. Its version is one more than the highest ever pushed.
    ///
    /// # Errors
    /// When a file is missing or wrong, or the operator may not.
    pub async fn push(&self, by: &Operator, request: PushRequest) -> Result<Pushed, Error> {
        admin(by)?;
        let PushRequest { name, group, create_group, again, files } = request;
        check_name("group", &group)?;
        let known = self.read("list the groups", bundles::groups).await?;
        if !create_group && !known.iter().any(|known| known.name == group) {
            return Err(unknown_group(&group, &known));
        }
        self.check_files(&files).await?;
        // A trial without a version finds every mistake before the transaction.
        Manifest::new(&name, 1, files.clone()).map_err(|error| invalid("bundle", error.to_string()))?;
        let (by, now, signer) = (by.name.clone(), clock::now(), self.keys.operator().clone());
        let pushed = self
            .store
            .write::<_, Error>("keep a bundle", move |c| {
                bundles::add_group(c, &group)?;
                let current = bundles::groups(c)?.into_iter().find(|known| known.name == group);
                if !again
                    && let Some(digest) = current.and_then(|group| group.desired)
                    && let Some(known) = bundles::get(c, digest)?
                    && Manifest::new(&name, known.version, files.clone()).is_ok_and(|same| same.digest() == digest)
                {
                    let (version, rejected_by) = (known.version, rejected_by(c, &group)?);
                    return Ok(Ok(Pushed { digest, name, version, group, unchanged: true, rejected_by }));
                }
                let version = bundles::newest_version(c)? + 1;
                let signed = Manifest::new(&name, version, files)
                    .and_then(|manifest| manifest.sign(&signer).map(|note| (manifest, note)));
                let (manifest, signature) = match signed {
                    Ok(signed) => signed,
                    Err(error) => return Ok(Err(invalid("bundle", error.to_string()))),
                };
                let digest = manifest.digest();
                let manifest = manifest.canonical();
                let what = format!("pushed bundle {name} version {version} ({}) to group {group}", digest.short());
                actions::record(c, now, &by, &what)?;
                let bundle = Bundle { digest, name: name.clone(), version, pushed: now, by, manifest, signature };
                bundles::insert(c, &bundle)?;
                bundles::set_desired(c, &group, digest, None, now)?;
                Ok(Ok(Pushed { digest, name, version, group, unchanged: false, rejected_by: Vec::new() }))
            })
            .await?;
        self.changed(Change::Rollout);
        self.wake(Wake::Group(pushed.group.clone()));
        Ok(pushed)
    }

    async fn check_files(&self, files: &[File]) -> Result<(), Error> {
        let mut check = Check::default();
        for file in files {
            let Some(len) = self.blobs.len(file.digest).await else {
                return Err(invalid("blob-missing", format!("{} has not been uploaded", file.path)));
            };
            if len != file.bytes {
                return Err(invalid("blob-size", format!("{} has {len} bytes, expected {}", file.path, file.bytes)));
            }
            if check.admit(file.path.as_str(), file.bytes) {
                check.look(file.path.as_str(), &self.blobs.read(file.digest).await?);
            }
        }
        // Compiling policies and expressions takes a while.
        let checked = tokio::task::spawn_blocking(move || check.finish()).await;
        let checked = checked.map_err(|_| store::Error::Closed { operation: "check a bundle" })?;
        checked.map_err(|problems| invalid("bundle", problems.to_string()))
    }

    /// Lets a group go back to a bundle that was pushed before, with the operator's signed word for it.
    ///
    /// # Errors
    /// When there is no such bundle or group, or the operator may not.
    pub async fn roll_back(&self, by: &Operator, request: RollBackRequest) -> Result<Pushed, Error> {
        admin(by)?;
        let RollBackRequest { group, to } = request;
        let (by, now, signer) = (by.name.clone(), clock::now(), self.keys.operator().clone());
        let pushed = self
            .store
            .write::<_, Error>("roll a group back", move |c| {
                let Some(bundle) = bundles::get(c, to)? else {
                    return Ok(Err(absent("bundle-unknown", format!("there is no bundle {to}"))));
                };
                let known = bundles::groups(c)?;
                if !known.iter().any(|known| known.name == group) {
                    return Ok(Err(unknown_group(&group, &known)));
                }
                let note = match floor::sign_rollback(to, bundles::newest_version(c)?, &signer) {
                    Ok(note) => note,
                    Err(error) => return Ok(Err(invalid("rollback", error.to_string()))),
                };
                let Bundle { digest, name, version, .. } = bundle;
                let what = format!("rolled group {group} back to {name} version {version} ({})", digest.short());
                actions::record(c, now, &by, &what)?;
                bundles::set_desired(c, &group, to, Some(&note), now)?;
                Ok(Ok(Pushed { digest, name, version, group, unchanged: false, rejected_by: Vec::new() }))
            })
            .await?;
        self.changed(Change::Rollout);
        self.wake(Wake::Group(pushed.group.clone()));
        Ok(pushed)
    }

    /// Takes a person's answer to a question; the node gets it with its next sync.
    ///
    /// # Errors
    /// When the answer does not count: `fleet::approval::judge` says why.
    pub async fn decide(
        &self,
        by: &Operator,
        id: ApprovalId,
        shown: Digest,
        verdict: Verdict,
        comment: Option<String>,
    ) -> Result<(), Error> {
        let (by, now, signer) = (by.clone(), clock::now(), self.keys.operator().clone());
        let node = self
            .store
            .write::<_, Error>("keep an answer", move |c| {
                let known = approvals::get(c, id)?;
                match approval::judge(known.as_ref(), &by, shown, verdict, now) {
                    Ok(approval::Decision::Take) => {}
                    Ok(approval::Decision::Repeat) => return Ok(Ok(None)),
                    Err(refused) => return Ok(Err(refused.into())),
                }
                let name = by.name;
                let answer = Answer { approval: id, shown, verdict, by: name.clone(), at: now, comment };
                let answer = match answer.sign(&signer) {
                    Ok(answer) => answer,
                    Err(error) => return Ok(Err(invalid("answer", error.to_string()))),
                };
                approvals::answer(c, id, &answer, &name, now)?;
                let verdict = if verdict == Verdict::Approved { "approved" } else { "rejected" };
                actions::record(c, now, &name, &format!("{verdict} {id}, shown {shown}"))?;
                Ok(Ok(known.map(|approval| approval.node)))
            })
            .await?;
        if let Some(node) = node {
            self.changed(Change::Approval(id));
            self.wake(Wake::Node(node));
        }
        Ok(())
    }

    /// Makes an operator and answers the secret, which is shown once.
    ///
    /// # Errors
    /// When the name is taken or no name, or the operator may not.
    pub async fn create_operator(&self, by: &Operator, name: &str, roles: Vec<String>) -> Result<String, Error> {
        admin(by)?;
        check_name("operator", name)?;
        let (secret, now, by) = (clock::secret(), clock::now(), by.name.clone());
        let digest = Digest::of(secret.as_bytes());
        let operator = Operator { name: name.to_owned(), roles, created: now };
        self.store
            .write::<_, Error>("make an operator", move |c| {
                if !operators::insert(c, &operator, digest)? {
                    let message = format!("there is an operator {} already", operator.name);
                    return Ok(Err(Refused::new(Why::Conflict, "name-taken", message).into()));
                }
                let what = format!("made operator {} with the roles {}", operator.name, operator.roles.join(", "));
                actions::record(c, now, &by, &what).map(Ok)
            })
            .await?;
        self.changed(Change::Access);
        Ok(secret)
    }

    /// Takes an operator's access away. The operator `admin` stays, so that nobody is locked out.
    ///
    /// # Errors
    /// When there is none of the name, or the operator may not.
    pub async fn remove_operator(&self, by: &Operator, name: &str) -> Result<(), Error> {
        admin(by)?;
        if name == ADMIN {
            return Err(Refused::new(Why::Forbidden, "admin-stays", "the operator admin cannot be removed").into());
        }
        let (name, now, by) = (name.to_owned(), clock::now(), by.name.clone());
        self.store
            .write::<_, Error>("remove an operator", move |c| {
                if !operators::remove(c, &name)? {
                    return Ok(Err(absent("operator-unknown", format!("there is no operator {name}"))));
                }
                actions::record(c, now, &by, &format!("removed operator {name}")).map(Ok)
            })
            .await?;
        self.changed(Change::Access);
        Ok(())
    }

    /// Lets a node's ledger be taken again after its alarm was looked into.
    ///
    /// # Errors
    /// When it is not halted, or the operator may not.
    pub async fn resume_ledger(&self, by: &Operator, node: &NodeName) -> Result<(), Error> {
        admin(by)?;
        let (name, now, by) = (node.clone(), clock::now(), by.name.clone());
        self.store
            .write::<_, Error>("resume a ledger", move |c| {
                if !ledger::resume(c, &name, &by, now)? {
                    return Ok(Err(absent("not-halted", format!("the ledger of {name} is not halted"))));
                }
                actions::record(c, now, &by, &format!("resumed the ledger of {name}")).map(Ok)
            })
            .await?;
        self.changed(Change::Ledger(node.clone()));
        self.wake(Wake::Node(node.clone()));
        Ok(())
    }
}

/// The nodes of a group that went back from what it shall run, or would not take it.
fn rejected_by(connection: &rusqlite::Connection, group: &str) -> rusqlite::Result<Vec<NodeName>> {
    let rejected =
        |node: &nodes::Node| node.group == group && matches!(rollout::stage(node), rollout::Stage::Rejected(_));
    Ok(nodes::list(connection)?.into_iter().filter(rejected).map(|node| node.name).collect())
}

fn admin(by: &Operator) -> Result<(), Error> {
    if by.is_admin() {
        return Ok(());
    }
    let message = format!("{} may answer questions, but only an administrator may do this", by.name);
    Err(Refused::new(Why::Forbidden, "not-admin", message).into())
}

fn unknown_group(group: &str, known: &[bundles::Group]) -> Error {
    let names: Vec<&str> = known.iter().map(|group| group.name.as_str()).collect();
    let known =
        if names.is_empty() { "there is none yet".to_owned() } else { format!("there is {}", names.join(", ")) };
    let message = format!(
        "there is no group {group}: {known}. To make it: bundle push --create-group, or token create --group {group}"
    );
    absent("group-unknown", message)
}

/// Names of groups and operators: the form of a node's name, and long enough to be told apart.
fn check_name(what: &str, name: &str) -> Result<(), Error> {
    let form = name.parse::<NodeName>().map(drop);
    form.map_err(|_| {
        let expected = "1 to 63 of a-z, 0-9 and -, with a letter or digit at both ends";
        invalid("name", format!("{name:?} cannot name {what}: expected {expected}"))
    })
}
