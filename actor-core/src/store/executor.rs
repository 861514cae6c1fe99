//! When a database job runs, and what its caller sees of it (architecture D8, D14).
//!
//! A job is all of one connection's work: waiting for its turn, a transaction, its end. It is never
//! cancelled half-way: whoever waits may go away, the job does not notice. The simulator puts its
//! own executor here: it waits a virtual time, runs the job to its end on a real-time runtime while
//! its thread blocks, waits again, and may lose the job or its answer.

use std::{fmt, future::Future, pin::Pin};

use crate::clock::Clock;

/// A boxed future that can move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One connection's work from taking the connection to giving it back.
///
/// It must be polled to its end on a runtime whose time is real. It carries its own answer out, so
/// it returns nothing.
pub type Job = BoxFuture<'static, ()>;

/// What an executor did instead of running a job and telling its caller.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lost {
    /// The job never ran: certainly nothing was stored.
    Job(Box<str>),
    /// The job may have run, its answer is lost: it may have been stored.
    Answer(Box<str>),
}

/// Runs database jobs and tells the database's time.
pub trait Executor: fmt::Debug + Send + Sync {
    /// Runs `job` once and completes when its caller may see the answer.
    ///
    /// `label` names the job in traces, such as `"lane"` or `"renew lease"`; it is not unique.
    /// An answer of [`Lost`] hides the job's own.
    ///
    /// # Cancel safety
    /// Dropping the returned future must not stop a job that has begun.
    fn run(&self, label: &'static str, job: Job) -> BoxFuture<'static, Result<(), Lost>>;

    /// Returns the database's time in milliseconds since 1970, for databases without their own
    /// clock.
    fn now_ms(&self) -> i64;
}

/// Runs each job at once in a task of its own; the time is the system's.
#[derive(Clone, Copy, Debug, Default)]
pub struct TaskExecutor;

impl Executor for TaskExecutor {
    fn run(&self, label: &'static str, job: Job) -> BoxFuture<'static, Result<(), Lost>> {
        // The task is detached on purpose: it is the owner of its SQL and ends with it.
        let task = tokio::spawn(job);
        Box::pin(async move {
            task.await
                .map_err(|error| Lost::Answer(format!("the job {label:?} failed: {error}").into()))
        })
    }

    fn now_ms(&self) -> i64 {
        Clock.wall_ms()
    }
}
