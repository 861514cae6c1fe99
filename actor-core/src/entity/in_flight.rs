//! The calls of an activation that are under way under an identity, and who waits for each.
//!
//! A repeat of such a call joins it instead of running. Guarded by the slot's lock (`slot.rs`).

use std::collections::BTreeMap;

use super::{
    Handlers,
    delivery::{Identity, Reply},
};
use crate::id::CallId;

/// Calls by their ids, and the repeats that joined them.
pub(super) struct InFlight<K: Handlers> {
    calls: BTreeMap<CallId, Call<K>>,
    /// How many repeats wait, over all calls.
    waiting: usize,
}

struct Call<K: Handlers> {
    /// Of method and arguments.
    hash: u64,
    waiters: Vec<Reply<K>>,
    /// Repeats whose callers went away were dropped: they abandoned the answer, not the work.
    outlived: bool,
}

/// What became of a call that has an identity.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Joined {
    /// No call of this identity is under way.
    No,
    /// It waits for the one that is.
    Yes,
    /// One with other arguments is.
    KeyReused,
    /// As many wait as may.
    Full,
}

impl<K: Handlers> InFlight<K> {
    pub(super) fn new() -> Self {
        Self {
            calls: BTreeMap::new(),
            waiting: 0,
        }
    }

    pub(super) fn has(&self, id: CallId) -> bool {
        self.calls.contains_key(&id)
    }

    /// A call is under way from now on.
    pub(super) fn begin(&mut self, identity: Identity) {
        let call = Call {
            hash: identity.hash,
            waiters: Vec::new(),
            outlived: false,
        };
        let before = self.calls.insert(identity.id, call);
        self.waiting -= before.map_or(0, |call| call.waiters.len());
    }

    /// Lets a repeat wait for the call that is under way, if there is one. At most `waiting_max`
    /// wait over all calls; those whose callers went away make room.
    pub(super) fn join(
        &mut self,
        identity: Identity,
        reply: &mut Reply<K>,
        waiting_max: usize,
    ) -> Joined {
        match self.calls.get(&identity.id) {
            None => return Joined::No,
            Some(call) if call.hash != identity.hash => return Joined::KeyReused,
            Some(_) => {}
        }
        if self.waiting >= waiting_max {
            self.drop_abandoned();
        }
        if self.waiting >= waiting_max {
            return Joined::Full;
        }
        if let Some(call) = self.calls.get_mut(&identity.id) {
            call.waiters.push(std::mem::replace(reply, Reply::Nobody));
            self.waiting += 1;
        }
        Joined::Yes
    }

    /// Takes a repeat out in whose name the call goes on when its first caller takes it back.
    pub(super) fn take_heir(&mut self, id: CallId) -> Option<Reply<K>> {
        let call = self.calls.get_mut(&id)?;
        let heir = call.waiters.pop();
        self.waiting -= usize::from(heir.is_some());
        heir.or_else(|| call.outlived.then_some(Reply::Nobody))
    }

    /// A call is no longer under way; returns who waits for it.
    pub(super) fn end(&mut self, id: CallId) -> Vec<Reply<K>> {
        let ended = self.calls.remove(&id);
        let waiters = ended.map(|call| call.waiters).unwrap_or_default();
        self.waiting -= waiters.len();
        waiters
    }

    fn drop_abandoned(&mut self) {
        let mut waiting = 0;
        for call in self.calls.values_mut() {
            let joined = call.waiters.len();
            call.waiters.retain(|waiter| !waiter.is_abandoned());
            call.outlived |= call.waiters.len() < joined;
            waiting += call.waiters.len();
        }
        self.waiting = waiting;
    }
}
