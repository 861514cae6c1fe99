//! A deadline that moves with every byte and rarely fires: the timer below it is made anew only
//! when it goes off too early.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use actor_core::clock::{Clock, Instant};

/// Fires once nothing happened for a time.
pub(super) struct Alarm {
    after: Duration,
    last: Instant,
    sleep: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Alarm {
    pub(super) fn new(after: Duration) -> Self {
        Self {
            after,
            last: Clock.now(),
            sleep: None,
        }
    }

    /// Notes that something happened.
    pub(super) fn touch(&mut self) {
        self.last = Clock.now();
    }

    /// Waits until nothing happened for the time. Cancel safe.
    pub(super) async fn fired(&mut self) {
        std::future::poll_fn(|cx| self.poll_fired(cx)).await;
    }

    fn poll_fired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let due = self.last + self.after;
            let sleep = self
                .sleep
                .get_or_insert_with(|| Box::pin(Clock.sleep_until(due)));
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.sleep = None;
            if Clock.now() >= due {
                return Poll::Ready(());
            }
        }
    }
}

impl fmt::Debug for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Alarm({:?} after {:?})", self.after, self.last)
    }
}

/// Waits for `work`, at most `limit`; `None` if that was too short. `work` is dropped then, so it
/// must be cancel safe or its result without worth.
pub(super) async fn within<F: Future>(limit: Duration, work: F) -> Option<F::Output> {
    let deadline = Clock.now() + limit;
    tokio::select! {
        biased;
        output = work => Some(output),
        () = Clock.sleep_until(deadline) => None,
    }
}
