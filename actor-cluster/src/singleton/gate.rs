//! What keeps a singleton from running where it must not, whatever woke it.

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::Poll,
};

use actor_core::{Failure, Result, ShardId, clock::Clock, shards::Shards};

/// How a run ended by itself.
#[derive(Debug)]
pub(super) enum Ended {
    /// It returned.
    Returned(Result<()>),
    /// It may not run any more.
    Lost,
}

/// Runs `body` as long as it may; a panic of it is a failure.
///
/// Invariant: nothing of `body` runs once the lease is over by this node's clock or the shard is
/// not its own any more. A node that was frozen finds out here, before anything it was about to do.
pub(super) async fn guarded(
    body: impl Future<Output = Result<()>>,
    shards: &Shards,
    shard: ShardId,
) -> Ended {
    let mut body = pin!(body);
    poll_fn(|cx| {
        if !shards.may_step(shard, Clock.now()) {
            return Poll::Ready(Ended::Lost);
        }
        // What panicked is dropped and never polled again.
        let polled = catch_unwind(AssertUnwindSafe(|| body.as_mut().poll(cx)));
        match polled {
            Ok(poll) => poll.map(Ended::Returned),
            Err(panic) => Poll::Ready(Ended::Returned(Err(panicked(panic.as_ref())))),
        }
    })
    .await
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Failure {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Failure::new(
        "panicked",
        format_args!("it panicked: {}", text.unwrap_or("?")),
    )
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        sync::atomic::{AtomicU32, Ordering},
        time::Duration,
    };

    use actor_core::id::{Epoch, Incarnation, NodeId};

    use super::*;

    const SHARD: ShardId = ShardId(0);

    fn shards() -> Shards {
        let shards = Shards::new(1, NodeId::new("a"), Incarnation(1));
        shards.grant(SHARD, Epoch(1));
        shards.extend_lease(Clock.now() + Duration::from_secs(9));
        shards
    }

    /// Counts how often it is asked to go on.
    async fn steps(count: &AtomicU32) -> Result<()> {
        loop {
            count.fetch_add(1, Ordering::Relaxed);
            Clock.sleep(Duration::from_secs(1)).await;
        }
    }

    async fn once<T>(mut run: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        poll_fn(|cx| Poll::Ready(run.as_mut().poll(cx))).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_was_frozen_does_nothing_when_it_wakes() {
        let (shards, count) = (shards(), AtomicU32::new(0));
        let mut run = pin!(guarded(steps(&count), &shards, SHARD));
        assert!(once(run.as_mut()).await.is_pending());

        tokio::time::advance(Duration::from_secs(10)).await;
        let ended = once(run.as_mut()).await;

        assert!(matches!(ended, Poll::Ready(Ended::Lost)), "{ended:?}");
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_frozen_shard_lets_it_go_on_and_a_cut_one_does_not() {
        let (shards, count) = (shards(), AtomicU32::new(0));
        let mut run = pin!(guarded(steps(&count), &shards, SHARD));
        assert!(once(run.as_mut()).await.is_pending());

        shards.freeze(SHARD);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(once(run.as_mut()).await.is_pending());
        shards.cut(SHARD);
        let ended = once(run.as_mut()).await;

        assert!(matches!(ended, Poll::Ready(Ended::Lost)), "{ended:?}");
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_panic_is_a_failure() {
        let shards = shards();

        let ended = guarded(async { panic!("no {}", "luck") }, &shards, SHARD).await;

        let Ended::Returned(Err(failure)) = ended else {
            panic!("{ended:?}");
        };
        assert_eq!(failure, Failure::new("panicked", "it panicked: no luck"));
    }
}
