//! What a message stores; `verdict.rs` has what happens when the lane has answered.
//!
//! One commit per message (architecture D5): the state if its bytes changed, the reply row if the
//! call has an identity, what the handler sent, and the end of the mailbox row it came from. Only
//! then the reply leaves. Nothing here waits: the lane calls back.

use std::{sync::Arc, time::Duration};

use super::{
    Encoded, Handlers, STATE_BYTES_MAX,
    delivery::{Delivery, too_large, unwritable},
    directory::Directory,
    host::{Activation, LEASE_OVER},
    slot::Settled,
    snapshot,
    verdict::{Pending, run_again},
};
use crate::{
    caught::caught_now,
    clock::Instant,
    codec::Codec,
    error::Refusal,
    mailbox::Effect,
    meter::CallOutcome,
    store::{
        Value,
        entities::{self, State},
        lane::{Item, Write},
        mailbox,
        replies::{self, Reply},
    },
};

/// A message in whose handling user code panicked, and what it said. Rare, so it is boxed.
pub(super) type Crash<K> = Box<(Delivery<K>, String)>;

impl<K: Handlers> Activation<K> {
    /// A handler returned: decides what is stored and hands it to the lane, or answers at once.
    /// Gives the message back with a text if what writes its state or outcome down panicked.
    pub(super) fn finish(
        &mut self,
        mut delivery: Delivery<K>,
        outcome: K::Outcome,
        mut effects: Vec<Effect>,
        ended: Instant,
    ) -> Option<Crash<K>> {
        let ok = K::is_ok(&outcome);
        if !ok {
            effects.clear();
        }
        let encoded = match self.encoded_reply(&mut delivery, &outcome) {
            Ok(encoded) => encoded,
            Err(refusal) => return self.undo(delivery, refusal),
        };
        let Some(durable) = &K::DURABLE else {
            self.finish_volatile(delivery, outcome, encoded, ended);
            return None;
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
        None
    }

    /// Accepts `bytes` as the entity's state and returns the write that stores it.
    fn state_write(&mut self, shape: u32, bytes: Vec<u8>) -> Write {
        let (base, state) = (self.version, Arc::<[u8]>::from(bytes));
        self.version += 1;
        self.accepted = state.clone();
        self.resident.resize(state.len());
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
        delivery: &mut Delivery<K>,
        outcome: &K::Outcome,
    ) -> Result<Option<Encoded>, Refusal> {
        if delivery.identity().is_none() {
            delivery.reply.write_down(outcome)?;
            return Ok(None);
        }
        let encoded = K::encode_outcome(outcome, Codec::Msgpack).map_err(unwritable)?;
        too_large(&encoded)?;
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
                    keep: identity.recall.keeps(K::OPTIONS.key_retention),
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
            since: self.lane_activation,
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
                let why = Refusal::Unavailable(LEASE_OVER.into());
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

    /// Answers for a volatile entity. Invariant: a reply leaves only while the lease holds, by the
    /// time at which the handler `ended`.
    fn finish_volatile(
        &mut self,
        delivery: Delivery<K>,
        outcome: K::Outcome,
        encoded: Option<Encoded>,
        ended: Instant,
    ) {
        if delivery.row().is_some() {
            return self.submit(delivery, outcome, encoded, Vec::new(), Vec::new());
        }
        if !self.hosting.shards().lease_holds(ended) {
            // It ran, and what it did may be done again by the next owner's entity.
            return self.refuse(delivery, Refusal::UnknownOutcome(LEASE_OVER.into()));
        }
        count(&self.directory, &delivery, &outcome);
        if delivery.number.is_multiple_of(SAMPLE) {
            timed::<K>(delivery.method, self.hosting.now() - self.began);
        }
        self.slot.settle(delivery, Settled::Done(outcome, encoded));
    }

    /// Ends a message that ran but must leave no trace; gives it back if that is for a panic.
    fn undo(&mut self, delivery: Delivery<K>, refusal: Refusal) -> Option<Crash<K>> {
        if let Refusal::Crashed(panic) = refusal {
            return Some(Box::new((delivery, panic.into())));
        }
        if K::DURABLE.is_some() && K::METHODS[delivery.method].writes {
            self.restore();
        }
        match delivery.row() {
            // Nobody waits for a stored message: it is failed for good, and kept as a dead letter.
            Some(_) => self.bury(&delivery, &refusal.to_string()),
            None => self.refuse(delivery, refusal),
        }
        None
    }

    /// Puts the state back to what it was after the last accepted message, committed or in flight.
    fn restore(&mut self) {
        let durable = K::DURABLE.as_ref().expect("only durable entities restore");
        self.entity = if self.version == 0 {
            caught_now(K::create).ok()
        } else {
            (durable.load)(&self.accepted).ok()
        };
        if self.entity.is_none() {
            self.slot.lock().books.stale = true;
        }
    }
}

pub(super) fn count<K: Handlers>(
    directory: &Directory<K>,
    delivery: &Delivery<K>,
    outcome: &K::Outcome,
) {
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
pub(super) fn timed<K: Handlers>(method: usize, took: Duration) {
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
