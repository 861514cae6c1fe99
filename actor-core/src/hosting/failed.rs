//! Stored messages that failed or are done: counted, dropped, or moved to the dead letters.

use std::sync::Arc;

use super::Hosting;
use crate::{
    entity::ATTEMPTS_MAX,
    id::ShardId,
    store::{dead_letters, lane::Verdict, mailbox},
};

impl Hosting {
    /// Counts a stored message's failure; says whether that was one too many and it is buried.
    pub async fn row_failed(&self, shard: ShardId, seq: i64, attempts: u32, error: &str) -> bool {
        let attempts = attempts + 1;
        let last = attempts >= ATTEMPTS_MAX;
        let counted = vec![mailbox::record_failure(seq, attempts, error)];
        let mut outcome = self.commit(shard, counted).await;
        if last && matches!(outcome, Ok(Verdict::Committed(_))) {
            // After the count, which the dead letter copies.
            let buried = dead_letters::bury(seq, error).into();
            outcome = self.commit(shard, buried).await;
        }
        match outcome {
            Ok(Verdict::Committed(_)) if last => {
                metrics::counter!("actor_dead_letters_total", "what" => "message").increment(1);
                true
            }
            // An earlier burial of unknown end was stored: the row is gone.
            Ok(Verdict::Conflict { .. }) if last => true,
            Ok(Verdict::Committed(_)) => false,
            other => {
                tracing::warn!(seq, ?other, "a failure could not be counted");
                false
            }
        }
    }

    /// Counts that a suspect row is about to run; says whether that is stored.
    pub async fn count_attempt(&self, shard: ShardId, seq: i64) -> bool {
        let counted = self.commit(shard, vec![mailbox::count_attempt(seq)]).await;
        matches!(counted, Ok(Verdict::Committed(_)))
    }

    /// Moves a stored message to the dead letters.
    pub fn bury_row(self: &Arc<Self>, shard: ShardId, seq: i64, error: &str) {
        let (hosting, error) = (self.clone(), error.to_owned());
        self.spawn(async move { hosting.bury(shard, seq, &error).await });
    }

    pub(super) async fn bury(&self, shard: ShardId, seq: i64, error: &str) {
        tracing::warn!(seq, error, "a stored message goes to the dead letters");
        let buried = dead_letters::bury(seq, error).into();
        match self.commit(shard, buried).await {
            Ok(Verdict::Committed(_)) => {
                metrics::counter!("actor_dead_letters_total", "what" => "message").increment(1);
            }
            // Whoever read it at the same time was faster.
            Ok(Verdict::Conflict { .. }) => {}
            other => tracing::warn!(seq, ?other, "a dead letter could not be written"),
        }
    }

    /// Deletes a stored message that is done or expired.
    pub fn drop_row(self: &Arc<Self>, shard: ShardId, seq: i64) {
        let hosting = self.clone();
        self.spawn(async move {
            let dropped = hosting.commit(shard, vec![mailbox::delete(seq)]).await;
            if !matches!(
                dropped,
                Ok(Verdict::Committed(_) | Verdict::Conflict { .. })
            ) {
                tracing::warn!(seq, ?dropped, "a finished message could not be deleted");
            }
        });
    }
}
