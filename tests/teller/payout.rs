//! Two amounts with a pause between them; the same in both releases.

use std::time::Duration;

use actor_core::{Entity, Result, handlers};
use actor_workflow::{Run, Saga, Workflow};
use serde::{Deserialize, Serialize};

/// The pause, in which the run is not in memory.
const PAUSE: Duration = Duration::from_millis(500);

/// Puts an amount into a purse, pauses, and does it again.
#[derive(Debug, Workflow, Serialize, Deserialize)]
#[workflow(output = u64, version = 1, expose)]
pub(crate) struct Payout {
    purse: String,
    amount: u64,
}

impl Run for Payout {
    async fn run(&self, saga: &mut Saga) -> Result<u64> {
        saga.step("first half", |step| async move {
            step.entity::<Purse>(&self.purse).put(self.amount).await
        })
        .attempts(1_000)
        .await?;
        saga.sleep(PAUSE).await;
        saga.step("second half", |step| async move {
            step.entity::<Purse>(&self.purse).put(self.amount).await
        })
        .attempts(1_000)
        .await
    }
}

/// What was paid out.
#[derive(Debug, Default, Entity, Serialize, Deserialize)]
#[entity(durable, expose, kind = "purse")]
pub(crate) struct Purse {
    level: u64,
}

#[handlers]
impl Purse {
    /// Puts something in; returns the level.
    pub fn put(&mut self, amount: u64) -> u64 {
        self.level += amount;
        self.level
    }

    /// Returns what is there.
    pub fn level(&self) -> u64 {
        self.level
    }
}
