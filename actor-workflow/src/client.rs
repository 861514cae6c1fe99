//! Starting runs and asking them, from anywhere a [`Client`] is.

use std::{error::Error, fmt, marker::PhantomData, time::Duration};

use actor_core::{
    Client, EntityId, Failure, Invocation, Refusal,
    client::{CALL_TIMEOUT, CALL_TIMEOUT_MAX},
    codec::Codec,
};
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};

use crate::{overview::Overview, saga::State, workflow::Workflow};

/// What a [`Client`] can do with sagas, and so everything that has one, a simulation too.
pub trait SagaClient: AsRef<Client> {
    /// Returns the run `id` of workflow `W`. Nothing is sent until a method of it is awaited.
    fn saga<W: Workflow>(&self, id: impl fmt::Display) -> SagaRef<W> {
        SagaRef {
            client: self.as_ref().clone(),
            id: EntityId::new(id),
            of: PhantomData,
        }
    }

    /// Starts the run `id` of workflow `W`, as [`SagaRef::start`].
    fn start<W: Workflow>(
        &self,
        id: impl fmt::Display,
        input: W,
    ) -> impl Future<Output = Result<SagaRef<W>, Refusal>> + Send {
        let run = self.saga::<W>(id);
        async move { run.start(input).await }
    }

    /// Returns the operators' view of all runs.
    fn sagas(&self) -> Overview {
        Overview::new(self.as_ref().clone())
    }
}

impl<C: AsRef<Client>> SagaClient for C {}

/// A run of workflow `W`, reachable; it need not exist.
pub struct SagaRef<W> {
    client: Client,
    id: EntityId,
    of: PhantomData<fn() -> W>,
}

/// How a run is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Poll<T> {
    /// Its state.
    pub state: State,
    /// What it returned, if it completed.
    pub result: Option<T>,
    /// Why it failed; also while it is undone.
    pub error: Option<Failure>,
    /// Why it is in that state: what it waits for, or what keeps it from going on.
    pub reason: Option<String>,
}

/// The words of a status.
#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct Words<T> {
    state: State,
    #[serde(default = "Option::default", deserialize_with = "present")]
    result: Option<T>,
    #[serde(default)]
    error: Option<Failure>,
    #[serde(default)]
    reason: Option<String>,
}

/// Reads a field that is there, so that a null is a value too.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// Why a run did not return a result.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SagaError {
    /// It failed with this; its steps are undone.
    Failed(Failure),
    /// It was cancelled; its steps are undone.
    Cancelled,
    /// It is not over yet.
    Pending {
        /// Its state.
        state: State,
        /// Why it is in that state.
        reason: Option<String>,
    },
    /// It could not be asked.
    Refused(Refusal),
}

impl fmt::Display for SagaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(failure) => write!(f, "the run failed: {failure}"),
            Self::Cancelled => f.write_str("the run was cancelled"),
            Self::Pending { state, reason } => match reason {
                Some(reason) => write!(f, "the run is not over: {state}, {reason}"),
                None => write!(f, "the run is not over: {state}"),
            },
            Self::Refused(refusal) => write!(f, "the run could not be asked: {refusal}"),
        }
    }
}

impl Error for SagaError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }
}

impl From<Refusal> for SagaError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// The arguments of `result`.
#[derive(Serialize)]
struct Wait {
    wait_ms: u64,
}

impl<W: Workflow> SagaRef<W> {
    /// Returns the run's id.
    pub fn id(&self) -> &EntityId {
        &self.id
    }

    /// Starts the run, once: with the same input again it is the same run, whatever became of it.
    ///
    /// Returns once the run is stored.
    ///
    /// # Errors
    /// `KeyReused` when it was started with another input, `TooLarge` above 1 MiB, and whatever
    /// keeps it from being stored.
    pub async fn start(&self, input: W) -> Result<Self, Refusal> {
        let encoded = Codec::Msgpack.encode(&input);
        let bytes = encoded.map_err(|error| Refusal::Decode(error.to_string().into()))?;
        self.ask("start", bytes, CALL_TIMEOUT).await?;
        Ok(self.clone())
    }

    /// Waits for the end of the run, at most 5 min, and returns what it returned.
    ///
    /// # Errors
    /// As [`SagaRef::result_within`].
    pub async fn result(&self) -> Result<W::Output, SagaError> {
        self.result_within(CALL_TIMEOUT_MAX).await
    }

    /// Waits for the end of the run, at most `wait`, and returns what it returned.
    ///
    /// # Errors
    /// `Failed` or `Cancelled` when it ended so, `Pending` when it did not end, `Refused` when it
    /// could not be asked or was never started.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn result_within(&self, wait: Duration) -> Result<W::Output, SagaError> {
        let poll = self.poll_within(wait).await?;
        match (poll.state, poll.result, poll.error) {
            (State::Completed, Some(result), _) => Ok(result),
            (State::Failed, _, Some(failure)) => Err(SagaError::Failed(failure)),
            (State::Cancelled, _, _) => Err(SagaError::Cancelled),
            (state, _, _) => Err(SagaError::Pending {
                state,
                reason: poll.reason,
            }),
        }
    }

    /// Returns how the run is now.
    ///
    /// # Errors
    /// `NotHosted` when it was never started.
    pub async fn poll(&self) -> Result<Poll<W::Output>, Refusal> {
        self.poll_within(Duration::ZERO).await
    }

    /// Asks the run to end early and undo its steps; returns its state.
    ///
    /// The promise is stored first. A sleep ends at once. A step's running attempt is let end, and
    /// is undone too if it succeeded; one that takes longer than 30 s is cut off where it waits,
    /// and what it did is not undone. After a crash, a step that can be undone and may have been
    /// under way is done again first, under its key, so that it can be. A run that is over stays as
    /// it is.
    ///
    /// # Errors
    /// `NotHosted` when it was never started.
    pub async fn cancel(&self) -> Result<State, Refusal> {
        Ok(self.ask("cancel", Vec::new(), CALL_TIMEOUT).await?.state)
    }

    /// Stops the run at the next safe point, and returns its state once it did.
    ///
    /// # Errors
    /// `NotHosted` when it was never started, `Timeout` when its step runs on.
    pub async fn pause(&self) -> Result<State, Refusal> {
        Ok(self.ask("pause", Vec::new(), CALL_TIMEOUT).await?.state)
    }

    /// Lets a paused or stuck run go on; returns its state.
    ///
    /// # Errors
    /// `NotHosted` when it was never started.
    pub async fn resume(&self) -> Result<State, Refusal> {
        Ok(self.ask("resume", Vec::new(), CALL_TIMEOUT).await?.state)
    }

    async fn poll_within(&self, wait: Duration) -> Result<Poll<W::Output>, Refusal> {
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let args = Codec::Msgpack.encode(&Wait { wait_ms });
        let args = args.map_err(|error| Refusal::Decode(error.to_string().into()))?;
        self.ask("result", args, wait.saturating_add(CALL_TIMEOUT))
            .await
    }

    async fn ask(
        &self,
        method: &str,
        args: Vec<u8>,
        timeout: Duration,
    ) -> Result<Poll<W::Output>, Refusal> {
        let invocation = Invocation::new(W::KIND, &self.id, method)
            .args(Codec::Msgpack, args)
            .timeout(timeout);
        let answer = self.client.invoke(invocation).await?;
        let words = read::<Words<W::Output>>(&answer.bytes)?;
        Ok(Poll {
            state: words.state,
            result: words.result,
            error: words.error,
            reason: words.reason,
        })
    }
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    let read = Codec::Msgpack.decode(bytes);
    read.map_err(|error| Refusal::Decode(format!("a run's status: {error}").into()))
}

impl<W> Clone for SagaRef<W> {
    fn clone(&self) -> Self {
        Self {
            client: self.client.clone(),
            id: self.id.clone(),
            of: PhantomData,
        }
    }
}

impl<W: Workflow> fmt::Debug for SagaRef<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", W::KIND, self.id)
    }
}
