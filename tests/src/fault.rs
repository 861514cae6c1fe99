//! An executor whose jobs a test can hold, lose or answer falsely, and whose clock it moves.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
};

use actor_core::store::executor::{BoxFuture, Executor, Job, Lost, TaskExecutor};
use tokio::sync::{Notify, Semaphore};

/// When the test's database clock begins, in milliseconds since 1970.
const EPOCH_MS: i64 = 1_700_000_000_000;

/// Runs jobs like [`TaskExecutor`], except for those a test planned something for.
#[derive(Debug)]
pub struct FaultExecutor {
    now_ms: AtomicI64,
    plans: Mutex<BTreeMap<&'static str, VecDeque<Plan>>>,
    begun: Mutex<BTreeMap<&'static str, usize>>,
    changed: Notify,
}

/// What becomes of one job.
#[derive(Debug)]
enum Plan {
    /// Never runs, and the caller knows.
    LoseJob,
    /// Runs, and the caller does not learn how it ended.
    LoseAnswer,
    /// Runs when the test opens the gate.
    Hold(Arc<Semaphore>),
}

/// Lets a held job go, at the latest when dropped.
#[derive(Debug)]
pub struct Gate(Arc<Semaphore>);

impl Drop for Gate {
    fn drop(&mut self) {
        self.0.add_permits(1);
    }
}

impl Default for FaultExecutor {
    fn default() -> Self {
        Self {
            now_ms: AtomicI64::new(EPOCH_MS),
            plans: Mutex::default(),
            begun: Mutex::default(),
            changed: Notify::new(),
        }
    }
}

impl FaultExecutor {
    /// The next job of this label never runs.
    pub fn lose_job(&self, label: &'static str) {
        self.plan(label, Plan::LoseJob);
    }

    /// The next job of this label runs, but its answer is lost.
    pub fn lose_answer(&self, label: &'static str) {
        self.plan(label, Plan::LoseAnswer);
    }

    /// The next job of this label waits for the gate to be dropped.
    pub fn hold(&self, label: &'static str) -> Gate {
        let gate = Arc::new(Semaphore::new(0));
        self.plan(label, Plan::Hold(Arc::clone(&gate)));
        Gate(gate)
    }

    /// Returns how many jobs of this label were handed over so far.
    pub fn begun(&self, label: &'static str) -> usize {
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.get(label).copied().unwrap_or_default()
    }

    /// Waits until `count` jobs of this label were handed over.
    pub async fn reached(&self, label: &'static str, count: usize) {
        loop {
            // Made before the look, so that no change in between is missed.
            let changed = self.changed.notified();
            if self.begun(label) >= count {
                return;
            }
            changed.await;
        }
    }

    /// Moves the database's clock on.
    pub fn advance_ms(&self, by_ms: i64) {
        self.now_ms.fetch_add(by_ms, Ordering::Relaxed);
    }

    fn plan(&self, label: &'static str, plan: Plan) {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        plans.entry(label).or_default().push_back(plan);
    }

    fn planned(&self, label: &'static str) -> Option<Plan> {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        plans.get_mut(label)?.pop_front()
    }

    fn count(&self, label: &'static str) {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        *begun.entry(label).or_default() += 1;
        drop(begun);
        self.changed.notify_waiters();
    }
}

impl Executor for FaultExecutor {
    fn run(&self, label: &'static str, job: Job) -> BoxFuture<'static, Result<(), Lost>> {
        self.count(label);
        let plan = self.planned(label);
        Box::pin(async move {
            match plan {
                Some(Plan::LoseJob) => return Err(Lost::Job("the test lost the job".into())),
                Some(Plan::Hold(gate)) => drop(gate.acquire().await),
                Some(Plan::LoseAnswer) => {
                    TaskExecutor.run(label, job).await?;
                    return Err(Lost::Answer("the test lost the answer".into()));
                }
                None => {}
            }
            TaskExecutor.run(label, job).await
        })
    }

    fn now_ms(&self) -> i64 {
        self.now_ms.load(Ordering::Relaxed)
    }
}
