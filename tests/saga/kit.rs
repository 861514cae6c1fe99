//! The workflows and entities the tests run, and lives of a node that can end at any point.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use actor_core::{
    Client, Component, Entity, Failure, Result,
    clock::Clock,
    handlers,
    hosting::Hosting,
    router::Probe,
    store::{BoxFuture, TaskExecutor, sql::Sql},
};
use actor_tests::hosting::{client, host_with, url};
use actor_workflow::{Run, Saga, SagaClient, SagaRef, State, Step, Workflow, client::Poll};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, Semaphore};

/// Long enough for anything these tests wait for.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// What happened outside of any run, and what is to go wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct World(Arc<Mutex<Lines>>);

#[derive(Debug, Default)]
struct Lines {
    log: Vec<String>,
    keys: Vec<String>,
}

impl World {
    /// Notes that something happened.
    pub(crate) fn note(&self, line: impl Into<String>, key: impl std::fmt::Display) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.log.push(line.into());
        lines.keys.push(key.to_string());
    }

    /// Returns what happened, in order.
    pub(crate) fn log(&self) -> Vec<String> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.log.clone()
    }

    /// Returns the keys under which it happened, in the same order.
    pub(crate) fn keys(&self) -> Vec<String> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.keys.clone()
    }

    /// Returns how often this happened.
    pub(crate) fn count(&self, line: &str) -> usize {
        self.log().iter().filter(|seen| *seen == line).count()
    }
}

/// Lets a test hold steps and see that they began.
#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<(Notify, Semaphore)>);

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new((Notify::new(), Semaphore::new(0))))
    }
}

impl Gate {
    pub(crate) async fn pass(&self) {
        self.0.0.notify_one();
        let permit = self.0.1.acquire().await;
        permit.expect("the gate is never closed").forget();
    }

    pub(crate) async fn entered(&self) {
        self.0.0.notified().await;
    }

    pub(crate) fn open(&self) {
        self.0.1.add_permits(1000);
    }
}

/// One thing a trip does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Op {
    /// A step that is noted in the world, with a compensation that is too.
    Do(String),
    /// A step that adds one to the tally and takes it back when undone.
    Add,
    /// A step that fails `fails` times and has `attempts`.
    Flaky { fails: u32, attempts: u32 },
    /// A step that fails for good at once, though it has attempts.
    Fatal,
    /// A step that panics.
    Panic,
    /// A step that waits at the gate.
    Hold,
    /// A step whose undoing fails this often.
    HardToUndo(u32),
    /// Sleeps this many milliseconds.
    Sleep(u64),
    /// Asks for the time and for a random number.
    Values,
    /// Returns this failure.
    Fail(String),
}

/// Does what its input says, and returns what it was told.
#[derive(Clone, Debug, Workflow, Serialize, Deserialize)]
#[workflow(output = Vec<String>, expose)]
pub(crate) struct Trip {
    pub(crate) ops: Vec<Op>,
}

impl Trip {
    pub(crate) fn of(ops: impl IntoIterator<Item = Op>) -> Self {
        Self {
            ops: ops.into_iter().collect(),
        }
    }
}

impl Run for Trip {
    async fn run(&self, saga: &mut Saga) -> Result<Vec<String>> {
        let mut told = Vec::new();
        for op in &self.ops {
            told.extend(once(op, saga).await?);
        }
        Ok(told)
    }
}

#[expect(
    clippy::too_many_lines,
    reason = "one arm for each operation, read as a table"
)]
async fn once(op: &Op, saga: &mut Saga) -> Result<Option<String>> {
    let world = |step: &Step| step.resource::<World>().clone();
    match op {
        Op::Do(name) => {
            let done = saga.step(name.clone(), |step| async move {
                world(&step).note(name, step.key());
                Ok::<_, Failure>(format!("{name} done"))
            });
            let undo = |value: String, step: Step| async move {
                world(&step).note(format!("undo {name}: {value}"), step.key());
                Ok::<_, Failure>(())
            };
            return done.compensate(undo).await.map(Some);
        }
        Op::Add => {
            let added = saga.step("add", |step| async move {
                step.entity::<Tally>("t").add(1).await
            });
            let undo = |_, step: Step| async move { step.entity::<Tally>("t").add(-1).await };
            let sum = added.compensate(undo).await?;
            return Ok(Some(format!("added to {sum}")));
        }
        Op::Flaky { fails, attempts } => {
            let tried = saga.step("flaky", |step| async move {
                world(&step).note(format!("attempt {}", step.attempt()), step.key());
                if step.attempt() <= *fails {
                    let text = format!("not at attempt {}", step.attempt());
                    return Err(Failure::new("flaky", text));
                }
                Ok(step.attempt())
            });
            let attempt = tried.attempts(*attempts).await?;
            return Ok(Some(format!("attempt {attempt}")));
        }
        Op::Fatal => {
            let tried = saga.step("fatal", |step| async move {
                world(&step).note("fatal", step.key());
                Err::<(), _>(Failure::fatal("declined", "the card was declined"))
            });
            tried.attempts(5).await?;
        }
        Op::Panic => {
            let panics = saga.step("panic", |step| async move {
                world(&step).note("panic", step.key());
                let nothing: Result<()> = if step.attempt() > 0 {
                    panic!("oh no")
                } else {
                    Ok(())
                };
                nothing
            });
            // The body may go on after a step that panicked.
            if let Err(failure) = panics.await {
                return Ok(Some(format!("{}: {failure}", failure.kind)));
            }
        }
        Op::Hold => {
            let held = saga.step("hold", |step| async move {
                step.resource::<Gate>().pass().await;
                world(&step).note("held", step.key());
                Ok::<_, Failure>(())
            });
            let undo = |(), step: Step| async move {
                world(&step).note("undo held", step.key());
                Ok::<_, Failure>(())
            };
            held.compensate(undo).await?;
        }
        Op::HardToUndo(fails) => {
            let done = saga.step("hard", |_| async { Ok::<_, Failure>(()) });
            let undo = |(), step: Step| async move {
                world(&step).note(format!("undo hard {}", step.attempt()), step.key());
                match step.attempt() <= *fails {
                    true => Err(Failure::new("busy", "not now")),
                    false => Ok(()),
                }
            };
            done.compensate(undo).await?;
        }
        Op::Sleep(ms) => saga.sleep(Duration::from_millis(*ms)).await,
        Op::Values => {
            let now = saga.now().await;
            return Ok(Some(format!("{now:?} {}", saga.random().await)));
        }
        Op::Fail(kind) => return Err(Failure::new(kind, "as asked").with_data(7.into())),
    }
    Ok(None)
}

/// A durable sum.
#[derive(Debug, Default, Entity, Serialize, Deserialize)]
#[entity(durable)]
pub(crate) struct Tally {
    sum: i64,
}

#[handlers]
impl Tally {
    pub fn add(&mut self, amount: i64) -> i64 {
        self.sum += amount;
        self.sum
    }

    pub fn sum(&self) -> i64 {
        self.sum
    }
}

/// Ends a life at the `at`-th point that is passed, counted from 1.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trap(Arc<(AtomicUsize, Notify, Mutex<Option<String>>)>);

impl Trap {
    pub(crate) fn at(at: usize) -> Self {
        let trap = Self::default();
        trap.0.0.store(at, Ordering::SeqCst);
        trap
    }

    /// Waits until the point is reached; returns its name.
    pub(crate) async fn sprung(&self) -> String {
        self.0.1.notified().await;
        let point = self.0.2.lock().unwrap_or_else(PoisonError::into_inner);
        point.clone().unwrap_or_default()
    }
}

impl Probe for Trap {
    fn reached(&self, point: &str) -> BoxFuture<'static, ()> {
        let left = self
            .0
            .0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            });
        if left != Ok(1) {
            return Box::pin(std::future::ready(()));
        }
        *self.0.2.lock().unwrap_or_else(PoisonError::into_inner) = Some(point.to_owned());
        self.0.1.notify_one();
        Box::pin(std::future::pending())
    }
}

/// One life of a node.
pub(crate) struct Life {
    pub(crate) hosting: Arc<Hosting>,
    pub(crate) client: Client,
}

/// What a life is given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Given {
    pub(crate) world: World,
    pub(crate) gate: Gate,
    pub(crate) trap: Option<Trap>,
}

impl Life {
    /// Begins a life that hosts trips.
    pub(crate) async fn begin(folder: &Path, given: &Given) -> Self {
        Self::hosting::<(Trip, Tally)>(folder, given).await
    }

    /// Begins a life that hosts `C`.
    pub(crate) async fn hosting<C: Component>(folder: &Path, given: &Given) -> Self {
        let (url, given) = (url(folder), given.clone());
        let hosting = host_with::<C>(&url, Arc::new(TaskExecutor), |config| {
            config.resources.insert(given.world);
            config.resources.insert(given.gate);
            if let Some(trap) = given.trap {
                config.probe = Some(Arc::new(trap));
            }
        });
        let hosting = hosting.await;
        let client = client(&hosting);
        Self { hosting, client }
    }

    /// Returns a trip.
    pub(crate) fn trip(&self, id: &str) -> SagaRef<Trip> {
        self.client.saga::<Trip>(id)
    }

    /// Starts a trip and returns it.
    pub(crate) async fn start(&self, id: &str, ops: impl IntoIterator<Item = Op>) -> SagaRef<Trip> {
        let started = self.trip(id).start(Trip::of(ops)).await;
        started.expect("it starts")
    }

    /// Ends the life without a drain, as a crash does.
    pub(crate) async fn crash(self) {
        self.hosting.stop().await;
        self.hosting.store().close().await.expect("closes");
    }
}

/// Polls a run until it is as wanted.
pub(crate) async fn until<W: Workflow>(
    run: &SagaRef<W>,
    wanted: impl Fn(&Poll<W::Output>) -> bool,
) -> Poll<W::Output> {
    let deadline = Clock.now() + SOON;
    loop {
        let poll = run.poll().await.expect("it answers");
        if wanted(&poll) {
            return poll;
        }
        assert!(
            Clock.now() < deadline,
            "it is {} still: {:?}",
            poll.state,
            poll.reason
        );
        tokio::task::yield_now().await;
    }
}

/// Polls a run until it is in this state.
pub(crate) async fn becomes<W: Workflow>(run: &SagaRef<W>, state: State) -> Poll<W::Output> {
    until(run, |poll| poll.state == state).await
}

/// Returns how many stored messages there are.
pub(crate) async fn mailbox_rows(life: &Life) -> i64 {
    let counted = life.hosting.store().read("count", |c| {
        Box::pin(async move {
            let count = Sql::same("SELECT COUNT(*) FROM mailbox");
            c.query_one(&count, Vec::new())
                .await?
                .expect("a row")
                .int(0)
        })
    });
    counted.await.expect("counts")
}
