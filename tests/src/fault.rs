//! An executor whose jobs a test can hold, lose or answer falsely, and whose clock it moves.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
};

use actor_core::store::{
    Sql, Store, StoreError,
    executor::{BoxFuture, Executor, Job, Lost, TaskExecutor},
};
use tokio::sync::{Mutex as AsyncMutex, Notify, Semaphore};

/// When the test's database clock begins, in milliseconds since 1970.
const EPOCH_MS: i64 = 1_700_000_000_000;

/// Runs jobs like [`TaskExecutor`], except for those a test planned something for.
#[derive(Debug)]
pub struct FaultExecutor {
    now_ms: Arc<AtomicI64>,
    server_clock: Mutex<Option<Arc<ServerClock>>>,
    plans: Mutex<BTreeMap<&'static str, VecDeque<Plan>>>,
    begun: Mutex<BTreeMap<&'static str, usize>>,
    changed: Notify,
}

/// A database with a clock of its own, which is made to follow the test's.
#[derive(Debug)]
struct ServerClock {
    store: Store,
    now_ms: Arc<AtomicI64>,
    /// What it was set to last.
    set_ms: AsyncMutex<i64>,
}

const CLOCK_TABLE: Sql = Sql::same("CREATE TABLE test_clock (now_ms bigint NOT NULL)");

const CLOCK_ROW: Sql = Sql::same("INSERT INTO test_clock VALUES (0)");

const CLOCK_FUNCTION: Sql = Sql::same(
    "CREATE OR REPLACE FUNCTION actor_now() RETURNS bigint LANGUAGE sql STABLE
     AS 'SELECT now_ms FROM test_clock'",
);

const SET_CLOCK: Sql = Sql::same("UPDATE test_clock SET now_ms = $1");

impl ServerClock {
    /// Sets the database's clock to the test's.
    async fn follow(&self) -> Result<(), StoreError> {
        let mut set_ms = self.set_ms.lock().await;
        let now_ms = self.now_ms.load(Ordering::Relaxed);
        if *set_ms == now_ms {
            return Ok(());
        }
        let set = self.store.write("set clock", move |c| {
            Box::pin(async move { c.execute(&SET_CLOCK, vec![now_ms.into()]).await })
        });
        set.await?;
        *set_ms = now_ms;
        Ok(())
    }
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
            now_ms: Arc::new(AtomicI64::new(EPOCH_MS)),
            server_clock: Mutex::default(),
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

    /// Gives the database of `store` a clock that follows the test's: each job finds it set.
    ///
    /// # Errors
    /// When the store refuses a step.
    pub async fn move_clock_of(&self, store: Store) -> Result<(), StoreError> {
        let made = store.write("make clock", |c| {
            Box::pin(async move {
                for step in [&CLOCK_TABLE, &CLOCK_ROW, &CLOCK_FUNCTION] {
                    c.execute(step, vec![]).await?;
                }
                Ok(())
            })
        });
        made.await?;
        let (now_ms, set_ms) = (Arc::clone(&self.now_ms), AsyncMutex::new(0));
        let clock = ServerClock {
            store,
            now_ms,
            set_ms,
        };
        clock.follow().await?;
        *self.clock() = Some(Arc::new(clock));
        Ok(())
    }

    fn clock(&self) -> std::sync::MutexGuard<'_, Option<Arc<ServerClock>>> {
        self.server_clock
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
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
        let clock = self.clock().clone();
        Box::pin(async move {
            if let Some(clock) = clock {
                let followed = clock.follow().await;
                followed.map_err(|error| Lost::Job(format!("the clock: {error}").into()))?;
            }
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
