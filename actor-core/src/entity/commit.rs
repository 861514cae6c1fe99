//! What a message stores, and what happens when the lane has answered.
//!
//! One commit per message (architecture D5): the state if its bytes changed, the reply row if the
//! call has an identity, what the handler sent, and the end of the mailbox row it came from. Only
//! then the reply leaves. Nothing here waits: the lane calls back.

use std::{sync::Arc, time::Duration};

use super::{
    Encoded, Handlers, STATE_BYTES_MAX,
    delivery::{Delivery, unwritable},
    directory::Directory,
    host::{Activation, from_row},
    slot::{Settled, Shared},
    snapshot::{self, Unknown},
};
use crate::{
    clock::Instant,
    codec::Codec,
    error::Refusal,
    hosting::Hosting,
    mailbox::{Effect, MailboxRow, StoredMessage},
    meter::CallOutcome,
    store::{
        StoreError, Value,
        entities::{self, Place, State, StateRow},
        lane::{Item, Verdict, Write},
        mailbox,
        replies::{self, Reply},
    },
};

/// Rows of one entity fetched at a time.
const ROWS: u32 = 512;

/// Attempts after which a stored message goes to the dead letters.
pub(crate) const ATTEMPTS_MAX: u32 = 10;

/// A message whose item is with the lane.
struct Pending<K: Handlers> {
    hosting: Arc<Hosting>,
    directory: Arc<Directory<K>>,
    slot: Shared<K>,
    delivery: Delivery<K>,
    outcome: K::Outcome,
    encoded: Option<Encoded>,
    sequence: u64,
    bytes: usize,
    began: Instant,
    reply_write: Option<usize>,
    /// Messages this one sends, with the index of their write.
    sends: Vec<(usize, StoredMessage)>,
}

impl<K: Handlers> Activation<K> {
    /// A handler returned: decides what is stored and hands it to the lane, or answers at once.
    pub(super) fn finish(&mut self, delivery: Delivery<K>, outcome: K::Outcome) {
        let ok = K::is_ok(&outcome);
        let effects = if ok {
            self.ctx.take_effects()
        } else {
            Vec::new()
        };
        let encoded = match self.encoded_reply(&delivery, &outcome) {
            Ok(encoded) => encoded,
            Err(refusal) => return self.undo(delivery, refusal),
        };
        let Some(durable) = &K::DURABLE else {
            return self.finish_volatile(delivery, outcome, encoded);
        };
        let mut writes = Vec::new();
        if K::METHODS[delivery.method].writes {
            if ok {
                let entity = self.entity.as_ref().expect("it just ran");
                match snapshot::save(durable, entity, &self.unknown) {
                    Ok(bytes) if bytes.len() > STATE_BYTES_MAX => {
                        let size = format!("the state has {} bytes", bytes.len());
                        return self.undo(delivery, Refusal::TooLarge(size.into()));
                    }
                    Ok(bytes) if self.version > 0 && bytes == *self.accepted => {}
                    Ok(bytes) => {
                        warn_if_large(K::KIND, bytes.len());
                        writes.push(self.state_write(durable.version, bytes));
                    }
                    Err(error) => return self.undo(delivery, unwritable(error)),
                }
            } else {
                self.restore();
            }
        }
        self.submit(delivery, outcome, encoded, writes, effects);
    }

    /// Accepts `bytes` as the entity's state and returns the write that stores it.
    fn state_write(&mut self, shape: u32, bytes: Vec<u8>) -> Write {
        let (base, state) = (self.version, Arc::<[u8]>::from(bytes));
        self.version += 1;
        self.accepted = state.clone();
        entities::store(
            &self.place,
            State {
                version: self.version,
                base,
                shape,
                state,
            },
        )
    }

    /// Writes the outcome down if anybody may ask for it again.
    fn encoded_reply(
        &self,
        delivery: &Delivery<K>,
        outcome: &K::Outcome,
    ) -> Result<Option<Encoded>, Refusal> {
        if delivery.identity().is_none() {
            return Ok(None);
        }
        let encoded = K::encode_outcome(outcome, Codec::Msgpack).map_err(unwritable)?;
        if encoded.bytes.len() > STATE_BYTES_MAX {
            let size = format!("the reply has {} bytes", encoded.bytes.len());
            return Err(Refusal::TooLarge(size.into()));
        }
        Ok(Some(encoded))
    }

    fn submit(
        &mut self,
        delivery: Delivery<K>,
        outcome: K::Outcome,
        encoded: Option<Encoded>,
        mut writes: Vec<Write>,
        effects: Vec<Effect>,
    ) {
        let mut reply_write = None;
        let answered_by_row = K::METHODS[delivery.method].writes || delivery.row().is_some();
        if let (Some(identity), Some(encoded), true) = (
            delivery.identity(),
            &encoded,
            answered_by_row || !effects.is_empty(),
        ) {
            reply_write = Some(writes.len());
            writes.push(replies::store(
                &self.place,
                Reply {
                    id: identity.id,
                    hash: identity.hash,
                    ok: encoded.ok,
                    outcome: encoded.bytes.as_slice().into(),
                    keep: identity.keep,
                },
            ));
        }
        if let Some(row) = delivery.row() {
            writes.push(mailbox::delete(row.seq));
        }
        let sends = self.hosting.effect_writes(effects, &mut writes);
        if writes.is_empty() {
            return self.answer_after_commits(delivery, outcome, encoded);
        }
        let bytes = writes.iter().map(size).sum();
        let sequence = self.slot.lock().submitted(bytes);
        let pending = Pending {
            hosting: self.hosting.clone(),
            directory: self.directory.clone(),
            slot: self.slot.clone(),
            delivery,
            outcome,
            encoded,
            sequence,
            bytes,
            began: self.began,
            reply_write,
            sends,
        };
        let (shard, epoch) = (self.slot.shard, self.epoch);
        self.hosting.lanes().submit(Item {
            shard,
            epoch,
            activation: self.lane_activation,
            sequence,
            writes,
            done: Box::new(move |verdict| pending.settle(verdict)),
        });
    }

    /// A message that stores nothing is answered when all earlier commits of its entity are done,
    /// so that nobody sees a state that may still vanish.
    fn answer_after_commits(
        &mut self,
        delivery: Delivery<K>,
        outcome: K::Outcome,
        encoded: Option<Encoded>,
    ) {
        let (slot, hosting, directory) = (
            self.slot.clone(),
            self.hosting.clone(),
            self.directory.clone(),
        );
        let reply = Box::new(move |committed: Result<(), ()>| {
            if committed.is_err() {
                return run_again(&slot, delivery, "an earlier commit failed");
            }
            if !hosting.shards().lease_holds(hosting.now()) {
                let why = Refusal::Unavailable("the node's lease ran out".into());
                return slot.settle(delivery, Settled::Refused(why));
            }
            count(&directory, &delivery, &outcome);
            slot.settle(delivery, Settled::Done(outcome, encoded));
        });
        let at_once = self.slot.lock().after_commits(reply);
        if let Some(reply) = at_once {
            reply(Ok(()));
        }
    }

    fn finish_volatile(
        &mut self,
        delivery: Delivery<K>,
        outcome: K::Outcome,
        encoded: Option<Encoded>,
    ) {
        if delivery.row().is_some() {
            return self.submit(delivery, outcome, encoded, Vec::new(), Vec::new());
        }
        count(&self.directory, &delivery, &outcome);
        if delivery.number.is_multiple_of(SAMPLE) {
            timed::<K>(delivery.method, self.hosting.now() - self.began);
        }
        self.slot.settle(delivery, Settled::Done(outcome, encoded));
    }

    /// Ends a message that ran but must leave no trace.
    fn undo(&mut self, delivery: Delivery<K>, refusal: Refusal) {
        if K::DURABLE.is_some() && K::METHODS[delivery.method].writes {
            self.restore();
        }
        match delivery.row() {
            // Nobody waits for a stored message: it is failed for good, and kept as a dead letter.
            Some(_) => self.bury(&delivery, &refusal.to_string()),
            None => self.refuse(delivery, refusal),
        }
    }

    /// Puts the state back to what it was after the last accepted message, committed or in flight.
    fn restore(&mut self) {
        let durable = K::DURABLE.as_ref().expect("only durable entities restore");
        self.entity = if self.version == 0 {
            Some(K::create())
        } else {
            (durable.load)(&self.accepted).ok()
        };
        if self.entity.is_none() {
            self.slot.lock().books.stale = true;
        }
    }

    /// Reads state and rows; everything earlier was answered by the lane.
    pub(super) async fn load(&mut self) {
        if K::DURABLE.is_none() && !self.slot.lock().books.rows_behind {
            self.entity.get_or_insert_with(K::create);
            self.slot.lock().loaded(Vec::new(), false);
            return;
        }
        self.hosting.lanes().forget(self.lane_activation);
        self.hosting.lanes().settled(self.slot.shard).await;
        match self.hosting.epoch(self.slot.shard) {
            Ok(epoch) => self.epoch = epoch,
            Err(_) => return drop(self.slot.close()),
        }
        self.lane_activation = self.hosting.next_activation();
        let (place, after) = (self.place.clone(), self.slot.lock().books.last_row);
        let read = self.hosting.store().read("load entity", move |connection| {
            Box::pin(async move {
                let row = match K::DURABLE {
                    Some(_) => entities::load(connection, &place).await?,
                    None => None,
                };
                let rows = mailbox::of_entity(connection, &place, after, ROWS).await?;
                Ok((row, rows))
            })
        });
        match read.await {
            Ok((row, rows)) => self.loaded(row, rows).await,
            Err(error) => self.load_failed(&error),
        }
    }

    async fn loaded(&mut self, row: Option<StateRow>, stored: Vec<mailbox::Message>) {
        if let Some(durable) = &K::DURABLE {
            let state = match &row {
                None => Ok((K::create(), Unknown::default())),
                Some(row) if row.shape > durable.version => Err(format!(
                    "it has version {}, this program knows {}",
                    row.shape, durable.version
                )),
                Some(row) => snapshot::load(durable, &row.state).map_err(|error| error.to_string()),
            };
            match state {
                Ok((state, unknown)) => {
                    self.entity = Some(state);
                    self.unknown = unknown;
                    self.version = row.as_ref().map_or(0, |row| row.version);
                    self.accepted = row.map_or_else(Arc::default, |row| row.state.into());
                }
                Err(why) => return self.unreadable(&why, stored).await,
            }
        } else {
            self.entity.get_or_insert_with(K::create);
        }
        let more = stored.len() == ROWS as usize;
        let mut rows = Vec::with_capacity(stored.len());
        for message in stored {
            let seq = message.seq;
            let read = MailboxRow::read(message)
                .map_err(|error| error.to_string())
                .and_then(|row| {
                    from_row::<K>(&self.hosting, &row).map_err(|refusal| refusal.to_string())
                });
            match read {
                Ok(delivery) => rows.push((delivery, seq)),
                Err(why) => self.hosting.bury_row(self.slot.shard, seq, &why),
            }
        }
        self.slot.lock().loaded(rows, more);
    }

    fn load_failed(&mut self, error: &StoreError) {
        tracing::warn!(entity = %self.slot.key, %error, "the entity could not be loaded");
        self.back_off();
    }

    /// The stored state cannot be read: its calls end, its rows are counted, nothing else suffers.
    async fn unreadable(&mut self, why: &str, stored: Vec<mailbox::Message>) {
        let text = format!(
            "the stored state of {} cannot be read: {why}",
            self.slot.key
        );
        tracing::error!(entity = %self.slot.key, why, "a stored state cannot be read");
        for row in stored {
            self.hosting
                .row_failed(self.slot.shard, row.seq, row.attempts, &text)
                .await;
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
        if row.expired {
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
            // It is read again after the pause, in its old place.
            let mut inner = self.slot.lock();
            inner.forget_identity(delivery);
            inner.drop_rows();
            drop(inner);
            self.back_off();
            return false;
        }
        true
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

    fn bury(&mut self, delivery: &Delivery<K>, error: &str) {
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

impl<K: Handlers> Pending<K> {
    /// The lane has answered.
    fn settle(self, verdict: Verdict) {
        let committed = matches!(verdict, Verdict::Committed(_));
        let (slot, sequence, bytes) = (self.slot.clone(), self.sequence, self.bytes);
        match verdict {
            Verdict::Committed(numbers) => self.committed(&numbers),
            Verdict::Conflict { write } if Some(write) == self.reply_write => self.already_done(),
            Verdict::Conflict { .. } => self.again("the stored state is newer than expected"),
            Verdict::Fenced => self.again("the shard moved to another owner"),
            Verdict::Refused => self.again("an earlier commit of the entity failed"),
            Verdict::Unclear(error) => self.unclear(&error),
            Verdict::Failed(error) => self.failed(&error),
        }
        let released = slot.lock().answered(sequence, bytes, committed);
        for reply in released {
            reply(if committed { Ok(()) } else { Err(()) });
        }
    }

    fn committed(self, numbers: &[(usize, i64)]) {
        for (write, message) in self.sends {
            if let Some((_, seq)) = numbers.iter().find(|(index, _)| *index == write) {
                let now = self.hosting.store().now_ms();
                self.hosting.accept_row(message.stored(*seq, now));
            }
        }
        if let Some(row) = self.delivery.row() {
            self.slot.lock().row_done(row.seq);
        }
        count(&self.directory, &self.delivery, &self.outcome);
        timed::<K>(self.delivery.method, self.hosting.now() - self.began);
        self.slot
            .settle(self.delivery, Settled::Done(self.outcome, self.encoded));
    }

    /// An earlier run of the same call was stored: its outcome is the answer, this run's is
    /// dropped.
    fn already_done(self) {
        let Some(identity) = self.delivery.identity() else {
            return;
        };
        if let Some(row) = self.delivery.row() {
            self.slot.lock().row_done(row.seq);
            self.hosting.drop_row(self.slot.shard, row.seq);
        }
        let (hosting, slot, delivery) = (self.hosting.clone(), self.slot, self.delivery);
        let place = Place::new(&slot.key, slot.shard);
        self.hosting.spawn(async move {
            let read = hosting.store().read("stored reply", move |connection| {
                Box::pin(async move { replies::find(connection, &place, identity.id).await })
            });
            let settled = match read.await {
                Ok(Some(stored)) if stored.hash != identity.hash => {
                    Settled::Refused(Refusal::KeyReused)
                }
                Ok(Some(stored)) => Settled::Stored(Encoded {
                    ok: stored.ok,
                    bytes: stored.outcome,
                }),
                // It expired between the two statements, or the store is in trouble: ask again.
                Ok(None) => Settled::Refused(Refusal::Unavailable("the reply expired".into())),
                Err(error) => Settled::Refused(error.refusal()),
            };
            slot.settle(delivery, settled);
        });
    }

    fn again(self, why: &str) {
        run_again(&self.slot, self.delivery, why);
    }

    /// Nobody knows whether it was stored. A call with an identity asks again under it; rows are
    /// read again; an unkeyed call of this process cannot know.
    fn unclear(self, error: &StoreError) {
        if self.delivery.row().is_some() || self.delivery.identity().is_some() {
            return run_again(&self.slot, self.delivery, "the commit's end is unknown");
        }
        self.directory
            .meter
            .call(self.delivery.method, CallOutcome::Refused);
        let why = Refusal::UnknownOutcome(format!("the commit's end is unknown: {error}").into());
        self.slot.settle(self.delivery, Settled::Refused(why));
    }

    fn failed(self, error: &StoreError) {
        if self.delivery.row().is_some() {
            return run_again(&self.slot, self.delivery, "the store refused it");
        }
        self.directory
            .meter
            .call(self.delivery.method, CallOutcome::Refused);
        self.slot
            .settle(self.delivery, Settled::Refused(error.refusal()));
    }
}

/// Runs a message again after the reload; one that cannot be run again is answered.
fn run_again<K: Handlers>(slot: &Shared<K>, mut delivery: Delivery<K>, why: &str) {
    if delivery.row().is_some() {
        // The store has it, in order with what came after it.
        let mut inner = slot.lock();
        inner.forget_identity(&delivery);
        inner.drop_rows();
    } else if delivery.rearm() && !slot.lock().closed {
        slot.lock().redo(delivery);
    } else {
        slot.settle(delivery, Settled::Refused(Refusal::Unavailable(why.into())));
    }
}

fn count<K: Handlers>(directory: &Directory<K>, delivery: &Delivery<K>, outcome: &K::Outcome) {
    let column = if K::is_ok(outcome) {
        CallOutcome::Ok
    } else {
        CallOutcome::Rejected
    };
    directory.meter.call(delivery.method, column);
}

/// One in so many calls of volatile entities is timed: timing costs as much as a short handler.
const SAMPLE: u64 = 64;

/// Records how long a call took from its start to its answer.
fn timed<K: Handlers>(method: usize, took: Duration) {
    let method = K::METHODS[method].name;
    metrics::histogram!("actor_call_duration", "kind" => K::KIND, "method" => method)
        .record(took.as_secs_f64());
}

/// Returns about how many bytes a write holds in memory until its commit.
fn size(write: &Write) -> usize {
    match write {
        Write::Row { values, .. } => values.iter().map(Value::size).sum(),
        Write::Event { data, .. } => data.len(),
    }
}

/// States above this cost noticeably: each message writes the whole state.
const STATE_BYTES_LARGE: usize = 64 * 1024;

fn warn_if_large(kind: &'static str, bytes: usize) {
    if bytes > STATE_BYTES_LARGE {
        crate::telemetry::once(kind, || {
            tracing::warn!(
                kind,
                bytes,
                "a state is large: every message writes all of it"
            );
        });
    }
}
