//! A new epoch for shards whose last commit may or may not be stored (architecture D6).
//!
//! The row lock of the raise makes the unclear transaction end first; after it, whatever of the old
//! epoch is still on its way is refused by the fence.

use std::{collections::BTreeSet, time::Duration};

use super::{LaneConfig, task::Lane};
use crate::{
    id::{Epoch, ShardId},
    store::{StoreError, open::Purpose, ownership},
};

/// The wait after the first failed try; it doubles.
const WAIT_MIN: Duration = Duration::from_millis(20);

/// The longest wait between two tries.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// The answer about one shard: its epoch before, and now, if it is still ours.
type Raised = (ShardId, Epoch, Option<Epoch>);

/// Raises `epochs` and tells [`Shards`](crate::shards::Shards); tries until the database answers.
///
/// If the lane is to stop meanwhile, the shards are given up instead: nobody here uses them any
/// more, and a takeover raises their epochs.
pub(super) async fn raise(lane: &Lane, epochs: &BTreeSet<(ShardId, Epoch)>) {
    let config = &*lane.config;
    let mut wait = WAIT_MIN;
    loop {
        let error = match ask(lane, epochs.iter().copied().collect()).await {
            Ok(raised) => return adopt(config, &raised),
            Err(error) => error,
        };
        if lane.queue.is_closed() {
            let given_up: Vec<_> = epochs
                .iter()
                .map(|(shard, old)| (*shard, *old, None))
                .collect();
            return adopt(config, &given_up);
        }
        tracing::warn!(%error, "cannot raise the epochs of an unclear commit yet");
        config.clock.sleep(config.rng.jitter(wait, 50)).await;
        wait = WAIT_MAX.min(2 * wait);
    }
}

/// Raises all epochs in one transaction.
async fn ask(lane: &Lane, epochs: Vec<(ShardId, Epoch)>) -> Result<Vec<Raised>, StoreError> {
    let config = &*lane.config;
    let (node, incarnation) = (config.shards.node().clone(), config.shards.incarnation());
    // On the lane's own connection: other work must not keep the shards unsettled.
    let purpose = Purpose::Lane(lane.number);
    let write = config.store.transact(purpose, "raise epochs", move |c| {
        Box::pin(async move {
            let mut raised = Vec::with_capacity(epochs.len());
            for (shard, old) in epochs {
                let new = ownership::raise(c, shard, &node, incarnation, old).await?;
                raised.push((shard, old, new));
            }
            Ok(raised)
        })
    });
    write.await
}

/// Takes what the database said over into what this node believes to own.
fn adopt(config: &LaneConfig, raised: &[Raised]) {
    for &(shard, old, new) in raised {
        match new {
            // Compared, so that a shard that was given up meanwhile stays given up.
            Some(new) => config.shards.replace(shard, old, new),
            None => config.shards.revoke_epoch(shard, old),
        };
    }
}
