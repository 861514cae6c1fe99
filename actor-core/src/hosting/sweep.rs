//! Housekeeping: expired rows leave, and nothing due may be left behind (architecture D16, D17).

use std::{sync::Arc, time::Duration};

use super::Hosting;
use crate::{
    id::EntityId,
    store::{
        StoreError, dead_letters, mailbox, replies,
        tables::{self, TableHealth},
        topics::{self, EVENTS_KEPT},
    },
};

/// The time between two sweeps.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// How long a message may be due before it counts as stuck.
pub const STUCK_AFTER: Duration = Duration::from_secs(30);

/// How long dead letters are kept.
const DEAD_LETTERS_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Rows deleted by one transaction, so that no commit waits long.
const PRUNE_ROWS: u32 = 1000;

/// Rows looked at for being stuck, without their arguments; what waits behind all these is looked
/// at once they are fewer.
pub const STUCK_ROWS: u32 = 100_000;

/// Where an overdue message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Queued, running, or waiting for the pause after a failure to end.
    Memory,
    /// Held until its kind is hosted here.
    NotHosted,
    /// Held until no former owner of its shard can run it any more.
    FormerOwner,
    /// Held until there is room for its activation.
    NoRoom,
    /// Nobody will run it: it is stuck.
    Nowhere,
}

/// Tells the metrics how healthy the tables are.
fn publish_tables(tables: TableHealth) {
    let oldest = tables.oldest_snapshot.as_secs_f64();
    metrics::gauge!("actor_oldest_xmin_age_seconds").set(oldest);
    for (table, rows) in tables.dead_rows {
        metrics::gauge!("actor_dead_rows", "table" => table).set(rows as f64);
    }
}

impl Hosting {
    /// Sweeps until the node stops.
    pub(super) async fn keep_sweeping(self: Arc<Self>) {
        loop {
            self.clock.sleep(self.rng.jitter(SWEEP_EVERY, 20)).await;
            if let Err(error) = self.sweep().await {
                tracing::warn!(%error, "the sweep failed");
            }
        }
    }

    /// Deletes what expired, queues again what is stuck, and counts it.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn sweep(self: &Arc<Self>) -> Result<usize, StoreError> {
        self.prune().await?;
        for hosted in self.kinds.values() {
            hosted.clone().sweep(self).await?;
        }
        let stuck = self.stuck().await?;
        metrics::gauge!("actor_stuck", "what" => "message").set(stuck as f64);
        if stuck > 0 {
            tracing::error!(stuck, "due messages were neither queued nor running");
            // Ready ones and timers: what is in memory already stays as it is.
            self.poll(0).await?;
            self.refill().await?;
        }
        Ok(stuck)
    }

    /// Returns how many messages of this node's shards are due for more than 30 s and neither in
    /// memory nor held for a reason that has a name, among the first 100 000 that are.
    ///
    /// Also tells the metrics how much waits, and how much is held: because its kind is not hosted
    /// here, because a former owner may still run it, or because there is no room for one more
    /// activation; and, on PostgreSQL, how healthy the tables are.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn stuck(&self) -> Result<usize, StoreError> {
        let shards = self.owned();
        let rows = self.store.read("stuck messages", move |connection| {
            Box::pin(async move {
                let backlog = mailbox::backlog(connection).await?;
                let rows = mailbox::overdue(connection, &shards, STUCK_AFTER, STUCK_ROWS).await?;
                let tables = tables::health(connection).await?;
                Ok((backlog, rows, tables))
            })
        });
        let (backlog, rows, tables) = rows.await?;
        if let Some(tables) = tables {
            publish_tables(tables);
        }
        metrics::gauge!("actor_backlog", "what" => "message").set(backlog.due as f64);
        metrics::gauge!("actor_backlog_age_seconds", "what" => "message")
            .set(backlog.age.as_secs_f64());
        let full = self.is_full();
        let places: Vec<_> = rows.iter().map(|row| self.place(row, full)).collect();
        let count = |place: Place| places.iter().filter(|it| **it == place).count();
        for (place, why) in [
            (Place::NotHosted, "kind_not_hosted"),
            (Place::FormerOwner, "former_owner"),
            (Place::NoRoom, "residency"),
        ] {
            metrics::gauge!("actor_held", "why" => why).set(count(place) as f64);
        }
        Ok(count(Place::Nowhere))
    }

    /// Says where an overdue message is.
    fn place(&self, row: &mailbox::Overdue, full: bool) -> Place {
        let hosted = match &row.target {
            Some((kind, id)) => match self.kinds.get(kind.as_str()) {
                None => return Place::NotHosted,
                Some(_) if self.is_held(kind, self.shard_of(kind, id)) => {
                    return Place::FormerOwner;
                }
                Some(hosted) => hosted.holds(&EntityId::from(id.as_str()), row.seq),
            },
            // One that cannot be read should have been buried long ago.
            None => false,
        };
        match (hosted, full) {
            (true, _) => Place::Memory,
            (false, true) => Place::NoRoom,
            (false, false) => Place::Nowhere,
        }
    }

    async fn prune(&self) -> Result<(), StoreError> {
        loop {
            let deleted = self.store.write("prune", |connection| {
                Box::pin(async move {
                    let replies = replies::delete_expired(connection, PRUNE_ROWS).await?;
                    let dead =
                        dead_letters::prune(connection, DEAD_LETTERS_KEPT, PRUNE_ROWS).await?;
                    Ok(replies.max(dead))
                })
            });
            if deleted.await? < u64::from(PRUNE_ROWS) {
                break;
            }
        }
        loop {
            let trimmed = self.store.write("trim topics", |connection| {
                Box::pin(topics::trim_all(connection, EVENTS_KEPT, PRUNE_ROWS))
            });
            if trimmed.await? < u64::from(PRUNE_ROWS) {
                return Ok(());
            }
        }
    }
}
