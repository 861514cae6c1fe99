//! Nodes and shards: leases, incarnations, takeovers.

use std::time::Duration;

use actor_core::{
    id::{Epoch, Incarnation, NodeId, ShardId},
    store::{
        nodes::{self, NodeState},
        ownership::{self},
    },
};
use actor_tests::{
    Result,
    bed::{Bed, SHARDS, TTL},
};

use crate::{
    for_each_backend,
    leases::{lease, register, renew, take, tombstone},
};

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
