//! What the lanes count and measure (names in `interfaces.md`).

use std::time::Duration;

use super::item::Verdict;

/// Items by what became of them.
const COMMITS: &str = "actor_durable_commits_total";

/// Items refused because their epoch was over.
const FENCED: &str = "actor_fenced_total";

/// Seconds a transaction took, from taking the connection to the answer.
const DURATION: &str = "actor_commit_duration";

/// Items in a transaction.
const BATCH: &str = "actor_commit_batch_size";

/// Records a verdict.
pub(super) fn verdict(verdict: &Verdict) {
    metrics::counter!(COMMITS, "outcome" => verdict.outcome()).increment(1);
    if matches!(verdict, Verdict::Fenced) {
        metrics::counter!(FENCED).increment(1);
    }
}

/// Records a transaction.
pub(super) fn transaction(took: Duration, items: usize) {
    metrics::histogram!(DURATION).record(took.as_secs_f64());
    // A batch has at most some thousands of items.
    metrics::histogram!(BATCH).record(f64::from(u32::try_from(items).unwrap_or(u32::MAX)));
}
