//! Tells whoever waits that something changed, not what: they look for themselves.
//!
//! Not tokio's watch, whose waiters wake in an order that no seed decides: here whoever waited
//! first wakes first, so a simulation repeats itself.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// News of one thing.
///
/// ```
/// use actor_core::news::News;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let news = News::default();
/// let seen = news.version(); // before the look, so that nothing between look and wait is missed
/// news.tell();
/// news.after(seen).await;
/// # }
/// ```
#[derive(Debug, Default)]
pub struct News {
    version: AtomicU64,
    told: Notify,
}

impl News {
    /// Returns a number that changes with each [`News::tell`].
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Wakes everybody who waits, in the order in which they began.
    pub fn tell(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
        self.told.notify_waiters();
    }

    /// Waits until there are news beyond the version that was `seen`.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn after(&self, seen: u64) {
        // Made before the look at the version, so that no news in between are missed.
        let told = self.told.notified();
        if self.version() == seen {
            told.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use super::*;

    fn is_ready(future: std::pin::Pin<&mut impl Future<Output = ()>>) -> bool {
        future.poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    #[test]
    fn who_waits_hears_of_what_was_not_seen_and_of_nothing_else() {
        let news = News::default();
        let seen = news.version();
        let mut early = pin!(news.after(seen));
        assert!(!is_ready(early.as_mut()));

        news.tell();

        assert!(is_ready(early), "it waited");
        assert!(is_ready(pin!(news.after(seen))), "it came late");
        assert!(!is_ready(pin!(news.after(news.version()))), "it knows");
    }
}
