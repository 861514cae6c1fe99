//! How an activation ends: because it is idle, because its shard goes, because its host is gone.

use std::time::Duration;

use super::Slot;
use crate::{
    clock::Instant,
    entity::{Handlers, delivery::Delivery},
    wheel::AlarmId,
};

/// Slots as the wheel sees them.
pub(crate) trait Idle: Send + Sync {
    /// As [`Slot::close_if_idle`].
    fn close_if_idle(&self, now: Instant, idle: Duration) -> Option<Instant>;
    /// As [`Slot::watch`].
    fn watch(&self, set: &dyn Fn() -> AlarmId);
}

impl<K: Handlers> Idle for Slot<K> {
    fn close_if_idle(&self, now: Instant, idle: Duration) -> Option<Instant> {
        Slot::close_if_idle(self, now, idle)
    }

    fn watch(&self, set: &dyn Fn() -> AlarmId) {
        Slot::watch(self, set);
    }
}

impl<K: Handlers> Slot<K> {
    /// Ends the activation if it has nothing to do and was not used for `idle`.
    ///
    /// Returns `None` when it ended, otherwise the time it was last used.
    pub(crate) fn close_if_idle(&self, now: Instant, idle: Duration) -> Option<Instant> {
        let mut inner = self.lock();
        if inner.is_idle() && now.saturating_duration_since(inner.touched) >= idle {
            inner.closed = true;
            inner.poke();
            return None;
        }
        Some(if inner.is_idle() { inner.touched } else { now })
    }

    /// Lets the activation end when it has run what is in memory.
    pub(crate) fn retire(&self) {
        let mut inner = self.lock();
        inner.retiring = true;
        inner.poke();
    }

    /// Cuts off whatever runs.
    pub(crate) fn cut_off(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        if let Some(actor) = &inner.actor {
            actor.kill();
        }
    }

    /// Ends the activation whatever it does; what is queued is returned.
    pub(crate) fn close(&self) -> Vec<Delivery<K>> {
        let mut inner = self.lock();
        inner.closed = true;
        inner.poke();
        inner.queue.drain(..).collect()
    }

    /// Has the alarm set that ends it when it is idle, unless it ended already.
    pub(crate) fn watch(&self, set: impl FnOnce() -> AlarmId) {
        let mut inner = self.lock();
        if !inner.closed {
            // Under the lock: one that rings at once sets the next alarm after this one.
            inner.idle_alarm = Some(set());
        }
    }

    /// Its host is gone. Returns the alarm that is set for it, and whether the lanes have answered
    /// for all its items.
    pub(crate) fn ended(&self) -> (Option<AlarmId>, bool) {
        let mut inner = self.lock();
        (inner.closed, inner.ended) = (true, true);
        (inner.idle_alarm.take(), inner.is_over())
    }
}
