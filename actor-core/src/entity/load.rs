//! Reading an entity and its stored messages, and what becomes of messages that fail.

use std::sync::Arc;

use super::{
    Handlers,
    books::Unread,
    delivery::Delivery,
    host::{Activation, GONE, from_row},
    snapshot::{self, Unknown},
    verdict::remembered,
};
use crate::{
    caught::caught_now,
    error::Refusal,
    mailbox::MailboxRow,
    store::{
        StoreError, StoreErrorKind,
        entities::{self, StateRow},
        mailbox::{self, Stored},
    },
};

/// Attempts after which a stored message goes to the dead letters.
pub(crate) const ATTEMPTS_MAX: u32 = 10;

impl<K: Handlers> Activation<K> {
    /// Reads state and rows; everything earlier was answered by the lane.
    pub(super) async fn load(&mut self) {
        if K::DURABLE.is_none() && !self.slot.lock().books.has_unread() {
            match self.begin() {
                Ok(()) => self.slot.lock().loaded(Vec::new(), false, None),
                Err(why) => self.unreadable(&why, Vec::new()).await,
            }
            return;
        }
        self.hosting.lanes().forget(self.lane_activation);
        self.hosting.lanes().settled(self.slot.shard).await;
        let epoch = match self.hosting.epoch(self.slot.shard) {
            Ok(epoch) => epoch,
            Err(refusal) => return self.send_away(&refusal),
        };
        // Rows that somebody else stored are no news about the state: nobody but this writes it.
        let known = self.entity.is_some() && self.epoch == epoch && !self.slot.lock().books.stale;
        self.epoch = epoch;
        self.lane_activation = self.hosting.next_activation();
        let place = self.place.clone();
        let Unread {
            after,
            most,
            timers,
            waits_from,
        } = self.slot.lock().unread(self.lane_activation);
        let asked = timers.clone();
        let read = self.hosting.store().read("load entity", move |connection| {
            Box::pin(async move {
                let row = match K::DURABLE {
                    Some(_) if !known => readable(entities::load(connection, &place).await)?,
                    _ => Ok(None),
                };
                let rows = mailbox::of_entity(connection, &place, after, most).await?;
                let timers = mailbox::numbered(connection, &timers).await?;
                Ok((row, rows, timers))
            })
        });
        match read.await {
            Ok((row, rows, timers)) => {
                let more = rows.len() == most as usize;
                let rows = [timers, rows].concat();
                if known {
                    self.take_in(rows, more, waits_from);
                } else {
                    self.loaded(row, rows, more, waits_from).await;
                }
            }
            Err(error) => {
                let mut inner = self.slot.lock();
                inner.books.again.extend(asked);
                inner.books.waits_from = waits_from.or(inner.books.waits_from);
                drop(inner);
                self.load_failed(&error);
            }
        }
    }

    async fn loaded(
        &mut self,
        row: Result<Option<StateRow>, String>,
        stored: Vec<Stored>,
        more: bool,
        waits_from: Option<u64>,
    ) {
        let row = match row {
            Ok(row) => row,
            Err(why) => return self.unreadable(&stored_state(&why), stored).await,
        };
        if let Some(durable) = &K::DURABLE {
            let state = match &row {
                None => created().map(|state| (state, Unknown::default())),
                Some(row) if row.shape > durable.version => {
                    return self.too_old(row.shape, durable.version);
                }
                Some(row) => match snapshot::load(durable, &row.state) {
                    // What an older version had and this one does not was taken out on purpose.
                    Ok((state, _)) if row.shape < durable.version => {
                        Ok((state, Unknown::default()))
                    }
                    loaded => loaded.map_err(|error| stored_state(&error.to_string())),
                },
            };
            match state {
                Ok((state, unknown)) => {
                    self.entity = Some(state);
                    self.unknown = unknown;
                    self.version = row.as_ref().map_or(0, |row| row.version);
                    self.accepted = row.map_or_else(Arc::default, |row| row.state.into());
                    self.resident.resize(self.accepted.len());
                }
                Err(why) => return self.unreadable(&why, stored).await,
            }
        } else if let Err(why) = self.begin() {
            return self.unreadable(&why, stored).await;
        }
        self.take_in(stored, more, waits_from);
    }

    /// Makes a volatile entity, unless there is one.
    fn begin(&mut self) -> Result<(), String> {
        if self.entity.is_none() {
            self.entity = Some(created()?);
        }
        Ok(())
    }

    /// Queues stored messages; one that cannot be read is buried.
    fn take_in(&self, stored: Vec<Stored>, more: bool, waits_from: Option<u64>) {
        let (mut rows, now) = (Vec::with_capacity(stored.len()), self.hosting.now());
        for message in stored {
            let seq = message.as_ref().map_or_else(|row| row.seq, |row| row.seq);
            let read = message
                .map_err(|unreadable| unreadable.why)
                .and_then(|row| MailboxRow::read(row, now).map_err(|error| error.to_string()))
                .and_then(|row| {
                    from_row::<K>(&self.hosting, &row).map_err(|refusal| refusal.to_string())
                });
            match read {
                Ok(delivery) => rows.push((delivery, seq)),
                Err(why) => self.hosting.bury_row(self.slot.shard, seq, &why),
            }
        }
        self.slot.lock().loaded(rows, more, waits_from);
    }

    fn load_failed(&mut self, error: &StoreError) {
        tracing::warn!(entity = %self.slot.key, %error, "the entity could not be loaded");
        self.back_off();
    }

    /// A newer program wrote the state: its calls and rows wait for a node that can read it
    /// (architecture D12).
    fn too_old(&mut self, stored: u32, known: u32) {
        self.hosting.decline(self.slot.shard);
        let why = format!(
            "the state of {} has version {stored}, this program knows {known}",
            self.slot.key
        );
        self.send_away(&Refusal::Unavailable(why.into()));
    }

    /// Ends the activation before anything ran in it. Rows stay where they are; whoever made a call
    /// sends it on.
    fn send_away(&self, why: &Refusal) {
        for delivery in self.slot.close() {
            self.refuse(delivery, why.clone());
        }
    }

    /// The entity cannot be in memory: its calls end, its rows are counted, nothing else suffers.
    async fn unreadable(&mut self, why: &str, stored: Vec<Stored>) {
        let text = format!("{}: {why}", self.slot.key);
        tracing::error!(entity = %self.slot.key, why, "an entity cannot be activated");
        let shard = self.slot.shard;
        // Those handed on in memory, such as timers, may not be among those that were read.
        let mut failed = self.slot.lock().queued_rows();
        for row in stored {
            match row {
                Ok(row) => {
                    failed.insert(row.seq, row.attempts);
                }
                Err(row) => self.hosting.bury_row(shard, row.seq, &row.why),
            }
        }
        for (seq, attempts) in failed {
            self.hosting.row_failed(shard, seq, attempts, &text).await;
        }
        for delivery in self.slot.close() {
            self.refuse(delivery, Refusal::Crashed(text.as_str().into()));
        }
    }

    /// Says whether a stored message may run now; otherwise it has been dealt with.
    ///
    /// A suspect row is counted before it runs: if it kills the node, the next life knows, and one
    /// that did so too often does not run again.
    pub(super) async fn may_run_row(&mut self, delivery: &mut Delivery<K>) -> bool {
        let Some(row) = delivery.row() else {
            return true;
        };
        if row.expires.is_some_and(|at| at <= self.hosting.now()) {
            self.row_left(delivery, row.seq);
            self.hosting.drop_row(self.slot.shard, row.seq);
            return false;
        }
        if row.attempts > 0 {
            self.directory.meter.redelivery();
        }
        if row.suspect && row.attempts >= ATTEMPTS_MAX {
            let why = format!("its node died in each of {} attempts", row.attempts);
            self.bury(delivery, &why);
            return false;
        }
        if row.suspect && !self.hosting.count_attempt(self.slot.shard, row.seq).await {
            self.later(delivery);
            return false;
        }
        true
    }

    /// Leaves a stored message in the store: it is read again after a pause, in its old place.
    fn later(&self, delivery: &Delivery<K>) {
        let mut inner = self.slot.lock();
        inner.forget_identity(delivery);
        inner.read_again(delivery);
        inner.drop_rows();
        drop(inner);
        self.back_off();
    }

    /// Gives a message back unless an earlier run of it was stored, whose outcome is the answer.
    ///
    /// Invariant: what was done once is not begun again. The commit of a repeat is refused, and
    /// with it all that a plain `fn` does; but what an `async fn` asked others, perhaps other
    /// things than the first time, would stay.
    pub(super) async fn unless_done(&self, delivery: Delivery<K>) -> Option<Delivery<K>> {
        let identity = delivery.identity()?;
        match remembered(&self.hosting, &self.slot, identity).await {
            Ok(None) if self.may_go_on() => return Some(delivery),
            // The shard went meanwhile: whoever has it now decides.
            Ok(None) => self.refuse(delivery, Refusal::Unavailable(GONE.into())),
            Ok(Some(settled)) => {
                if let Some(row) = delivery.row() {
                    self.slot.lock().row_done(row.seq);
                    self.hosting.drop_row(self.slot.shard, row.seq);
                }
                self.slot.settle(delivery, settled);
            }
            Err(error) if delivery.row().is_some() => {
                tracing::warn!(entity = %self.slot.key, %error, "a message waits for the store");
                self.later(&delivery);
            }
            Err(error) => self.refuse(delivery, error.refusal()),
        }
        None
    }

    /// A stored message's handler failed: counts it and tries again later, or buries it.
    pub(super) async fn row_failed(&mut self, mut delivery: Delivery<K>, error: String) {
        let Some(row) = &mut delivery.rare().row else {
            return;
        };
        let (seq, attempts) = (row.seq, row.attempts);
        row.attempts += 1;
        if self
            .hosting
            .row_failed(self.slot.shard, seq, attempts, &error)
            .await
        {
            self.row_left(&delivery, seq);
        } else {
            // Back to the front: later messages of the same sender must not overtake it.
            self.slot.lock().put_back(delivery);
        }
    }

    pub(super) fn bury(&mut self, delivery: &Delivery<K>, error: &str) {
        if let Some(row) = delivery.row() {
            self.row_left(delivery, row.seq);
            self.hosting.bury_row(self.slot.shard, row.seq, error);
        }
    }

    /// Forgets a row that left without an outcome: one that is replayed may come back under its id.
    fn row_left(&self, delivery: &Delivery<K>, seq: i64) {
        let mut inner = self.slot.lock();
        inner.row_done(seq);
        inner.forget_identity(delivery);
    }
}

fn created<K: Handlers>() -> Result<K, String> {
    caught_now(K::create).map_err(|panic| format!("its `Default` panicked: {panic}"))
}

fn stored_state(why: &str) -> String {
    format!("the stored state cannot be read: {why}")
}

/// Tells a row that cannot be read from a store that does not answer: only the latter passes.
fn readable<T>(row: Result<T, StoreError>) -> Result<Result<T, String>, StoreError> {
    match row {
        Ok(row) => Ok(Ok(row)),
        Err(error) if error.kind() == StoreErrorKind::Unreadable => Ok(Err(error.to_string())),
        Err(error) => Err(error),
    }
}
