//! What a run answers: begin, say how it is, cancel, pause, resume.

use std::{sync::Arc, time::Duration};

use actor_core::{Refusal, RequestContext, codec::Codec, store::lane::Verdict};

use super::{
    decide::moves,
    host::{Activation, Known, Loaded},
    slot::{Asked, Question},
    state::{State, Status},
};
use crate::{
    journal::{Entry, Progress},
    store::{
        mailbox::{self, Drive},
        runs::{self, Change},
    },
};

/// How long the attempt that runs when a run is cancelled may take before it is cut off.
pub(super) const CANCEL_GRACE: Duration = Duration::from_secs(30);

impl Activation {
    /// Answers one question; a run whose rows must be read again asks itself once more.
    pub(super) async fn answer(&mut self, asked: Asked) {
        let answer = match asked.question.clone() {
            Question::Start(input, request) => self.start(input, request).await,
            Question::Status => self.status(),
            Question::Final => match self.status() {
                Ok(status) if !status.state.is_final() => return self.slot.wait(asked.reply),
                other => other,
            },
            Question::Cancel => self.cancel().await,
            Question::Pause => match self.status() {
                Ok(status) if moves(status.state) => {
                    self.pausing.push(asked.reply);
                    if let (Some(_), Some(ledger)) = (&self.body, &self.ledger) {
                        ledger.halt();
                    }
                    return;
                }
                other => other,
            },
            Question::Resume => self.resume().await,
        };
        // A reply may only leave while nobody else can own the run.
        let lease = self.hosting.shards().lease_holds(self.hosting.now());
        let gone = || Refusal::Unavailable("the node's lease ran out".into());
        drop(
            asked
                .reply
                .send(answer.and_then(|status| lease.then_some(status).ok_or_else(gone))),
        );
    }

    fn status(&mut self) -> Result<Status, Refusal> {
        let key = self.slot.key.clone();
        let waits = self.ledger.as_ref().and_then(|ledger| ledger.waits_for());
        match self.run() {
            Some(run) => Ok(Status {
                reason: waits.or_else(|| run.status.reason.clone()),
                ..run.status.clone()
            }),
            None => Err(Refusal::NotHosted(
                format!("`{}` has no run `{}`", key.kind, key.id).into(),
            )),
        }
    }

    async fn start(
        &mut self,
        input: Arc<[u8]>,
        request: Option<Arc<RequestContext>>,
    ) -> Result<Status, Refusal> {
        if let Some(run) = self.run() {
            return match same_input(&run.input, &input) {
                true => Ok(run.status.clone()),
                false => Err(Refusal::KeyReused),
            };
        }
        let version = self.sagas.recipe.version();
        let context = request
            .as_ref()
            .map(|request| Codec::Msgpack.encode(&**request));
        let context = context.and_then(Result::ok).unwrap_or_default();
        let row = mailbox::message(&self.place, Duration::ZERO).write(self.slot.shard);
        let writes = vec![
            row,
            runs::insert(&self.place, version, input.clone(), context),
        ];
        self.hosting.pass("start").await;
        let verdict = self.hosting.commit(self.slot.shard, writes).await?;
        self.hosting.pass("started").await;
        let Some(seq) = numbered(&verdict) else {
            self.lost(&format!("its start was not stored: {verdict:?}"));
            return Err(Refusal::Unavailable("the start was not stored".into()));
        };
        let status = Status::of(State::Running);
        self.settled = true;
        self.loaded = Some(Loaded {
            run: Some(Known {
                status: status.clone(),
                version,
                input,
                request,
            }),
            row: Some(fresh(seq, Duration::ZERO)),
        });
        Ok(status)
    }

    /// Asks the run to end and undo: stored before it is answered.
    ///
    /// The attempt that runs is let end, so that its outcome is known and undone too; one that
    /// takes longer than [`CANCEL_GRACE`] is cut off where it waits. A step that an earlier life of
    /// the run may have done is done again first, under the same key: only so is it known what to
    /// undo.
    async fn cancel(&mut self) -> Result<Status, Refusal> {
        let status = self.status()?;
        if status.state.is_final() || status.state == State::Compensating {
            return Ok(status);
        }
        let ledger = self.open().await.ok_or_else(unreadable)?;
        let (cancelled, decided) = {
            let replay = &ledger.lock().replay;
            (replay.cancelled(), replay.ending().is_some())
        };
        if cancelled && moves(status.state) {
            return Ok(status);
        }
        let stuck = status.state == State::Stuck;
        let status = Status {
            error: status.error,
            ..Status::because(
                if decided {
                    State::Compensating
                } else {
                    State::Running
                },
                "cancelling",
            )
        };
        let entries = if cancelled {
            Vec::new()
        } else {
            vec![Entry::Cancel]
        };
        if stuck {
            // Its body cannot find out what else it did.
            ledger.doubt(false);
        }
        self.go_on(&ledger, entries, status.clone(), Duration::ZERO)
            .await?;
        if self.body.is_some() {
            ledger.cancel(true);
            self.cancel_by = Some(self.hosting.now() + CANCEL_GRACE);
        }
        Ok(status)
    }

    async fn resume(&mut self) -> Result<Status, Refusal> {
        let status = self.status()?;
        if !matches!(status.state, State::Paused | State::Stuck) {
            // A pause that did not happen yet is taken back.
            for reply in self.pausing.drain(..) {
                drop(reply.send(Ok(status.clone())));
            }
            if let (Some(ledger), None) = (&self.ledger, self.cancel_by) {
                ledger.unhalt();
            }
            return Ok(status);
        }
        let ledger = self.open().await.ok_or_else(unreadable)?;
        let (decided, sleeps) = {
            let replay = &ledger.lock().replay;
            let last = replay.positions().last().map(|last| &last.progress);
            let left = match last {
                Some(Progress::Sleeping { left }) => *left,
                _ => Duration::ZERO,
            };
            (replay.ending().is_some(), left)
        };
        let state = match (decided, sleeps.is_zero()) {
            (true, _) => State::Compensating,
            (false, true) => State::Running,
            (false, false) => State::Suspended,
        };
        let resumed = Status {
            error: status.error,
            reason: (state == State::Suspended).then(|| "timer".into()),
            ..Status::of(state)
        };
        let wait = if decided { Duration::ZERO } else { sleeps };
        self.go_on(&ledger, vec![Entry::Resumed], resumed.clone(), wait)
            .await?;
        self.held_until = None;
        self.undo_failures = 0;
        Ok(resumed)
    }

    /// Stores that the run goes on after `wait`, with a mailbox row that sees to it.
    async fn go_on(
        &mut self,
        ledger: &Arc<super::ledger::Ledger>,
        entries: Vec<Entry>,
        status: Status,
        wait: Duration,
    ) -> Result<(), Refusal> {
        let change = Change {
            wake_after: (!wait.is_zero()).then_some(wait),
            ..Change::to(&status)
        };
        let row = self.loaded.as_ref().and_then(|loaded| loaded.row);
        let row_write = match row {
            Some(_) => ledger.due(None),
            None => mailbox::message(&self.place, wait).write(self.slot.shard),
        };
        let writes = vec![row_write, runs::update(&self.place, change)];
        let Ok(numbers) = ledger.store(entries, writes).await else {
            self.lost("that it goes on was not stored");
            return Err(Refusal::Unavailable("it was not stored".into()));
        };
        let seq = row.map(|row| row.seq).or_else(|| number(&numbers));
        if let (Some(loaded), Some(seq)) = (&mut self.loaded, seq) {
            loaded.row = Some(fresh(seq, wait));
            if let Some(run) = &mut loaded.run {
                run.status = status;
            }
        }
        if row.is_none() {
            // The ledger knew no row; it is made again for this one.
            self.put_away();
            self.arm();
        }
        Ok(())
    }
}

fn unreadable() -> Refusal {
    Refusal::Unavailable("the run's journal cannot be read now".into())
}

fn fresh(seq: i64, due_in: Duration) -> Drive {
    Drive {
        seq,
        due_in,
        attempts: 0,
    }
}

/// Returns the number the store gave to the first write.
fn number(numbers: &[(usize, i64)]) -> Option<i64> {
    let found = numbers.iter().find(|(index, _)| *index == 0);
    found.map(|(_, seq)| *seq)
}

fn numbered(verdict: &Verdict) -> Option<i64> {
    match verdict {
        Verdict::Committed(numbers) => number(numbers),
        _ => None,
    }
}

/// Says whether two inputs are the same value: maps may be written in any order.
fn same_input(one: &[u8], other: &[u8]) -> bool {
    let read = |bytes| Codec::Msgpack.decode::<serde_json::Value>(bytes).ok();
    one == other || read(one).is_some_and(|one| Some(one) == read(other))
}
