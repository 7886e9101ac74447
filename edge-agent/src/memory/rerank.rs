//! `rerank`: passages in the order of how well they answer a question, whatever found them.

use std::{sync::Arc, time::Instant};

use edge_core::{
    admit::Priority,
    engine::effect::{Call, Completion, Failure, Keep},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use shared::policy::Permit;

use super::{EMBEDDER, Inner, Memory, desk::Asker, embed::desk_failure, hold, text, wrong};

/// Passages of one call; without a cross-encoder each of their sentences is embedded.
pub const PASSAGES_MAX: usize = 256;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Rerank {
    query: String,
    passages: Vec<Map<String, Value>>,
    top_k: Option<usize>,
    #[serde(default)]
    priority: Priority,
}

impl Memory {
    /// Orders passages, best first, each with its score (0 to 1); what else a passage says of itself stays.
    ///
    /// # Errors
    /// `validation` for wrong arguments, `runtime` when the model fails.
    pub async fn rerank(&self, call: &Call, permit: Permit, keep: Keep) -> Result<Completion, Failure> {
        hold(call, &permit, EMBEDDER)?;
        let Rerank { query, mut passages, top_k, priority } = call.arguments()?;
        let query = text(call, "query", query)?;
        let k = top_k.unwrap_or(passages.len().max(1));
        if !(1..=PASSAGES_MAX).contains(&k) {
            return Err(wrong(call, "topK", &format!("{k}; expected 1 to {PASSAGES_MAX}")));
        }
        if passages.len() > PASSAGES_MAX {
            let many = format!("{} passages; at most {PASSAGES_MAX}", passages.len());
            return Err(wrong(call, "passages", &many));
        }
        let mut texts = Vec::with_capacity(passages.len());
        for (at, passage) in passages.iter().enumerate() {
            let own = passage.get("text").and_then(Value::as_str).unwrap_or_default();
            texts.push(text(call, &format!("passages[{at}].text"), own.to_owned())?);
        }
        let (began, judges, asked) = (Instant::now(), Arc::clone(&self.judges), query.clone());
        let rank = move |inner: &Inner, asker: &Asker<'_>| {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            judges.rank(asker, inner.embedder.as_ref(), &asked, &texts)
        };
        let ranked = self.compute(call, priority, rank).await?.map_err(|error| desk_failure(call, &error))?;
        let best: Vec<Value> = ranked
            .into_iter()
            .take(k)
            .map(|(at, score)| {
                let mut passage = std::mem::take(&mut passages[at]);
                passage.insert("score".to_owned(), json!(score));
                Value::Object(passage)
            })
            .collect();
        let output = json!({ "passages": best });
        let model = self.judges.ranks_by(&self.inner.embedder);
        let fact = self.called(model, keep, &query, keep.content(&output.to_string()), began.elapsed());
        Ok(Completion { output, label: call.label.clone(), facts: vec![fact] })
    }
}
