//! Callers: in closed loops, each makes its next call when the former one is answered; paced, each
//! makes its calls at their times.

use std::{fmt::Display, sync::Arc, time::Duration};

use actor_core::clock::{Clock, Instant};
use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use crate::arguments::Plan;

/// The longest latency told apart, in nanoseconds: ten minutes.
const NANOS_MAX: u64 = 600_000_000_000;

/// What a load came to.
#[derive(Debug)]
pub(crate) struct Load {
    /// Operations that ended while it was measured, failed ones left out.
    pub(crate) ops: u64,
    /// Operations that failed.
    pub(crate) errors: u64,
    /// What the first of them said.
    pub(crate) first_error: Option<String>,
    /// How long it was measured.
    pub(crate) took: Duration,
    latencies: Histogram<u64>,
}

/// One operation to make.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    /// The caller, from 0.
    pub(crate) caller: u32,
    /// Its how-manieth operation, from 0, warm-up included.
    pub(crate) number: u64,
}

impl Turn {
    /// Returns an evenly spread choice among `count`, the same for the same turn.
    pub(crate) fn pick(self, count: usize) -> usize {
        // The finaliser of splitmix64: every bit of the input changes half of the output's.
        let mut bits =
            (u64::from(self.caller) << 40 | self.number).wrapping_add(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) % count as u64) as usize
    }
}

impl Load {
    /// Returns a load without operations.
    pub(crate) fn new() -> Self {
        let latencies = Histogram::new_with_max(NANOS_MAX, 3).expect("the bounds are valid");
        Self {
            ops: 0,
            errors: 0,
            first_error: None,
            took: Duration::ZERO,
            latencies,
        }
    }

    /// Counts an operation that succeeded.
    pub(crate) fn succeeded(&mut self, latency: Duration) {
        self.ops += 1;
        self.latencies
            .saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(NANOS_MAX));
    }

    /// Counts an operation that failed.
    pub(crate) fn failed(&mut self, error: impl Display) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| error.to_string());
    }

    /// Counts an operation, however it ended.
    pub(crate) fn count<T>(&mut self, outcome: Result<T, impl Display>, latency: Duration) {
        match outcome {
            Ok(_) => self.succeeded(latency),
            Err(error) => self.failed(error),
        }
    }

    /// Returns the longest latency.
    pub(crate) fn longest(&self) -> Duration {
        Duration::from_nanos(self.latencies.max())
    }

    /// Returns the longest latency in milliseconds.
    pub(crate) fn longest_ms(&self) -> f64 {
        crate::report::rounded(self.longest().as_secs_f64() * 1000.0, 1)
    }

    /// Returns the latency at `quantile` in microseconds.
    pub(crate) fn microseconds(&self, quantile: f64) -> f64 {
        let nanos = self.latencies.value_at_quantile(quantile);
        crate::report::rounded(nanos as f64 / 1000.0, 1)
    }

    /// Adds what another caller measured.
    pub(crate) fn add(&mut self, other: Self) {
        self.ops += other.ops;
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
        self.latencies += other.latencies;
    }
}

/// Lets all callers of the plan take turns with `operation`, first unmeasured, then measured.
pub(crate) async fn closed_loop<F, O, T, E>(plan: &Plan, operation: F) -> Load
where
    F: Fn(Turn) -> O + Send + Sync + 'static,
    O: Future<Output = Result<T, E>> + Send,
    T: Send,
    E: Display + Send,
{
    let operation = Arc::new(operation);
    let begin = Clock.now() + plan.warm_up;
    let end = begin + plan.measured;
    let mut callers = JoinSet::new();
    for caller in 0..plan.concurrency {
        let operation = operation.clone();
        callers.spawn(async move { take_turns(caller, &*operation, begin, end).await });
    }
    gathered(callers, begin).await
}

/// Lets the callers of the plan make `per_s` operations a second together, each at its time; one
/// that is late because its caller waited for the former one counts from when it was due.
pub(crate) async fn paced<F, O, T, E>(plan: &Plan, per_s: f64, operation: F) -> Load
where
    F: Fn(Turn) -> O + Send + Sync + 'static,
    O: Future<Output = Result<T, E>> + Send,
    T: Send,
    E: Display + Send,
{
    let operation = Arc::new(operation);
    let every = Duration::from_secs_f64(f64::from(plan.concurrency) / per_s.max(1.0));
    let begin = Clock.now() + plan.warm_up;
    let end = begin + plan.measured;
    let mut callers = JoinSet::new();
    for caller in 0..plan.concurrency {
        let operation = operation.clone();
        let first = Clock.now() + every * caller / plan.concurrency;
        callers.spawn(async move {
            let (mut load, mut due, mut number) = (Load::new(), first, 0);
            while due < end {
                Clock.sleep_until(due).await;
                let outcome = operation(Turn { caller, number }).await;
                if due >= begin {
                    load.count(outcome, Clock.now().saturating_duration_since(due));
                }
                (due, number) = (due + every, number + 1);
            }
            load
        });
    }
    gathered(callers, begin).await
}

async fn gathered(mut callers: JoinSet<Load>, begin: Instant) -> Load {
    let mut load = Load::new();
    while let Some(caller) = callers.join_next().await {
        match caller {
            Ok(measured) => load.add(measured),
            Err(error) => load.failed(error),
        }
    }
    load.took = Clock.now().saturating_duration_since(begin);
    load
}

async fn take_turns<F, O, T, E>(caller: u32, operation: &F, begin: Instant, end: Instant) -> Load
where
    F: Fn(Turn) -> O,
    O: Future<Output = Result<T, E>>,
    E: Display,
{
    let mut load = Load::new();
    let mut number = 0;
    let mut started = Clock.now();
    while started < end {
        let outcome = operation(Turn { caller, number }).await;
        let ended = Clock.now();
        if started >= begin {
            load.count(outcome, ended - started);
        }
        (started, number) = (ended, number + 1);
    }
    load
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_choose_evenly() {
        let mut chosen = [0; 10];
        for number in 0..10_000 {
            chosen[Turn { caller: 3, number }.pick(10)] += 1;
        }

        assert!(
            chosen.iter().all(|times| (850..1150).contains(times)),
            "{chosen:?}"
        );
    }
}
