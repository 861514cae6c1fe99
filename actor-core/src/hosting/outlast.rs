//! Waiting until no former owner of a shard can run anything in it any more (architecture D3).
//!
//! A node that was declared dead may live, without knowing, for the rest of its lease. What must
//! never run at two nodes at once begins after that: singletons, and kinds with
//! `takeover = "lease"`. The row of the shard says until when, in the database's time; what is left
//! of it is counted here on the monotonic clock, so that no two clocks are compared.
//!
//! Not here: how the row comes to say so ([`store::ownership`](crate::store::ownership)), and what
//! is known of each shard ([`Shards`](crate::shards::Shards)).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::Hosting;
use crate::{
    clock::Instant,
    entity::Takeover,
    error::Refusal,
    id::{Epoch, ShardId},
    shards::Tenure,
    store::{StoreError, ownership},
};

/// The pause before the database is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The shards whose former owners may still run, and until when this node does nothing about it.
type Waits = BTreeMap<(ShardId, Tenure), Wait>;

/// What comes after a wait.
#[derive(Clone, Copy, Debug)]
enum Wait {
    /// The database is asked, again.
    Ask(Instant),
    /// Former owners are gone. The database has said for how long that takes, once: its clock may
    /// step meanwhile.
    Over(Instant),
}

impl Wait {
    fn until(self) -> Instant {
        match self {
            Self::Ask(until) | Self::Over(until) => until,
        }
    }
}

impl Hosting {
    /// Says whether entities of `kind` may be active in `shard` here: it is served, and no former
    /// owner can run them, if the kind asks for that.
    pub(crate) fn opens(&self, kind: &str, shard: ShardId) -> bool {
        self.shards.serves(shard) && !self.is_held(kind, shard)
    }

    /// Says whether the kind waits for the lease of a former owner of `shard`.
    pub(crate) fn is_held(&self, kind: &str, shard: ShardId) -> bool {
        // Nearly always the answer, and without a look at the kind.
        if self.shards.is_outlasted(shard) {
            return false;
        }
        let hosted = self.kinds.get(kind);
        hosted.is_some_and(|hosted| hosted.takeover() == Takeover::Lease)
    }

    /// Returns the epoch under which an entity of `kind` may be activated in `shard`.
    ///
    /// # Errors
    /// As [`Hosting::admits`], and `Unavailable` while a former owner may run it.
    pub fn admits_kind(&self, kind: &str, shard: ShardId) -> Result<Epoch, Refusal> {
        let epoch = self.admits(shard)?;
        if !self.is_held(kind, shard) {
            return Ok(epoch);
        }
        let why = format!("a former owner of shard {shard} may still run `{kind}`");
        Err(Refusal::Unavailable(why.into()))
    }

    /// Finds out when former owners are outlasted, until the node stops.
    pub(super) async fn keep_outlasting(self: Arc<Self>) {
        let mut waits = Waits::new();
        loop {
            // Before the look, so that nothing between look and wait is lost.
            let seen = self.shards.news().version();
            if let Err(error) = self.outlast(&mut waits).await {
                tracing::warn!(%error, "what waited for former owners is found by the next poll");
            }
            let next = waits.values().map(|wait| wait.until()).min();
            // Both arms only wait.
            tokio::select! {
                biased;
                () = self.shards.news().after(seen) => {}
                () = async { self.clock.sleep_until(next.unwrap_or(self.now())).await },
                    if next.is_some() => {}
            }
        }
    }

    /// Asks the database about shards that are new or whose wait should be over.
    async fn outlast(self: &Arc<Self>, waits: &mut Waits) -> Result<(), StoreError> {
        let (open, now) = (self.shards.to_outlast(), self.now());
        waits.retain(|known, _| open.binary_search(known).is_ok());
        let mut outlasted = Vec::new();
        let mut asked = Vec::new();
        for (shard, tenure) in open {
            match waits.get(&(shard, tenure)) {
                Some(wait) if wait.until() > now => {}
                Some(Wait::Over(_)) => {
                    outlasted.extend(self.shards.outlast(shard, tenure).then_some(shard));
                }
                Some(Wait::Ask(_)) | None => asked.push((shard, tenure)),
            }
        }
        // Also if the answer is lost, or a row does not say yet, or no more, that a shard is ours.
        waits.extend(asked.iter().map(|wait| (*wait, Wait::Ask(now + ASK_AGAIN))));
        if !asked.is_empty() {
            let left = self.quiet(asked.iter().map(|(shard, _)| *shard).collect());
            let left = left.await.unwrap_or_else(|error| {
                tracing::warn!(%error, "whether former owners are gone is asked again");
                Vec::new()
            });
            for (shard, tenure) in asked {
                match left.iter().find(|(row, _)| *row == shard) {
                    Some((_, left)) if left.is_zero() => {
                        outlasted.extend(self.shards.outlast(shard, tenure).then_some(shard));
                    }
                    Some((_, left)) => {
                        waits.insert((shard, tenure), Wait::Over(self.now() + *left));
                    }
                    None => {}
                }
            }
        }
        let mut kinds = self.kinds.values();
        if !outlasted.is_empty() && kinds.any(|hosted| hosted.takeover() == Takeover::Lease) {
            // What waits for the kind there was read when the shard was won, in vain.
            outlasted.sort_unstable();
            self.read_waiting(outlasted).await?;
        }
        Ok(())
    }

    async fn quiet(&self, shards: Vec<ShardId>) -> Result<Vec<(ShardId, Duration)>, StoreError> {
        let (node, life) = (self.shards.node().clone(), self.shards.incarnation());
        let read = self.store.read("quiet shards", move |c| {
            Box::pin(async move { ownership::quiet(c, &shards, &node, life).await })
        });
        read.await
    }
}
