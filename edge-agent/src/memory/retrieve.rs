//! `retrieve`: passages of documents and kept texts, or episodes, that fit a query best.

use std::{sync::Arc, time::Instant};

use edge_core::{
    admit::Priority,
    engine::effect::{Call, Completion, Failure, Keep},
};
use serde::Deserialize;
use serde_json::{Value, json};
use shared::{
    label::Label,
    ledger::entry::{self, Fact},
    policy::{self, Permit, TargetKind},
};

use super::{
    EMBEDDER, Inner, Memory, TOP_K_MAX, broken,
    desk::Asker,
    embed::desk_failure,
    episode::{self, Kind},
    hold, millis, roster,
    search::{self, Found, Hits, Sought},
    session, text, wrong,
};

const TOP_K: usize = 4;
/// Passages that `retrieve` looks at again when it is to rerank them.
const RERANKED: usize = 16;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Retrieve {
    kind: Option<Kind>,
    index: Option<String>,
    query: String,
    top_k: Option<usize>,
    /// What those are cleared for who are to see it: nothing with a stricter label is found. Without one all is.
    clearance: Option<Label>,
    /// Whether what was found is put in the order of how well it answers.
    #[serde(default)]
    rerank: bool,
    /// Where kept texts and episodes came from.
    source: Option<String>,
    /// What episodes came to.
    outcome: Option<Outcomes>,
    #[serde(default)]
    priority: Priority,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "an outcome, or a list of them")]
enum Outcomes {
    One(String),
    Some(Vec<String>),
}

impl Memory {
    /// What policy must be asked about before this call.
    ///
    /// # Errors
    /// A validation error when the call's arguments are wrong; `runtime` while the memory cannot be loaded.
    pub fn target(&self, call: &Call) -> Result<policy::Target, Failure> {
        if session::is_of_session(call) {
            return session::target(call);
        }
        if call.function == "retrieve" {
            let asked: Retrieve = call.arguments()?;
            return Ok(policy::Target::new(TargetKind::Index, self.index_of(call, &asked)?));
        }
        Ok(policy::Target::new(TargetKind::Local, EMBEDDER))
    }

    /// Finds the passages that fit the query. The label of what was found joins the run's.
    ///
    /// # Errors
    /// `validation` for wrong arguments or an index that the bundle does not have, `runtime` when the store or the
    /// embedder fails.
    pub async fn retrieve(&self, call: &Call, permit: Permit, keep: Keep) -> Result<Completion, Failure> {
        if session::is_of_session(call) {
            return self.recall(call, &permit, keep).await;
        }
        let asked: Retrieve = call.arguments()?;
        let index = self.index_of(call, &asked)?;
        hold(call, &permit, &index)?;
        let (sought, k) = sought(call, asked, index.clone())?;
        self.wait_for(&index, call).await;
        let began = Instant::now();
        let query = sought.text.clone();
        let Hits { found, fits } = self.found(call, sought, k).await?;
        let hits = found.iter().map(|found| entry::Hit {
            document: found.document.clone(),
            place: found.place.clone(),
            digest: found.digest,
            score: found.score,
        });
        let fact = Fact::Retrieved {
            index,
            query: keep.content(&query),
            hits: hits.collect(),
            duration_ms: millis(began.elapsed()),
        };
        let label = found.iter().fold(Label::default(), |label, found| label.join(&found.label));
        let passages: Vec<Value> = found.into_iter().map(passage).collect();
        Ok(Completion { output: json!({ "passages": passages, "fits": fits }), label, facts: vec![fact] })
    }

    async fn found(&self, call: &Call, sought: Wanted, k: usize) -> Result<Hits, Failure> {
        let (judges, priority) = (Arc::clone(&self.judges), sought.priority);
        let search = move |inner: &Inner, asker: &Asker<'_>| {
            let Hits { found, fits } = inner.search(&sought.sought, &sought.text, asker)?;
            if !sought.rerank {
                return Ok(Hits { found, fits });
            }
            let texts: Vec<&str> = found.iter().map(|found| found.text.as_str()).collect();
            let ranked = judges.rank(asker, inner.embedder.as_ref(), &sought.text, &texts)?;
            let best = ranked.into_iter().take(k).map(|(at, score)| Found { score, ..found[at].clone() });
            Ok::<_, search::Error>(Hits { found: best.collect(), fits })
        };
        let found = self.compute(call, priority, search).await?;
        found.map_err(|error| match error {
            search::Error::Embed(error) => desk_failure(call, &error),
            error => broken(call, error),
        })
    }

    /// The index that is meant: the one that is named, or the only one.
    fn index_of(&self, call: &Call, asked: &Retrieve) -> Result<String, Failure> {
        if let Some(why) = self.inner.loaded.failure() {
            return Err(broken(call, why));
        }
        let known = self.inner.names();
        match &asked.index {
            // Before the first run has ended there are none, and whoever asks for examples goes on without.
            named if asked.kind == Some(Kind::Episode) => {
                Ok(named.clone().unwrap_or_else(|| episode::INDEX.to_owned()))
            }
            // One that the configuration speaks of is no mistyped name: nothing was kept in it yet, or no longer.
            Some(name) if known.contains(name) || self.limits.knows(name) => Ok(name.clone()),
            Some(name) => Err(wrong(
                call,
                "index",
                &format!("{name:?} is not an index of this node; it has [{}]", known.join(", ")),
            )),
            None => match known.as_slice() {
                [only] => Ok(only.clone()),
                _ => Err(wrong(call, "index", &format!("missing; this node has [{}]", known.join(", ")))),
            },
        }
    }
}

/// What is looked for by what, whether it is ranked anew, and before whom.
struct Wanted {
    sought: Sought,
    text: String,
    rerank: bool,
    priority: Priority,
}

fn sought(call: &Call, asked: Retrieve, index: String) -> Result<(Wanted, usize), Failure> {
    let k = asked.top_k.unwrap_or(TOP_K);
    if !(1..=TOP_K_MAX).contains(&k) {
        return Err(wrong(call, "topK", &format!("{k}; expected 1 to {TOP_K_MAX}")));
    }
    let episodes = match asked.kind {
        None | Some(Kind::Text) => false,
        Some(Kind::Episode) => true,
        Some(Kind::Session) => return Err(wrong(call, "session", "missing; expected the conversation's name")),
    };
    let outcomes = asked.outcome.map(|outcomes| match outcomes {
        Outcomes::One(outcome) => vec![outcome],
        Outcomes::Some(outcomes) => outcomes,
    });
    if outcomes.is_some() && !episodes {
        return Err(wrong(call, "outcome", "given for what has none; expected it with `kind: episode`"));
    }
    let depth = if asked.rerank { k.max(RERANKED) } else { k };
    let wanted = roster::Wanted { clearance: asked.clearance, source: asked.source, episodes, outcomes };
    let sought = Sought { index, k: depth, wanted };
    let (rerank, priority) = (asked.rerank, asked.priority);
    Ok((Wanted { sought, text: text(call, "query", asked.query)?, rerank, priority }, k))
}

fn passage(found: Found) -> Value {
    let mut passage = json!({
        "text": found.text, "document": found.document, "place": found.place, "score": found.score, "label": found.label,
    });
    if let Some(episode) = found.episode {
        (passage["outcome"], passage["details"]) = (episode.outcome.into(), episode.details.into());
    }
    passage
}
