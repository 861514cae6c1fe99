//! Gives shards away, a few at a time, so that none is without an owner for long.
//!
//! Not here: which ones ([`crate::shard`]), and what it means for what runs in them
//! ([`actor_core::hosting`]).

use std::time::Duration;

use actor_core::{
    clock::{Clock, Instant},
    id::{Epoch, ShardId},
    store::{StoreError, ownership},
};

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
    /// Those that take nothing new, sorted.
    moving: Vec<ShardId>,
    /// When the next ones begin.
    next: Instant,
}

impl Leaving {
    /// Returns the shards that begin to move now.
    fn wave(&mut self, now: Instant) -> Vec<ShardId> {
        if !self.moving.is_empty() && now < self.next {
            return Vec::new();
        }
        self.next = now + WAVE_WITHIN;
        let rest = self.waiting.len().saturating_sub(WAVE);
        self.begin(rest)
    }

    /// Lets all but the first `rest` that wait begin to move; returns them, sorted.
    fn begin(&mut self, rest: usize) -> Vec<ShardId> {
        let mut wave = self.waiting.split_off(rest);
        wave.reverse();
        self.moving.extend(&wave);
        self.moving.sort_unstable();
        wave
    }

    fn left(&mut self, gone: &[ShardId]) {
        self.moving
            .retain(|shard| gone.binary_search(shard).is_err());
    }
}

impl Member {
    /// Gives every shard to whoever else may own it; what runs may go on for `within`. Who is the
    /// last one of a group serves its shards until the end, and what is left then is cut off.
    pub(crate) async fn give_up_all(&self, within: Duration) -> Result<(), StoreError> {
        self.give_up(self.inheritable().await?, within).await
    }

    /// Hands shards over in waves, each shard as soon as nothing runs in it any more, at the latest
    /// after `within`.
    pub(super) async fn give_up(
        &self,
        mut lost: Vec<ShardId>,
        within: Duration,
    ) -> Result<(), StoreError> {
        if lost.is_empty() {
            return Ok(());
        }
        lost.sort_unstable_by(|a, b| b.cmp(a));
        let started = Clock.now();
        let mut leaving = Leaving {
            waiting: lost,
            moving: Vec::new(),
            next: started,
        };
        let deadline = started + within;
        loop {
            let now = Clock.now();
            if now >= deadline {
                break;
            }
            let wave = leaving.wave(now);
            self.hosting.retire(&wave);
            if leaving.moving.is_empty() {
                return Ok(());
            }
            let until = match leaving.waiting.is_empty() {
                true => deadline,
                false => deadline.min(leaving.next),
            };
            self.release_vacated(&mut leaving, started, until).await?;
        }
        self.cut_off(leaving, started).await
    }

    /// Releases what is empty by `until`, which is waited for only if nothing is.
    async fn release_vacated(
        &self,
        leaving: &mut Leaving,
        started: Instant,
        until: Instant,
    ) -> Result<(), StoreError> {
        // Dropping the wait for one changes nothing that the next wait does not find.
        let empty = tokio::select! {
            biased;
            empty = self.hosting.vacated(&leaving.moving) => empty,
            () = Clock.sleep_until(until) => return Ok(()),
        };
        let gone: Vec<_> = empty.iter().map(|(shard, _)| *shard).collect();
        leaving.left(&gone);
        metrics::counter!("actor_handoffs_total").increment(empty.len() as u64);
        let took = Clock.now().saturating_duration_since(started);
        metrics::histogram!("actor_handoff_duration").record(took.as_secs_f64());
        let owned = |(shard, epoch): (ShardId, Option<Epoch>)| Some((shard, epoch?));
        self.release(empty.into_iter().filter_map(owned).collect())
            .await
    }

    /// Ends whatever still runs; what does not end then is fenced.
    async fn cut_off(&self, mut leaving: Leaving, started: Instant) -> Result<(), StoreError> {
        let wave = leaving.begin(0);
        self.hosting.retire(&wave);
        tracing::warn!(
            shards = leaving.moving.len(),
            "what runs in moving shards is cut off"
        );
        self.hosting.cut_off(&leaving.moving);
        let deadline = Clock.now() + CUT_OFF_WITHIN;
        while !leaving.moving.is_empty() && Clock.now() < deadline {
            self.release_vacated(&mut leaving, started, deadline)
                .await?;
        }
        let lost = leaving.moving;
        if !lost.is_empty() {
            tracing::error!(
                ?lost,
                "activations do not end: their shards go, they are fenced"
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

    async fn release(&self, shards: Vec<(ShardId, Epoch)>) -> Result<(), StoreError> {
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
        let mut leaving = Leaving {
            waiting: shards(0..20).into_iter().rev().collect(),
            moving: Vec::new(),
            next: start,
        };

        assert_eq!(leaving.wave(start), shards(0..8));
        assert_eq!(leaving.wave(start), [], "it has just begun");
        leaving.left(&shards(0..7));
        assert_eq!(leaving.wave(start), [], "one is stuck");
        assert_eq!(leaving.wave(start + WAVE_WITHIN), shards(8..16));
        assert_eq!(leaving.moving, shards(7..16));
        leaving.left(&shards(7..16));
        assert_eq!(leaving.wave(start + WAVE_WITHIN), shards(16..20));
        leaving.left(&shards(16..20));
        assert_eq!(leaving.wave(start + WAVE_WITHIN), [], "all have left");
    }
}
