//! How long the singletons of a shard wait for a former owner that may not know yet.

use std::time::Duration;

use actor_core::{
    id::{Epoch, Incarnation, NodeId, ShardId},
    store::{
        StoreError,
        nodes::{self},
        ownership::{self, Seen},
    },
};
use actor_tests::{
    Result,
    bed::{Bed, SHARDS, TTL},
};

use crate::{
    for_each_backend,
    leases::{register, take, take_seen, tombstone},
};

/// For how long `node` lets the singletons of the first shard wait.
async fn quiet(
    bed: &Bed,
    node: &'static str,
    incarnation: Incarnation,
) -> Result<Option<Duration>, StoreError> {
    let read = bed.sql(move |c| {
        Box::pin(async move {
            ownership::quiet(c, &[ShardId(0)], &NodeId::new(node), incarnation).await
        })
    });
    Ok(read.await?.first().map(|(_, left)| *left))
}

#[tokio::test]
async fn a_shard_whose_owner_may_not_know_yet_is_quiet_for_a_lease() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let (b, c) = (register(&bed, "b").await?, register(&bed, "c").await?);
        let released = quiet(&bed, "a", Incarnation(1)).await?;

        tombstone(&bed, "a", Incarnation(1)).await?;
        let early = take(&bed, "b", b).await?;
        let taken = quiet(&bed, "b", b).await?;
        bed.fault.advance_ms(4_000);
        let not_its_own = quiet(&bed, "a", Incarnation(1)).await?;
        let all: Vec<_> = (0..SHARDS)
            .map(|shard| (ShardId(shard), Epoch(2)))
            .collect();
        bed.sql(move |c| {
            Box::pin(async move { ownership::release(c, &all, &NodeId::new("b"), b).await })
        })
        .await?;
        let passed_on = take(&bed, "c", c).await?;
        let handed_on = quiet(&bed, "c", c).await?;

        assert_eq!(released, Some(Duration::ZERO), "nobody had it before");
        assert_eq!(taken, Some(TTL));
        assert!(early.iter().chain(&passed_on).all(|it| !it.outlasted));
        assert_eq!(not_its_own, None);
        let left = TTL - Duration::from_secs(4);
        assert_eq!(
            handed_on,
            Some(left),
            "a release in between changes nothing"
        );
        Ok(())
    })
    .await
}

/// By the database's clock the lease is over. Whether the owner knows is another question: its own
/// clock may have seen less time pass.
#[tokio::test]
async fn a_shard_is_quiet_for_the_part_of_a_lease_that_its_taker_did_not_see_pass() -> Result<()> {
    for (seen_ms, later_ms, quiet_ms) in [
        (0, 0, 10_000),
        (9_000, 0, 1_000),
        (10_000, 0, 0),
        (12_000, 0, 0),
        // It was renewed since.
        (9_000, 1, 10_000),
    ] {
        let shown: Result<()> = for_each_backend(async move |backend| {
            let bed = Bed::new(backend).await?;
            let expires_at = expires_at(&bed, "a").await?;
            bed.fault.advance_ms(10_001);
            let b = register(&bed, "b").await?;
            let mut seen = Seen::default();
            let unchanged = Duration::from_millis(seen_ms);
            seen.add(NodeId::new("a"), expires_at - later_ms, unchanged);

            take_seen(&bed, "b", b, seen).await?;

            let left = quiet(&bed, "b", b).await?;
            assert_eq!(left, Some(Duration::from_millis(quiet_ms)), "{seen_ms}");
            Ok(())
        })
        .await;
        shown?;
    }
    Ok(())
}

async fn expires_at(bed: &Bed, node: &'static str) -> Result<i64, StoreError> {
    let rows = bed.sql(|c| Box::pin(nodes::list(c))).await?;
    let row = rows.iter().find(|row| row.node.as_str() == node);
    Ok(row.expect("it is registered").expires_at)
}

/// A row of another life says nothing about the leases of the one before.
#[tokio::test]
async fn a_shard_of_a_life_that_was_replaced_is_quiet_for_the_longest_lease() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let mut seen = Seen::default();
        seen.add(NodeId::new("a"), expires_at(&bed, "a").await?, 2 * TTL);
        let next = register(&bed, "a").await?;

        take_seen(&bed, "a", next, seen).await?;
        let replaced = quiet(&bed, "a", next).await?;
        bed.fault.advance_ms(-3_600_000);
        let stepped_back = quiet(&bed, "a", next).await?;

        assert_eq!(replaced, Some(TTL));
        assert_eq!(stepped_back, Some(TTL), "an hour more is no reason");
        Ok(())
    })
    .await
}

/// Each row is judged by its own leases, whoever reads it.
#[tokio::test]
async fn nodes_whose_leases_differ_judge_each_other_alike() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let join = |node: &'static str, seconds| {
            let ttl = Duration::from_secs(seconds);
            bed.sql(move |c| {
                Box::pin(async move { nodes::register(c, &NodeId::new(node), "", ttl).await })
            })
        };
        let short = join("short", 3).await?;
        join("long", 60).await?;
        let left = async |node: &'static str| -> Result<u64> {
            let rows = bed.sql(|c| Box::pin(nodes::list(c))).await?;
            let row = rows.iter().find(|row| row.node.as_str() == node);
            Ok(row.expect("it is registered").lease_left.as_secs())
        };

        assert_eq!(take(&bed, "short", short).await?, [], "a lives");
        assert_eq!(
            (left("a").await?, left("short").await?, left("long").await?),
            (10, 3, 60)
        );
        bed.fault.advance_ms(-4_000);
        assert_eq!(
            (left("a").await?, left("short").await?),
            (14, 0),
            "it is void"
        );
        bed.fault.advance_ms(-10_000);
        assert_eq!(take(&bed, "short", short).await?.len(), SHARDS as usize);
        Ok(())
    })
    .await
}
