//! Sagas: what a body is handed, and the actor that carries it.
//!
//! [`Saga`] is the body's side: steps, sleeps, values. Below it are the shared journal
//! (`ledger.rs`), what is done next (`decide.rs`) and the host (`host.rs`, `directory.rs`).

mod key;
mod step;

mod acts;
mod answers;
mod caught;
mod decide;
mod directory;
mod host;
pub(crate) mod ledger;
pub(crate) mod slot;
pub(crate) mod state;

use std::{
    borrow::Cow,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use actor_core::{Failure, codec::Codec, id::EntityId};

pub use directory::Sagas;
pub use key::StepKey;
pub use ledger::{JOURNAL_BYTES_MAX, JOURNAL_ENTRIES_MAX};
pub use state::State;
pub(crate) use state::Status;
pub use step::{PlannedStep, Step};

use self::ledger::{Ledger, Stop};
use crate::{
    journal::{CommandKind, Entry, Outcome, Recall},
    store::runs::{self, Change},
};

/// The largest input, output or step outcome, in bytes of MessagePack; more ends as `too_large`.
pub const PAYLOAD_BYTES_MAX: usize = 1024 * 1024;

/// A run, as its body sees it.
///
/// What the body asks for here is written down with its outcome. When the body runs again it is
/// told the same outcomes in the same order; a body that asks for something else than its journal
/// has is stopped as `NonDeterministic`. There is no `Client` here: effects belong into steps.
///
/// Await what these methods return at once and to its end. Dropping a step half-way (in a `select!`
/// or a time-out) stops the run as stuck; put the race inside the step instead.
pub struct Saga {
    ledger: Arc<Ledger>,
    /// The position of the next thing the body asks for.
    cursor: usize,
    /// What was asked for and did not end.
    open: Option<Cow<'static, str>>,
    /// The step to undo, if this replay is for that.
    undo: Option<Undo>,
}

/// The step that a replay undoes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Undo {
    pub(crate) position: usize,
    /// Which attempt this is, from 1.
    pub(crate) attempt: u32,
}

impl Saga {
    pub(crate) fn new(ledger: Arc<Ledger>, undo: Option<Undo>) -> Self {
        Self {
            ledger,
            cursor: 0,
            open: None,
            undo,
        }
    }

    /// Returns the id of the run.
    pub fn id(&self) -> &EntityId {
        &self.ledger.key().id
    }

    /// Returns the kind of the workflow.
    pub fn kind(&self) -> &'static str {
        self.ledger.key().kind
    }

    /// Stops here for `duration` of database time, rounded up to whole milliseconds.
    ///
    /// The run leaves memory and survives restarts meanwhile. It wakes up late rather than early.
    pub async fn sleep(&mut self, duration: Duration) {
        let (position, recall) = self.enter(CommandKind::Timer, "".into(), false).await;
        if recall == Recall::New {
            let whole = duration.as_nanos().div_ceil(1_000_000);
            let duration_ms = u64::try_from(whole).unwrap_or(u64::MAX);
            let duration = Duration::from_millis(duration_ms);
            let entry = Entry::Timer {
                position,
                duration_ms,
            };
            let change = Change {
                state: State::Suspended.as_str(),
                reason: Some("timer".into()),
                wake_after: Some(duration),
                ..Change::default()
            };
            let writes = vec![
                self.ledger.due(Some(duration)),
                runs::update(&self.ledger.place, change),
            ];
            match self.ledger.store(vec![entry], writes).await {
                Ok(_) => self.ledger.stop(Stop::Sleeps(duration)).await,
                Err(_) => self.ledger.lost().await,
            }
        }
        self.open = None;
    }

    /// Returns the time by the database's clock, the same at each replay.
    pub async fn now(&mut self) -> SystemTime {
        let ledger = self.ledger.clone();
        let now_ms = self.value("now", || ledger.hosting.store().now_ms()).await;
        UNIX_EPOCH + Duration::from_millis(now_ms.max(0).cast_unsigned())
    }

    /// Returns 64 random bits, the same at each replay. Not for secrets.
    pub async fn random(&mut self) -> u64 {
        let ledger = self.ledger.clone();
        let bits = self.value("random", || ledger.hosting.rng().bits().cast_signed());
        bits.await.cast_unsigned()
    }

    /// Returns a value from outside, made once.
    async fn value(&mut self, name: &'static str, make: impl FnOnce() -> i64 + Send) -> i64 {
        let (position, recall) = self.enter(CommandKind::Value, name.into(), false).await;
        let value = match recall {
            Recall::Done(Outcome::Value(bytes)) => match Codec::Msgpack.decode(&bytes) {
                Ok(value) => value,
                Err(error) => self.unreadable(name, &error).await,
            },
            _ => {
                let value = make();
                let entry = Entry::Value {
                    position,
                    name: name.to_owned(),
                    value: Codec::Msgpack.encode(&value).unwrap_or_default(),
                };
                if self.ledger.store(vec![entry], Vec::new()).await.is_err() {
                    self.ledger.lost().await
                }
                value
            }
        };
        self.open = None;
        value
    }

    /// Moves to the next position and asks the journal for it; ends the body here if it must stop.
    ///
    /// `undo` says whether what is asked for can be undone.
    async fn enter(
        &mut self,
        kind: CommandKind,
        name: Cow<'static, str>,
        undo: bool,
    ) -> (u32, Recall) {
        self.check_open().await;
        let position = self.cursor;
        self.cursor += 1;
        let (recall, room) = {
            let inner = self.ledger.lock();
            let replay = &inner.replay;
            let room = replay.entries() < JOURNAL_ENTRIES_MAX && replay.bytes() < JOURNAL_BYTES_MAX;
            (replay.recall(position, kind, &name), room)
        };
        if !undo && matches!(recall, Ok(Recall::New | Recall::Again { .. })) {
            // Every life of the run came to here at most, and here is nothing to undo.
            self.ledger.doubt(false);
        }
        if self.ledger.is_halted() {
            self.ledger.stop(Stop::Halted).await
        }
        match recall {
            Err(mismatch) => self.ledger.stop(Stop::Stuck(mismatch.to_string())).await,
            Ok(Recall::New | Recall::Again { .. }) if !room => {
                let text = format!("a journal has {JOURNAL_ENTRIES_MAX} entries or 64 MiB at most");
                let failure = Failure::fatal("journal_full", text);
                self.ledger.stop(Stop::Fails(failure)).await
            }
            Ok(recall) => {
                self.open = Some(name);
                (u32::try_from(position).unwrap_or(u32::MAX), recall)
            }
        }
    }

    /// Stops a body that dropped what it asked for: a replay could not know how far that came.
    async fn check_open(&mut self) {
        if let Some(name) = self.open.take() {
            let text =
                format!("`{name}` was dropped before it ended: put the race inside a step instead");
            self.ledger.stop(Stop::Stuck(text)).await
        }
    }

    /// Stops a body whose journal has bytes it cannot read.
    async fn unreadable<T>(&self, name: &str, error: &actor_core::codec::CodecError) -> T {
        let text = format!("the outcome of `{name}` cannot be read: {error}");
        self.ledger.stop(Stop::Stuck(text)).await
    }

    /// The body returned: checks that it asked for everything the journal has.
    pub(crate) async fn end(&mut self) {
        self.check_open().await;
        self.ledger.doubt(false);
        if self.ledger.is_halted() {
            self.ledger.stop(Stop::Halted).await
        }
        let ended = self.ledger.lock().replay.ended_at(self.cursor);
        if let Err(mismatch) = ended {
            self.ledger.stop(Stop::Stuck(mismatch.to_string())).await
        }
    }
}

impl fmt::Debug for Saga {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Saga({}, position {})", self.ledger.key(), self.cursor)
    }
}
