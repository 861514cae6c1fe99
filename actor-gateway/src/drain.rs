//! Stopping in order: who is told, and who is still there.
//!
//! A server's own graceful end does not know of upgraded sockets, so they are counted here.

use std::sync::Arc;

use tokio::sync::watch;

/// The end of a server, seen from its sockets and streams. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Drain(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    begun: watch::Sender<bool>,
    residents: watch::Sender<usize>,
}

/// Somebody the drain waits for; leaves when dropped.
#[derive(Debug)]
pub struct Resident(Drain);

impl Default for Drain {
    fn default() -> Self {
        Self(Arc::new(Inner {
            begun: watch::Sender::new(false),
            residents: watch::Sender::new(0),
        }))
    }
}

impl Drain {
    /// Tells everybody to finish. Telling twice is harmless.
    pub fn begin(&self) {
        self.0.begun.send_replace(true);
    }

    /// Says whether the end has begun.
    pub fn has_begun(&self) -> bool {
        *self.0.begun.borrow()
    }

    /// Waits for the beginning of the end. Cancel safe.
    pub async fn begun(&self) {
        let mut begun = self.0.begun.subscribe();
        // It cannot fail: the sender lives as long as `self`.
        drop(begun.wait_for(|begun| *begun).await);
    }

    /// Counts somebody in.
    pub fn enter(&self) -> Resident {
        self.0.residents.send_modify(|count| *count += 1);
        Resident(self.clone())
    }

    /// Returns how many are there.
    pub fn residents(&self) -> usize {
        *self.0.residents.borrow()
    }

    /// Waits until nobody is there. Cancel safe.
    pub async fn empty(&self) {
        let mut residents = self.0.residents.subscribe();
        drop(residents.wait_for(|count| *count == 0).await);
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        self.0.0.residents.send_modify(|count| *count -= 1);
    }
}
