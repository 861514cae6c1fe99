//! What the clients call.

use std::time::Duration;

use actor_core::{Ctx, Entity, Failure, Result, handlers};
use actor_workflow::{Run, Saga, Workflow};
use serde::{Deserialize, Serialize};

/// Holds a number.
#[derive(Debug, Default, Entity, Serialize, Deserialize)]
#[entity(durable)]
pub(crate) struct Register {
    value: u64,
}

#[handlers]
impl Register {
    /// Replaces it.
    pub fn write(&mut self, value: u64) {
        self.value = value;
    }

    /// Replaces it if it is what the caller thinks; says whether it was.
    pub fn swap(&mut self, from: u64, to: u64) -> bool {
        let same = self.value == from;
        if same {
            self.value = to;
        }
        same
    }

    /// Returns it.
    pub fn read(&self) -> u64 {
        self.value
    }
}

/// Everything a ledger was told, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entries {
    /// By clients: one number an operation.
    pub(crate) added: Vec<u64>,
    /// By relays, who number what they send to each ledger.
    pub(crate) told: Vec<(String, u64)>,
    /// By timers of relays, numbered likewise.
    pub(crate) rung: Vec<(String, u64)>,
    /// By steps of sagas and their compensations: run, step, whether it is undone.
    pub(crate) steps: Vec<(String, u8, bool)>,
}

/// Remembers what it is told; repeats included, if there are any.
#[derive(Debug, Default, Entity, Serialize, Deserialize)]
#[entity(durable)]
pub(crate) struct Ledger {
    entries: Entries,
}

#[handlers]
impl Ledger {
    pub fn add(&mut self, number: u64) -> u64 {
        self.entries.added.push(number);
        self.entries.added.len() as u64
    }

    pub fn tell(&mut self, from: String, number: u64) {
        self.entries.told.push((from, number));
    }

    pub fn ring(&mut self, from: String, number: u64) {
        self.entries.rung.push((from, number));
    }

    pub fn step(&mut self, run: String, step: u8, undo: bool) {
        self.entries.steps.push((run, step, undo));
    }

    pub fn entries(&self) -> Entries {
        self.entries.clone()
    }
}

/// How many messages and timers a relay sent to each ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sent {
    pub(crate) messages: Vec<u64>,
    pub(crate) timers: Vec<u64>,
}

/// Sends stored messages and timers to ledgers.
#[derive(Debug, Default, Entity, Serialize, Deserialize)]
#[entity(durable)]
pub(crate) struct Relay {
    sent: Sent,
}

fn next(counts: &mut Vec<u64>, of: u64) -> u64 {
    let of = usize::try_from(of).expect("few ledgers");
    if counts.len() <= of {
        counts.resize(of + 1, 0);
    }
    counts[of] += 1;
    counts[of]
}

#[handlers]
impl Relay {
    /// Sends this many messages to a ledger.
    pub async fn send(&mut self, ledger: u64, count: u64, ctx: &mut Ctx<Self>) {
        for _ in 0..count {
            let number = next(&mut self.sent.messages, ledger);
            let to = ctx.entity::<Ledger>(ledger);
            let told = to.tell(ctx.id().to_string(), number);
            told.cast().await.expect("it becomes part of the commit");
        }
    }

    /// Sends a message to a ledger later.
    pub async fn ring_later(&mut self, ledger: u64, ms: u64, ctx: &mut Ctx<Self>) {
        let number = next(&mut self.sent.timers, ledger);
        let to = ctx.entity::<Ledger>(ledger);
        let ring = to.ring(ctx.id().to_string(), number);
        let later = ring.after(Duration::from_millis(ms)).await;
        later.expect("it becomes part of the commit");
    }

    pub fn sent(&self) -> Sent {
        self.sent.clone()
    }
}

/// Writes into one ledger, waits, writes into another; or fails there and undoes.
#[derive(Clone, Debug, Default, Workflow, Serialize, Deserialize)]
#[workflow(output = u64)]
pub(crate) struct Transfer {
    pub(crate) id: String,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) wait_ms: u64,
    pub(crate) fails: bool,
}

impl Run for Transfer {
    async fn run(&self, saga: &mut Saga) -> Result<u64> {
        let (id, from) = (&self.id, self.from);
        saga.step("first", |step| async move {
            step.entity::<Ledger>(from).step(id.clone(), 1, false).await
        })
        .compensate(|(), step| async move {
            step.entity::<Ledger>(from).step(id.clone(), 1, true).await
        })
        .await?;
        saga.sleep(Duration::from_millis(self.wait_ms)).await;
        saga.step("second", |step| async move {
            if self.fails {
                return Err(Failure::fatal("no", "the second ledger is closed"));
            }
            let to = step.entity::<Ledger>(self.to);
            to.step(id.clone(), 2, false).await.map_err(Failure::from)
        })
        .await?;
        Ok(2)
    }
}
