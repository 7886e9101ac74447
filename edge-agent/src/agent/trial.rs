//! The trial of a new bundle: whether the node is well with it, judged by what happened since it came into force and by
//! nothing else.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};

use crate::{feed::journal::Totals, memory};

/// Misfits of a feed that condemn a bundle, if they outnumber what fits: one sensor may always babble.
const MISFITS_MAX: i64 = 10;

/// What was counted of each feed, by its name.
pub(super) type Counts = Vec<(String, Totals)>;

/// How long a trial lasts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub least: Duration,
    pub most: Duration,
    pub look_every: Duration,
}

impl Limits {
    /// At least several rounds of a plant's feeds. At most what a small gateway needs to embed some thousand pages: a bundle
    /// with more would keep the node between two bundles for too long.
    pub const STANDARD: Self =
        Self { least: Duration::from_secs(5), most: Duration::from_secs(900), look_every: Duration::from_millis(250) };
}

/// Watches a bundle that has just come into force, until its documents are indexed and its feeds have shown themselves.
/// `before` was counted when the last message of the former feeds was through.
///
/// # Errors
/// Why the node is not well with it.
pub(super) async fn watch<F: Future<Output = Result<Counts, String>>>(
    limits: Limits,
    before: &Counts,
    memory: watch::Receiver<memory::Status>,
    count: impl Fn() -> F,
) -> Result<(), String> {
    let began = Instant::now();
    loop {
        let status = memory.borrow().clone();
        // What failed is the new documents' once the indexing is done; until then it may be the former ones'.
        if !status.is_busy && !status.failed.is_empty() {
            let failed = status.failed.join("; ");
            return Err(format!("not every document of the bundle can be indexed: {failed}"));
        }
        if let Some(misfit) = misfit(before, &count().await?) {
            return Err(misfit);
        }
        if began.elapsed() >= limits.least && !status.is_busy {
            return Ok(());
        }
        if began.elapsed() >= limits.most {
            let waited = limits.most.as_secs();
            return Err(format!("the bundle's documents were still being indexed after {waited} s"));
        }
        tokio::time::sleep(limits.look_every).await;
    }
}

/// The feed whose messages do not fit it since `before`, and did fit it until then. A feed that was babble already is not the
/// new bundle's fault, and going back would not mend it.
fn misfit(before: &Counts, now: &Counts) -> Option<String> {
    now.iter().find_map(|(name, now)| {
        let before = before.iter().find(|(known, _)| known == name).map(|(_, totals)| *totals).unwrap_or_default();
        let (misfits, fits) = (now.quarantined - before.quarantined, now.journalled - before.journalled);
        let was_babble = before.quarantined > before.journalled;
        let condemned = misfits > MISFITS_MAX && misfits > fits && !was_babble;
        condemned
            .then(|| format!("under the bundle {misfits} of {} messages of feed {name} did not fit it", misfits + fits))
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn counts(feeds: &[(&str, i64, i64)]) -> Counts {
        let totals = |&(name, journalled, quarantined): &(&str, i64, i64)| {
            (name.to_owned(), Totals { journalled, quarantined, ..Totals::default() })
        };
        feeds.iter().map(totals).collect()
    }

    #[test]
    fn a_feed_is_judged_by_what_came_since_the_switch() {
        for (before, now, told) in [
            (("a", 50, 0), ("a", 50, 11), Some("under the bundle 11 of 11 messages of feed a did not fit it")),
            (("a", 50, 0), ("a", 50, 10), None),
            (("a", 50, 0), ("a", 62, 11), None),
            (("a", 1_000, 900), ("a", 1_020, 905), None),
            (("a", 10, 500), ("a", 10, 600), None),
            (("b", 0, 99), ("a", 0, 20), Some("under the bundle 20 of 20 messages of feed a did not fit it")),
        ] {
            assert_eq!(misfit(&counts(&[before]), &counts(&[now])).as_deref(), told, "{before:?} -> {now:?}");
        }
    }

    const QUICK: Limits =
        Limits { least: Duration::ZERO, most: Duration::from_millis(200), look_every: Duration::from_millis(1) };

    fn status(is_busy: bool, failed: &[&str]) -> memory::Status {
        memory::Status { is_busy, failed: failed.iter().map(|&why| why.to_owned()).collect(), unloaded: None }
    }

    /// A trial in which the documents are indexed at the fifth look, with this outcome. Answers how often was looked, too.
    async fn indexed_late(before: &[&str], after: &[&str]) -> (Result<(), String>, u32) {
        let (indexing, memory) = watch::channel(status(true, before));
        let looks = Cell::new(0);
        let count = || {
            looks.set(looks.get() + 1);
            if looks.get() == 5 {
                indexing.send_replace(status(false, after));
            }
            std::future::ready(Ok(Counts::new()))
        };
        (watch(QUICK, &Counts::new(), memory, count).await, looks.get())
    }

    #[tokio::test]
    async fn a_bundle_is_not_healthy_before_its_documents_are_indexed() {
        assert_eq!(indexed_late(&["a document of the bundle before"], &[]).await, (Ok(()), 6));
    }

    #[tokio::test]
    async fn a_document_that_fails_after_a_while_condemns_the_bundle() {
        let (outcome, looks) = indexed_late(&[], &["cannot embed the document manuals/a.md"]).await;
        let reason = outcome.expect_err("condemned");
        assert!(reason.ends_with("can be indexed: cannot embed the document manuals/a.md"), "{reason}");
        assert_eq!(looks, 5);
    }

    #[tokio::test]
    async fn indexing_without_an_end_ends_the_trial() {
        let (_indexing, memory) = watch::channel(status(true, &[]));
        let outcome = watch(QUICK, &Counts::new(), memory, || std::future::ready(Ok(Counts::new()))).await;
        assert!(outcome.expect_err("condemned").contains("still being indexed"));
    }

    #[tokio::test]
    async fn a_feed_that_stops_fitting_ends_the_trial_at_once() {
        let (_indexing, memory) = watch::channel(status(true, &[]));
        let now = || std::future::ready(Ok(counts(&[("a", 5, 30)])));
        let outcome = watch(QUICK, &counts(&[("a", 5, 0)]), memory, now).await;
        assert!(outcome.expect_err("condemned").contains("30 of 30 messages of feed a"));
    }
}
