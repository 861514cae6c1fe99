//! How a caller waits: for an answer until its deadline, and before it asks again.

use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::sync::oneshot;

use super::Hosting;
use crate::{
    client::CALL_TIMEOUT_MAX,
    clock::Instant,
    entity::{Handlers, slot::Slot},
    error::Refusal,
    wheel::{Alarm, AlarmId, Wheel},
};

/// The pause before a call is made again under its identity, +-50 %.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

impl Hosting {
    /// Returns when a call with this time-out ends.
    pub fn deadline(&self, timeout: Duration) -> Instant {
        self.now() + timeout.min(CALL_TIMEOUT_MAX)
    }

    /// Waits for an answer until `deadline`. Cancel safe: dropping abandons the answer.
    pub(crate) async fn answer_by<K: Handlers, T>(
        &self,
        deadline: Instant,
        mut receiver: oneshot::Receiver<Result<T, Refusal>>,
        queued: Option<(Arc<Slot<K>>, u64)>,
    ) -> Result<T, Refusal> {
        let mut alarm = AlarmGuard {
            wheel: &self.wheel,
            id: None,
        };
        std::future::poll_fn(|cx| {
            use std::task::Poll;
            if let Poll::Ready(answer) = Pin::new(&mut receiver).poll(cx) {
                return Poll::Ready(answer.unwrap_or_else(|_| Err(gone())));
            }
            if self.now() >= deadline {
                let started = !queued
                    .as_ref()
                    .is_some_and(|(slot, number)| slot.withdraw(*number));
                return Poll::Ready(Err(Refusal::Timeout { started }));
            }
            alarm.arm(deadline, cx.waker());
            Poll::Pending
        })
        .await
    }

    /// Waits before a call is made again under its identity; ends with `refusal` at the deadline.
    pub async fn pause_before_retry(
        &self,
        deadline: Instant,
        refusal: Refusal,
    ) -> Result<(), Refusal> {
        let pause = self.rng.jitter(RETRY_PAUSE, 50);
        if self.now() + pause >= deadline || self.draining.load(Ordering::Relaxed) {
            return Err(refusal);
        }
        self.clock.sleep(pause).await;
        Ok(())
    }
}

/// The refusal for a reply that was dropped: its handler was cut off.
pub(crate) fn gone() -> Refusal {
    Refusal::UnknownOutcome("the entity was stopped while it ran".into())
}

/// An alarm that is taken back when its waiter is done.
pub(crate) struct AlarmGuard<'a> {
    pub(crate) wheel: &'a Wheel,
    pub(crate) id: Option<AlarmId>,
}

impl AlarmGuard<'_> {
    pub(crate) fn arm(&mut self, deadline: Instant, waker: &std::task::Waker) {
        match self.id {
            Some(id) if self.wheel.rewake(id, waker) => {}
            _ => self.id = Some(self.wheel.set(deadline, Alarm::Wake(waker.clone()))),
        }
    }
}

impl Drop for AlarmGuard<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.wheel.cancel(id);
        }
    }
}
