//! Store calls of a simulated node: a virtual wait, the call on a real-time runtime while the
//! world's thread waits, a second virtual wait. Nothing else moves in between, so calls never
//! overlap, and each may be lost, delayed or fatal.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
        mpsc,
    },
    thread::ThreadId,
    time::Duration,
};

use actor_core::{
    clock::Clock,
    store::{
        BoxFuture, Executor,
        executor::{Job, Lost},
    },
};

use super::{
    fault::{Effect, strike},
    machine::{Cut, PartClock},
    network::Part,
    shared::Shared,
};

/// The longest wait before a call is made, in milliseconds.
const BEFORE_MS: u64 = 3;

/// After how long the caller of a call that hangs gives up: a statement's time-out and a grace, as
/// on PostgreSQL.
const GIVE_UP: Duration = Duration::from_secs(6);

/// The longest wait for its answer, in milliseconds.
const AFTER_MS: u64 = 3;

/// The way of one part to the world's database.
#[derive(Clone, Debug)]
pub(super) struct SimExecutor {
    shared: Arc<Shared>,
    part: Part,
    clock: PartClock,
    cut: Arc<Cut>,
    /// The database's time of the call that runs now, for the thread it runs on.
    job_ms: Arc<AtomicI64>,
    world: ThreadId,
}

impl SimExecutor {
    /// Returns the way of a part that lives on this thread.
    pub(super) fn new(shared: Arc<Shared>, part: Part, clock: PartClock, cut: Arc<Cut>) -> Self {
        let world = std::thread::current().id();
        Self {
            shared,
            part,
            clock,
            cut,
            job_ms: Arc::default(),
            world,
        }
    }

    /// Makes one call, or what a fault makes of it.
    async fn call(self, label: &'static str, job: Job) -> Result<(), Lost> {
        let (number, effect) = self.begin(label);
        let (shared, part) = (&self.shared, self.part);
        self.wait(shared.rng.below(BEFORE_MS)).await;
        if let Some(Effect::Slow(by)) = effect {
            Clock.sleep(by).await;
        }
        if !shared.is_alive(part) {
            return std::future::pending().await;
        }
        match effect {
            Some(Effect::Hang) => {
                self.trace(number, label, "hangs");
                Clock.sleep(GIVE_UP).await;
                return Err(Lost::Answer("simulated: no answer in time".into()));
            }
            Some(Effect::CrashBefore) => return self.crash(number, label, "before").await,
            Some(Effect::FailBefore) => {
                self.trace(number, label, "fails");
                self.wait(1 + shared.rng.below(AFTER_MS)).await;
                return Err(Lost::Job("simulated: the call was lost".into()));
            }
            Some(Effect::Late(by)) => {
                self.trace(number, label, "loses its answer and is late");
                tokio::spawn(self.clone().arrive(number, label, job, by));
                self.wait(1 + shared.rng.below(AFTER_MS)).await;
                return Err(Lost::Answer("simulated: the answer was lost".into()));
            }
            _ => {}
        }
        let done = self.run_now(job);
        if let Some(Effect::SlowAnswer(by)) = effect {
            Clock.sleep(by).await;
        }
        match effect {
            Some(Effect::CrashAfter) => return self.crash(number, label, "after").await,
            Some(Effect::FailAfter) => self.trace(number, label, "loses its answer"),
            _ => self.trace(number, label, if done { "done" } else { "panicked" }),
        }
        self.wait(1 + shared.rng.below(AFTER_MS)).await;
        match effect {
            Some(Effect::FailAfter) => Err(Lost::Answer("simulated: the answer was lost".into())),
            _ if done => Ok(()),
            _ => Err(Lost::Answer("the call panicked".into())),
        }
    }

    /// Counts a call and decides its fate.
    fn begin(&self, label: &str) -> (u64, Option<Effect>) {
        let Part::Node { index, .. } = self.part else {
            return (0, None);
        };
        let mut slot = self.shared.slot(index);
        slot.store_calls += 1;
        let effect = strike(&mut slot.faults, label, &self.shared.rng);
        (slot.store_calls, effect)
    }

    /// Runs the job to its end while this thread waits: virtual time stands still meanwhile.
    fn run_now(&self, job: Job) -> bool {
        self.job_ms
            .store(self.shared.database_ms(self.clock.now()), Ordering::SeqCst);
        let (sender, ended) = mpsc::sync_channel(1);
        drop(self.shared.real.spawn(async move {
            job.await;
            // The world waits for it below; it cannot be gone.
            let _ = sender.send(());
        }));
        ended.recv().is_ok()
    }

    /// Makes a call whose caller was told long ago that it is lost; it ends with its node.
    async fn arrive(self, number: u64, label: &'static str, job: Job, after: Duration) {
        Clock.sleep(after).await;
        if self.shared.is_alive(self.part) {
            let done = self.run_now(job);
            self.trace(number, label, if done { "arrives" } else { "panicked" });
        }
    }

    async fn crash<T>(&self, number: u64, label: &str, when: &str) -> T {
        self.trace(number, label, &format!("crashes the node {when} it"));
        let why = format!("store call {number}");
        self.shared.want_crash(self.part, self.clock.now(), why);
        self.cut.now();
        std::future::pending().await
    }

    async fn wait(&self, ms: u64) {
        if ms > 0 {
            Clock.sleep(Duration::from_millis(ms)).await;
        }
    }

    fn trace(&self, number: u64, label: &str, what: &str) {
        let (now, part) = (self.clock.now(), self.part);
        self.shared
            .trace
            .add(now, format_args!("{part} store {number} `{label}` {what}"));
    }
}

impl Executor for SimExecutor {
    fn run(&self, label: &'static str, job: Job) -> BoxFuture<'static, Result<(), Lost>> {
        // A task of its own: a caller that goes away does not take its call back.
        let task = tokio::spawn(self.clone().call(label, job));
        Box::pin(async move {
            let ended = task.await;
            ended.unwrap_or_else(|error| Err(Lost::Answer(error.to_string().into())))
        })
    }

    fn now_ms(&self) -> i64 {
        if std::thread::current().id() == self.world {
            self.shared.database_ms(self.clock.now())
        } else {
            self.job_ms.load(Ordering::SeqCst)
        }
    }
}
