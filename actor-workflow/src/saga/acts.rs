//! What the host does: run the body, undo a step, end the run, and what follows from how that went.

use std::{sync::Arc, time::Duration};

use actor_core::{
    Failure, Result,
    store::{lane::Write, mailbox as messages},
};

use super::{
    PAYLOAD_BYTES_MAX, Saga, Undo,
    answers::CANCEL_GRACE,
    decide::{Act, Situation, decide, moves},
    host::{Activation, oversize},
    ledger::{Ledger, Stop},
    state::{State, Status},
};
use crate::{
    journal::{Ending, Entry, encode_failure},
    store::runs::{self, Change},
};

/// Times a run may panic, or run while its node dies, before it counts as stuck.
pub(super) const ATTEMPTS_MAX: u32 = 10;

impl Change {
    /// Returns the change that makes a row show `status`.
    pub(super) fn to(status: &Status) -> Self {
        Self {
            state: status.state.as_str(),
            reason: status.reason.clone(),
            wake_after: None,
            result: status.result.clone(),
            error: status
                .error
                .as_ref()
                .map(|failure| encode_failure(failure).into()),
            finished: status.state.is_final(),
        }
    }
}

impl Activation {
    /// Does what is to be done next; says whether there was anything.
    pub(super) async fn act(&mut self) -> bool {
        let pausing = !self.pausing.is_empty();
        let due = self.is_due();
        let Some(run) = self.run() else { return false };
        let state = run.status.state;
        // A resting run's journal is not read.
        if !moves(state) || !(due || pausing || self.ledger.is_some()) {
            self.put_away();
            return false;
        }
        let Some(ledger) = self.open().await else {
            return true;
        };
        let doubt = ledger.in_doubt();
        let situation = Situation {
            state,
            due,
            pausing,
            doubt,
        };
        let act = decide(situation, &ledger.lock().replay);
        match act {
            Act::Rest => {
                self.put_away();
                return false;
            }
            Act::Body => self.begin(&ledger, None).await,
            Act::Undo(position) => {
                let attempt = self.undo_failures + 1;
                self.begin(&ledger, Some(Undo { position, attempt })).await;
            }
            Act::Cancel => self.end(&ledger, Ending::Cancelled, None, None).await,
            Act::Finish(ending) => {
                let error = self.run().and_then(|run| run.status.error.clone());
                self.end(&ledger, ending, None, error).await;
            }
            Act::Pause => self.pause(&ledger).await,
        }
        true
    }

    /// Starts the body, from the top.
    async fn begin(&mut self, ledger: &Arc<Ledger>, undo: Option<Undo>) {
        if !self.hosting.begins_in(self.slot.shard) {
            // The row stays: the next owner goes on.
            return self.slot.close();
        }
        if !self.may_run(ledger).await {
            return;
        }
        let recipe = self.sagas.recipe.clone();
        let Some(run) = self.run() else { return };
        let saga = Saga::new(ledger.clone(), undo);
        let (body, written) = (recipe.body(&run.input, saga), run.status.state);
        if written == State::Suspended {
            run.status = Status::of(State::Running);
            ledger.note(Change::to(&run.status));
        }
        let version = run.version;
        match body {
            _ if version > recipe.version() => {
                let known = recipe.version();
                let why = format!("it began with version {version}, this program knows {known}");
                self.stuck(ledger, why).await;
            }
            Ok(body) => {
                let cancelling = is_cancelling(ledger);
                ledger.unhalt();
                ledger.cancel(cancelling);
                self.cancel_by = cancelling.then(|| self.hosting.now() + CANCEL_GRACE);
                self.body = Some(body);
            }
            Err(error) => {
                let why = format!("the input cannot be read: {error}");
                self.stuck(ledger, why).await;
            }
        }
    }

    /// Counts a run that may have killed its node, before it runs again; says whether it may.
    async fn may_run(&mut self, ledger: &Arc<Ledger>) -> bool {
        let row = self.loaded.as_ref().and_then(|loaded| loaded.row);
        let shard = self.slot.shard;
        let suspect = |seq| !self.counted && self.hosting.is_suspect(shard, seq);
        let Some(row) = row.filter(|row| suspect(row.seq)) else {
            return true;
        };
        if row.attempts >= ATTEMPTS_MAX {
            let why = format!("it ran each of the last {ATTEMPTS_MAX} times its node died");
            self.stuck(ledger, why).await;
            return false;
        }
        self.counted = true;
        ledger.forgive_on_progress();
        let counted = vec![messages::count_attempt(row.seq)];
        self.stored(ledger, Vec::new(), counted).await
    }

    /// Stores something; if that fails, everything is read again.
    pub(super) async fn stored(
        &mut self,
        ledger: &Arc<Ledger>,
        entries: Vec<Entry>,
        writes: Vec<Write>,
    ) -> bool {
        match ledger.store(entries, writes).await {
            Ok(_) => {
                self.failures = 0;
                true
            }
            Err(_) => {
                self.lost("what it did was not stored");
                false
            }
        }
    }

    /// The body returned.
    pub(super) async fn ended(&mut self, outcome: Result<Vec<u8>>) {
        let Some(ledger) = self.drop_body().await else {
            return;
        };
        match outcome {
            Ok(bytes) if bytes.len() > PAYLOAD_BYTES_MAX => {
                let failure = oversize(bytes.len());
                self.end(&ledger, Ending::Failed, None, Some(failure)).await;
            }
            Ok(bytes) => {
                let result = Some(bytes.into());
                self.end(&ledger, Ending::Completed, result, None).await;
            }
            Err(failure) => {
                self.end(&ledger, Ending::Failed, None, Some(failure)).await;
            }
        }
    }

    /// The body does not go on.
    pub(super) async fn stopped(&mut self, stop: Stop) {
        let Some(ledger) = self.drop_body().await else {
            return;
        };
        match stop {
            Stop::Sleeps(duration) => self.sleeps(&ledger, duration),
            Stop::Undone => {
                self.undo_failures = 0;
                self.failures = 0;
            }
            Stop::UndoFailed { name, failure } => self.undo_failed(&ledger, &name, failure).await,
            // What is to be done instead is decided next.
            Stop::Halted => ledger.unhalt(),
            Stop::Fails(failure) => self.end(&ledger, Ending::Failed, None, Some(failure)).await,
            Stop::Stuck(why) => self.stuck(&ledger, why).await,
            Stop::Lost(why) => self.lost(&why),
        }
    }

    /// Drops the body and waits for what it gave to the lane.
    async fn drop_body(&mut self) -> Option<Arc<Ledger>> {
        self.body = None;
        self.cancel_by = None;
        let ledger = self.ledger.clone()?;
        while !ledger.is_settled() {
            self.slot.changed().await;
        }
        if let Some(Stop::Lost(why)) = ledger.take_stop() {
            self.lost(&why);
            return None;
        }
        Some(ledger)
    }

    fn sleeps(&mut self, ledger: &Arc<Ledger>, duration: Duration) {
        self.failures = 0;
        let cancelled = ledger.lock().replay.cancelled();
        let Some(loaded) = &mut self.loaded else {
            return;
        };
        if let (Some(run), Some(row)) = (&mut loaded.run, &mut loaded.row) {
            run.status = Status::because(State::Suspended, "timer");
            // Whoever cancelled it meanwhile made the row due again.
            row.due_in = if cancelled { Duration::ZERO } else { duration };
            row.attempts = 0;
        }
        self.arm();
    }

    /// Writes down how the run ends; it is over if nothing is left to undo.
    async fn end(
        &mut self,
        ledger: &Arc<Ledger>,
        ending: Ending,
        result: Option<Arc<[u8]>>,
        error: Option<Failure>,
    ) {
        let (decided, undo) = {
            let replay = &ledger.lock().replay;
            (replay.ending().is_some(), replay.next_undo().is_some())
        };
        let state = match ending {
            Ending::Completed => State::Completed,
            _ if undo => State::Compensating,
            Ending::Failed => State::Failed,
            Ending::Cancelled => State::Cancelled,
        };
        let status = Status {
            result,
            error,
            ..Status::of(state)
        };
        let entries = if decided {
            Vec::new()
        } else {
            vec![Entry::End(ending)]
        };
        let mut writes = vec![runs::update(&ledger.place, Change::to(&status))];
        if state.is_final() {
            writes.push(ledger.rest());
        }
        if self.stored(ledger, entries, writes).await {
            self.becomes(&status);
        }
    }

    /// Notes what was stored; a run that is over is told to those who wait.
    pub(super) fn becomes(&mut self, status: &Status) {
        let resting = !moves(status.state);
        let Some(loaded) = &mut self.loaded else {
            return;
        };
        if let Some(run) = &mut loaded.run {
            run.status = status.clone();
        }
        if resting {
            loaded.row = None;
            self.put_away();
        }
        if status.state.is_final() {
            let lease = self.hosting.shards().lease_holds(self.hosting.now());
            if lease {
                self.slot.tell(status);
            }
            for reply in self.pausing.drain(..) {
                drop(reply.send(Ok(status.clone())));
            }
        }
    }

    /// The run cannot go on by itself: it rests until an operator resumes or cancels it.
    ///
    /// A run that is to be cancelled ends instead: what its journal knows is undone.
    pub(super) async fn stuck(&mut self, ledger: &Arc<Ledger>, why: String) {
        if is_cancelling(ledger) {
            tracing::error!(run = %self.slot.key, why, "a cancelled run would be stuck");
            return self.end(ledger, Ending::Cancelled, None, None).await;
        }
        tracing::error!(run = %self.slot.key, why, "a run is stuck");
        self.counted = false;
        let error = self.run().and_then(|run| run.status.error.clone());
        let status = Status {
            error,
            ..Status::because(State::Stuck, why)
        };
        let writes = vec![
            runs::update(&ledger.place, Change::to(&status)),
            ledger.rest(),
        ];
        if self.stored(ledger, Vec::new(), writes).await {
            self.becomes(&status);
        }
    }

    /// The journal cannot be read: the run is stuck, and nothing is written to its journal.
    pub(super) async fn unusable(&mut self, why: &str) {
        tracing::error!(run = %self.slot.key, why, "a run is stuck");
        let status = Status::because(State::Stuck, why);
        let mut writes = vec![runs::update(&self.place, Change::to(&status))];
        let row = self.loaded.as_ref().and_then(|loaded| loaded.row);
        writes.extend(row.map(|row| messages::delete(row.seq)));
        let stored = self.hosting.commit(self.slot.shard, writes).await;
        match stored {
            Ok(actor_core::store::lane::Verdict::Committed(_)) => self.becomes(&status),
            other => self.lost(&format!("its end was not stored: {other:?}")),
        }
    }

    async fn pause(&mut self, ledger: &Arc<Ledger>) {
        let error = self.run().and_then(|run| run.status.error.clone());
        let status = Status {
            error,
            ..Status::of(State::Paused)
        };
        let writes = vec![
            runs::update(&ledger.place, Change::to(&status)),
            ledger.rest(),
        ];
        // The entry says that no step is under way.
        let entries = if ledger.in_doubt() {
            Vec::new()
        } else {
            vec![Entry::Paused]
        };
        if self.stored(ledger, entries, writes).await {
            for reply in std::mem::take(&mut self.pausing) {
                drop(reply.send(Ok(status.clone())));
            }
            self.becomes(&status);
        }
    }

    /// The body panicked outside its steps: it runs again after a pause, a few times.
    pub(super) async fn crashed(&mut self, panic: String) {
        let Some(ledger) = self.drop_body().await else {
            return;
        };
        self.sagas.meter.restart();
        if is_cancelling(&ledger) {
            // It would panic again: what its journal knows is undone.
            tracing::warn!(run = %self.slot.key, panic, "a cancelled run's body panicked");
            return ledger.doubt(false);
        }
        let Some(loaded) = &mut self.loaded else {
            return;
        };
        let Some(row) = &mut loaded.row else { return };
        row.attempts += 1;
        let (attempts, seq) = (row.attempts, row.seq);
        let why = format!("panicked: {panic}");
        if attempts >= ATTEMPTS_MAX {
            return self.stuck(&ledger, why).await;
        }
        tracing::warn!(run = %self.slot.key, attempts, why, "a run's body panicked");
        let failed = messages::record_failure(seq, attempts, &why);
        self.retry(&ledger, format!("{why} (attempt {attempts})"), vec![failed])
            .await;
        self.hold(attempts);
    }

    async fn undo_failed(&mut self, ledger: &Arc<Ledger>, name: &str, failure: Failure) {
        self.undo_failures += 1;
        let (attempts, fatal) = (self.undo_failures, failure.fatal);
        let why = format!("undoing `{name}` failed (attempt {attempts}): {failure}");
        if fatal {
            return self.stuck(ledger, why).await;
        }
        tracing::warn!(run = %self.slot.key, why, "a step could not be undone yet");
        self.retry(ledger, why, Vec::new()).await;
        self.hold(attempts);
    }

    /// Shows why the run waits before it tries again.
    async fn retry(&mut self, ledger: &Arc<Ledger>, why: String, mut writes: Vec<Write>) {
        let Some(run) = self.run() else { return };
        run.status.reason = Some(why.into());
        let change = Change::to(&run.status);
        writes.push(runs::update(&ledger.place, change));
        self.stored(ledger, Vec::new(), writes).await;
    }
}

/// Says whether a run is to be cancelled and did not decide so yet.
fn is_cancelling(ledger: &Ledger) -> bool {
    let replay = &ledger.lock().replay;
    replay.cancelled() && replay.ending().is_none()
}
