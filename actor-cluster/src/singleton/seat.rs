//! The place of one singleton on one node: waits for its shard, runs the body, starts it again.

use std::{
    fmt,
    ops::ControlFlow,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use actor_core::{
    Client, Failure, ShardId,
    clock::{Clock, Instant},
    store::{StoreError, ownership},
};

use super::{
    Body, Halt, Singleton, SingletonState, SingletonStatus, Stage, Stop,
    gate::{Ended, guarded},
};

/// The pause before the first restart; each next one is twice as long.
const PAUSE: Duration = Duration::from_secs(1);

/// The longest pause, and how long a run must last for the next pause to be the first again.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// The change of each pause either way, in percent: singletons that fail for one reason do not
/// come back at one moment.
const JITTER_PERCENT: u32 = 20;

/// The pause before the database is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Seat {
    name: Arc<str>,
    shard: ShardId,
    body: Body,
    stage: Arc<Stage>,
    now: Mutex<Now>,
}

/// What it is doing.
#[derive(Clone, Debug)]
struct Now {
    state: SingletonState,
    since: Instant,
    restarts: u64,
    trouble: Option<String>,
}

/// Returns the pause after so many failures in a row, without jitter.
fn pause_after(failures: u32) -> Duration {
    let doubled = 1_u32.checked_shl(failures.saturating_sub(1));
    PAUSE_MAX.min(PAUSE.saturating_mul(doubled.unwrap_or(u32::MAX)))
}

impl Seat {
    pub(super) fn new(name: Arc<str>, shard: ShardId, body: Body, stage: Arc<Stage>) -> Self {
        let now = Now {
            state: SingletonState::Elsewhere,
            since: Clock.now(),
            restarts: 0,
            trouble: None,
        };
        Self {
            name,
            shard,
            body,
            stage,
            now: Mutex::new(now),
        }
    }

    /// Runs the singleton whenever its shard is here, until the node halts.
    pub(super) async fn keep(self: Arc<Self>) {
        while !self.is_halted() {
            self.until(|seat| seat.is_halted() || !seat.must_end())
                .await;
            // The shard's handoff waits for what occupies it.
            let Some(occupant) = self.stage.hosting.occupy(self.shard) else {
                continue;
            };
            // Its end is the shard's going, which is looked at above.
            let _ = self.tenure().await;
            self.enter(SingletonState::Elsewhere);
            drop(occupant);
        }
    }

    /// Runs it until the shard goes.
    async fn tenure(&self) -> ControlFlow<()> {
        if !self.stage.alone {
            self.outlast_former_owner().await?;
        }
        let mut failures = 0;
        loop {
            let began = Clock.now();
            let failure = match self.run().await {
                Ended::Lost => return ControlFlow::Break(()),
                Ended::Returned(Ok(())) => {
                    self.enter(SingletonState::Done);
                    self.until(Self::must_end).await;
                    return ControlFlow::Break(());
                }
                Ended::Returned(Err(failure)) => failure,
            };
            let lasted = Clock.now().saturating_duration_since(began);
            failures = if lasted < PAUSE_MAX { failures + 1 } else { 1 };
            self.back_off(failures, &failure).await?;
        }
    }

    /// Waits until no former owner of the shard can think that it is its own.
    ///
    /// The database says for how long that is, once; this node's own clock measures it, because
    /// the database's may step meanwhile.
    async fn outlast_former_owner(&self) -> ControlFlow<()> {
        self.enter(SingletonState::Waits);
        loop {
            match self.quiet().await {
                Ok(Some(left)) => return self.wait(left).await,
                // The row does not say so yet, or no more: the next look at the map tells.
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(singleton = &*self.name, %error, "it waits for the database");
                }
            }
            self.wait(ASK_AGAIN).await?;
        }
    }

    async fn quiet(&self) -> Result<Option<Duration>, StoreError> {
        let (hosting, shard) = (&self.stage.hosting, self.shard);
        let (node, life) = (
            hosting.shards().node().clone(),
            hosting.shards().incarnation(),
        );
        let read = hosting.store().read("quiet shard", move |c| {
            Box::pin(async move { ownership::quiet(c, shard, &node, life).await })
        });
        read.await
    }

    /// Runs the body once: to its end, or until it must not go on.
    async fn run(&self) -> Ended {
        let stop = Arc::<Stop>::default();
        let singleton = Singleton {
            client: Client::new(self.stage.hosting.clone()),
            name: self.name.clone(),
            shard: self.shard,
            stopping: stop.clone(),
        };
        let _running = Running::begin(&self.stage);
        // Looked at after it is counted: whoever halts the node looks in the other order.
        if self.must_end() {
            return Ended::Lost;
        }
        self.enter(SingletonState::Runs);
        tracing::info!(singleton = &*self.name, "it runs here");
        // Called inside, so that a panic on the way to the first await is caught, too.
        let body = async { (self.body)(singleton).await };
        let mut run = pin!(guarded(body, self.stage.hosting.shards(), self.shard));
        // Dropping `run` is how it is cut off; the other arms only wait.
        let told = tokio::select! {
            biased;
            () = self.until(Self::must_end) => None,
            ended = &mut run => Some(ended),
        };
        if let Some(ended) = told {
            return ended;
        }
        self.enter(SingletonState::Stops);
        stop.tell();
        tokio::select! {
            biased;
            () = self.until(Self::must_not_run) => {
                tracing::warn!(singleton = &*self.name, "it did not end in time and is dropped");
            }
            // However it ended, it ended because it was told to.
            _ = run => {}
        }
        Ended::Lost
    }

    async fn back_off(&self, failures: u32, failure: &Failure) -> ControlFlow<()> {
        let rng = self.stage.hosting.rng();
        let pause = rng.jitter(pause_after(failures), JITTER_PERCENT);
        tracing::warn!(singleton = &*self.name, %failure, ?pause, "it failed and starts again");
        self.enter(SingletonState::Backoff);
        self.now().trouble = Some(failure.to_string());
        self.wait(pause).await?;
        self.now().restarts += 1;
        let name = self.name.to_string();
        metrics::counter!("actor_singleton_restarts_total", "singleton" => name).increment(1);
        ControlFlow::Continue(())
    }

    /// Waits; breaks off when the shard goes.
    async fn wait(&self, duration: Duration) -> ControlFlow<()> {
        // Both arms only wait.
        tokio::select! {
            biased;
            () = self.until(Self::must_end) => ControlFlow::Break(()),
            () = Clock.sleep(duration) => ControlFlow::Continue(()),
        }
    }

    /// Waits until `over`, which is looked at whenever a shard comes or goes or the node halts.
    async fn until(&self, over: impl Fn(&Self) -> bool) {
        let (shards, stage) = (self.stage.hosting.shards().news(), &self.stage.news);
        loop {
            // Before the look, so that nothing between look and wait is lost.
            let seen = (shards.version(), stage.version());
            if over(self) {
                return;
            }
            // Both arms only wait.
            tokio::select! {
                biased;
                () = shards.after(seen.0) => {}
                () = stage.after(seen.1) => {}
            }
        }
    }

    fn is_halted(&self) -> bool {
        self.stage.halted() != Halt::No
    }

    /// Says whether a run has to end, or may not begin.
    fn must_end(&self) -> bool {
        let shards = self.stage.hosting.shards();
        self.is_halted() || !shards.serves(self.shard) || !shards.lease_holds(Clock.now())
    }

    /// Says whether a run has to be cut off.
    fn must_not_run(&self) -> bool {
        self.stage.halted() == Halt::Cut || !self.stage.hosting.shards().lasts(self.shard)
    }

    fn enter(&self, state: SingletonState) {
        let mut now = self.now();
        (now.state, now.since) = (state, Clock.now());
    }

    pub(super) fn status(&self) -> SingletonStatus {
        let now = self.now().clone();
        let lasted = Clock.now().saturating_duration_since(now.since);
        SingletonStatus {
            name: self.name.clone(),
            shard: self.shard.0,
            state: now.state,
            for_ms: u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX),
            restarts: now.restarts,
            trouble: now.trouble,
        }
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seat({}, {:?})", self.name, self.now().state)
    }
}

/// A run that counts until this is dropped.
struct Running<'a>(&'a Stage);

impl<'a> Running<'a> {
    fn begin(stage: &'a Stage) -> Self {
        stage.running.fetch_add(1, Ordering::SeqCst);
        Self(stage)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
        self.0.news.tell();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_from_a_second_to_a_minute() {
        let seconds: Vec<_> = (1..=9)
            .map(|failures| pause_after(failures).as_secs())
            .collect();

        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(pause_after(u32::MAX), PAUSE_MAX);
    }
}
