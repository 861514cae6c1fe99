//! Stored messages on their way: from a commit or the poll to their activation, from a failed
//! handler back to SQL or to the dead letters.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::sync::oneshot;

use super::{Hosting, reading::Looks};
use crate::{
    clock::Instant,
    codec::Codec,
    entity::EventHandler,
    error::Refusal,
    id::{EntityId, ShardId},
    mailbox::{Announcement, Effect, MailboxRow, StoredMessage},
    recall::Recall,
    store::lane::{Item, NO_ACTIVATION, Verdict, Write},
    timers::HORIZON,
    topic::Position,
};

impl Hosting {
    /// Adds the writes of what a handler sends; returns the messages with their write's index.
    pub fn effect_writes(
        &self,
        effects: Vec<Effect>,
        writes: &mut Vec<Write>,
    ) -> Vec<(usize, StoredMessage)> {
        let mut sends = Vec::new();
        let mut send = |message: StoredMessage, writes: &mut Vec<Write>| {
            let shard = self.shard_of(&message.kind, message.id.as_str());
            sends.push((writes.len(), message.clone()));
            writes.push(message.write(shard));
        };
        for effect in effects {
            match effect {
                Effect::Send(message) => send(message, writes),
                Effect::Announce(announcement) => {
                    for message in self.to_subscribers(&announcement) {
                        send(message, writes);
                    }
                    writes.push(Write::Event {
                        topic: announcement.topic,
                        name: announcement.name,
                        key: announcement.key,
                        data: announcement.data,
                    });
                }
            }
        }
        sends
    }

    /// Returns a message for each entity that receives the event (`#[on]`).
    fn to_subscribers(&self, announcement: &Announcement) -> Vec<StoredMessage> {
        let Some(key) = announcement.key.as_deref().filter(|key| !key.is_empty()) else {
            return Vec::new();
        };
        let message = |kind: Arc<str>, method: Arc<str>| StoredMessage {
            kind,
            id: EntityId::from(key),
            message: self.call_ids.next(),
            method,
            codec: Codec::Json,
            args: announcement.data.clone(),
            request: None,
            due: None,
            expires: None,
            recall: None,
        };
        let mut messages = Vec::new();
        for hosted in self.kinds.values() {
            let receives = |handler: &&EventHandler| *handler.event == *announcement.name;
            for handler in hosted.events().iter().filter(receives) {
                let method = hosted.methods()[handler.method].name;
                messages.push(message(hosted.kind().into(), method.into()));
            }
        }
        // Other nodes may host kinds that this one does not, and say what those receive.
        for row in self.groups.catalog().kinds().values() {
            if !self.kinds.contains_key(&*row.kind) && row.receives.contains(&announcement.name) {
                let method = EventHandler::method_name(&announcement.name);
                messages.push(message(row.kind.clone(), method.into()));
            }
        }
        messages
    }

    /// Stores what is sent outside any handler, until `deadline`; returns the position of an
    /// announcement.
    pub async fn commit_effect(
        self: &Arc<Self>,
        mut effect: Effect,
        deadline: Instant,
    ) -> Result<Position, Refusal> {
        let (kind, id) = effect.target();
        match self.route(kind, id).cloned() {
            Some(router) => {
                if let Effect::Send(message) = &mut effect {
                    // It may arrive again after it ran and its row is gone: only a reply row tells.
                    message.recall.get_or_insert(Recall::Brief);
                }
                router.commit(effect, deadline).await
            }
            None => self.commit_here(effect, deadline).await,
        }
    }

    /// Stores what is sent outside any handler, as the owner of its target's shard.
    ///
    /// # Errors
    /// `Unavailable` if it is not the owner; `UnknownOutcome` if the store says nothing clear until
    /// `deadline`; what it answers otherwise.
    pub async fn commit_here(
        self: &Arc<Self>,
        effect: Effect,
        deadline: Instant,
    ) -> Result<Position, Refusal> {
        let (kind, id) = effect.target();
        let shard = self.shard_of(kind, id);
        let numbering = match &effect {
            Effect::Announce(announcement) => Some(self.topics.numbering(&announcement.topic)),
            Effect::Send(_) => None,
        };
        let mut writes = Vec::new();
        let sends = self.effect_writes(vec![effect], &mut writes);
        let event = writes
            .iter()
            .position(|write| matches!(write, Write::Event { .. }));
        // Dropping the first abandons its answer, not the commit.
        let verdict = tokio::select! {
            biased;
            verdict = self.commit(shard, writes) => verdict?,
            () = self.clock.sleep_until(deadline) => {
                self.look_again(&sends);
                let why = "the store did not say in time whether it is stored";
                return Err(Refusal::UnknownOutcome(why.into()));
            }
        };
        match verdict {
            Verdict::Committed(numbers) => {
                let event = numbers.iter().find(|(write, _)| Some(*write) == event);
                let offset = event.map_or(0, |(_, offset)| offset.cast_unsigned());
                self.sent(sends, &numbers, 0);
                let epoch = numbering.map_or(0, |numbering| numbering.epoch());
                Ok(Position { epoch, offset })
            }
            Verdict::Failed(error) => Err(error.refusal()),
            Verdict::Unclear(error) => {
                self.look_again(&sends);
                let why = format!("whether it is stored: {error}");
                Err(Refusal::UnknownOutcome(why.into()))
            }
            Verdict::Conflict { .. } | Verdict::Fenced | Verdict::Refused => Err(
                Refusal::Unavailable(format!("shard {shard} changed its owner").into()),
            ),
        }
    }

    /// Commits writes that belong to no activation and waits for the lane's answer.
    ///
    /// # Errors
    /// `Unavailable` if this node does not own the shard.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the answer, not the commit.
    pub async fn commit(&self, shard: ShardId, writes: Vec<Write>) -> Result<Verdict, Refusal> {
        let epoch = self.epoch(shard)?;
        let (sender, receiver) = oneshot::channel();
        self.lanes().submit(Item {
            shard,
            epoch,
            activation: NO_ACTIVATION,
            sequence: 1,
            writes,
            done: Box::new(move |verdict| drop(sender.send(verdict))),
        });
        let verdict = receiver.await;
        verdict.map_err(|_| Refusal::Unavailable("the node is stopping".into()))
    }

    /// Hands on what a commit stored; `numbers` has the number of each message by its write. One
    /// without a number was stored before, and its target may not know of it.
    ///
    /// `since` is as in [`accept_row`](Self::accept_row).
    pub(crate) fn sent(
        self: &Arc<Self>,
        sends: Vec<(usize, StoredMessage)>,
        numbers: &[(usize, i64)],
        since: u64,
    ) {
        let (now, now_ms) = (self.now(), self.store.now_ms());
        let mut stored_before = Vec::new();
        for (write, message) in sends {
            match numbers.iter().find(|(index, _)| *index == write) {
                Some((_, seq)) => self.accept_row(message.stored(*seq, now, now_ms), since),
                None => stored_before.push((write, message)),
            }
        }
        self.look_again(&stored_before);
    }

    /// Lets the targets of messages look for them, which may be stored without anybody knowing:
    /// what their sender stores next must not overtake them.
    pub fn look_again(self: &Arc<Self>, sends: &[(usize, StoredMessage)]) {
        let now = self.store.now_ms();
        for (_, message) in sends {
            let (kind, id, due_in) = (&message.kind, &message.id, message.due_in(now));
            match self.route(kind, id.as_str()) {
                Some(router) => router.wake(kind, id, due_in),
                None => self.ring(kind, id, due_in),
            }
        }
    }

    /// Hands a stored message on: to its activation if it is due, to the timers if it soon will be.
    ///
    /// `since` is when its sender was loaded, in the order of [`Hosting::next_activation`]; 0 if
    /// all that its sender stored before is known to have been handed on.
    pub fn accept_row(self: &Arc<Self>, row: MailboxRow, since: u64) {
        let message = &row.message;
        if let Some(router) = self.route(&message.kind, message.id.as_str()) {
            return router.wake(&message.kind, &message.id, row.due_in);
        }
        if row.due_in > HORIZON {
            return; // The refill brings it when its time is near.
        }
        if !row.due_in.is_zero() {
            return self.timers.add(self.clock, row.due_in, row);
        }
        let Some(hosted) = self.kinds.get(&*row.message.kind) else {
            return; // Held until the kind is hosted here.
        };
        match hosted.clone().deliver(self, &row, since) {
            Ok(()) => {}
            Err(error @ (Refusal::Decode(_) | Refusal::NotHosted(_))) => {
                let shard = self.shard_of(&row.message.kind, row.message.id.as_str());
                self.bury_row(shard, row.seq, &error.to_string());
            }
            Err(Refusal::Overloaded { retry_after }) if row.timer => {
                self.timers.add(self.clock, retry_after, row);
            }
            // Another node has it, or will; or it is read again when no former owner has it.
            Err(Refusal::Unavailable(_)) if !self.runs(&row) => {}
            // No room: it stays in SQL until an activation becomes idle.
            Err(_) => self.held.store(true, Ordering::Relaxed),
        }
    }

    /// Returns what is being read, and what is done meanwhile.
    pub(crate) fn looks(&self) -> &Looks {
        &self.looks
    }

    fn runs(&self, row: &MailboxRow) -> bool {
        let (kind, id) = (&row.message.kind, row.message.id.as_str());
        self.opens(kind, self.shard_of(kind, id))
    }

    /// A peer stored a message for an entity of this node: it is read in its place, or, if it is
    /// due later, with the timers. Wakes nobody if the shard is not this node's, or its former
    /// owner may still run the entity.
    pub fn ring(self: &Arc<Self>, kind: &str, id: &EntityId, due_in: Duration) {
        let shard = self.shard_of(kind, id.as_str());
        if due_in > HORIZON || self.admits_kind(kind, shard).is_err() {
            return;
        }
        if !due_in.is_zero() {
            return self.sooner.notify_one();
        }
        if let Some(hosted) = self.kinds.get(kind)
            && hosted.clone().ring(self, id).is_err()
        {
            // No room: it stays in SQL until an activation becomes idle.
            self.held.store(true, Ordering::Relaxed);
        }
    }
}
