//! What happens when the lane has answered: the reply leaves, or the message runs again.

use std::sync::Arc;

use super::{
    Encoded, Handlers,
    commit::{count, timed},
    delivery::{Delivery, Identity},
    directory::Directory,
    slot::{Settled, Shared, Slot},
};
use crate::{
    clock::Instant,
    error::Refusal,
    hosting::Hosting,
    mailbox::StoredMessage,
    meter::CallOutcome,
    store::{
        StoreError, StoreErrorKind,
        entities::Place,
        lane::Verdict,
        replies::{self, ReplyRow},
    },
};

/// Returns how a call ends that was answered before, as far as that is remembered.
pub(super) async fn remembered<K: Handlers>(
    hosting: &Hosting,
    slot: &Slot<K>,
    identity: Identity,
) -> Result<Option<Settled<K>>, StoreError> {
    let place = Place::new(&slot.key, slot.shard);
    let read = hosting.store().read("stored reply", move |connection| {
        Box::pin(async move { replies::find(connection, &place, identity.id).await })
    });
    let ended = |stored: ReplyRow| match stored.hash == identity.hash {
        true => Settled::Stored(Encoded {
            ok: stored.ok,
            bytes: stored.outcome,
        }),
        false => Settled::Refused(Refusal::KeyReused),
    };
    Ok(read.await?.map(ended))
}

/// A message whose item is with the lane.
pub(super) struct Pending<K: Handlers> {
    pub(super) hosting: Arc<Hosting>,
    pub(super) directory: Arc<Directory<K>>,
    pub(super) slot: Shared<K>,
    pub(super) delivery: Delivery<K>,
    pub(super) outcome: K::Outcome,
    pub(super) encoded: Option<Encoded>,
    pub(super) sequence: u64,
    pub(super) bytes: usize,
    pub(super) began: Instant,
    pub(super) reply_write: Option<usize>,
    /// Messages this one sends, with the index of their write.
    pub(super) sends: Vec<(usize, StoredMessage)>,
    /// When the sender was loaded.
    pub(super) since: u64,
}

impl<K: Handlers> Pending<K> {
    /// The lane has answered.
    pub(super) fn settle(self, verdict: Verdict) {
        let committed = matches!(verdict, Verdict::Committed(_));
        let (slot, sequence, bytes) = (self.slot.clone(), self.sequence, self.bytes);
        let (hosting, activation) = (self.hosting.clone(), self.since);
        match verdict {
            Verdict::Committed(numbers) => self.committed(&numbers),
            Verdict::Conflict { write } if Some(write) == self.reply_write => self.already_done(),
            Verdict::Conflict { .. } => self.again("the stored state is newer than expected"),
            Verdict::Fenced => self.again("the shard moved to another owner"),
            Verdict::Refused => self.again("an earlier commit of the entity failed"),
            Verdict::Unclear(error) => self.unclear(&error),
            Verdict::Failed(error) => self.failed(&error),
        }
        let mut inner = slot.lock();
        let released = inner.answered(sequence, bytes, committed);
        let over = inner.is_over();
        drop(inner);
        if over {
            hosting.lanes().forget(activation);
        }
        for reply in released {
            reply(if committed { Ok(()) } else { Err(()) });
        }
    }

    fn committed(self, numbers: &[(usize, i64)]) {
        self.hosting.sent(self.sends, numbers, self.since);
        if let Some(row) = self.delivery.row() {
            self.hosting.looks().done(row.seq);
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
        self.hosting.look_again(&self.sends);
        if let Some(row) = self.delivery.row() {
            self.slot.lock().row_done(row.seq);
            self.hosting.drop_row(self.slot.shard, row.seq);
        }
        let (hosting, slot, delivery) = (self.hosting.clone(), self.slot, self.delivery);
        self.hosting.spawn(async move {
            let settled = match remembered(&hosting, &slot, identity).await {
                Ok(Some(settled)) => settled,
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
        self.hosting.look_again(&self.sends);
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
        if let Some(row) = self.delivery.row() {
            self.slot.back_off(&self.hosting);
            if matches!(error.kind(), StoreErrorKind::Data | StoreErrorKind::Bug) {
                // It would be refused again and again: counted like a failure of the handler.
                let (hosting, shard, why) =
                    (self.hosting.clone(), self.slot.shard, error.to_string());
                self.hosting.spawn(async move {
                    let (seq, attempts) = (row.seq, row.attempts);
                    hosting.row_failed(shard, seq, attempts, &why).await;
                });
            }
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
pub(super) fn run_again<K: Handlers>(slot: &Shared<K>, mut delivery: Delivery<K>, why: &str) {
    tracing::debug!(entity = %slot.key, why, "a message runs again");
    if delivery.row().is_some() {
        // The store has it, in order with what came after it.
        let mut inner = slot.lock();
        inner.forget_identity(&delivery);
        inner.read_again(&delivery);
        inner.drop_rows();
    } else if delivery.rearm() && !slot.lock().closed {
        slot.lock().redo(delivery);
    } else {
        slot.settle(delivery, Settled::Refused(Refusal::Unavailable(why.into())));
    }
}
