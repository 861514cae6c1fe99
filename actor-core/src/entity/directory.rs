//! The activations of one kind on one node: finds or makes them, and speaks for the kind by name.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, DefaultHasher},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    time::Duration,
};

use tokio::sync::oneshot;
use xxhash_rust::xxh3::xxh3_64;

use super::{
    Encoded, Handlers, Takeover,
    delivery::{Delivery, Reply},
    host,
    slot::{Admission, Idle, RowAdmission, Shared, Slot},
};
use crate::{
    client::{Client, Invocation, Mode},
    clock::{Clock, Instant},
    codec::Codec,
    error::Refusal,
    hosting::{Hosted, Hosting, KindStats, Role, Target},
    id::{CallId, EntityId, EntityKey, ShardId},
    mailbox::MailboxRow,
    meter::Meter,
    wheel::Alarm,
};

/// Independent parts, so that callers of different entities rarely meet.
const PARTS: usize = 32;

/// When a timer whose entity had no room is offered again.
const ROW_RETRY: Duration = Duration::from_millis(20);

// The standard hasher, since it is fast for short keys, with fixed keys, as simulations repeat.
type Part<K> = HashMap<EntityId, Shared<K>, BuildHasherDefault<DefaultHasher>>;

/// The activations of kind `K` on this node.
pub(crate) struct Directory<K: Handlers> {
    parts: [Mutex<Part<K>>; PARTS],
    pub(crate) meter: Meter,
}

impl<K: Handlers> Directory<K> {
    pub(crate) fn new() -> Self {
        Self {
            parts: std::array::from_fn(|_| Mutex::default()),
            meter: Meter::new(K::KIND, K::METHODS),
        }
    }

    /// Queues a message, activating its entity if need be.
    ///
    /// Returns where it is queued, or `None` if it joined an earlier one. A message that no
    /// activation was there for stays in `message`.
    pub(crate) fn admit(
        self: &Arc<Self>,
        hosting: &Arc<Hosting>,
        id: &EntityId,
        message: &mut Option<Delivery<K>>,
    ) -> Result<Option<(Shared<K>, u64)>, Refusal> {
        loop {
            let slot = self.slot(hosting, id)?;
            let delivery = message.take().expect("it comes back until it is admitted");
            match slot.admit(delivery) {
                Admission::Queued(number) => return Ok(Some((slot, number))),
                Admission::Joined => return Ok(None),
                Admission::Refused(refusal) => return Err(refusal),
                Admission::Closed(back) => {
                    *message = Some(back);
                    self.next_activation(hosting, &slot)?;
                }
            }
        }
    }

    /// Makes way for the next activation, unless there is none to be here.
    fn next_activation(&self, hosting: &Hosting, slot: &Shared<K>) -> Result<(), Refusal> {
        hosting.admits_kind(K::KIND, slot.shard)?;
        self.forget(slot);
        Ok(())
    }

    /// As [`Directory::admit`], for a reference that remembers where it found the entity.
    pub(crate) fn admit_seen(
        self: &Arc<Self>,
        hosting: &Arc<Hosting>,
        id: &EntityId,
        seen: &OnceLock<Weak<Slot<K>>>,
        message: &mut Option<Delivery<K>>,
    ) -> Result<Option<(Shared<K>, u64)>, Refusal> {
        if let Some(slot) = seen.get().and_then(Weak::upgrade)
            && hosting.shards().holds(slot.shard, slot.tenure)
            && let Some(delivery) = message.take()
        {
            match slot.admit(delivery) {
                Admission::Queued(number) => return Ok(Some((slot, number))),
                Admission::Joined => return Ok(None),
                Admission::Refused(refusal) => return Err(refusal),
                Admission::Closed(back) => *message = Some(back),
            }
        }
        let queued = self.admit(hosting, id, message)?;
        if let Some((slot, _)) = &queued {
            seen.get_or_init(|| Arc::downgrade(slot));
        }
        Ok(queued)
    }

    /// Returns the entity's activation.
    fn slot(self: &Arc<Self>, hosting: &Arc<Hosting>, id: &EntityId) -> Result<Shared<K>, Refusal> {
        let found = self.part(id).get(id).cloned();
        if let Some(slot) = found {
            if hosting.shards().holds(slot.shard, slot.tenure) {
                return Ok(slot);
            }
            self.end(&slot);
        }
        if !id.is_valid() {
            return Err(Refusal::Decode(
                "an entity id has 1 to 512 bytes and no NUL".into(),
            ));
        }
        let shard = hosting.shard_of(K::KIND, id.as_str());
        let tenure = hosting.shards().tenure(shard);
        hosting.admits_kind(K::KIND, shard)?;
        let resident = hosting.resident(shard)?;
        let slot = {
            let mut part = self.part(id);
            if let Some(slot) = part.get(id) {
                return Ok(slot.clone());
            }
            let key = EntityKey {
                kind: K::KIND,
                id: id.clone(),
            };
            let slot = Arc::new(Slot::new(
                key,
                (shard, tenure),
                hosting.next_activation(),
                hosting.now(),
            ));
            part.insert(id.clone(), slot.clone());
            slot
        };
        if let Err(refusal) = host::spawn(hosting, self, &slot, resident) {
            self.forget(&slot);
            return Err(refusal);
        }
        let watched: Arc<dyn Idle> = slot.clone();
        watch_idle(hosting, &watched, hosting.now(), K::OPTIONS.passivate);
        if !hosting.shards().serves(shard) {
            slot.retire(); // The hand-over began meanwhile and may have missed it.
        }
        Ok(slot)
    }

    /// Ends an activation whose shard this node lost: somebody else may have changed the entity
    /// since, and the shard may be back.
    fn end(&self, slot: &Shared<K>) {
        for delivery in slot.close() {
            let refusal = Refusal::Unavailable("the entity's shard was lost".into());
            slot.settle(delivery, super::slot::Settled::Refused(refusal));
        }
        self.forget(slot);
    }

    /// Removes an activation that ended, so that the next message makes a new one.
    pub(crate) fn forget(&self, slot: &Shared<K>) {
        let mut part = self.part(&slot.key.id);
        if part
            .get(&slot.key.id)
            .is_some_and(|current| Arc::ptr_eq(current, slot))
        {
            part.remove(&slot.key.id);
        }
    }

    fn part(&self, id: &EntityId) -> MutexGuard<'_, Part<K>> {
        let index = xxh3_64(id.as_str().as_bytes()) as usize % PARTS;
        self.parts[index]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the activations that are `wanted`, in any order.
    fn slots(&self, wanted: impl Fn(&Slot<K>) -> bool) -> Vec<Shared<K>> {
        let mut slots = Vec::new();
        for part in &self.parts {
            let part = part.lock().unwrap_or_else(PoisonError::into_inner);
            slots.extend(part.values().filter(|slot| wanted(slot)).cloned());
        }
        slots
    }

    /// Returns the activations of these shards, sorted, or of all, in the order of their ids.
    fn of_shards(&self, shards: Option<&[ShardId]>) -> Vec<Shared<K>> {
        let among = |slot: &Slot<K>| shards.is_none_or(|it| it.binary_search(&slot.shard).is_ok());
        // Sorted are only those: a handoff asks for few among many, and callers wait for it.
        let mut slots = self.slots(among);
        slots.sort_by(|a, b| a.key.cmp(&b.key));
        slots
    }

    fn method(name: &str) -> Result<usize, Refusal> {
        let found = K::METHODS
            .iter()
            .position(|method| method.callable && method.name == name);
        found.ok_or_else(|| {
            Refusal::NotHosted(format!("kind `{}` has no method `{name}`", K::KIND).into())
        })
    }

    fn decode(method: usize, codec: Codec, bytes: &[u8]) -> Result<K::Args, Refusal> {
        K::decode_args(method, codec, bytes).map_err(|error| {
            let name = K::METHODS[method].name;
            Refusal::Decode(format!("arguments of `{}.{name}`: {error}", K::KIND).into())
        })
    }

    async fn invoke_here(
        self: Arc<Self>,
        client: Client,
        invocation: Invocation,
        message: Option<CallId>,
    ) -> Result<Encoded, Refusal> {
        let method = Self::method(&invocation.method)?;
        let decoded = || Self::decode(method, invocation.codec, &invocation.args);
        let args = decoded()?;
        if invocation.mode == Mode::Cast {
            // One id each time, however it is sent, or a re-run of the sender counts differently.
            let derived = message.filter(|_| client.derives());
            let call = invocation.call.or(derived);
            // Boxed like the pause below, so that the future of a call stays small.
            Box::pin(client.cast::<K>(&self, &invocation.id, args, call)).await?;
            return Ok(Encoded {
                ok: true,
                bytes: Vec::new(),
            });
        }
        let deadline = client.hosting.deadline(invocation.timeout);
        let shard = client.hosting.shard_of(K::KIND, invocation.id.as_str());
        let mut first = Some(args);
        loop {
            let args = first.take().map_or_else(decoded, Ok)?;
            let (sender, receiver) = oneshot::channel();
            let reply = Reply::Wire(invocation.reply, sender);
            let delivery = client.delivery::<K>(
                &invocation.id,
                args,
                reply,
                Some(deadline),
                invocation.call.map(|call| (call, invocation.recall)),
                message,
            )?;
            let answer = async {
                let queued = self.admit(&client.hosting, &invocation.id, &mut Some(delivery))?;
                client.hosting.answer_by(deadline, receiver, queued).await
            };
            match answer.await {
                Err(refusal)
                    if (client.hosting.is_held(K::KIND, shard)
                        || refusal_is_retried::<K>(&refusal, invocation.call.is_some()))
                        && !client.hosting.moved(shard) =>
                {
                    Box::pin(client.hosting.pause_before_retry(deadline, refusal)).await?;
                }
                other => return other,
            }
        }
    }
}

/// Returns what the kind is, hosted here or not.
pub(crate) fn role<K: Handlers>() -> Role {
    match K::DURABLE {
        Some(_) => Role::DurableEntity,
        None => Role::Entity,
    }
}

/// Says whether the framework asks again under the same identity: nothing was committed, or what
/// was is remembered.
pub(crate) fn refusal_is_retried<K: Handlers>(refusal: &Refusal, has_identity: bool) -> bool {
    match refusal {
        Refusal::Unavailable(_) => has_identity,
        // A durable entity remembers the call if it was done.
        Refusal::UnknownOutcome(_) => has_identity && K::DURABLE.is_some(),
        _ => false,
    }
}

/// Rings when the entity may have been idle for long enough; rings again if it was not.
fn watch_idle(hosting: &Arc<Hosting>, slot: &Arc<dyn Idle>, since: Instant, idle: Duration) {
    let (weak, slot) = (Arc::downgrade(hosting), Arc::downgrade(slot));
    hosting.wheel().set(
        since + idle,
        Alarm::Run(Box::new(move || {
            if let (Some(hosting), Some(slot)) = (weak.upgrade(), slot.upgrade())
                && let Some(used) = slot.close_if_idle(hosting.now(), idle)
            {
                watch_idle(&hosting, &slot, used, idle);
            }
        })),
    );
}

impl<K: Handlers> Hosted for Directory<K> {
    fn kind(&self) -> &'static str {
        K::KIND
    }

    fn group(&self) -> &'static str {
        K::GROUP
    }

    fn role(&self) -> Role {
        role::<K>()
    }

    fn exposed(&self) -> bool {
        K::OPTIONS.exposed
    }

    fn takeover(&self) -> Takeover {
        K::OPTIONS.takeover
    }

    fn methods(&self) -> &'static [super::Method] {
        K::METHODS
    }

    fn events(&self) -> &'static [super::EventHandler] {
        K::EVENTS
    }

    fn invoke(self: Arc<Self>, client: Client, invocation: Invocation) -> crate::hosting::Answer {
        Box::pin(self.invoke_here(client, invocation, None))
    }

    fn invoke_as(
        self: Arc<Self>,
        client: Client,
        invocation: Invocation,
        message: CallId,
    ) -> crate::hosting::Answer {
        Box::pin(self.invoke_here(client, invocation, Some(message)))
    }

    fn deliver(
        self: Arc<Self>,
        hosting: &Arc<Hosting>,
        row: &MailboxRow,
        since: u64,
    ) -> Result<(), Refusal> {
        loop {
            let slot = self.slot(hosting, &row.message.id)?;
            let delivery = host::from_row::<K>(hosting, row)?;
            match slot.admit_row(delivery, row.seq, since, hosting.looks()) {
                RowAdmission::Known => return Ok(()),
                RowAdmission::Full => {
                    return Err(Refusal::Overloaded {
                        retry_after: ROW_RETRY,
                    });
                }
                RowAdmission::Closed => self.next_activation(hosting, &slot)?,
            }
        }
    }

    fn ring(self: Arc<Self>, hosting: &Arc<Hosting>, id: &EntityId) -> Result<(), Refusal> {
        self.slot(hosting, id)?.ring();
        Ok(())
    }

    fn targets(&self) -> Vec<Target> {
        let target = |slot: Shared<K>| Target {
            shard: slot.shard,
            depth: slot.depth(),
            idle_since: slot.idle_since(),
            failures: slot.lock().books.failures,
            id: slot.key.id.clone(),
        };
        self.of_shards(None).into_iter().map(target).collect()
    }

    fn holds(&self, id: &EntityId, seq: i64) -> bool {
        self.part(id)
            .get(id)
            .is_some_and(|slot| slot.lock().books.holds(seq))
    }

    fn evict(&self, id: &EntityId) -> bool {
        let slot = self.part(id).get(id).cloned();
        slot.is_some_and(|slot| slot.close_if_idle(Clock.now(), Duration::ZERO).is_none())
    }

    fn retire(&self, shards: &[ShardId]) {
        for slot in self.of_shards(Some(shards)) {
            slot.retire();
        }
    }

    fn cut_off(&self, shards: &[ShardId]) {
        for slot in self.of_shards(Some(shards)) {
            slot.cut_off();
        }
    }

    fn stop_shards(&self, shards: Option<&[ShardId]>) {
        for slot in self.of_shards(shards) {
            for delivery in slot.close() {
                let refusal = Refusal::Unavailable("the entity's node is stopping".into());
                slot.settle(delivery, super::slot::Settled::Refused(refusal));
            }
        }
    }

    fn stats(&self) -> KindStats {
        let mut stats = KindStats::default();
        for slot in self.slots(|_| true) {
            stats.resident += 1;
            stats.mailbox_depth += slot.depth();
        }
        stats
    }

    fn meter(&self) -> &Meter {
        &self.meter
    }
}
