//! Stored messages on their way: from a commit or the poll to their activation, from a failed
//! handler back to SQL or to the dead letters.

use std::{sync::Arc, time::Duration};

use tokio::sync::oneshot;

use super::Hosting;
use crate::{
    codec::Codec,
    entity::ATTEMPTS_MAX,
    error::Refusal,
    id::EntityId,
    mailbox::{Announcement, Effect, MailboxRow, StoredMessage},
    store::{Item, StoreError, Verdict, Write, dead_letters, mailbox},
    timers::HORIZON,
    topic::Position,
};

/// Rows fetched by one poll statement.
const POLL_ROWS: usize = 1024;

/// The time between two polls, +-20 %. The poll is a safety net: commits wake owners at once.
const POLL_EVERY: Duration = Duration::from_secs(5);

/// The time between two refills of the timers.
const REFILL_EVERY: Duration = Duration::from_secs(20);

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
            writes.push(mailbox::insert(&message, shard, self.store.now_ms()));
        };
        for effect in effects {
            match effect {
                Effect::Send(message) => send(message, writes),
                Effect::Announce(announcement) => {
                    for message in self.to_subscribers(&announcement) {
                        send(message, writes);
                    }
                    writes.push(Write::event(announcement));
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
        let mut messages = Vec::new();
        for hosted in self.kinds.values() {
            let receives = |handler: &&crate::entity::EventHandler| *handler.event == *announcement.name;
            for handler in hosted.events().iter().filter(receives) {
                messages.push(StoredMessage {
                    kind: hosted.kind().into(),
                    id: EntityId::from(key),
                    message: self.call_ids.next(),
                    method: hosted.methods()[handler.method].name.into(),
                    codec: Codec::Json,
                    args: announcement.data.clone(),
                    request: None,
                    due_at: None,
                    expires_at: None,
                    keyed: false,
                });
            }
        }
        messages
    }

    /// Stores what is sent outside any handler; returns an announcement's position.
    pub async fn commit_effect(&self, effect: Effect) -> Result<Position, Refusal> {
        self.accepting()?;
        let (kind, id): (&str, &str) = match &effect {
            Effect::Send(message) => (&message.kind, message.id.as_str()),
            Effect::Announce(announcement) => ("topic", &announcement.topic),
        };
        let shard = self.shard_of(kind, id);
        let epoch = self.epoch(shard)?;
        let mut writes = Vec::new();
        let sends = self.effect_writes(vec![effect], &mut writes);
        let event = writes.iter().position(Write::is_event);
        let (sender, receiver) = oneshot::channel();
        self.lanes().submit(Item {
            shard,
            epoch,
            activation: self.next_activation(),
            sequence: 1,
            writes,
            done: Box::new(move |verdict| drop(sender.send(verdict))),
        });
        match receiver.await {
            Ok(Verdict::Committed(numbers)) => {
                let number =
                    |write: usize| numbers.iter().find(|(index, _)| *index == write).map(|n| n.1);
                for (write, message) in sends {
                    if let Some(seq) = number(write) {
                        self.accept_row(MailboxRow { seq, attempts: 0, message });
                    }
                }
                let offset = event.and_then(number).unwrap_or_default();
                Ok(Position { epoch: self.stream_epoch(), offset: offset.cast_unsigned() })
            }
            // The same message is stored already: that is what the sender wanted.
            Ok(Verdict::Conflict { .. }) => Ok(Position::default()),
            Ok(Verdict::Failed(error)) => Err(error.refusal()),
            Ok(Verdict::Unclear(error)) => {
                Err(Refusal::UnknownOutcome(format!("whether it is stored: {error}").into()))
            }
            Ok(Verdict::Fenced | Verdict::Refused) | Err(_) => {
                Err(Refusal::Unavailable(format!("shard {shard} changed its owner").into()))
            }
        }
    }

    /// Hands a stored message on: to its activation if it is due, to the timers if it soon will be.
    pub fn accept_row(self: &Arc<Self>, row: MailboxRow) {
        let now = self.store.now_ms();
        if let Some(due) = row.message.due_at.filter(|due| *due > now) {
            let remaining = Duration::from_millis((due - now).cast_unsigned());
            if remaining <= HORIZON {
                self.timers.add(self.clock, remaining, row);
            }
            return;
        }
        let Some(hosted) = self.kinds.get(&*row.message.kind) else {
            return; // Held until the kind is hosted here.
        };
        let delivered = hosted.clone().deliver(self, &row);
        if let Err(error @ (Refusal::Decode(_) | Refusal::NotHosted(_))) = delivered {
            self.bury_row(row.seq, &error.to_string());
        }
    }

    /// Counts a stored message's failure; says whether that was one too many and it is buried.
    pub async fn row_failed(&self, seq: i64, attempts: u32, error: &str) -> bool {
        let (last, error) = (attempts + 1 >= ATTEMPTS_MAX, error.to_owned());
        let now = self.store.now_ms();
        let written = self.store.write("count failure", move |connection| {
            Box::pin(async move {
                if last {
                    dead_letters::bury(connection, seq, &error, now).await
                } else {
                    mailbox::failed(connection, seq, &error).await
                }
            })
        });
        match written.await {
            Ok(_) if last => {
                metrics::counter!("actor_dead_letters_total", "what" => "message").increment(1);
                true
            }
            Ok(_) => false,
            Err(error) => {
                tracing::warn!(seq, %error, "a failure could not be counted");
                false
            }
        }
    }

    /// Counts that a suspect row is about to run.
    pub async fn count_attempt(&self, seq: i64) -> Result<(), StoreError> {
        let counted = self.store.write("count attempt", move |connection| {
            Box::pin(async move { mailbox::count_attempt(connection, seq).await })
        });
        counted.await.map(drop)
    }

    /// Moves a stored message to the dead letters.
    pub fn bury_row(self: &Arc<Self>, seq: i64, error: &str) {
        let (hosting, error, now) = (self.clone(), error.to_owned(), self.store.now_ms());
        tracing::warn!(seq, error, "a stored message goes to the dead letters");
        self.spawn(async move {
            let buried = hosting.store.write("bury message", move |connection| {
                Box::pin(async move { dead_letters::bury(connection, seq, &error, now).await })
            });
            match buried.await {
                Ok(_) => metrics::counter!("actor_dead_letters_total", "what" => "message").increment(1),
                Err(error) => tracing::warn!(seq, %error, "a dead letter could not be written"),
            }
        });
    }

    /// Deletes a stored message that is done or expired.
    pub fn drop_row(self: &Arc<Self>, seq: i64) {
        let hosting = self.clone();
        self.spawn(async move {
            let dropped = hosting.store.write("drop message", move |connection| {
                Box::pin(async move { mailbox::drop_row(connection, seq).await })
            });
            if let Err(error) = dropped.await {
                tracing::warn!(seq, %error, "a finished message could not be deleted");
            }
        });
    }

    /// Reads due rows that are not in memory and hands them on, until none is left.
    pub async fn poll(self: &Arc<Self>) -> Result<(), StoreError> {
        let mut after = 0;
        loop {
            let now = self.store.now_ms();
            let rows = self.store.read("due messages", move |connection| {
                Box::pin(async move { mailbox::due(connection, now, after, POLL_ROWS).await })
            });
            let rows = rows.await?;
            let full = rows.len() == POLL_ROWS;
            for row in rows {
                after = row.seq;
                self.accept_row(row);
            }
            if !full {
                return Ok(());
            }
        }
    }

    /// Brings the timers of the next minute into memory.
    async fn refill(self: &Arc<Self>) -> Result<(), StoreError> {
        let now = self.store.now_ms();
        let until = now + i64::try_from(HORIZON.as_millis()).unwrap_or(i64::MAX);
        let rows = self.store.read("next timers", move |connection| {
            Box::pin(async move {
                mailbox::timers(connection, now, until, crate::timers::TIMERS_MAX).await
            })
        });
        for row in rows.await? {
            self.accept_row(row);
        }
        Ok(())
    }

    /// Polls until the node stops.
    pub(super) async fn keep_polling(self: Arc<Self>) {
        loop {
            if let Err(error) = self.poll().await {
                tracing::warn!(%error, "stored messages could not be read");
            }
            self.clock.sleep(self.rng.jitter(POLL_EVERY, 20)).await;
        }
    }

    /// Refills the timers until the node stops.
    pub(super) async fn keep_refilling(self: Arc<Self>) {
        loop {
            if let Err(error) = self.refill().await {
                tracing::warn!(%error, "timers could not be read");
            }
            self.clock.sleep(REFILL_EVERY).await;
        }
    }

    /// Fires timers until the node stops.
    pub(super) async fn keep_firing(self: Arc<Self>) {
        loop {
            let (late, row) = self.timers.next(self.clock).await;
            metrics::histogram!("actor_timer_lateness").record(late.as_secs_f64());
            self.accept_row(row);
        }
    }
}
