//! Looks after messages in shards that nobody owns (architecture D16): a singleton of our own.
//!
//! Whoever should own such a shard takes it within a second or so; a message that is due there for
//! longer shows that nobody can. Not here: owned shards, which their owners sweep themselves
//! ([`Hosting::sweep`](actor_core::hosting::Hosting::sweep)).

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use actor_core::{
    Result, ShardId,
    hosting::{STUCK_AFTER, STUCK_ROWS},
    store::{
        StoreError, mailbox,
        nodes::{self, NodeRow},
        ownership::{self, ShardRow},
    },
};

use crate::{membership::task::Member, singleton::Singleton, transport::Note};

/// Its name.
pub(crate) const NAME: &str = "actor:sweeper";

/// The time between two looks, +-20 %.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// What the last look found; zero at every node but the sweeper's. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found(Arc<AtomicUsize>);

impl Found {
    /// Returns how many messages are stuck in shards that nobody owns.
    pub(crate) fn stuck(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Takes back what was found when the sweeper leaves: the next one looks for itself.
struct Term(Found);

impl Drop for Term {
    fn drop(&mut self) {
        self.0.0.store(0, Ordering::Relaxed);
    }
}

/// Looks once a minute until it has to end.
pub(crate) async fn sweep(singleton: Singleton, member: Member, found: Found) -> Result<()> {
    let term = Term(found);
    let pause = || singleton.hosting().rng().jitter(SWEEP_EVERY, 20);
    while singleton.pause(pause()).await {
        match look(&member).await {
            Ok(0) => term.0.0.store(0, Ordering::Relaxed),
            Ok(stuck) => {
                tracing::error!(stuck, "due messages lie in shards that nobody owns");
                term.0.0.store(stuck, Ordering::Relaxed);
                wake(&member);
            }
            Err(error) => tracing::warn!(%error, "shards without an owner are not swept"),
        }
    }
    Ok(())
}

/// Counts messages that are due for long in shards without an owner.
async fn look(member: &Member) -> Result<usize, StoreError> {
    let read = member.hosting.store().read("unowned messages", |c| {
        Box::pin(async move {
            let nodes = nodes::list(c).await?;
            let unowned = unowned(&nodes, &ownership::list(c).await?);
            if unowned.is_empty() {
                return Ok(0);
            }
            let rows = mailbox::overdue(c, &unowned, STUCK_AFTER, STUCK_ROWS).await?;
            Ok(rows.len())
        })
    });
    read.await
}

/// Returns the shards whose row names no life that holds a lease.
fn unowned(nodes: &[NodeRow], shards: &[ShardRow]) -> Vec<ShardId> {
    let holds = |shard: &&ShardRow| {
        !nodes.iter().any(|node| {
            let life = (&node.node, node.incarnation);
            let owner = shard.owner.as_ref().map(|(node, life)| (node, *life));
            owner == Some(life) && !node.lease_left.is_zero()
        })
    };
    shards.iter().filter(holds).map(|row| row.shard).collect()
}

/// Lets every node look at the map at once, this one too.
fn wake(member: &Member) {
    if let Some(peers) = &member.peers {
        peers.tell_all(&Note::Released);
        peers.desk.balance.notify_one();
    }
}
