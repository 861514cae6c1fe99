//! Nodes and shards: leases, incarnations, takeovers.

use std::time::Duration;

use actor_core::{
    id::{Epoch, Incarnation, NodeId, ShardId},
    store::{
        Sql, StoreError, declined,
        nodes::{self, NodeState, Renewal},
        ownership::{self, Seen, Taken},
    },
};
use actor_tests::{
    Result,
    bed::{Bed, SHARDS, TTL},
};

use crate::for_each_backend;

async fn register(bed: &Bed, node: &'static str) -> Result<Incarnation, StoreError> {
    let write = bed.sql(move |c| {
        Box::pin(async move { nodes::register(c, &NodeId::new(node), "host:1", TTL).await })
    });
    write.await
}

async fn renew(
    bed: &Bed,
    node: &'static str,
    incarnation: Incarnation,
) -> Result<Option<Renewal>, StoreError> {
    let write = bed.sql(move |c| {
        Box::pin(async move { nodes::renew(c, &NodeId::new(node), incarnation, TTL).await })
    });
    write.await
}

async fn take(
    bed: &Bed,
    node: &'static str,
    incarnation: Incarnation,
) -> Result<Vec<Taken>, StoreError> {
    take_seen(bed, node, incarnation, Seen::default()).await
}

/// Takes what is free, having seen the leases of others.
async fn take_seen(
    bed: &Bed,
    node: &'static str,
    incarnation: Incarnation,
    seen: Seen,
) -> Result<Vec<Taken>, StoreError> {
    let all: Vec<_> = (0..SHARDS).map(ShardId).collect();
    let write = bed.sql(move |c| {
        let node = NodeId::new(node);
        Box::pin(async move { ownership::take(c, &all, &node, incarnation, &seen).await })
    });
    write.await
}

async fn tombstone(
    bed: &Bed,
    node: &'static str,
    incarnation: Incarnation,
) -> Result<bool, StoreError> {
    let write = bed.sql(move |c| {
        Box::pin(async move { nodes::tombstone(c, &NodeId::new(node), incarnation).await })
    });
    write.await
}

/// Returns how long the lease of `node` still holds, and its state.
async fn lease(bed: &Bed, node: &str) -> Result<(Duration, NodeState), StoreError> {
    let rows = bed.sql(|c| Box::pin(nodes::list(c))).await?;
    let row = rows
        .into_iter()
        .find(|row| row.node.as_str() == node)
        .expect("a row");
    Ok((row.lease_left, row.state))
}

// RST-1
#[tokio::test]
async fn each_life_of_a_node_has_its_own_incarnation() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;

        assert_eq!(register(&bed, "b").await?, Incarnation(1));
        assert_eq!(register(&bed, "b").await?, Incarnation(2));
        assert_eq!(renew(&bed, "b", Incarnation(1)).await?, None);
        assert!(renew(&bed, "b", Incarnation(2)).await?.is_some());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_lease_that_ran_out_is_not_renewed() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        bed.fault.advance_ms(9_000);
        let renewal = renew(&bed, "a", Incarnation(1)).await?.expect("in time");
        assert_eq!(renewal.owned, bed.shards.owned());
        assert_eq!(renewal.expires_at, bed.store.now_ms() + 10_000);

        bed.fault.advance_ms(10_000);

        assert_eq!(renew(&bed, "a", Incarnation(1)).await?, None);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_shards_of_a_live_node_are_not_taken() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let b = register(&bed, "b").await?;

        assert_eq!(take(&bed, "b", b).await?, []);
        Ok(())
    })
    .await
}

// RST-2
#[tokio::test]
async fn the_shards_of_a_dead_node_are_taken_once_under_new_epochs() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let (b, c) = (register(&bed, "b").await?, register(&bed, "c").await?);
        assert!(tombstone(&bed, "a", Incarnation(1)).await?);
        assert!(!tombstone(&bed, "a", Incarnation(1)).await?, "already dead");

        let taken = take(&bed, "b", b).await?;
        let late = take(&bed, "c", c).await?;

        let shards: Vec<_> = taken.iter().map(|taken| taken.shard).collect();
        assert_eq!(shards, (0..SHARDS).map(ShardId).collect::<Vec<_>>());
        assert!(
            taken
                .iter()
                .all(|taken| taken.epoch == Epoch(2) && !taken.released)
        );
        assert_eq!(late, []);
        assert_eq!(renew(&bed, "a", Incarnation(1)).await?, None);
        assert_eq!(lease(&bed, "a").await?, (Duration::ZERO, NodeState::Dead));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn shards_are_taken_after_the_lease_and_from_an_earlier_life() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let b = register(&bed, "b").await?;
        bed.fault.advance_ms(5_000);
        assert!(renew(&bed, "b", b).await?.is_some());
        bed.fault.advance_ms(5_000);
        assert_eq!(
            take(&bed, "b", b).await?.len(),
            SHARDS as usize,
            "the lease of a ran out"
        );

        let next = register(&bed, "b").await?;

        assert_eq!(
            take(&bed, "b", next).await?.len(),
            SHARDS as usize,
            "that life is over"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_lease_too_far_ahead_is_void() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        // The database's clock steps back by more than a lease.
        bed.fault.advance_ms(-15_000);
        let b = register(&bed, "b").await?;

        assert_eq!(lease(&bed, "a").await?.0, Duration::ZERO);
        assert_eq!(take(&bed, "b", b).await?.len(), SHARDS as usize);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn released_shards_are_taken_as_clean() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let b = register(&bed, "b").await?;
        let two = [ShardId(1), ShardId(5)];
        let release = |node: &'static str, incarnation, epoch| {
            bed.sql(move |c| {
                let node = NodeId::new(node);
                let two = two.map(|shard| (shard, Epoch(epoch)));
                Box::pin(async move { ownership::release(c, &two, &node, incarnation).await })
            })
        };

        assert_eq!(release("b", b, 1).await?, 0, "they are not its own");
        assert_eq!(release("a", Incarnation(1), 2).await?, 0, "not under that");
        assert_eq!(release("a", Incarnation(1), 1).await?, 2);
        let taken = take(&bed, "b", b).await?;

        let shards: Vec<_> = taken.iter().map(|taken| taken.shard).collect();
        assert_eq!(shards, two);
        assert!(
            taken
                .iter()
                .all(|taken| taken.epoch == Epoch(2) && taken.released)
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_node_drains_and_leaves_in_order() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let (a, one) = (NodeId::new("a"), Incarnation(1));

        let node = a.clone();
        let drained = bed
            .sql(move |c| Box::pin(async move { nodes::set_draining(c, &node, one, true).await }));
        assert!(drained.await?);
        assert_eq!(lease(&bed, "a").await?, (TTL, NodeState::Draining));
        let left = bed.sql(move |c| Box::pin(async move { nodes::leave(c, &a, one).await }));
        assert!(left.await?);

        assert_eq!(lease(&bed, "a").await?, (Duration::ZERO, NodeState::Left));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn whoever_holds_the_file_ends_every_other_lease() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;

        assert_eq!(bed.sql(|c| Box::pin(nodes::tombstone_all(c))).await?, 1);
        let b = register(&bed, "b").await?;

        assert_eq!(renew(&bed, "a", Incarnation(1)).await?, None);
        assert_eq!(take(&bed, "b", b).await?.len(), SHARDS as usize);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn shards_are_made_once() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;

        bed.sql(|c| Box::pin(ownership::ensure(c, SHARDS))).await?;
        let rows = bed.sql(|c| Box::pin(ownership::list(c))).await?;

        assert_eq!(rows.len(), SHARDS as usize);
        assert!(
            rows.iter()
                .all(|row| row.epoch == Epoch(1) && row.owner.is_some())
        );
        Ok(())
    })
    .await
}

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

const DOUBT: Sql = Sql::same("INSERT INTO distrust (witness, until) VALUES ($1, 0)");

const COUNT_NAMED: Sql = Sql::same(
    "SELECT (SELECT COUNT(*) FROM declined WHERE node = $1)
       + (SELECT COUNT(*) FROM distrust WHERE witness = $1)",
);

/// What was said of names that never come back goes with their rows.
#[tokio::test]
async fn what_was_noted_of_nodes_that_are_long_gone_is_forgotten_with_them() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        for node in ["gone", "recent"] {
            let life = register(&bed, node).await?;
            let noted = bed.sql(move |c| {
                Box::pin(async move {
                    let node = NodeId::new(node);
                    declined::decline(c, &[ShardId(1), ShardId(2)], &node, life).await?;
                    c.execute(&DOUBT, vec![(&node).into()]).await?;
                    nodes::leave(c, &node, life).await
                })
            });
            assert!(noted.await?);
        }
        let named = async |node: &'static str| {
            let counted = bed.sql(move |c| {
                Box::pin(async move { c.query_one(&COUNT_NAMED, vec![node.into()]).await })
            });
            counted.await?.expect("a row").int(0)
        };
        let before = (named("gone").await?, named("recent").await?);
        let old = bed.sql(|c| Box::pin(c.execute(&A_DAY_AGO, vec!["gone".into()])));
        assert_eq!(old.await?, 1);

        register(&bed, "other").await?;

        assert_eq!(before, (3, 3));
        assert_eq!((named("gone").await?, named("recent").await?), (0, 3));
        Ok(())
    })
    .await
}

const A_DAY_AGO: Sql = Sql::same("UPDATE nodes SET ended_at = ended_at - 90000000 WHERE node = $1");

/// Rows of the long gone go; what they were called begins above their lives.
#[tokio::test]
async fn nodes_that_are_long_gone_are_forgotten_but_no_life_is_counted_twice() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        for _ in 0..3 {
            register(&bed, "gone").await?;
        }
        let recent = register(&bed, "recent").await?;
        for (node, life) in [("gone", Incarnation(3)), ("recent", recent)] {
            let left = bed.sql(move |c| {
                Box::pin(async move { nodes::leave(c, &NodeId::new(node), life).await })
            });
            assert!(left.await?);
        }
        let old = bed.sql(|c| Box::pin(c.execute(&A_DAY_AGO, vec!["gone".into()])));
        assert_eq!(old.await?, 1);

        register(&bed, "other").await?;
        let rows = bed.sql(|c| Box::pin(nodes::list(c))).await?;

        let names: Vec<_> = rows.iter().map(|row| row.node.as_str()).collect();
        assert!(
            !names.contains(&"gone") && names.contains(&"recent"),
            "{names:?}"
        );
        assert_eq!(register(&bed, "gone").await?, Incarnation(4));
        assert_eq!(register(&bed, "recent").await?.0, recent.0 + 1);
        Ok(())
    })
    .await
}

/// Only short lives that ended without order count, and one long or orderly life forgives.
#[tokio::test]
async fn falls_are_counted_and_an_orderly_end_forgives_them() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let falls = async |bed: &Bed| -> Result<u32> {
            let rows = bed.sql(|c| Box::pin(nodes::list(c))).await?;
            let row = rows.iter().find(|row| row.node.as_str() == "b");
            Ok(row.map_or(0, |row| row.falls))
        };
        for fallen in 0..3 {
            register(&bed, "b").await?;
            assert_eq!(falls(&bed).await?, fallen);
        }

        let life = Incarnation(3);
        let left = bed
            .sql(move |c| Box::pin(async move { nodes::leave(c, &NodeId::new("b"), life).await }));
        assert!(left.await?);
        register(&bed, "b").await?;

        assert_eq!(falls(&bed).await?, 0);
        Ok(())
    })
    .await
}
