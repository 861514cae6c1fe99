//! What a user writes: the recipe and what it carries through.

use std::{future::Future, marker::PhantomData, pin::Pin};

use actor_core::{
    Failure, Result,
    codec::{Codec, CodecError},
    groups::DEFAULT_GROUP,
    id::EntityId,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::saga::{Saga, Status};

/// A recipe: a type whose values are the inputs of runs. Implement it with `#[derive(Workflow)]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a workflow",
    note = "write `#[derive(Workflow, Serialize, Deserialize)]` on the struct"
)]
pub trait Workflow: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// What a completed run returns.
    type Output: Serialize + DeserializeOwned + Send + 'static;
    /// The stable wire name.
    const KIND: &'static str;
    /// The name of its group of shards: nodes that host no kind of a group own none of its shards.
    const GROUP: &'static str = DEFAULT_GROUP;
    /// The version of the recipe; a run keeps the one it began with.
    const VERSION: u32;
    /// Whether the outside may start runs.
    const EXPOSED: bool;
}

/// What a workflow carries through.
///
/// The body runs again from the top after a crash and after each sleep, so everything that is not
/// decided by the input and by what [`Saga`] returned belongs into a step.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say what it carries through",
    note = "write `impl Run for {Self} {{ async fn run(&self, saga: &mut Saga) -> Result<…> {{ … }} }}`"
)]
pub trait Run: Workflow {
    /// Carries one run through.
    ///
    /// `Err` ends the run as failed: its steps are undone, the last one first.
    fn run(&self, saga: &mut Saga) -> impl Future<Output = Result<Self::Output>> + Send;
}

/// A body that runs; it ends with the output in MessagePack.
pub(crate) type Body = Pin<Box<dyn Future<Output = Result<Vec<u8>>> + Send>>;

/// A workflow without its type, so that one host serves all.
pub(crate) trait Recipe: Send + Sync {
    fn kind(&self) -> &'static str;
    fn group(&self) -> &'static str;
    fn version(&self) -> u32;
    fn exposed(&self) -> bool;
    /// Reads an input and writes it as it is stored.
    fn input(&self, codec: Codec, bytes: &[u8]) -> Result<Vec<u8>, CodecError>;
    /// Returns the body of a run.
    fn body(&self, input: &[u8], saga: Saga) -> Result<Body, CodecError>;
    /// Writes a status for the outside.
    fn status(&self, id: &EntityId, status: &Status, codec: Codec) -> Result<Vec<u8>, CodecError>;
}

/// The recipe of workflow `W`.
pub(crate) struct RecipeOf<W>(pub(crate) PhantomData<fn() -> W>);

/// A status in the outside's words.
#[derive(Serialize)]
struct Words<'a, T: Serialize> {
    id: &'a EntityId,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a Failure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

impl<W: Run> Recipe for RecipeOf<W> {
    fn kind(&self) -> &'static str {
        W::KIND
    }

    fn group(&self) -> &'static str {
        W::GROUP
    }

    fn version(&self) -> u32 {
        W::VERSION
    }

    fn exposed(&self) -> bool {
        W::EXPOSED
    }

    fn input(&self, codec: Codec, bytes: &[u8]) -> Result<Vec<u8>, CodecError> {
        let input: W = codec.decode(bytes)?;
        Codec::Msgpack.encode(&input)
    }

    fn body(&self, input: &[u8], mut saga: Saga) -> Result<Body, CodecError> {
        let workflow: W = Codec::Msgpack.decode(input)?;
        Ok(Box::pin(async move {
            let output = workflow.run(&mut saga).await;
            saga.end().await;
            let encoded = Codec::Msgpack.encode(&output?);
            encoded.map_err(|error| Failure::fatal("unwritable", error))
        }))
    }

    fn status(&self, id: &EntityId, status: &Status, codec: Codec) -> Result<Vec<u8>, CodecError> {
        let result = status.result.as_deref();
        let result: Option<W::Output> = result
            .map(|bytes| Codec::Msgpack.decode(bytes))
            .transpose()?;
        codec.encode(&Words {
            id,
            state: status.state.as_str(),
            result,
            error: status.error.as_ref(),
            reason: status.reason.as_deref(),
        })
    }
}
