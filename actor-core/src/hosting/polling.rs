//! What a node reads again and again: messages that are ready, and the timers of the next minute.
//!
//! A safety net for messages, which commits and peers announce; the only way for timers.

use std::{sync::Arc, time::Duration};

use super::{Hosting, Role};
use crate::{
    id::{EntityId, ShardId},
    mailbox::MailboxRow,
    store::{
        StoreError,
        mailbox::{self, Stored},
    },
    timers::{HORIZON, TIMERS_MAX},
};

/// Rows fetched by one poll statement.
const POLL_ROWS: u32 = 1024;

/// Statements of one poll; the next poll goes on where it ended.
const POLL_PAGES: usize = 8;

/// Rows that are handed on before others may run.
const ROWS_AT_ONCE: usize = 64;

/// Polls that go on where another ended are so much closer together, +-20 %: what waits behind a
/// backlog is found soon, and the backlog does not take the machine.
const POLLS_ON: u32 = 10;

/// The time between two polls, +-20 %. The poll is a safety net: commits wake owners at once.
const POLL_EVERY: Duration = Duration::from_secs(5);

/// The time between two refills of the timers.
const REFILL_EVERY: Duration = Duration::from_secs(20);

impl Hosting {
    /// Returns the shards whose messages this node runs.
    pub(super) fn owned(&self) -> Vec<ShardId> {
        let owned = self.shards.owned().into_iter();
        let serving = owned.filter(|(shard, _)| self.shards.serves(*shard));
        serving.map(|(shard, _)| shard).collect()
    }

    fn owned_of(&self, among: Option<&[ShardId]>) -> Vec<ShardId> {
        let mut shards = self.owned();
        if let Some(among) = among {
            shards.retain(|shard| among.binary_search(shard).is_ok());
        }
        shards
    }

    /// Reads ready rows after `after` and hands on those that are not in memory. Returns where the
    /// next poll goes on; 0 when all were seen.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn poll(self: &Arc<Self>, after: i64) -> Result<i64, StoreError> {
        self.read_ready(None, after).await
    }

    /// As [`Hosting::poll`], of these shards only, sorted, as far as they are owned still.
    pub(super) async fn read_ready(
        self: &Arc<Self>,
        among: Option<&[ShardId]>,
        mut after: i64,
    ) -> Result<i64, StoreError> {
        for _ in 0..POLL_PAGES {
            let shards = self.owned_of(among);
            let _look = self.looks.begin();
            let rows = self.store.read("ready messages", move |connection| {
                Box::pin(async move { mailbox::ready(connection, &shards, after, POLL_ROWS).await })
            });
            let rows = rows.await?;
            let full = rows.len() == POLL_ROWS as usize;
            for (index, row) in rows.into_iter().enumerate() {
                self.breathe(index).await;
                after = row.as_ref().map_or_else(|row| row.seq, |row| row.seq);
                self.accept_stored(row);
            }
            if !full {
                return Ok(0);
            }
        }
        Ok(after)
    }

    fn accept_stored(self: &Arc<Self>, row: Stored) {
        let known = |row: &mailbox::Message| (row.kind.clone(), row.entity.clone());
        let (seq, shard, target, why) = match row {
            Ok(row) => {
                let (seq, shard, target) = (row.seq, row.shard, known(&row));
                match MailboxRow::read(row, self.now()) {
                    Ok(mut row) => {
                        if self.looks.saw_fired(row.seq) {
                            row.due_in = Duration::ZERO;
                        }
                        return self.accept_row(row, 0);
                    }
                    Err(error) => (seq, Some(shard), Some(target), error.to_string()),
                }
            }
            Err(row) => (row.seq, row.shard, row.target, row.why),
        };
        let Some(shard) = shard else {
            // It was found by its shard, so this is not reached.
            return tracing::error!(seq, why, "a stored message has no shard");
        };
        let hosting = self.clone();
        self.spawn(async move {
            hosting.bury(shard, seq, &why).await;
            hosting.miss_row(target);
        });
    }

    /// A run's only row is gone: the run looks, and says that it is stuck.
    fn miss_row(self: &Arc<Self>, target: Option<(String, String)>) {
        let Some((kind, id)) = target else { return };
        let hosted = self.kinds.get(kind.as_str());
        if let Some(hosted) = hosted.filter(|hosted| hosted.role() == Role::Workflow) {
            // Without room for it now, whoever asks for the run next finds the same.
            drop(hosted.clone().ring(self, &EntityId::from(id.as_str())));
        }
    }

    /// Brings the timers of the next minute into memory.
    pub(super) async fn refill(self: &Arc<Self>) -> Result<(), StoreError> {
        self.fetch_timers(None, HORIZON).await
    }

    /// Brings the timers that are due within `horizon` into memory, of these shards, sorted, or of
    /// all.
    pub(super) async fn fetch_timers(
        self: &Arc<Self>,
        among: Option<&[ShardId]>,
        horizon: Duration,
    ) -> Result<(), StoreError> {
        let shards = self.owned_of(among);
        let _look = self.looks.begin();
        let rows = self.store.read("next timers", move |connection| {
            Box::pin(async move {
                mailbox::timers(connection, &shards, horizon, TIMERS_MAX as u32).await
            })
        });
        for (index, row) in rows.await?.into_iter().enumerate() {
            self.breathe(index).await;
            self.accept_stored(row);
        }
        Ok(())
    }

    /// Lets others run between two of many rows.
    async fn breathe(&self, index: usize) {
        if index % ROWS_AT_ONCE == ROWS_AT_ONCE - 1 {
            tokio::task::yield_now().await;
        }
    }

    /// Polls until the node stops.
    pub(super) async fn keep_polling(self: Arc<Self>) {
        let (mut after, mut first_pass) = (0, true);
        for round in (0..POLLS_ON).cycle() {
            match self.poll(after).await {
                Ok(next) => after = next,
                Err(error) => tracing::warn!(%error, "stored messages could not be read"),
            }
            // Those in memory fire at this moment, so they are few: what a lost note or a commit
            // of unknown end left behind. A backlog makes them due no more often.
            if (after == 0 || round == 0)
                && let Err(error) = self.fetch_timers(None, Duration::ZERO).await
            {
                tracing::warn!(%error, "due timers could not be read");
            }
            first_pass &= after > 0;
            if !first_pass {
                let pause = if after > 0 {
                    POLL_EVERY / POLLS_ON
                } else {
                    POLL_EVERY
                };
                tokio::select! {
                    biased;
                    // Both only wait; neither loses anything when dropped.
                    () = self.room.notified() => {}
                    () = self.clock.sleep(self.rng.jitter(pause, 20)) => {}
                }
            }
        }
    }

    /// Refills the timers until the node stops.
    pub(super) async fn keep_refilling(self: Arc<Self>) {
        loop {
            let mut pause = REFILL_EVERY;
            if let Err(error) = self.refill().await {
                tracing::warn!(%error, "timers could not be read");
                // The next look must not be as far away as after one that found everything.
                pause = self.rng.jitter(POLL_EVERY, 20);
            }
            tokio::select! {
                biased;
                // Both only wait; a timer that is announced meanwhile is found by the next look.
                () = self.sooner.notified() => {}
                () = self.clock.sleep(pause) => {}
            }
        }
    }

    /// Fires timers until the node stops.
    pub(super) async fn keep_firing(self: Arc<Self>) {
        loop {
            let (late, row) = self.timers.next(self.clock).await;
            metrics::histogram!("actor_timer_lateness").record(late.as_secs_f64());
            self.looks.fired(row.seq);
            self.accept_row(row, 0);
        }
    }
}
