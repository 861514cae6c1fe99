//! Stored messages on their way: from a commit or the poll to their activation, from a failed
//! handler back to SQL or to the dead letters.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::sync::oneshot;

use super::{Hosting, Role, reading::Looks};
use crate::{
    codec::Codec,
    entity::{ATTEMPTS_MAX, EventHandler},
    error::Refusal,
    id::{EntityId, ShardId},
    mailbox::{Announcement, Effect, MailboxRow, StoredMessage},
    store::{
        StoreError, dead_letters,
        lane::{Item, Verdict, Write},
        mailbox::{self, Stored},
    },
    timers::{HORIZON, TIMERS_MAX},
    topic::Position,
};

/// Rows fetched by one poll statement.
const POLL_ROWS: u32 = 1024;

/// Statements of one poll; the next poll goes on where it ended.
const POLL_PAGES: usize = 8;

/// Polls that go on where another ended are so much closer together, +-20 %: what waits behind a
/// backlog is found soon, and the backlog does not take the machine.
const POLLS_ON: u32 = 10;

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
            keyed: false,
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

    /// Stores what is sent outside any handler; returns an announcement's position.
    pub async fn commit_effect(self: &Arc<Self>, mut effect: Effect) -> Result<Position, Refusal> {
        let (kind, id) = effect.target();
        match self.route(kind, id).cloned() {
            Some(router) => {
                if let Effect::Send(message) = &mut effect {
                    // It may arrive again after it ran and its row is gone: only a reply row tells.
                    message.keyed = true;
                }
                router.commit(effect).await
            }
            None => self.commit_here(effect).await,
        }
    }

    /// Stores what is sent outside any handler, as the owner of its target's shard.
    ///
    /// # Errors
    /// `Unavailable` if it is not the owner; what the store answers otherwise.
    pub async fn commit_here(self: &Arc<Self>, effect: Effect) -> Result<Position, Refusal> {
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
        match self.commit(shard, writes).await? {
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
        let activation = self.next_activation();
        self.lanes().submit(Item {
            shard,
            epoch,
            activation,
            sequence: 1,
            writes,
            done: Box::new(move |verdict| drop(sender.send(verdict))),
        });
        let verdict = receiver.await;
        self.lanes().forget(activation);
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
        let now = self.store.now_ms();
        let mut stored_before = Vec::new();
        for (write, message) in sends {
            match numbers.iter().find(|(index, _)| *index == write) {
                Some((_, seq)) => self.accept_row(message.stored(*seq, now), since),
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

    /// An activation became idle: rows that found no room are tried again.
    pub(crate) fn became_idle(&self) {
        if self.held.load(Ordering::Relaxed) && self.held.swap(false, Ordering::Relaxed) {
            self.room.notify_one();
        }
    }

    /// Counts a stored message's failure; says whether that was one too many and it is buried.
    pub async fn row_failed(&self, shard: ShardId, seq: i64, attempts: u32, error: &str) -> bool {
        let attempts = attempts + 1;
        let last = attempts >= ATTEMPTS_MAX;
        let counted = vec![mailbox::record_failure(seq, attempts, error)];
        let mut outcome = self.commit(shard, counted).await;
        if last && matches!(outcome, Ok(Verdict::Committed(_))) {
            // After the count, which the dead letter copies.
            let buried = dead_letters::bury(seq, error).into();
            outcome = self.commit(shard, buried).await;
        }
        match outcome {
            Ok(Verdict::Committed(_)) if last => {
                metrics::counter!("actor_dead_letters_total", "what" => "message").increment(1);
                true
            }
            // An earlier burial of unknown end was stored: the row is gone.
            Ok(Verdict::Conflict { .. }) if last => true,
            Ok(Verdict::Committed(_)) => false,
            other => {
                tracing::warn!(seq, ?other, "a failure could not be counted");
                false
            }
        }
    }

    /// Counts that a suspect row is about to run; says whether that is stored.
    pub async fn count_attempt(&self, shard: ShardId, seq: i64) -> bool {
        let counted = self.commit(shard, vec![mailbox::count_attempt(seq)]).await;
        matches!(counted, Ok(Verdict::Committed(_)))
    }

    /// Moves a stored message to the dead letters.
    pub fn bury_row(self: &Arc<Self>, shard: ShardId, seq: i64, error: &str) {
        let (hosting, error) = (self.clone(), error.to_owned());
        self.spawn(async move { hosting.bury(shard, seq, &error).await });
    }

    async fn bury(&self, shard: ShardId, seq: i64, error: &str) {
        tracing::warn!(seq, error, "a stored message goes to the dead letters");
        let buried = dead_letters::bury(seq, error).into();
        match self.commit(shard, buried).await {
            Ok(Verdict::Committed(_)) => {
                metrics::counter!("actor_dead_letters_total", "what" => "message").increment(1);
            }
            // Whoever read it at the same time was faster.
            Ok(Verdict::Conflict { .. }) => {}
            other => tracing::warn!(seq, ?other, "a dead letter could not be written"),
        }
    }

    /// Deletes a stored message that is done or expired.
    pub fn drop_row(self: &Arc<Self>, shard: ShardId, seq: i64) {
        let hosting = self.clone();
        self.spawn(async move {
            let dropped = hosting.commit(shard, vec![mailbox::delete(seq)]).await;
            if !matches!(
                dropped,
                Ok(Verdict::Committed(_) | Verdict::Conflict { .. })
            ) {
                tracing::warn!(seq, ?dropped, "a finished message could not be deleted");
            }
        });
    }

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
            for row in rows {
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
                match MailboxRow::read(row) {
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
        for row in rows.await? {
            self.accept_stored(row);
        }
        Ok(())
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
