//! The only clock and the only source of randomness (architecture D13).
//!
//! `Clock` is the node's monotonic time: tokio's, which a simulation pauses and steps. The database
//! clock is the store's port, not this one.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

pub use tokio::time::Instant;

/// The node's monotonic time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock;

impl Clock {
    /// Returns the time now.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn now(self) -> Instant {
        Instant::now()
    }

    /// Waits for `duration`. Cancel safe.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub async fn sleep(self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    /// Waits until `deadline`. Cancel safe.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub async fn sleep_until(self, deadline: Instant) {
        tokio::time::sleep_until(deadline).await;
    }

    /// Returns wall-clock time as milliseconds since 1970, for people and for SQLite's `$now`.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn wall_ms(self) -> i64 {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |elapsed| {
                i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
            })
    }
}

/// A shared generator; seeded by the simulator, from the system otherwise. Not for secrets.
#[derive(Clone, Debug)]
pub struct Rng(Arc<Mutex<fastrand::Rng>>);

impl Rng {
    /// Returns a generator whose sequence is decided by `seed`.
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(fastrand::Rng::with_seed(seed))))
    }

    /// Returns a generator seeded by the system.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the source of randomness"
    )]
    pub fn from_system() -> Self {
        Self(Arc::new(Mutex::new(fastrand::Rng::new())))
    }

    /// Returns 64 random bits.
    pub fn bits(&self) -> u64 {
        self.with(|rng| rng.u64(..))
    }

    /// Returns a number below `bound`, or 0 for a bound of 0.
    pub fn below(&self, bound: u64) -> u64 {
        if bound == 0 {
            0
        } else {
            self.with(|rng| rng.u64(..bound))
        }
    }

    /// Returns `duration` changed by up to `percent` either way.
    pub fn jitter(&self, duration: Duration, percent: u32) -> Duration {
        let swing = f64::from(percent) / 100.0;
        duration.mul_f64(1.0 - swing + 2.0 * swing * self.with(fastrand::Rng::f64))
    }

    fn with<T>(&self, draw: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        draw(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
