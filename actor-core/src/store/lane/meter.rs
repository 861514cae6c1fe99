//! What the lanes count and measure. Operators rely on the names.

use std::{collections::BTreeMap, time::Duration};

use super::item::Verdict;

/// Items by what became of them.
const COMMITS: &str = "actor_durable_commits_total";

/// Items refused because their epoch was over.
const FENCED: &str = "actor_fenced_total";

/// Seconds a transaction took, from taking the connection to the answer.
const DURATION: &str = "actor_commit_duration";

/// Items in a transaction.
const BATCH: &str = "actor_commit_batch_size";

/// The verdicts of a batch, counted together: a look-up a batch instead of one an item.
#[derive(Debug, Default)]
pub(super) struct Tally(BTreeMap<&'static str, u64>);

impl Tally {
    pub(super) fn add(&mut self, verdict: &Verdict) {
        *self.0.entry(verdict.outcome()).or_default() += 1;
    }

    /// Records what was added.
    pub(super) fn record(&self) {
        for (outcome, count) in &self.0 {
            metrics::counter!(COMMITS, "outcome" => *outcome).increment(*count);
        }
        if let Some(count) = self.0.get(Verdict::Fenced.outcome()) {
            metrics::counter!(FENCED).increment(*count);
        }
    }
}

/// Records a transaction.
pub(super) fn transaction(took: Duration, items: usize) {
    metrics::histogram!(DURATION).record(took.as_secs_f64());
    // A batch has at most some thousands of items.
    metrics::histogram!(BATCH).record(f64::from(u32::try_from(items).unwrap_or(u32::MAX)));
}
