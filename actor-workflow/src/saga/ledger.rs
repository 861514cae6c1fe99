//! What a run's body and its host share while the run is in memory: the journal, and the way to it.
//!
//! Every entry is an item of the committer lane, under the epoch the journal was read with. An
//! entry counts once the lane has answered; the body goes on only then.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actor_core::{
    Client, Failure, RequestContext,
    hosting::Hosting,
    id::{CallId, EntityKey, Epoch},
    store::{
        entities::Place,
        lane::{Item, Verdict, Write},
    },
};
use tokio::sync::{Notify, oneshot};

use super::{slot::Slot, state::State};
use crate::{
    journal::{Entry, Replay},
    store::{
        journal, mailbox,
        runs::{self, Change},
    },
};

/// Entries a body may write; more end the run as failed. What undoes it may go beyond.
pub const JOURNAL_ENTRIES_MAX: usize = 10_000;

/// Bytes a journal may have before the run ends as failed.
pub const JOURNAL_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Failures of the infrastructure in a row after which a run's row shows what it waits for.
const WAITS_SHOWN: u32 = 3;

/// Why a body does not go on; it is dropped where it waits.
#[derive(Debug)]
pub(crate) enum Stop {
    /// It sleeps; that is stored.
    Sleeps(Duration),
    /// The step that was to be undone is; that is stored.
    Undone,
    /// The step that was to be undone is not; it is tried again after a pause.
    UndoFailed { name: String, failure: Failure },
    /// It came to a safe point and somebody wants it to stop there.
    Halted,
    /// It must end as failed, whatever it thinks.
    Fails(Failure),
    /// It cannot go on by itself.
    Stuck(String),
    /// The store did not take an entry.
    Lost(String),
}

/// The store did not take an entry; the ledger is of no more use.
#[derive(Debug)]
pub(crate) struct Lost;

/// A run in memory.
pub(crate) struct Ledger {
    pub(crate) hosting: Arc<Hosting>,
    pub(crate) slot: Arc<Slot>,
    pub(crate) place: Place,
    pub(crate) request: Option<Arc<RequestContext>>,
    /// The run's mailbox row.
    pub(crate) row: i64,
    epoch: Epoch,
    activation: u64,
    halt: AtomicBool,
    /// The body only goes on to find out what is to be undone.
    cancelling: AtomicBool,
    /// Wakes a body that waits before an attempt, and the host.
    pub(crate) halted: Notify,
    inner: Mutex<Inner>,
}

pub(crate) struct Inner {
    pub(crate) replay: Replay,
    stop: Option<Stop>,
    appended: u32,
    items: u64,
    in_flight: usize,
    /// A change of the run's row that the next item carries along.
    note: Option<Change>,
    /// The run was counted as suspect; its first progress takes that back.
    suspect: bool,
    /// What the body waits for, until it gets on.
    waits: Option<Arc<str>>,
    /// A step that can be undone may have been done, and the journal does not say so: by an attempt
    /// whose outcome is not stored yet, is unclear, or was lost with an earlier life of the run.
    doubt: bool,
}

/// Under what a ledger writes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fence {
    pub(crate) epoch: Epoch,
    pub(crate) activation: u64,
}

impl Ledger {
    pub(crate) fn new(
        hosting: Arc<Hosting>,
        slot: Arc<Slot>,
        place: Place,
        row: i64,
        fence: Fence,
        replay: Replay,
    ) -> Self {
        let inner = Inner {
            appended: u32::try_from(replay.entries()).unwrap_or(u32::MAX),
            doubt: !replay.is_settled(),
            replay,
            stop: None,
            items: 0,
            in_flight: 0,
            note: None,
            suspect: false,
            waits: None,
        };
        Self {
            hosting,
            slot,
            place,
            request: None,
            row,
            epoch: fence.epoch,
            activation: fence.activation,
            halt: AtomicBool::new(false),
            cancelling: AtomicBool::new(false),
            halted: Notify::new(),
            inner: Mutex::new(inner),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn key(&self) -> &EntityKey {
        &self.slot.key
    }

    /// Asks the body to stop at the next safe point.
    pub(crate) fn halt(&self) {
        self.halt.store(true, Ordering::SeqCst);
        self.halted.notify_waiters();
    }

    /// Lets the body go on.
    pub(crate) fn unhalt(&self) {
        self.halt.store(false, Ordering::SeqCst);
    }

    /// Asks the body to stop at the next safe point where nothing is in doubt, or takes that back.
    pub(crate) fn cancel(&self, cancelling: bool) {
        self.cancelling.store(cancelling, Ordering::SeqCst);
        self.halted.notify_waiters();
    }

    /// Says whether the body is to stop here, also because the node stops or the shard moves.
    pub(crate) fn is_halted(&self) -> bool {
        let cancelled = self.cancelling.load(Ordering::SeqCst) && !self.in_doubt();
        cancelled || self.halt.load(Ordering::SeqCst) || !self.hosting.begins_in(self.slot.shard)
    }

    /// Notes whether there may be something to undo that the journal does not know.
    pub(crate) fn doubt(&self, doubt: bool) {
        self.lock().doubt = doubt;
    }

    /// Says whether there may be something to undo that the journal does not know.
    pub(crate) fn in_doubt(&self) -> bool {
        self.lock().doubt
    }

    /// Ends the body here: the host drops it.
    pub(crate) async fn stop<T>(&self, stop: Stop) -> T {
        self.lock().stop.get_or_insert(stop);
        self.slot.wake();
        std::future::pending().await
    }

    /// Ends the body after the store did not take an entry; the reason is known already.
    pub(crate) async fn lost<T>(&self) -> T {
        self.stop(Stop::Lost("an entry was not stored".to_owned()))
            .await
    }

    /// Waits before an attempt; ends the body here if it is to stop.
    pub(crate) async fn wait(&self, pause: Duration) {
        let until = self.hosting.now() + pause;
        loop {
            if self.is_halted() {
                self.stop(Stop::Halted).await
            }
            if self.hosting.now() >= until {
                return;
            }
            // Both arms only wait.
            tokio::select! {
                biased;
                () = self.halted.notified() => {}
                () = self.hosting.clock().sleep_until(until) => {}
            }
        }
    }

    /// Takes the reason why the body does not go on.
    pub(crate) fn take_stop(&self) -> Option<Stop> {
        self.lock().stop.take()
    }

    /// Lets the next item change the run's row.
    pub(crate) fn note(&self, change: Change) {
        self.lock().note = Some(change);
    }

    /// Shows what the run waits for; from the third time on also in its row.
    pub(crate) async fn waits(self: &Arc<Self>, times: u32, why: String) {
        let change = Change {
            state: State::Running.as_str(),
            reason: Some(why.as_str().into()),
            ..Change::default()
        };
        self.lock().waits = Some(why.into());
        if times == WAITS_SHOWN {
            if self
                .store(Vec::new(), vec![runs::update(&self.place, change)])
                .await
                .is_err()
            {
                self.lost().await
            }
            let state = State::Running.as_str();
            self.note(Change {
                state,
                ..Change::default()
            });
        }
    }

    /// Returns what the body waits for.
    pub(crate) fn waits_for(&self) -> Option<Arc<str>> {
        self.lock().waits.clone()
    }

    /// Takes back what was counted against the run once it makes progress.
    pub(crate) fn forgive_on_progress(&self) {
        self.lock().suspect = true;
    }

    /// Says whether all items were answered.
    pub(crate) fn is_settled(&self) -> bool {
        self.lock().in_flight == 0
    }

    /// Returns the client for one attempt at what `key` names: a repeat makes its calls under the
    /// same ids.
    pub(crate) fn client(&self, key: CallId) -> Client {
        let client = Client::new(self.hosting.clone());
        let client = match &self.request {
            Some(request) => client.with_request(RequestContext::clone(request)),
            None => client,
        };
        client.on_behalf_of(self.key().clone(), key)
    }

    /// Stores entries and writes, all or nothing, and waits for the lane; returns the numbers the
    /// database gave, by the index of the write.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the answer: the ledger learns it all the same.
    pub(crate) async fn store(
        self: &Arc<Self>,
        entries: Vec<Entry>,
        writes: Vec<Write>,
    ) -> Result<Vec<(usize, i64)>, Lost> {
        let _working = self.slot.working();
        let name = entries.first().map_or("", Entry::what);
        self.hosting.pass(&format!("append {name}")).await;
        let (sender, receiver) = oneshot::channel();
        self.submit(entries, writes, sender);
        let stored = receiver.await.ok().flatten();
        self.hosting.pass(&format!("appended {name}")).await;
        stored.ok_or(Lost)
    }

    /// Numbers the entries and hands them to the lane. Only the host's task comes here, so the
    /// order of the numbers is the order of the items.
    fn submit(
        self: &Arc<Self>,
        entries: Vec<Entry>,
        mut writes: Vec<Write>,
        told: oneshot::Sender<Option<Vec<(usize, i64)>>>,
    ) {
        let mut inner = self.lock();
        if !entries.is_empty() {
            inner.waits = None;
        }
        for entry in &entries {
            inner.appended += 1;
            writes.push(journal::append(&self.place, inner.appended, entry));
        }
        let update = runs::UPDATE.name();
        let changes_run = writes.iter().any(
            |write| matches!(write, Write::Row { statement, .. } if statement.name() == update),
        );
        if let Some(change) = inner.note.take()
            && !changes_run
        {
            writes.push(runs::update(&self.place, change));
        }
        let progress = |entry: &Entry| matches!(entry, Entry::Step { .. } | Entry::Undone { .. });
        if inner.suspect && entries.iter().any(progress) {
            inner.suspect = false;
            writes.push(self.due(None));
        }
        inner.items += 1;
        inner.in_flight += 1;
        let item_sequence = inner.items;
        let ledger = self.clone();
        let item = Item {
            shard: self.place.shard,
            epoch: self.epoch,
            activation: self.activation,
            sequence: item_sequence,
            writes,
            done: Box::new(move |verdict| drop(told.send(ledger.answered(entries, verdict)))),
        };
        // At its bound the lane answers from inside `submit`, and the answer takes the lock.
        drop(inner);
        self.hosting.lanes().submit(item);
    }

    /// The lane answered; returns the numbers it gave if it stored the item.
    fn answered(&self, entries: Vec<Entry>, verdict: Verdict) -> Option<Vec<(usize, i64)>> {
        let mut inner = self.lock();
        inner.in_flight -= 1;
        let mut numbers = None;
        let lost = match verdict {
            Verdict::Committed(given) => {
                numbers = Some(given);
                let tried =
                    |entry: &Entry| matches!(entry, Entry::Step { .. } | Entry::Attempt { .. });
                inner.doubt &= !entries.iter().any(tried);
                let mut pushed = entries
                    .into_iter()
                    .map(|entry| inner.replay.push(entry, Duration::ZERO));
                pushed
                    .find_map(Result::err)
                    .map(|corrupt| corrupt.to_string())
            }
            Verdict::Conflict { .. } => Some("another owner wrote the journal".to_owned()),
            Verdict::Fenced => Some("the shard moved to another owner".to_owned()),
            Verdict::Refused => Some("an earlier entry was not stored".to_owned()),
            Verdict::Unclear(error) => Some(format!("whether an entry is stored: {error}")),
            Verdict::Failed(error) => Some(format!("an entry was not stored: {error}")),
            other => Some(format!("an entry was not stored: {other:?}")),
        };
        if let Some(why) = lost {
            // Whatever the body wanted to stop for came after this.
            inner.stop = Some(Stop::Lost(why));
            numbers = None;
        }
        drop(inner);
        self.slot.wake();
        numbers
    }

    /// Returns the write that makes the run's row due `after` its commit.
    pub(crate) fn due(&self, after: Option<Duration>) -> Write {
        mailbox::due(self.row, after)
    }

    /// Returns the write that deletes the run's row.
    pub(crate) fn rest(&self) -> Write {
        actor_core::store::mailbox::delete(self.row)
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ledger({})", self.slot.key)
    }
}
