//! The activations of one kind on one node: finds or makes them, and speaks for the kind by name.

mod hosted;

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, DefaultHasher},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    time::Duration,
};

use xxhash_rust::xxh3::xxh3_64;

use super::{
    Handlers,
    delivery::Delivery,
    host,
    slot::{Admission, Idle, Shared, Slot},
};
use crate::{
    clock::Instant,
    error::Refusal,
    hosting::{Hosting, Role},
    id::{EntityId, EntityKey, ShardId},
    meter::Meter,
    wheel::Alarm,
};

/// Independent parts, so that callers of different entities rarely meet.
const PARTS: usize = 32;

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
}

/// Returns what the kind is, hosted here or not.
pub(crate) fn role<K: Handlers>() -> Role {
    match K::DURABLE {
        Some(_) => Role::DurableEntity,
        None => Role::Entity,
    }
}

/// Says whether the framework makes a call again: one that did not begin, if it has an identity or
/// `waits` for its entity's shard; one that may have, if it has an identity, which a durable entity
/// remembers.
///
/// Invariant: without an identity nothing that may have begun is begun again.
pub(crate) fn refusal_is_retried<K: Handlers>(
    refusal: &Refusal,
    has_identity: bool,
    waits: bool,
) -> bool {
    match refusal {
        Refusal::Unavailable(_) => has_identity || waits,
        Refusal::UnknownOutcome(_) => has_identity && K::DURABLE.is_some(),
        _ => false,
    }
}

/// Rings when the entity may have been idle for long enough; rings again if it was not.
fn watch_idle(hosting: &Arc<Hosting>, slot: &Arc<dyn Idle>, since: Instant, idle: Duration) {
    slot.watch(&|| {
        let (weak, slot) = (Arc::downgrade(hosting), Arc::downgrade(slot));
        let look = move || {
            if let (Some(hosting), Some(slot)) = (weak.upgrade(), slot.upgrade())
                && let Some(used) = slot.close_if_idle(hosting.now(), idle)
            {
                watch_idle(&hosting, &slot, used, idle);
            }
        };
        hosting
            .wheel()
            .set(since + idle, Alarm::Run(Box::new(look)))
    });
}
