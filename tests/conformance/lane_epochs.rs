//! Epochs: nothing of an old one is stored, and an unclear commit ends its own.

use actor_core::{
    id::{Epoch, Incarnation, NodeId, ShardId},
    store::{Sql, StoreError, Verdict, ownership},
};
use actor_tests::{
    Result,
    bed::{Bed, SHARDS},
};

use crate::{
    for_each_backend,
    rows::{event, state, version},
};

const STEAL: Sql = Sql::same(
    "UPDATE shards SET owner = 'thief', incarnation = 9, epoch = epoch + 1 WHERE shard = $1",
);

/// Another node takes the shard behind the bed's back.
async fn steal(bed: &Bed, shard: ShardId) -> Result<(), StoreError> {
    let stolen =
        bed.sql(move |c| Box::pin(async move { c.execute(&STEAL, vec![shard.into()]).await }));
    stolen.await.map(drop)
}

/// Returns the shard's row: owner and epoch.
async fn row(bed: &Bed, shard: ShardId) -> Result<(Option<NodeId>, Epoch), StoreError> {
    let rows = bed.sql(|c| Box::pin(ownership::list(c))).await?;
    let row = rows
        .into_iter()
        .find(|row| row.shard == shard)
        .expect("a row");
    Ok((row.owner.map(|(node, _)| node), row.epoch))
}

#[tokio::test]
async fn a_deposed_owner_cannot_write() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let cart = bed.cart("c-1");
        assert!(
            bed.commit(cart.shard, vec![state(&cart, 1, "x")])
                .await
                .is_committed()
        );
        steal(&bed, cart.shard).await?;

        let old = bed.epoch(cart.shard);
        let fenced = bed
            .commit(cart.shard, vec![state(&cart, 2, "y"), event("t", "y")])
            .await;

        assert!(matches!(fenced, Verdict::Fenced), "{fenced:?}");
        assert_eq!(version(&bed, &cart).await?, 1);
        assert!(bed.events().is_empty());
        assert_eq!(bed.shards.epoch(cart.shard), None);
        let again = bed.submit_under(cart.shard, old, bed.activation(), vec![event("t", "z")]);
        assert!(matches!(again.await?, Verdict::Fenced));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_lost_shard_leaves_the_rest_of_its_batch_alone() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let gate = bed.fault.hold("commit");
        let first = bed.submit(ShardId(0), bed.activation(), vec![event("t", "x")]);
        bed.fault.reached("commit", 1).await;
        let submit = |n| bed.submit(ShardId(n), bed.activation(), vec![event("t", "x")]);
        let verdicts: Vec<_> = (0..SHARDS).map(submit).collect();
        steal(&bed, ShardId(3)).await?;

        drop(gate);
        first.await?;

        for (shard, verdict) in (0..).zip(verdicts) {
            let verdict = verdict.await?;
            assert_eq!(
                matches!(verdict, Verdict::Fenced),
                shard == 3,
                "{shard} {verdict:?}"
            );
        }
        let offsets: Vec<_> = bed.events().iter().map(|event| event.offset).collect();
        assert_eq!(offsets, (1..=i64::from(SHARDS)).collect::<Vec<_>>());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_shard_given_up_here_is_not_written() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let (cart, epoch) = (bed.cart("c-1"), bed.epoch(bed.cart("c-1").shard));
        bed.shards.revoke(cart.shard);

        let writes = vec![state(&cart, 1, "x")];
        let verdict = bed.submit_under(cart.shard, epoch, bed.activation(), writes);

        assert!(matches!(verdict.await?, Verdict::Fenced));
        assert_eq!(version(&bed, &cart).await?, 0);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_unclear_commit_raises_the_epoch() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let (cart, neighbour) = (bed.cart("c-1"), bed.cart("c-1b"));
        let (shard, old) = (cart.shard, bed.epoch(cart.shard));
        bed.fault.lose_answer("commit");
        let gate = bed.fault.hold("raise epochs");

        let unclear = bed.submit(shard, bed.activation(), vec![state(&cart, 1, "x")]);
        let verdict = unclear.await?;
        let behind = bed.submit_under(
            shard,
            old,
            bed.activation(),
            vec![state(&neighbour, 1, "x")],
        );
        let mut settled = Box::pin(bed.lanes.settled(shard));
        assert!(matches!(verdict, Verdict::Unclear(_)), "{verdict:?}");
        assert!(
            is_pending(&mut settled).await,
            "a reload must wait for the raise"
        );
        drop(gate);
        settled.await;

        assert_eq!(bed.shards.epoch(shard), Some(Epoch(old.0 + 1)));
        assert_eq!(
            row(&bed, shard).await?,
            (Some(NodeId::new("a")), Epoch(old.0 + 1))
        );
        assert!(matches!(behind.await?, Verdict::Fenced));
        assert_eq!(version(&bed, &neighbour).await?, 0);
        // This one was stored, only its answer was lost: the reload finds it and goes on.
        assert_eq!(version(&bed, &cart).await?, 1);
        assert!(
            bed.commit(shard, vec![state(&cart, 2, "y")])
                .await
                .is_committed()
        );
        Ok(())
    })
    .await
}

/// Says whether a future does not end while everything else had its chance to run.
async fn is_pending(future: &mut (impl Future<Output = ()> + Unpin)) -> bool {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    std::pin::Pin::new(future).poll(&mut context).is_pending()
}

#[tokio::test]
async fn the_raise_is_repeated_until_the_database_answers() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let (shard, old) = (ShardId(2), bed.epoch(ShardId(2)));
        bed.fault.lose_answer("commit");
        bed.fault.lose_job("raise epochs");
        bed.fault.lose_answer("raise epochs");

        let verdict = bed.commit(shard, vec![event("t", "x")]).await;
        bed.lanes.settled(shard).await;

        assert!(matches!(verdict, Verdict::Unclear(_)));
        // The raise whose answer was lost counts: its row is our own.
        assert_eq!(bed.shards.epoch(shard), Some(Epoch(old.0 + 1)));
        assert_eq!(row(&bed, shard).await?.1, Epoch(old.0 + 1));
        assert_eq!(bed.fault.begun("raise epochs"), 3);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_raise_that_finds_another_owner_gives_the_shard_up() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let shard = ShardId(2);
        bed.fault.lose_answer("commit");
        let gate = bed.fault.hold("raise epochs");
        let verdict = bed.commit(shard, vec![event("t", "x")]).await;
        assert!(matches!(verdict, Verdict::Unclear(_)));

        steal(&bed, shard).await?;
        drop(gate);
        bed.lanes.settled(shard).await;

        assert_eq!(bed.shards.epoch(shard), None);
        assert_eq!(row(&bed, shard).await?.0, Some(NodeId::new("thief")));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_commit_that_never_ran_stored_nothing_and_keeps_the_epoch() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let (cart, epoch) = (bed.cart("c-1"), bed.epoch(bed.cart("c-1").shard));
        bed.fault.lose_job("commit");

        let verdict = bed.commit(cart.shard, vec![state(&cart, 1, "x")]).await;

        assert!(matches!(verdict, Verdict::Failed(_)), "{verdict:?}");
        assert_eq!(version(&bed, &cart).await?, 0);
        assert_eq!(bed.shards.epoch(cart.shard), Some(epoch));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_lane_that_stops_gives_up_what_it_cannot_raise() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let shard = ShardId(2);
        bed.fault.lose_answer("commit");
        for _ in 0..100 {
            bed.fault.lose_job("raise epochs");
        }

        let unclear = bed.submit(shard, bed.activation(), vec![event("t", "x")]);
        bed.lanes.stop().await;

        assert!(matches!(unclear.await?, Verdict::Unclear(_)));
        assert_eq!(bed.shards.epoch(shard), None);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_owner_raises_its_own_epoch_only() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let (shard, epoch) = (ShardId(1), bed.epoch(ShardId(1)));
        let raise = |node: &'static str, incarnation: u64, epoch: Epoch| {
            let (node, incarnation) = (NodeId::new(node), Incarnation(incarnation));
            bed.sql(move |c| {
                Box::pin(async move { ownership::raise(c, shard, &node, incarnation, epoch).await })
            })
        };

        assert_eq!(raise("b", 1, epoch).await?, None);
        assert_eq!(raise("a", 2, epoch).await?, None);
        assert_eq!(raise("a", 1, epoch).await?, Some(Epoch(epoch.0 + 1)));
        // Repeated: the first answer may have been lost.
        assert_eq!(raise("a", 1, epoch).await?, Some(Epoch(epoch.0 + 1)));
        Ok(())
    })
    .await
}
