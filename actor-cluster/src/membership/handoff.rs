//! Gives shards away, a few at a time, so that none is without an owner for long.
//!
//! Not here: which ones ([`crate::shard`]), and what it means for what runs in them
//! ([`actor_core::hosting`]).

use std::{cmp::Reverse, time::Duration};

use actor_core::{
    clock::{Clock, Instant},
    id::{Epoch, ShardId},
    store::{StoreError, ownership},
};
use tokio::task::JoinSet;

use super::task::Member;
use crate::{node::cluster::What, transport::Note};

/// How many shards begin to move at once. Their callers wait until all of them have ended here, are
/// released in one transaction and taken in another: with more they would wait longer, with fewer
/// the whole would take longer.
const WAVE: usize = 8;

/// After how long the next ones begin even if some handler still runs.
const WAVE_WITHIN: Duration = Duration::from_millis(250);

/// How long an activation that was cut off may take to be gone.
const CUT_OFF_WITHIN: Duration = Duration::from_secs(1);

/// Shards on their way out.
#[derive(Debug)]
struct Leaving {
    /// Those that serve until their turn comes; the last is next.
    waiting: Vec<ShardId>,
    /// Those that take nothing new and in which something may run still, sorted.
    moving: Vec<ShardId>,
    /// Those in which nothing runs any more, until they are released.
    empty: Vec<ShardId>,
    /// Each waits until everything of some shards is stored, releases them and returns them,
    /// sorted.
    releases: JoinSet<Result<Vec<ShardId>, StoreError>>,
    /// When the next ones begin.
    next: Instant,
}

impl Leaving {
    /// Returns shards of which the last one leaves first.
    fn of(waiting: Vec<ShardId>, now: Instant) -> Self {
        Self {
            waiting,
            moving: Vec::new(),
            empty: Vec::new(),
            releases: JoinSet::new(),
            next: now,
        }
    }

    /// Returns the shards that begin to move now.
    fn wave(&mut self, now: Instant) -> Vec<ShardId> {
        let is_under_way = !self.moving.is_empty() || !self.empty.is_empty();
        if is_under_way && now < self.next {
            return Vec::new();
        }
        self.next = now + WAVE_WITHIN;
        let rest = self.waiting.len().saturating_sub(WAVE);
        self.begin(rest)
    }

    /// Lets all but the first `rest` that wait begin to move; returns them, sorted.
    fn begin(&mut self, rest: usize) -> Vec<ShardId> {
        let mut wave = self.waiting.split_off(rest);
        wave.sort_unstable();
        self.moving.extend(&wave);
        self.moving.sort_unstable();
        wave
    }

    /// Notes that nothing runs in these any more, sorted.
    fn emptied(&mut self, empty: &[ShardId]) {
        self.moving
            .retain(|shard| empty.binary_search(shard).is_err());
        self.empty.extend(empty);
    }

    /// Notes that these have left, sorted.
    fn left(&mut self, gone: &[ShardId]) {
        self.empty
            .retain(|shard| gone.binary_search(shard).is_err());
    }

    fn is_over(&self) -> bool {
        self.waiting.is_empty() && self.moving.is_empty() && self.empty.is_empty()
    }
}

impl Member {
    /// Hands shards over in waves, each shard as soon as nothing runs in it any more and all of it
    /// is stored, at the latest after `within`.
    pub(super) async fn give_up(
        &self,
        mut lost: Vec<ShardId>,
        within: Duration,
    ) -> Result<(), StoreError> {
        // What a handoff that failed left half-way goes first: its callers wait already.
        let shards = self.hosting.shards();
        lost.sort_unstable_by_key(|shard| Reverse((shards.serves(*shard), *shard)));
        let started = Clock.now();
        let mut leaving = Leaving::of(lost, started);
        let deadline = started + within;
        while !leaving.is_over() {
            let now = Clock.now();
            if now >= deadline {
                return self.cut_off(leaving, started).await;
            }
            let wave = leaving.wave(now);
            self.hosting.retire(&wave);
            let until = match leaving.waiting.is_empty() {
                true => deadline,
                false => deadline.min(leaving.next),
            };
            self.move_on(&mut leaving, started, until).await?;
        }
        Ok(())
    }

    /// Waits until something has left, or begins to be released because nothing runs in it any
    /// more, at the latest until then.
    async fn move_on(
        &self,
        leaving: &mut Leaving,
        started: Instant,
        until: Instant,
    ) -> Result<(), StoreError> {
        // All arms only wait: a release goes on in its own task, however long its commits take,
        // and what is empty stays so.
        tokio::select! {
            biased;
            Some(released) = leaving.releases.join_next() => {
                // One that panicked, a bug, stays where it is until its time is over.
                if let Ok(released) = released {
                    leaving.left(&released?);
                }
            }
            empty = self.hosting.emptied(&leaving.moving) => {
                leaving.emptied(&empty);
                let member = self.clone();
                let release = async move { member.release_empty(empty, started).await };
                leaving.releases.spawn(release);
            }
            () = Clock.sleep_until(until) => {}
        }
        Ok(())
    }

    /// Releases shards in which nothing runs any more, once everything is stored.
    async fn release_empty(
        self,
        empty: Vec<ShardId>,
        started: Instant,
    ) -> Result<Vec<ShardId>, StoreError> {
        let vacated = self.hosting.vacate(&empty).await;
        metrics::counter!("actor_handoffs_total").increment(empty.len() as u64);
        let took = Clock.now().saturating_duration_since(started);
        metrics::histogram!("actor_handoff_duration").record(took.as_secs_f64());
        let owned = |(shard, epoch): (ShardId, Option<Epoch>)| Some((shard, epoch?));
        self.release(vacated.into_iter().filter_map(owned).collect())
            .await?;
        Ok(empty)
    }

    /// Ends whatever still runs; what does not end then is fenced.
    async fn cut_off(&self, mut leaving: Leaving, started: Instant) -> Result<(), StoreError> {
        let wave = leaving.begin(0);
        self.hosting.retire(&wave);
        if !leaving.moving.is_empty() {
            tracing::warn!(
                shards = leaving.moving.len(),
                "what runs in moving shards is cut off"
            );
        }
        self.hosting.cut_off(&leaving.moving);
        let deadline = Clock.now() + CUT_OFF_WITHIN;
        while !leaving.is_over() && Clock.now() < deadline {
            self.move_on(&mut leaving, started, deadline).await?;
        }
        let mut lost = leaving.moving;
        lost.extend(leaving.empty);
        if !lost.is_empty() {
            tracing::error!(
                ?lost,
                "activations or their commits do not end: their shards go, they are fenced"
            );
            let shards = self.hosting.shards();
            let owned = lost.iter().filter_map(|it| Some((*it, shards.epoch(*it)?)));
            let owned = owned.collect();
            for shard in &lost {
                shards.revoke(*shard);
            }
            self.release(owned).await?;
        }
        Ok(())
    }

    /// Lets others take these shards, as far as they are this node's under these epochs.
    pub(super) async fn release(&self, shards: Vec<(ShardId, Epoch)>) -> Result<(), StoreError> {
        let (node, life) = (self.node().clone(), self.incarnation());
        let released = self.hosting.store().write("release shards", move |c| {
            Box::pin(async move { ownership::release(c, &shards, &node, life).await })
        });
        let shards = usize::try_from(released.await?).unwrap_or(usize::MAX);
        if shards > 0 {
            self.changes.note(What::GaveUp { shards });
        }
        if let Some(peers) = &self.peers {
            peers.tell_all(&Note::Released);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shards(numbers: std::ops::Range<u32>) -> Vec<ShardId> {
        numbers.map(ShardId).collect()
    }

    #[test]
    fn shards_leave_in_waves_and_one_that_is_stuck_holds_nobody_up_for_long() {
        let start = Clock.now();
        let mut leaving = Leaving::of(shards(0..20).into_iter().rev().collect(), start);

        assert_eq!(leaving.wave(start), shards(0..8));
        assert_eq!(leaving.wave(start), [], "it has just begun");
        leaving.emptied(&shards(0..7));
        leaving.left(&shards(0..7));
        assert_eq!(leaving.wave(start), [], "one is stuck");
        assert_eq!(leaving.wave(start + WAVE_WITHIN), shards(8..16));
        assert_eq!(leaving.moving, shards(7..16));
        leaving.emptied(&shards(7..16));
        assert_eq!(leaving.wave(start + WAVE_WITHIN), [], "not stored yet");
        leaving.left(&shards(7..16));
        assert_eq!(leaving.wave(start + WAVE_WITHIN), shards(16..20));
        leaving.emptied(&shards(16..20));
        assert!(!leaving.is_over());
        leaving.left(&shards(16..20));
        assert_eq!(leaving.wave(start + WAVE_WITHIN), [], "all have left");
        assert!(leaving.is_over());
    }
}
