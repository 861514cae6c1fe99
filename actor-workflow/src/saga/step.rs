//! Steps: an effect, written down with its outcome before the body goes on.

use std::{
    borrow::Cow, fmt, future::IntoFuture, marker::PhantomData, ops::Deref, sync::Arc,
    time::Duration,
};

use actor_core::{Client, Failure, Result, clock::Rng, codec::Codec, store::BoxFuture};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    PAYLOAD_BYTES_MAX, Saga, StepKey, Undo,
    caught::caught,
    ledger::{Ledger, Stop},
};
use crate::journal::{CommandKind, Entry, Outcome, Recall, decode_failure, encode_failure};

/// The pause before the second attempt; it doubles up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(100);

/// The longest pause between two attempts.
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// One attempt at a step, as its closure sees it; derefs to [`Client`]. Cheap to clone.
///
/// Calls awaited through it carry ids that follow from the step and their order in it: a repeat of
/// the step makes them again under the same ids, and durable entities answer with the first
/// outcome, a rejection included. Make calls one after the other, so that their order is the same
/// each time.
#[derive(Clone)]
pub struct Step {
    client: Client,
    key: StepKey,
    attempt: u32,
}

impl Step {
    fn new(ledger: &Ledger, position: u32, undo: bool, attempt: u32) -> Self {
        let run = ledger.key();
        let key = StepKey::of(run.kind, run.id.as_str(), position, undo);
        Self {
            client: ledger.client(key.call_id()),
            key,
            attempt,
        }
    }

    /// Returns the step's idempotency key.
    pub fn key(&self) -> StepKey {
        self.key
    }

    /// Returns which attempt this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }
}

impl Deref for Step {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Step({}, attempt {})", self.key, self.attempt)
    }
}

impl Saga {
    /// Prepares a step. It runs when what this returns is awaited, and never again once its outcome
    /// is written down.
    ///
    /// `act` runs at least once: after a crash between its effect and the entry it runs again, with
    /// the same [`Step::key`]. Its outcome reaches the body by way of the journal, also the first
    /// time: only what serializes survives, and an error becomes a [`Failure`]. A panic is a
    /// failure of the kind `panicked`; an outcome above 1 MiB one of the kind `too_large`.
    ///
    /// The name must not depend on anything but the input and earlier outcomes.
    pub fn step<F, R, T, E>(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        act: F,
    ) -> PlannedStep<'_, F, T, NoUndo>
    where
        F: FnMut(Step) -> R + Send,
        R: IntoFuture<Output = Result<T, E>>,
        E: Into<Failure>,
    {
        PlannedStep {
            saga: self,
            name: name.into(),
            act,
            undo: NoUndo,
            attempts: 1,
            value: PhantomData,
        }
    }
}

/// A step that was not awaited yet.
#[must_use = "a step runs when it is awaited"]
pub struct PlannedStep<'s, F, T, U> {
    saga: &'s mut Saga,
    name: Cow<'static, str>,
    act: F,
    undo: U,
    attempts: u32,
    value: PhantomData<fn() -> T>,
}

/// The step needs no undoing.
#[derive(Debug)]
pub struct NoUndo;

/// How a step is undone.
#[derive(Debug)]
pub struct Compensation<C>(C);

/// Undoes a step whose value is `T`.
pub trait Compensate<T>: Send {
    /// Whether there is anything to do.
    const PRESENT: bool;

    /// Undoes the step.
    fn undo<'a>(self, value: T, step: Step) -> BoxFuture<'a, Result<()>>
    where
        Self: 'a,
        T: 'a;
}

impl<T> Compensate<T> for NoUndo {
    const PRESENT: bool = false;

    fn undo<'a>(self, _: T, _: Step) -> BoxFuture<'a, Result<()>>
    where
        Self: 'a,
        T: 'a,
    {
        Box::pin(std::future::ready(Ok(())))
    }
}

impl<T, C, R, V, E> Compensate<T> for Compensation<C>
where
    T: Send,
    C: FnOnce(T, Step) -> R + Send,
    R: IntoFuture<Output = Result<V, E>, IntoFuture: Send>,
    E: Into<Failure>,
{
    const PRESENT: bool = true;

    fn undo<'a>(self, value: T, step: Step) -> BoxFuture<'a, Result<()>>
    where
        Self: 'a,
        T: 'a,
    {
        Box::pin(async move {
            let undoing = (self.0)(value, step).into_future();
            undoing.await.map(drop).map_err(Into::into)
        })
    }
}

impl<'s, F, T, U> PlannedStep<'s, F, T, U> {
    /// Sets how the step is undone if the run fails or is cancelled after it.
    ///
    /// Steps are undone last first, each once its undoing succeeded never again; a failing undoing
    /// is tried again with growing pauses (100 ms up to 10 s) until it succeeds, and a fatal one
    /// stops the run as stuck. `undo` gets the step's value. A step that failed is not undone: if
    /// its effect may have happened all the same (a charge whose answer was lost), let the step
    /// itself find out by its key.
    pub fn compensate<C, R, V, E>(self, undo: C) -> PlannedStep<'s, F, T, Compensation<C>>
    where
        C: FnOnce(T, Step) -> R + Send,
        R: IntoFuture<Output = Result<V, E>>,
        E: Into<Failure>,
    {
        PlannedStep {
            saga: self.saga,
            name: self.name,
            act: self.act,
            undo: Compensation(undo),
            attempts: self.attempts,
            value: PhantomData,
        }
    }

    /// Sets how many attempts the step has; default 1, at least 1.
    ///
    /// Between attempts it waits, 100 ms at first, then twice as long each time up to 10 s, give or
    /// take a fifth. Failed attempts and what is left of the pause survive restarts. A failure that
    /// says it is fatal ends the step at once. One that is the infrastructure's and passes
    /// ([`Failure::is_transient`]) is no attempt: the step is tried again, with the same pauses,
    /// until it passed, and the run shows what it waits for.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }
}

impl<F, T, U> fmt::Debug for PlannedStep<'_, F, T, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PlannedStep({} of {:?})", self.name, self.saga)
    }
}

impl<'s, F, R, T, E, U> IntoFuture for PlannedStep<'s, F, T, U>
where
    F: FnMut(Step) -> R + Send + 's,
    R: IntoFuture<Output = Result<T, E>, IntoFuture: Send + 's> + 's,
    T: Serialize + DeserializeOwned + Send + 's,
    E: Into<Failure>,
    U: Compensate<T> + 's,
{
    type Output = Result<T>;
    type IntoFuture = BoxFuture<'s, Result<T>>;

    fn into_future(self) -> BoxFuture<'s, Result<T>> {
        let Self {
            saga,
            name,
            mut act,
            undo,
            attempts,
            ..
        } = self;
        Box::pin(async move {
            let (position, recall) = saga
                .enter(CommandKind::Step, name.clone(), U::PRESENT)
                .await;
            let outcome = match recall {
                Recall::Done(outcome) => outcome,
                recall => {
                    let mut act = |step: Step| -> BoxFuture<'s, Result<Vec<u8>>> {
                        let acting = act(step).into_future();
                        Box::pin(async move { written(acting.await) })
                    };
                    let task = Task {
                        ledger: saga.ledger.clone(),
                        position,
                        name: &name,
                        attempts,
                        undo: U::PRESENT,
                    };
                    task.run(recall, &mut act).await
                }
            };
            let value = match outcome {
                Outcome::Failure(bytes) => Err(decode_failure(&bytes)),
                Outcome::Value(bytes) => match Codec::Msgpack.decode::<T>(&bytes) {
                    Ok(value) => Ok(value),
                    Err(error) => saga.unreadable(&name, &error).await,
                },
            };
            if let Some(target) = saga.undo
                && target.position == position as usize
            {
                return compensate(saga, target, &name, undo, value).await;
            }
            saga.open = None;
            value
        })
    }
}

/// Writes a step's outcome down.
fn written<T: Serialize, E: Into<Failure>>(outcome: Result<T, E>) -> Result<Vec<u8>> {
    let value = outcome.map_err(Into::into)?;
    let bytes = Codec::Msgpack.encode(&value);
    let bytes = bytes.map_err(|error| Failure::fatal("unwritable", error))?;
    if bytes.len() > PAYLOAD_BYTES_MAX {
        let text = format!("the outcome has {} bytes, 1 MiB is accepted", bytes.len());
        return Err(Failure::fatal("too_large", text));
    }
    Ok(bytes)
}

/// Undoes the step this replay is for. The body ends here, whatever comes of it.
async fn compensate<T, U: Compensate<T>>(
    saga: &mut Saga,
    target: Undo,
    name: &str,
    undo: U,
    value: Result<T>,
) -> Result<T> {
    let ledger = saga.ledger.clone();
    let Some(value) = value.ok().filter(|_| U::PRESENT) else {
        let missing = ledger.lock().replay.undo_missing(target.position);
        return ledger.stop(Stop::Stuck(missing.to_string())).await;
    };
    let position = u32::try_from(target.position).unwrap_or(u32::MAX);
    let step = Step::new(&ledger, position, true, target.attempt);
    let undone = {
        let _working = ledger.slot.working();
        caught(async move { undo.undo(value, step).await }).await
    };
    ledger.hosting.pass(&format!("undo {name}")).await;
    if let Err(failure) = undone.unwrap_or_else(panicked) {
        let name = name.to_owned();
        return ledger.stop(Stop::UndoFailed { name, failure }).await;
    }
    let entry = Entry::Undone {
        position,
        name: name.to_owned(),
        attempts: target.attempt,
    };
    match ledger.store(vec![entry], Vec::new()).await {
        Ok(_) => ledger.stop(Stop::Undone).await,
        Err(_) => ledger.lost().await,
    }
}

fn panicked<T>(text: String) -> Result<T> {
    Err(Failure::new("panicked", text))
}

/// A step to do: everything about it but its types.
struct Task<'t> {
    ledger: Arc<Ledger>,
    position: u32,
    name: &'t str,
    attempts: u32,
    undo: bool,
}

/// One attempt, which ends with the outcome's bytes.
type Act<'a, 's> = &'a mut (dyn FnMut(Step) -> BoxFuture<'s, Result<Vec<u8>>> + Send);

impl Task<'_> {
    /// Tries until there is an outcome for good, and writes down what happened.
    async fn run(&self, recall: Recall, act: Act<'_, '_>) -> Outcome {
        let (mut made, mut pause) = match recall {
            Recall::Again { attempts, pause } => (attempts, pause),
            _ => (0, Duration::ZERO),
        };
        let mut not_counted = 0;
        loop {
            self.ledger.wait(pause).await;
            made += 1;
            if self.undo {
                self.ledger.doubt(true);
            }
            let step = Step::new(&self.ledger, self.position, false, made);
            let outcome = {
                let _working = self.ledger.slot.working();
                caught(async { act(step).await }).await
            };
            self.ledger.hosting.pass(self.name).await;
            match outcome.unwrap_or_else(panicked) {
                Err(failure) if !failure.fatal && failure.is_transient() => {
                    made -= 1;
                    not_counted += 1;
                    pause = backoff(not_counted, self.ledger.hosting.rng());
                    let why = format!("`{}` waits: {failure}", self.name);
                    self.ledger.waits(not_counted, why).await;
                }
                Err(failure) if !failure.fatal && made < self.attempts => {
                    pause = backoff(made, self.ledger.hosting.rng());
                    self.failed(made, &failure, pause).await;
                }
                outcome => return self.ended(made, outcome).await,
            }
        }
    }

    /// Writes down that an attempt failed and another one follows.
    async fn failed(&self, attempt: u32, failure: &Failure, pause: Duration) {
        let entry = Entry::Attempt {
            position: self.position,
            name: self.name.to_owned(),
            attempt,
            error: encode_failure(failure),
            delay_ms: u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
        };
        if self.ledger.store(vec![entry], Vec::new()).await.is_err() {
            self.ledger.lost().await
        }
    }

    /// Writes the outcome down.
    async fn ended(&self, attempts: u32, outcome: Result<Vec<u8>>) -> Outcome {
        let (outcome, undo) = match outcome {
            Ok(bytes) => (Outcome::Value(bytes), self.undo),
            Err(failure) => (Outcome::Failure(encode_failure(&failure)), false),
        };
        let entry = Entry::Step {
            position: self.position,
            name: self.name.to_owned(),
            attempts,
            outcome: outcome.clone(),
            undo,
        };
        match self.ledger.store(vec![entry], Vec::new()).await {
            Ok(_) => outcome,
            Err(_) => self.ledger.lost().await,
        }
    }
}

/// Returns the pause after the `failures`-th failure in a row.
pub(crate) fn backoff(failures: u32, rng: &Rng) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let pause = BACKOFF_MIN.saturating_mul(1 << doublings).min(BACKOFF_MAX);
    rng.jitter(pause, 20)
}
