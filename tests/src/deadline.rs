//! Real time for tests against real programs: every wait ends at a deadline.
//!
//! Not for code that runs in the simulator, which has its own clock. This is the only file of the
//! suites that reads real time.

use std::{future::Future, time::Duration};

use tokio::time::Instant;

use crate::{Failure, Result};

/// Between two looks at a condition that another program cannot announce.
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// The moment at which a wait gives up.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// Returns the deadline `duration` from now.
    #[expect(
        clippy::disallowed_methods,
        reason = "other programs do not follow a clock of ours"
    )]
    pub fn after(duration: Duration) -> Self {
        Self(Instant::now() + duration)
    }

    /// Returns the deadline `seconds` from now.
    pub fn seconds(seconds: u64) -> Self {
        Self::after(Duration::from_secs(seconds))
    }

    /// Returns whether the deadline has passed.
    pub fn is_past(self) -> bool {
        Self::after(Duration::ZERO).0 >= self.0
    }

    /// Waits until the deadline. Cancel safe.
    #[expect(
        clippy::disallowed_methods,
        reason = "other programs do not follow a clock of ours"
    )]
    pub async fn wait(self) {
        tokio::time::sleep_until(self.0).await;
    }

    /// Waits for `work`, which is dropped at the deadline.
    ///
    /// # Errors
    /// When the deadline came first; the failure names `what`.
    pub async fn limit<F: Future>(self, what: &str, work: F) -> Result<F::Output> {
        tokio::select! {
            biased;
            // Both are dropped here: the caller has given up on `work`.
            output = work => Ok(output),
            () = self.wait() => Err(Failure::new(format!("{what}: not done in time"))),
        }
    }

    /// Looks again and again until `look` returns something.
    ///
    /// Only for a state of another program that it cannot announce.
    ///
    /// # Errors
    /// When the deadline came first; the failure names `what`.
    pub async fn poll<T>(self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> Result<T> {
        loop {
            if let Some(found) = self.limit(what, look()).await? {
                return Ok(found);
            }
            self.limit(what, Self::after(BETWEEN_LOOKS).wait()).await?;
        }
    }
}

/// Measures how long something took.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts measuring.
    #[expect(
        clippy::disallowed_methods,
        reason = "other programs do not follow a clock of ours"
    )]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Returns the time since the start.
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wait_that_never_ends_fails_at_its_deadline_and_says_what() {
        let deadline = Deadline::after(Duration::from_millis(5));

        let failure = deadline
            .limit("the answer", std::future::pending::<()>())
            .await
            .unwrap_err();

        assert_eq!(failure.to_string(), "the answer: not done in time");
    }

    #[tokio::test]
    async fn a_condition_is_looked_at_until_it_holds() {
        let mut looks = 0;

        let found = Deadline::seconds(5).poll("three looks", async || {
            looks += 1;
            (looks == 3).then_some(looks)
        });

        assert_eq!(found.await.unwrap(), 3);
    }
}
