//! `classify`: the label of the nearest labelled cases, or that of a classifier which the node has.

use std::{
    sync::{Arc, OnceLock},
    time::Instant,
};

use edge_core::engine::effect::{Call, Completion, Failure, Keep};
use models::{
    classify::{Case, Cases},
    embed::Embedder,
};
use serde::Deserialize;
use serde_json::{Value, json};
use shared::{label::Label, policy::Permit};

use super::{EMBEDDER, Memory, TOP_K_MAX, broken, hold, locks::read, text, wrong};

/// Labelled cases, embedded when first asked for.
pub(super) struct CaseSet {
    cases: Vec<Case>,
    label: Label,
    ready: OnceLock<Cases>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Classify {
    text: String,
    cases: Option<GivenCases>,
    k: Option<usize>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "the name of a set in cases/, or a list of {text, label}")]
enum GivenCases {
    Named(String),
    Inline(Vec<Case>),
}

impl Memory {
    /// Names the label of the nearest labelled cases, and shows them; without cases the label that the node's classifier gives, and how
    /// sure it is of each. What the cases demand joins the run's label.
    ///
    /// # Errors
    /// `validation` for wrong arguments, a set that the bundle does not have, or no cases where the node has no classifier; `runtime`
    /// when the model fails.
    pub async fn classify(&self, call: &Call, permit: Permit, keep: Keep) -> Result<Completion, Failure> {
        hold(call, &permit, EMBEDDER)?;
        let asked: Classify = call.arguments()?;
        let text = text(call, "text", asked.text)?;
        let Some(cases) = asked.cases else { return self.by_classifier(call, text, asked.k, keep).await };
        let k = asked.k.unwrap_or(5);
        if !(1..=TOP_K_MAX).contains(&k) {
            return Err(wrong(call, "k", &format!("{k}; expected 1 to {TOP_K_MAX}")));
        }
        let set = self.cases(call, cases)?;
        let label = call.label.join(&set.label);
        let began = Instant::now();
        let (inner, asked) = (Arc::clone(&self.inner), text.clone());
        let classify = move || {
            let _use = inner.rest.r#use();
            set.embedded(inner.embedder.as_ref())?.nearest(inner.embedder.as_ref(), &asked, k)
        };
        let outcome = tokio::task::spawn_blocking(classify).await;
        let outcome = outcome.map_err(|_| broken(call, "the classifier panicked, see the log"))?;
        let outcome = outcome.map_err(|error| match error {
            models::Error::Request { message } => wrong(call, "cases", &message),
            error => broken(call, error),
        })?;
        // Policy was asked about the run's label; the answer is of the cases too, which may demand more.
        let keep = if label == call.label { keep } else { Keep::Digest };
        let fact = self.called(self.inner.embedder.name(), keep, &text, keep.content(&outcome.label), began.elapsed());
        let output = serde_json::to_value(outcome).expect("a classification is plain data");
        Ok(Completion { output, label, facts: vec![fact] })
    }

    fn cases(&self, call: &Call, given: GivenCases) -> Result<Arc<CaseSet>, Failure> {
        match given {
            // They came with the run, and so did their label.
            GivenCases::Inline(cases) => Ok(Arc::new(CaseSet::new(cases, call.label.clone()))),
            GivenCases::Named(name) => {
                let sets = read(&self.inner.cases);
                let known = || sets.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                let missing =
                    || wrong(call, "cases", &format!("{name:?} is not a set of this bundle; it has {}", known()));
                Ok(Arc::clone(sets.get(&name).ok_or_else(missing)?))
            }
        }
    }

    async fn by_classifier(
        &self,
        call: &Call,
        text: String,
        k: Option<usize>,
        keep: Keep,
    ) -> Result<Completion, Failure> {
        let Some(classifier) = self.judges.classifier.clone() else {
            let expected = "missing; a node without [models.classifier] needs labelled cases to compare with";
            return Err(wrong(call, "cases", expected));
        };
        if k.is_some() {
            return Err(wrong(call, "k", "given without cases; expected both or neither"));
        }
        let (began, name) = (Instant::now(), classifier.name().to_owned());
        let (inner, asked) = (Arc::clone(&self.inner), text.clone());
        let classify = move || {
            let _use = inner.rest.r#use();
            classifier.awake()?.classify(&[&asked])
        };
        let shares = tokio::task::spawn_blocking(classify).await;
        let shares = shares.map_err(|_| broken(call, "the classifier panicked, see the log"))?;
        let labels = shares.map_err(|error| broken(call, error))?.into_iter().next().unwrap_or_default();
        let Some(best) = labels.first() else { return Err(broken(call, "the classifier has no label")) };
        let fact = self.called(&name, keep, &text, keep.content(&best.label), began.elapsed());
        let none: [Value; 0] = [];
        let output = json!({ "label": best.label, "score": best.score, "labels": labels, "neighbours": none });
        Ok(Completion { output, label: call.label.clone(), facts: vec![fact] })
    }
}

impl CaseSet {
    pub(super) const fn new(cases: Vec<Case>, label: Label) -> Self {
        Self { cases, label, ready: OnceLock::new() }
    }

    fn embedded(&self, embedder: &dyn Embedder) -> Result<&Cases, models::Error> {
        if let Some(ready) = self.ready.get() {
            return Ok(ready);
        }
        // Two calls at once may both embed; the first to end is kept.
        let cases = Cases::new(embedder, self.cases.clone())?;
        Ok(self.ready.get_or_init(|| cases))
    }
}
