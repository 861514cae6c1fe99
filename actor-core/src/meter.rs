//! Counts of one kind's calls, kept as plain atomics and handed to the metrics recorder when it is
//! read: a counter per call through the recorder would cost more than the call.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::entity::Method;

/// The outcomes that are told apart, in the order of the columns.
const OUTCOMES: [&str; 6] = [
    "ok",
    "rejected",
    "timeout",
    "overloaded",
    "crashed",
    "refused",
];

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum CallOutcome {
    /// The handler's value.
    Ok,
    /// The handler's error.
    Rejected,
    /// Its deadline passed.
    Timeout,
    /// A bound was reached.
    Overloaded,
    /// The handler panicked.
    Crashed,
    /// Anything else.
    Refused,
}

/// The counts of one kind.
#[derive(Debug)]
pub struct Meter {
    kind: &'static str,
    methods: &'static [Method],
    calls: Vec<[AtomicU64; OUTCOMES.len()]>,
    restarts: AtomicU64,
    redeliveries: AtomicU64,
}

impl Meter {
    /// Returns a meter at zero.
    pub fn new(kind: &'static str, methods: &'static [Method]) -> Self {
        Self {
            kind,
            methods,
            calls: methods.iter().map(|_| Default::default()).collect(),
            restarts: AtomicU64::new(0),
            redeliveries: AtomicU64::new(0),
        }
    }

    /// Counts a call.
    pub fn call(&self, method: usize, outcome: CallOutcome) {
        self.calls[method][outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a reload after a panic.
    pub fn restart(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how many reloads after a panic there were.
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// Counts a stored message that runs again.
    pub fn redelivery(&self) {
        self.redeliveries.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how many calls of any method ended so.
    pub fn total(&self, outcome: CallOutcome) -> u64 {
        self.calls
            .iter()
            .map(|row| row[outcome as usize].load(Ordering::Relaxed))
            .sum()
    }

    /// Returns how many calls ended in each way, by the names the metrics use.
    pub fn totals(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        OUTCOMES.into_iter().enumerate().map(|(column, outcome)| {
            let counts = self.calls.iter().map(move |row| &row[column]);
            (
                outcome,
                counts.map(|count| count.load(Ordering::Relaxed)).sum(),
            )
        })
    }

    /// Hands the counts to the metrics recorder.
    pub fn publish(&self) {
        for (method, row) in self.methods.iter().zip(&self.calls) {
            for (outcome, count) in OUTCOMES.iter().zip(row) {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    metrics::counter!("actor_calls_total", "kind" => self.kind,
                        "method" => method.name, "outcome" => *outcome)
                    .absolute(count);
                }
            }
        }
        metrics::counter!("actor_restarts_total", "kind" => self.kind).absolute(self.restarts());
        metrics::counter!("actor_redeliveries_total", "kind" => self.kind)
            .absolute(self.redeliveries.load(Ordering::Relaxed));
    }
}
