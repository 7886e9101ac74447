//! The scenes, in the order in which they are told.

use std::time::Duration;

use serde_json::{Value, json};
use shared::look::words;

use super::{Story, facts};
use crate::world::{ON_SITE, OPERATOR, SITES};

/// A busy machine with two cores needs some of these; at rest each scene takes a few seconds.
const SOON: Duration = Duration::from_secs(60);
const LATER: Duration = Duration::from_secs(120);
/// How long normal running is watched.
const WATCHED: Duration = Duration::from_secs(4);
const FAULTY: &str = "pump-7";
const FAULTY_OFFLINE: &str = "compressor-1";

impl Story {
    pub(super) async fn fleet_joins(&mut self) -> anyhow::Result<()> {
        self.screen.scene("Three nodes join the fleet");
        self.screen.say("Each made its own key, joined with a token that works once, and got a signed bundle of feeds,\nworkflows, policies and manuals.");
        self.see("all nodes connected, each on its bundle", SOON, async |world| {
            let nodes = world.control.operator.get("/nodes").await?;
            let good = |node: &&Value| node["link"] == "up" && node["rollout"]["stage"] == "current";
            let current: Vec<&Value> = nodes.as_array().into_iter().flatten().filter(good).collect();
            if current.len() < SITES.len() {
                return Ok(None);
            }
            let line = |node: &&Value| {
                let applied = &node["status"]["applied"];
                let digest = applied["digest"].as_str().and_then(|digest| digest.get(7..19)).unwrap_or("?");
                format!(
                    "{} ({}) runs bundle version {} {digest}",
                    text(&node["name"]),
                    text(&node["jurisdiction"]),
                    applied["version"]
                )
            };
            Ok(Some(((), current.iter().map(line).collect::<Vec<_>>().join("\n"))))
        })
        .await?;
        Ok(())
    }

    pub(super) async fn normal_running(&mut self) -> anyhow::Result<()> {
        self.screen.scene("Normal running");
        for (site, _, country) in SITES {
            let what = format!("readings of {site}");
            self.see(&what, SOON, async |world| {
                let readings =
                    async || Ok::<_, anyhow::Error>(world.nodes[site].api.get("/status").await?["figures"].clone());
                let before = readings().await?;
                tokio::time::sleep(WATCHED / 3).await;
                let after = readings().await?;
                let count = |figures: &Value, name: &str| figures[name].as_f64().unwrap_or(0.0);
                if count(&after, "readings_count") <= count(&before, "readings_count") {
                    return Ok(None);
                }
                let (kept, devices) = (count(&after, "readings_count"), count(&after, "devices_count"));
                Ok(Some((
                    (),
                    format!(
                        "{site}, {country}: {devices} machines, {} readings kept, more every moment",
                        words::count(kept)
                    ),
                )))
            })
            .await?;
        }
        Ok(())
    }

    pub(super) async fn fault_is_found_and_acted_upon(&mut self) -> anyhow::Result<()> {
        self.screen.scene("A fault in Hamburg: found, explained, approved, acted upon");
        self.screen.say(&format!("A bearing of {FAULTY} begins to pit. Nobody told the agent."));
        self.world.plant.fault("hamburg", FAULTY, "bearing_wear").await?;
        let found = self
            .see("a critical finding on its vibration", LATER, async |world| {
                let feeds = world.nodes["hamburg"].api.get("/feeds").await?;
                let findings = feeds["findings"].as_array().cloned().unwrap_or_default();
                let ours = |finding: &&Value| finding["device"] == FAULTY && finding["severity"] == "critical";
                let words = |finding: &Value| {
                    format!(
                        "hamburg found {} of {FAULTY} at {} {} (detector {})",
                        text(&finding["channel"]),
                        finding["value"],
                        text(&finding["unit"]),
                        text(&finding["detector"])
                    )
                };
                Ok(findings.iter().find(ours).map(|finding| ((), words(finding))))
            })
            .await?;
        if found.is_none() {
            return Ok(());
        }
        let Some(question) = self.question_at_the_console("hamburg", FAULTY).await? else { return Ok(()) };
        self.check(facts::digest_fits(&question), "the digest shown is the digest of exactly this proposal");
        self.answer_at_the_console(&question).await?;
        self.command_obeyed("hamburg", FAULTY).await?;
        self.see("the vibration falling", SOON, async |world| {
            let feeds = world.nodes["hamburg"].api.get("/feeds").await?;
            let value = facts::value(&feeds, FAULTY, "vibration").filter(|value| *value < 7.1);
            Ok(value
                .map(|value| ((), format!("vibration of {FAULTY} is back at {value} mm/s, below the 7.1 of zone D"))))
        })
        .await?;
        Ok(())
    }

    /// The question about a machine, as the control plane has it.
    async fn question_at_the_console(&mut self, site: &str, machine: &str) -> anyhow::Result<Option<Value>> {
        self.see("the explanation, and a question to a person", LATER, async |world| {
            let open = world.control.operator.get("/approvals").await?;
            let ours = |one: &&Value| one["node"] == site && one["question"]["proposal"]["machine"] == machine;
            let Some(one) = open.as_array().into_iter().flatten().find(ours) else { return Ok(None) };
            let question = one["question"].clone();
            let proposal = &question["proposal"];
            let manuals: Vec<&str> =
                proposal["manuals"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let because = text(&proposal["because"]);
            let Some(manual) = manuals.first().filter(|manual| !manual.is_empty() && !because.is_empty()) else {
                return Ok(None);
            };
            let words = format!(
                "the node asks: {}?\nbecause: {because}\nfrom the manuals: {manual}\nshown as {}",
                text(&question["title"]),
                text(&question["shown"]),
            );
            Ok(Some((question, words)))
        })
        .await
    }

    /// Approves as the demo's operator, unless a person was quicker.
    async fn answer_at_the_console(&mut self, question: &Value) -> anyhow::Result<()> {
        let id = text(&question["approval"]).to_owned();
        if !self.pace.person.is_zero() {
            self.screen.say(&format!(
                "Your turn: answer at {}/approvals. The demo answers in {} s.",
                self.world.control.console,
                self.pace.person.as_secs()
            ));
            let waiting = self.screen.waiting("waiting for you");
            let deadline = tokio::time::Instant::now() + self.pace.person;
            while tokio::time::Instant::now() < deadline {
                let open = self.world.control.operator.get("/approvals").await?;
                if !open.as_array().into_iter().flatten().any(|one| one["question"]["approval"] == *id) {
                    drop(waiting);
                    self.screen.saw("you answered");
                    return Ok(());
                }
                tokio::time::sleep(super::LOOK_AGAIN).await;
            }
        }
        let answer = json!({"shown": question["shown"], "verdict": "approved", "comment": "approved by the demo"});
        match self.world.control.operator.post(&format!("/approvals/{id}"), &answer).await {
            Ok(_) => {
                self.screen.saw(&format!("the demo approved as {OPERATOR}, through the API that people's pages use"))
            }
            Err(error) => self.miss(format!("the approval was not taken: {error:#}")),
        }
        Ok(())
    }

    async fn command_obeyed(&mut self, site: &str, machine: &str) -> anyhow::Result<()> {
        self.see("the command at the machine", SOON, async |world| {
            let commands = world.plant.commands(site, machine);
            let obeyed = commands.iter().find(|command| command["outcome"] == "obeyed");
            Ok(obeyed.map(|command| ((), format!("{machine} at {site} obeyed `{}`", text(&command["command"])))))
        })
        .await?;
        Ok(())
    }

    pub(super) async fn records_stay_or_go(&mut self) -> anyhow::Result<()> {
        self.screen.scene("Two records in Basel: one must not leave the country");
        self.screen.say(&format!("A batch record names a person; a shift note speaks of a machine. Both run the same workflow.\nThe cloud is {}, in the United States.", self.world.cloud));
        self.world.plant.record("basel", "batch", "batch-4711").await?;
        self.world.plant.record("basel", "shift", "note-1").await?;
        if let Some(run) = self.review_ended("basel", "batch-4711").await? {
            let verdict = facts::verdict(&run, "infer", "cloud/large");
            let rules = verdict.as_ref().map_or("nothing", |(_, rules)| rules.as_str()).to_owned();
            self.check(
                verdict.is_some_and(|(allowed, _)| !allowed),
                &format!("policy refused the cloud for it, by {rules}"),
            );
            let targets = facts::targets(&run).join(", ");
            let local = !targets.is_empty() && facts::targets(&run).iter().all(|target| target.starts_with("local/"));
            self.check(local, &format!("it was reviewed by {targets} in Basel and nowhere else"));
            let kept = facts::entries(&run, "model-called").any(|entry| !entry["prompt"]["text"].is_null());
            self.check(!kept, "its ledger keeps digests of it and no text");
        }
        if let Some(run) = self.review_ended("basel", "note-1").await? {
            let went = facts::verdict(&run, "infer", "cloud/large").filter(|(allowed, _)| *allowed);
            let rules = went.map(|(_, rules)| rules);
            self.check(
                rules.is_some(),
                &format!("policy allowed the cloud for the note, by {}", rules.as_deref().unwrap_or("nothing")),
            );
            self.check(facts::targets(&run).contains(&"cloud/large"), "and cloud/large answered");
        }
        Ok(())
    }

    /// The completed review of a record, with its ledger entries.
    async fn review_ended(&mut self, site: &str, record: &str) -> anyhow::Result<Option<Value>> {
        self.see(&format!("the review of {record}"), LATER, async |world| {
            let api = &world.nodes[site].api;
            let runs = api.get("/runs?workflow=quality/record-review&limit=50").await?;
            let Some(run) = facts::run_about(&runs, "quality/record-review", record) else { return Ok(None) };
            if run["status"] != "completed" {
                return Ok(None);
            }
            let whole = api.get(&format!("/runs/{}", text(&run["run"]))).await?;
            Ok(Some((whole, format!("the review of {record} is complete (it carries {})", label(&run["label"])))))
        })
        .await
    }

    pub(super) async fn uplink_is_cut(&mut self) -> anyhow::Result<()> {
        self.screen.scene("The uplinks of Hamburg and Basel are cut");
        for site in ["hamburg", "basel"] {
            self.world.nodes[site].cut();
        }
        self.see("the control plane missing them", SOON, async |world| {
            let nodes = world.control.operator.get("/nodes").await?;
            let down = |site: &str| {
                nodes.as_array().into_iter().flatten().any(|node| node["name"] == site && node["link"] == "down")
            };
            Ok((down("hamburg") && down("basel"))
                .then(|| ((), "the control plane no longer hears hamburg and basel".to_owned())))
        })
        .await?;
        self.screen.say(&format!("In Basel the fan of {FAULTY_OFFLINE} fails, and somebody writes a shift note."));
        self.world.plant.fault("basel", FAULTY_OFFLINE, "cooling_failure").await?;
        self.world.plant.record("basel", "shift", "note-2").await?;
        self.see("the note's escalation parked", LATER, async |world| {
            let runs = world.nodes["basel"].api.get("/runs?status=parked&limit=50").await?;
            let run = facts::run_about(&runs, "quality/record-review", "note-2");
            Ok(run.map(|run| ((), format!("the review of note-2 is parked: {}", text(&run["note"])))))
        })
        .await?;
        let question = self
            .see("a question about the compressor, on the local page", LATER, async |world| {
                let open = world.nodes["basel"].api.get("/approvals").await?;
                let ours = |question: &&Value| question["proposal"]["machine"] == FAULTY_OFFLINE;
                let question = open.as_array().into_iter().flatten().find(ours).cloned();
                Ok(question.map(|question| {
                    let words = format!(
                        "found and explained without the link. The node asks: {}?\nbecause: {}",
                        text(&question["title"]),
                        text(&question["proposal"]["because"])
                    );
                    (question, words)
                }))
            })
            .await?;
        if let Some(question) = question {
            let node = &self.world.nodes["basel"];
            let answer = json!({
                "shown": question["shown"], "verdict": "approved", "by": ON_SITE, "secret": node.on_site_secret,
                "comment": "approved by the demo",
            });
            match node.api.post(&format!("/approvals/{}", text(&question["approval"])), &answer).await {
                Ok(_) => {
                    self.screen.saw(&format!("the demo approved as {ON_SITE}, on site, through the local page's API"))
                }
                Err(error) => self.miss(format!("the approval on site was not taken: {error:#}")),
            }
            self.command_obeyed("basel", FAULTY_OFFLINE).await?;
        }
        self.see("readings going on", SOON, async |world| {
            let status = async || world.nodes["basel"].api.get("/status").await;
            let kept = |status: &Value| status["figures"]["readings_count"].as_f64().unwrap_or(0.0);
            let before = status().await?;
            tokio::time::sleep(WATCHED / 3).await;
            let after = status().await?;
            let down = before["link"]["state"] == "down" && after["link"]["state"] == "down";
            Ok((down && kept(&after) > kept(&before)).then(|| {
                let kept = words::count(kept(&after));
                ((), format!("basel knows that it is cut off and goes on: {kept} readings kept, more every moment"))
            }))
        })
        .await?;
        Ok(())
    }

    pub(super) async fn link_is_back(&mut self) -> anyhow::Result<()> {
        self.screen.scene("The links are back: everything catches up");
        for site in ["hamburg", "basel"] {
            self.world.nodes[site].mend();
        }
        if let Some(run) = self.review_ended("basel", "note-2").await? {
            self.check(
                facts::targets(&run).contains(&"cloud/large"),
                "what was parked went to cloud/large when the link was back",
            );
        }
        self.see("the answer on site in the archive", LATER, async |world| {
            let entries = world.control.operator.get("/audit?node=basel&fact=approval-decided&limit=50").await?;
            let ours = |entry: &&Value| entry["entry"]["by"] == ON_SITE;
            let entry = entries.as_array().into_iter().flatten().find(ours);
            Ok(entry.map(|entry| {
                ((), format!("the archive has {ON_SITE}'s answer as entry {} of basel's ledger", entry["seq"]))
            }))
        })
        .await?;
        for (site, ..) in SITES {
            self.see(&format!("the ledger of {site} whole in the archive"), LATER, async |world| {
                let size = world.nodes[site].api.get("/status").await?["ledgerSize"].as_u64().unwrap_or(u64::MAX);
                let verified = world.control.operator.get(&format!("/audit/{site}/verify")).await?;
                let entries = verified["entries"].as_u64().unwrap_or(0);
                let sound = verified["fault"].is_null() && verified["halted"].is_null() && !verified["head"].is_null();
                let words = format!(
                    "{site}: all {} entries hashed again, tree and both signatures hold, no gap",
                    words::count(entries as f64)
                );
                Ok((sound && entries >= size).then_some(((), words)))
            })
            .await?;
        }
        Ok(())
    }

    /// Through a cut link and all: each machine was told once.
    pub(super) fn command_arrived_once(&mut self) {
        for (site, machine) in [("hamburg", FAULTY), ("basel", FAULTY_OFFLINE)] {
            let obeyed = self
                .world
                .plant
                .commands(site, machine)
                .iter()
                .filter(|command| command["outcome"] == "obeyed")
                .count();
            self.check(obeyed == 1, &format!("{machine} at {site} obeyed one command, once"));
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

fn label(value: &Value) -> String {
    serde_json::from_value(value.clone()).map_or_else(|_| "no label".to_owned(), |label| words::label(&label))
}
