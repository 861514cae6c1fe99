//! The ractor actor that carries a run: it answers what the run is asked while its body runs.
//!
//! An activation is one long turn of the actor: it loads the run, does what `decide.rs` says
//! (`acts.rs`), answers (`answers.rs`), and ends when the run rests for a while. The body is polled
//! beside the questions, in the same task; a panic in it is caught.

use std::{sync::Arc, task::Poll, time::Duration};

use actor_core::{
    Failure, Refusal, RequestContext, Result,
    clock::Instant,
    codec::Codec,
    hosting::{Hosting, Resident},
    store::{StoreError, StoreErrorKind, entities::Place},
};
use ractor::{Actor, ActorProcessingErr, ActorRef, Message};

use super::{
    caught::poll_caught,
    decide::moves,
    directory::Sagas,
    ledger::{Fence, Ledger, Stop},
    slot::{Reply, Slot},
    state::{State, Status},
    step::backoff,
};
use crate::{
    journal::{Entry, Replay, decode_failure},
    store::{
        journal::{self, JournalRow},
        mailbox::{self, Drive},
        runs::{self, RunRow},
    },
    workflow::Body,
};

/// Journal entries fetched at a time.
const ENTRIES: u32 = 512;

/// Starts the activation's turn.
#[derive(Debug)]
struct Begin;

impl Message for Begin {}

struct SagaHost;

/// What the host knows of its run; dropped with the actor, however that ends.
pub(crate) struct Activation {
    pub(super) hosting: Arc<Hosting>,
    pub(super) sagas: Arc<Sagas>,
    pub(super) slot: Arc<Slot>,
    pub(super) place: Place,
    pub(super) fence: Fence,
    /// The run as it was read and changed since; `None` until it is read.
    pub(super) loaded: Option<Loaded>,
    /// The run's journal, while it is needed.
    pub(super) ledger: Option<Arc<Ledger>>,
    pub(super) body: Option<Body>,
    /// When a body that is to be cancelled is dropped wherever it is.
    pub(super) cancel_by: Option<Instant>,
    /// Who asked for a pause that did not happen yet.
    pub(super) pausing: Vec<Reply>,
    /// Failed attempts in a row to undo the same step.
    pub(super) undo_failures: u32,
    /// Failures in a row of the store.
    pub(super) failures: u32,
    /// Nothing is done before this.
    pub(super) held_until: Option<Instant>,
    /// The journal that was in memory last is known to lack nothing that is to be undone.
    pub(super) settled: bool,
    /// A suspect row was counted in this activation.
    pub(super) counted: bool,
    _resident: Resident,
}

/// A run's rows.
pub(crate) struct Loaded {
    pub(super) run: Option<Known>,
    pub(super) row: Option<Drive>,
}

/// A run that was started.
pub(crate) struct Known {
    pub(super) status: Status,
    pub(super) version: u32,
    pub(super) input: Arc<[u8]>,
    pub(super) request: Option<Arc<RequestContext>>,
}

/// What a turn beside the body ended with.
enum Turn {
    /// There may be questions.
    Changed,
    /// The body returned, or panicked.
    Ended(Result<Result<Vec<u8>>, String>),
    /// The body does not go on.
    Stopped(Stop),
    /// The body was given long enough to come to a safe point.
    Overdue,
}

/// Starts the actor of a new activation.
pub(super) fn spawn(
    hosting: &Arc<Hosting>,
    sagas: &Arc<Sagas>,
    slot: &Arc<Slot>,
) -> Result<(), Refusal> {
    let activation = Activation {
        place: Place::new(&slot.key, slot.shard),
        fence: Fence {
            epoch: hosting.epoch(slot.shard)?,
            activation: hosting.next_activation(),
        },
        hosting: hosting.clone(),
        sagas: sagas.clone(),
        slot: slot.clone(),
        loaded: None,
        ledger: None,
        body: None,
        cancel_by: None,
        pausing: Vec::new(),
        undo_failures: 0,
        failures: 0,
        held_until: None,
        settled: false,
        counted: false,
        _resident: hosting.resident(slot.shard)?,
    };
    let supervisor = hosting.supervisor(slot.shard)?;
    let failed =
        |why: &dyn std::fmt::Display| Refusal::Unavailable(format!("cannot host: {why}").into());
    ractor::ActorRuntime::spawn_linked_instant(None, SagaHost, activation, supervisor)
        .map_err(|error| failed(&error))
        .and_then(|(actor, _started)| actor.cast(Begin).map_err(|error| failed(&error)))
}

impl Actor for SagaHost {
    type Msg = Begin;
    type State = Activation;
    type Arguments = Activation;

    async fn pre_start(
        &self,
        _: ActorRef<Begin>,
        activation: Activation,
    ) -> Result<Activation, ActorProcessingErr> {
        Ok(activation)
    }

    async fn handle(
        &self,
        myself: ActorRef<Begin>,
        _: Begin,
        activation: &mut Activation,
    ) -> Result<(), ActorProcessingErr> {
        Box::pin(activation.live()).await;
        myself.stop(None);
        Ok(())
    }
}

impl Activation {
    /// Carries the run until it rested long enough, or must go.
    async fn live(&mut self) {
        while !self.slot.is_closed() {
            if !self
                .hosting
                .shards()
                .holds(self.slot.shard, self.slot.tenure)
            {
                return self.slot.close(); // Somebody else may have carried the run on.
            }
            if self.loaded.is_none() {
                if self.is_held() {
                    self.wait_held().await;
                } else {
                    self.load().await;
                }
                continue;
            }
            if let Some(asked) = self.slot.next() {
                self.answer(asked).await;
            } else if self.body.is_some() {
                self.turn().await;
            } else if self.slot.take_ring() && !self.is_due() {
                // Only the store knows whether the row is due now.
                self.forget();
            } else if self.is_held() {
                self.wait_held().await;
            } else if !self.act().await {
                self.slot.set_active(false, self.hosting.now());
                self.slot.changed().await;
                self.slot.set_active(true, self.hosting.now());
            }
        }
    }

    /// Polls the body until it ends, stops, or something else is to be done.
    async fn turn(&mut self) {
        let (Some(ledger), Some(body)) = (self.ledger.clone(), &mut self.body) else {
            return;
        };
        let clock = self.hosting.clock();
        let overdue = self.cancel_by.unwrap_or_else(|| clock.now() + FAR);
        let polled = std::future::poll_fn(|cx| {
            let polled = poll_caught(body.as_mut(), cx);
            // A body that stopped never wakes again by itself.
            if let Some(stop) = ledger.take_stop() {
                return Poll::Ready(Turn::Stopped(stop));
            }
            polled.map(Turn::Ended)
        });
        // The body keeps its place when another arm wins; the others only wait.
        let turn = tokio::select! {
            biased;
            turn = polled => turn,
            () = self.slot.changed() => Turn::Changed,
            () = clock.sleep_until(overdue) => Turn::Overdue,
        };
        match turn {
            Turn::Changed => {}
            Turn::Ended(Ok(outcome)) => self.ended(outcome).await,
            Turn::Ended(Err(panic)) => self.crashed(panic).await,
            Turn::Stopped(stop) => self.stopped(stop).await,
            Turn::Overdue => {
                ledger.doubt(false);
                self.stopped(Stop::Halted).await;
            }
        }
    }

    /// Reads the run's rows, under the epoch that is valid now.
    async fn load(&mut self) {
        self.hosting.lanes().forget(self.fence.activation);
        self.hosting.lanes().settled(self.slot.shard).await;
        let Ok(epoch) = self.hosting.epoch(self.slot.shard) else {
            return self.slot.close();
        };
        self.fence = Fence {
            epoch,
            activation: self.hosting.next_activation(),
        };
        let place = self.place.clone();
        let read = self.hosting.store().read("load run", move |connection| {
            Box::pin(async move {
                let run = readable(runs::load(connection, &place).await)?;
                Ok((run, readable(mailbox::load(connection, &place).await)?))
            })
        });
        match read.await {
            Ok((run, row)) => self.found(run, row).await,
            Err(error) => self.lost(&error.to_string()),
        }
    }

    /// Notes what was read. Without its mailbox row a run that should go on is stuck.
    async fn found(
        &mut self,
        run: Result<Option<RunRow>, String>,
        row: Result<Option<Drive>, String>,
    ) {
        let run = match run {
            Ok(run) => run.map(Known::read),
            Err(why) => Some(Known::unreadable(&why)),
        };
        let goes_on = run.as_ref().is_some_and(|run| moves(run.status.state));
        let lacks = match &row {
            Ok(Some(_)) => None,
            Ok(None) => Some("its stored message is gone: is it a dead letter?".to_owned()),
            Err(why) => Some(format!("its stored message cannot be read: {why}")),
        };
        let row = row.ok().flatten();
        self.loaded = Some(Loaded { run, row });
        match lacks.filter(|_| goes_on) {
            Some(why) => self.unusable(&why).await,
            None => self.arm(),
        }
    }

    /// Lets the node's timers wake the run when its row becomes due.
    pub(super) fn arm(&self) {
        let row = self.loaded.as_ref().and_then(|loaded| loaded.row);
        if let Some(row) = row.filter(|row| !row.due_in.is_zero()) {
            let timer = mailbox::timer(&self.place, row.seq, row.due_in);
            self.hosting.accept_row(timer, 0);
        }
    }

    /// Reads the journal, if it is not in memory.
    pub(super) async fn open(&mut self) -> Option<Arc<Ledger>> {
        if let Some(ledger) = &self.ledger {
            return Some(ledger.clone());
        }
        let loaded = self.loaded.as_ref()?;
        let seq = loaded.row.map_or(0, |row| row.seq);
        let request = loaded.run.as_ref().and_then(|run| run.request.clone());
        match self.read_journal().await {
            Ok(Ok(replay)) => {
                let (hosting, slot) = (self.hosting.clone(), self.slot.clone());
                let place = self.place.clone();
                let mut ledger = Ledger::new(hosting, slot, place, seq, self.fence, replay);
                ledger.request = request;
                if self.settled {
                    ledger.doubt(false);
                }
                self.ledger = Some(Arc::new(ledger));
                self.ledger.clone()
            }
            Ok(Err(why)) => {
                self.unusable(&why).await;
                None
            }
            Err(error) => {
                self.lost(&error.to_string());
                None
            }
        }
    }

    async fn read_journal(&mut self) -> Result<Result<Replay, String>, StoreError> {
        let mut replay = Replay::default();
        let mut after = 0;
        loop {
            let (kind, id) = (self.place.kind.clone(), self.place.id.clone());
            let read = self
                .hosting
                .store()
                .read("load journal", move |connection| {
                    Box::pin(
                        async move { journal::load(connection, &kind, &id, after, ENTRIES).await },
                    )
                });
            let rows = read.await?;
            let full = rows.len() == ENTRIES as usize;
            for row in rows {
                after = row.seq;
                if let Err(why) = push(&mut replay, &row) {
                    return Ok(Err(why));
                }
            }
            if !full {
                return Ok(Ok(replay));
            }
        }
    }

    /// Says whether the run's mailbox row is due.
    pub(super) fn is_due(&self) -> bool {
        let row = self.loaded.as_ref().and_then(|loaded| loaded.row);
        row.is_some_and(|row| row.due_in.is_zero())
    }

    /// Returns the run, if there is one.
    pub(super) fn run(&mut self) -> Option<&mut Known> {
        self.loaded.as_mut()?.run.as_mut()
    }

    /// Throws away what is known; the store is asked again.
    pub(super) fn forget(&mut self) {
        (self.body, self.ledger, self.loaded) = (None, None, None);
        (self.cancel_by, self.settled) = (None, false);
    }

    /// Puts the journal out of memory while nothing of the run is under way.
    pub(super) fn put_away(&mut self) {
        if let Some(ledger) = self.ledger.take() {
            self.settled = !ledger.in_doubt();
        }
    }

    /// The store did not do its part: everything is read again after a pause.
    pub(super) fn lost(&mut self, why: &str) {
        tracing::warn!(run = %self.slot.key, why, "a run is read again");
        self.forget();
        self.failures += 1;
        self.hold(self.failures);
    }

    /// Holds the run for a pause that grows with the number of failures.
    pub(super) fn hold(&mut self, failures: u32) {
        let pause = backoff(failures, self.hosting.rng());
        self.held_until = Some(self.hosting.now() + pause);
    }

    fn is_held(&mut self) -> bool {
        let now = self.hosting.now();
        self.held_until = self.held_until.filter(|until| *until > now);
        self.held_until.is_some()
    }

    async fn wait_held(&mut self) {
        let until = self.held_until.unwrap_or_else(|| self.hosting.now());
        // Both arms only wait.
        tokio::select! {
            biased;
            () = self.slot.changed() => {}
            () = self.hosting.clock().sleep_until(until) => {}
        }
    }
}

/// A time that is not reached: a day.
const FAR: Duration = Duration::from_secs(24 * 3600);

fn push(replay: &mut Replay, row: &JournalRow) -> Result<(), String> {
    let unreadable = |why: &dyn std::fmt::Display| {
        format!("entry {} of the journal cannot be read: {why}", row.seq)
    };
    let entry = row.entry.as_ref().map_err(|why| unreadable(why))?;
    let entry = Entry::decode(entry).map_err(|error| unreadable(&error))?;
    if usize::try_from(row.seq) != Ok(replay.entries() + 1) {
        return Err(format!("entry {} of the journal follows a gap", row.seq));
    }
    let pushed = replay.push(entry, row.age);
    pushed.map_err(|corrupt| corrupt.to_string())
}

/// Tells a row that cannot be read from a store that does not answer: only the latter passes.
fn readable<T>(row: Result<T, StoreError>) -> Result<Result<T, String>, StoreError> {
    match row {
        Ok(row) => Ok(Ok(row)),
        Err(error) if error.kind() == StoreErrorKind::Unreadable => Ok(Err(error.to_string())),
        Err(error) => Err(error),
    }
}

impl Known {
    /// Returns what stands for a run whose row cannot be read: one that does nothing.
    fn unreadable(why: &str) -> Self {
        Self {
            status: Status::because(State::Stuck, format!("its row cannot be read: {why}")),
            version: 0,
            input: Arc::default(),
            request: None,
        }
    }

    fn read(row: RunRow) -> Self {
        let request: Option<RequestContext> = Codec::Msgpack.decode(&row.context).ok();
        let (state, reason) = match State::parse(&row.state) {
            Some(state) => (state, row.reason),
            // A newer program wrote it: leave the run to that one.
            None => (State::Stuck, Some(format!("unknown state `{}`", row.state))),
        };
        Self {
            status: Status {
                state,
                result: row.result.map(Into::into),
                error: row.error.as_deref().map(decode_failure),
                reason: reason.map(Into::into),
            },
            version: row.version,
            input: row.input.into(),
            request: request.map(Arc::new),
        }
    }
}

impl Drop for Activation {
    fn drop(&mut self) {
        let refusal = || Refusal::Unavailable("the run's activation ended".into());
        self.sagas.forget(&self.slot);
        for reply in self.slot.drain().into_iter().chain(self.pausing.drain(..)) {
            // A caller that went away abandoned the answer.
            drop(reply.send(Err(refusal())));
        }
        self.hosting.lanes().forget(self.fence.activation);
    }
}

/// A failure of the body that is not its own doing.
pub(super) fn oversize(bytes: usize) -> Failure {
    Failure::fatal(
        "too_large",
        format!("the output has {bytes} bytes, 1 MiB is accepted"),
    )
}
