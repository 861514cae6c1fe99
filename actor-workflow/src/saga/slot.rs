//! A run's activation as everybody but its host sees it: what it is asked, and whether it is busy.
//!
//! Every method is a short critical section without I/O.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use actor_core::{
    Refusal, RequestContext,
    clock::Instant,
    id::{EntityKey, ShardId},
    shards::Tenure,
};
use tokio::sync::{Notify, oneshot};

use super::state::Status;

/// Questions that may wait for one run; more are refused as `Overloaded`.
pub(crate) const ASKED_MAX: usize = 1024;

/// What a refused caller is told to wait before it tries again.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// What a run is asked.
#[derive(Clone, Debug)]
pub(crate) enum Question {
    /// Begin with this input, in MessagePack, unless it began with it before.
    Start(Arc<[u8]>, Option<Arc<RequestContext>>),
    /// Say how it is.
    Status,
    /// Say how it is once it is over.
    Final,
    /// End early and undo.
    Cancel,
    /// Stop at the next safe point.
    Pause,
    /// Go on after a pause or after being stuck.
    Resume,
}

/// Who waits for an answer.
pub(crate) type Reply = oneshot::Sender<Result<Status, Refusal>>;

/// A question and who asks.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) question: Question,
    pub(crate) reply: Reply,
}

/// One activation of a run.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) key: EntityKey,
    pub(crate) shard: ShardId,
    /// The tenure of the shard that it was made in: it is good for no other.
    pub(crate) tenure: Tenure,
    inner: Mutex<Inner>,
    /// Wakes the host; it is the only one who waits.
    changed: Notify,
}

#[derive(Debug)]
struct Inner {
    asked: VecDeque<Asked>,
    /// Those who wait for the end.
    waiting: Vec<Reply>,
    /// Its mailbox row was delivered and not yet looked at.
    rung: bool,
    closed: bool,
    /// It ends as soon as it comes to a safe point.
    retiring: bool,
    /// The host acts, or holds back before it acts again.
    active: bool,
    /// User code runs or a commit is under way.
    working: usize,
    touched: Instant,
}

impl Slot {
    pub(crate) fn new(key: EntityKey, (shard, tenure): (ShardId, Tenure), now: Instant) -> Self {
        let inner = Inner {
            asked: VecDeque::new(),
            waiting: Vec::new(),
            rung: false,
            closed: false,
            retiring: false,
            active: true,
            working: 0,
            touched: now,
        };
        Self {
            key,
            shard,
            tenure,
            inner: Mutex::new(inner),
            changed: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a question in; gives it back if the activation ended.
    pub(crate) fn ask(&self, asked: Asked) -> Result<(), Asked> {
        let mut inner = self.lock();
        if inner.closed {
            return Err(asked);
        }
        if inner.asked.len() + inner.waiting.len() >= ASKED_MAX {
            inner.waiting.retain(|reply| !reply.is_closed());
        }
        if inner.asked.len() + inner.waiting.len() >= ASKED_MAX {
            drop(inner);
            let retry_after = RETRY_AFTER;
            drop(asked.reply.send(Err(Refusal::Overloaded { retry_after })));
            return Ok(());
        }
        inner.asked.push_back(asked);
        drop(inner);
        self.changed.notify_one();
        Ok(())
    }

    /// Notes that the run's mailbox row is due; says whether the activation lives.
    pub(crate) fn ring(&self) -> bool {
        let mut inner = self.lock();
        inner.rung = true;
        let open = !inner.closed;
        drop(inner);
        self.changed.notify_one();
        open
    }

    /// Takes the next question.
    pub(crate) fn next(&self) -> Option<Asked> {
        self.lock().asked.pop_front()
    }

    /// Says once that the row was delivered.
    pub(crate) fn take_ring(&self) -> bool {
        std::mem::take(&mut self.lock().rung)
    }

    /// Keeps somebody waiting for the end.
    pub(crate) fn wait(&self, reply: Reply) {
        let mut inner = self.lock();
        inner.waiting.retain(|reply| !reply.is_closed());
        inner.waiting.push(reply);
    }

    /// Answers those who wait for the end.
    pub(crate) fn tell(&self, status: &Status) {
        let waiting = std::mem::take(&mut self.lock().waiting);
        for reply in waiting {
            // A caller that went away abandoned the answer.
            drop(reply.send(Ok(status.clone())));
        }
    }

    /// Waits until there is something new. Cancel safe: a wake-up that nobody took is kept.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Wakes the host.
    pub(crate) fn wake(&self) {
        self.changed.notify_one();
    }

    /// Notes whether the host has anything to do.
    pub(crate) fn set_active(&self, active: bool, now: Instant) {
        let mut inner = self.lock();
        if inner.active || active {
            inner.touched = now;
        }
        inner.active = active;
        if inner.retiring && !active {
            inner.closed = true;
            drop(inner);
            self.changed.notify_one();
        }
    }

    /// Ends the activation at its next safe point.
    pub(crate) fn retire(&self) {
        let mut inner = self.lock();
        inner.retiring = true;
        inner.closed |= !inner.active;
        drop(inner);
        self.changed.notify_one();
    }

    /// Counts user code and commits that are under way.
    pub(crate) fn working(self: &Arc<Self>) -> Working {
        self.lock().working += 1;
        Working(self.clone())
    }

    /// Says whether the activation ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Ends the activation; the host answers for what is left.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// Ends the activation if it rests and was not used for `idle`; otherwise returns when it was.
    pub(crate) fn close_if_idle(&self, now: Instant, idle: Duration) -> Option<Instant> {
        let mut inner = self.lock();
        inner.waiting.retain(|reply| !reply.is_closed());
        let rests = inner.rests();
        if rests && now.saturating_duration_since(inner.touched) >= idle {
            inner.closed = true;
            drop(inner);
            self.changed.notify_one();
            return None;
        }
        Some(if rests { inner.touched } else { now })
    }

    /// Returns since when it rests, if it does.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        let inner = self.lock();
        inner.rests().then_some(inner.touched)
    }

    /// Says whether the run's mailbox row is being worked on.
    pub(crate) fn holds(&self) -> bool {
        let inner = self.lock();
        !inner.closed && (inner.active || inner.rung)
    }

    /// Returns how much must end before the node may stop without cutting anything off.
    pub(crate) fn depth(&self) -> usize {
        let inner = self.lock();
        inner.asked.len() + inner.working
    }

    /// Takes what can no longer be answered by asking the run.
    pub(crate) fn drain(&self) -> Vec<Reply> {
        let mut inner = self.lock();
        inner.closed = true;
        let asked = inner.asked.drain(..).map(|asked| asked.reply);
        let mut replies: Vec<_> = asked.collect();
        replies.append(&mut inner.waiting);
        replies
    }
}

impl Inner {
    fn rests(&self) -> bool {
        !self.active && !self.rung && self.asked.is_empty() && self.waiting.is_empty()
    }
}

/// Counts as work until it is dropped.
#[derive(Debug)]
pub(crate) struct Working(Arc<Slot>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.lock().working -= 1;
    }
}
