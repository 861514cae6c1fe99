//! Watches every simulation for the first promise of all: at most one owner for each epoch of a
//! shard.

use std::{collections::BTreeMap, time::Duration};

use actor_core::id::{Epoch, ShardId};

use super::shared::Shared;

/// The time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Who was seen to own what, in the whole run.
#[derive(Debug, Default)]
pub(super) struct Owners {
    /// Which life of which node believes that it owns a shard under an epoch.
    seen: BTreeMap<(ShardId, Epoch), (usize, u64)>,
    next: Duration,
}

impl Owners {
    /// Looks at all nodes, frozen ones too.
    ///
    /// # Errors
    /// When two lives ever owned a shard under the same epoch.
    pub(super) fn look(&mut self, shared: &Shared, now: Duration) -> Result<(), String> {
        if now < self.next {
            return Ok(());
        }
        self.next = now + LOOK_EVERY;
        for index in 0..shared.nodes() {
            let (life, owned) = {
                let slot = shared.slot(index);
                let Some(node) = &slot.node else { continue };
                (slot.life, node.hosting().shards().owned())
            };
            for claim in owned {
                let owner = *self.seen.entry(claim).or_insert((index, life));
                if owner != (index, life) {
                    let ((shard, epoch), (other, former)) = (claim, owner);
                    return Err(format!(
                        "shard {shard} has two owners under epoch {epoch}: life {former} of \
                         n{other} and life {life} of n{index}"
                    ));
                }
            }
        }
        Ok(())
    }
}
