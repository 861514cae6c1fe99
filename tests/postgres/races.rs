//! Two sessions at the worst moment: takeovers, renewals, batches (architecture D2, D8), pruning.

use std::time::Duration;

use actor_core::{
    id::{Epoch, GroupId, Incarnation, NodeId, ShardId},
    store::{
        BoxFuture, Connection, Sql, StoreError, StoreErrorKind, Verdict, nodes, ownership,
        suspicions::{self, Declared, Life},
    },
};
use actor_tests::{
    Context as _, Result,
    bed::{Backend, Bed, SHARDS, TTL},
};
use actor_workflow::store::runs;

use crate::{
    groups::{kind, register_on},
    rows::{state, version},
    sessions::{Paused, lock_entity, named, patient, register, soon, take, take_on, waiting},
};

#[tokio::test]
async fn a_takeover_waits_for_a_batch_that_has_passed_its_fence() -> Result<()> {
    let (backend, name) = named();
    let bed = Bed::with(backend, patient()).await?;
    let (cart, others) = (bed.cart("c-1"), bed.second_store().await?);
    let epoch = bed.epoch(cart.shard);
    let born = bed.commit(cart.shard, vec![state(&cart, 1, "x")]).await;
    assert!(born.is_committed(), "{born:?}");
    bed.fault.advance_ms(20_000);
    let b = register(&bed.store, "b").await?;
    let lock = lock_entity(&others, &cart).await?;
    let batch = bed.submit(cart.shard, bed.activation(), vec![state(&cart, 2, "y")]);
    waiting(&bed.store, &name, 1).await?;

    let early = take(&bed.store, "b", b).await;

    // The lease of a ran out long ago, and still its batch ends first.
    assert_eq!(early.expect_err("held").kind(), StoreErrorKind::Busy);
    lock.commit().await?;
    let batch = soon().limit("the batch", batch).await??;
    assert!(batch.is_committed(), "{batch:?}");
    let taken = take(&bed.store, "b", b).await?;
    assert_eq!(taken.len(), SHARDS as usize);
    assert_eq!(version(&bed, &cart).await?, 2);
    let late = bed.submit_under(
        cart.shard,
        epoch,
        bed.activation(),
        vec![state(&cart, 3, "z")],
    );
    let late = soon().limit("the late batch", late).await??;
    assert!(matches!(late, Verdict::Fenced), "{late:?}");
    assert_eq!(version(&bed, &cart).await?, 2);
    Ok(())
}

#[tokio::test]
async fn a_batch_waits_for_a_takeover_and_is_fenced_by_it() -> Result<()> {
    let (backend, name) = named();
    let bed = Bed::with(backend, patient()).await?;
    let (cart, others) = (bed.cart("c-1"), bed.second_store().await?);
    bed.fault.advance_ms(20_000);
    let b = register(&bed.store, "b").await?;
    let takeover = Paused::after(&others, move |c| {
        Box::pin(async move { take_on(c, &NodeId::new("b"), b).await })
    });
    let takeover = takeover.await?;
    let batch = bed.submit(cart.shard, bed.activation(), vec![state(&cart, 1, "x")]);
    waiting(&bed.store, &name, 1).await?;

    let taken = takeover.commit().await?;

    assert_eq!(taken.len(), SHARDS as usize);
    let batch = soon().limit("the batch", batch).await??;
    assert!(matches!(batch, Verdict::Fenced), "{batch:?}");
    assert_eq!(version(&bed, &cart).await?, 0);
    Ok(())
}

/// Renews a's lease, up to just before the commit.
async fn renewal(bed: &Bed) -> Result<Paused<Option<nodes::Renewal>>> {
    let others = bed.second_store().await?;
    let renewing = Paused::after(&others, |c| {
        Box::pin(async move { nodes::renew(c, &NodeId::new("a"), Incarnation(1), TTL).await })
    });
    renewing.await
}

#[tokio::test]
async fn a_takeover_does_not_pass_a_renewal_that_is_under_way() -> Result<()> {
    let bed = Bed::with(Backend::postgres(""), patient()).await?;
    bed.fault.advance_ms(9_000);
    let b = register(&bed.store, "b").await?;
    // In time, but not committed yet when the old expiry passes.
    let renewal = renewal(&bed).await?;
    bed.fault.advance_ms(3_000);

    let early = take(&bed.store, "b", b).await;

    assert_eq!(early.expect_err("held").kind(), StoreErrorKind::Busy);
    let renewed = renewal.commit().await?.expect("in time");
    assert_eq!(renewed.owned.len(), SHARDS as usize);
    assert_eq!(take(&bed.store, "b", b).await?, []);
    Ok(())
}

#[tokio::test]
async fn a_renewal_behind_a_takeover_learns_that_nothing_is_owned_any_more() -> Result<()> {
    let (backend, name) = named();
    let bed = Bed::with(backend, patient()).await?;
    let others = bed.second_store().await?;
    bed.fault.advance_ms(12_000);
    let b = register(&bed.store, "b").await?;
    let takeover = Paused::after(&others, move |c| {
        Box::pin(async move { take_on(c, &NodeId::new("b"), b).await })
    });
    let takeover = takeover.await?;
    // A renewal that began before the lease ran out judges with the clock of then.
    bed.fault.advance_ms(-3_000);
    let store = bed.store.clone();
    let renewal = tokio::spawn(async move {
        let renewed = store.write_lease("renew", |c| {
            Box::pin(async move { nodes::renew(c, &NodeId::new("a"), Incarnation(1), TTL).await })
        });
        renewed.await
    });
    waiting(&bed.store, &name, 1).await?;

    let taken = takeover.commit().await?;

    assert_eq!(taken.len(), SHARDS as usize);
    let renewed = soon().limit("the renewal", renewal).await???;
    assert_eq!(renewed.expect("the row is there").owned, []);
    Ok(())
}

#[tokio::test]
async fn of_two_takeovers_the_second_finds_nothing() -> Result<()> {
    let (backend, name) = named();
    let bed = Bed::with(backend, patient()).await?;
    let others = bed.second_store().await?;
    bed.fault.advance_ms(20_000);
    let b = register(&bed.store, "b").await?;
    let c = register(&bed.store, "c").await?;
    // The second gives up on the lock after 250 ms: on a slow machine not every round is a meeting.
    for round in 1..40 {
        let first = Paused::after(&others, move |connection| {
            Box::pin(async move { take_on(connection, &NodeId::new("b"), b).await })
        });
        let first = first.await?;
        let early = soon().limit("the lock is given up", take(&bed.store, "c", c));
        let early = early.await?;
        let store = bed.store.clone();
        let second = tokio::spawn(async move { take(&store, "c", c).await });
        waiting(&others, &name, 1).await?;

        let taken = first.commit().await?;
        let met = second.await?;
        let late = take(&bed.store, "c", c).await?;

        assert_eq!(early.expect_err("held").kind(), StoreErrorKind::Busy);
        assert_eq!(taken.len(), SHARDS as usize);
        assert!(taken.iter().all(|taken| taken.epoch == Epoch(1 + round)));
        assert_eq!(late, []);
        match met {
            Err(error) => assert_eq!(error.kind(), StoreErrorKind::Busy),
            Ok(met) => {
                assert_eq!(met, [], "it judged before the first one was done");
                return Ok(());
            }
        }
        give_back(&bed).await?;
    }
    panic!("the takeovers never met");
}

/// Makes the first node, whose lease is over, the owner of everything again.
async fn give_back(bed: &Bed) -> Result<()> {
    const GIVE_BACK: Sql =
        Sql::same("UPDATE shards SET owner = 'a', incarnation = 1 WHERE shard < 8");
    let given = bed.sql(|c| Box::pin(c.execute(&GIVE_BACK, vec![])));
    given.await?;
    Ok(())
}

/// The second takeover judged before the first node was there at all.
#[tokio::test]
async fn a_takeover_sees_an_owner_that_came_while_it_waited() -> Result<()> {
    let (backend, name) = named();
    let bed = Bed::with(backend, patient()).await?;
    let others = bed.second_store().await?;
    bed.fault.advance_ms(20_000);
    let c = register(&bed.store, "c").await?;
    // The second gives up on the lock after 250 ms: on a slow machine not every round is a meeting.
    for round in 0..40 {
        give_back(&bed).await?;
        let newcomer = NodeId::new(format!("b-{round}"));
        let first = Paused::after(&others, move |connection| {
            Box::pin(async move {
                let life = nodes::register(connection, &newcomer, "", TTL).await?;
                // Only the shards: the lock on the former owner's row would hide the race.
                take_one(connection, &newcomer, life).await
            })
        });
        let first = first.await?;
        let store = bed.store.clone();
        let second = tokio::spawn(async move { take(&store, "c", c).await });
        waiting(&others, &name, 1).await?;

        first.commit().await?;

        match second.await? {
            Err(error) => assert_eq!(error.kind(), StoreErrorKind::Busy),
            Ok(taken) => {
                let shards: Vec<_> = taken.iter().map(|taken| taken.shard).collect();
                assert!(!shards.contains(&ShardId(0)), "{shards:?}");
                return Ok(());
            }
        }
    }
    panic!("the takeovers never met");
}

/// Says that `witness` saw `suspect` dead, inside a transaction.
fn declare<'c>(
    c: &'c mut Connection,
    suspect: &'c Life,
    witness: &'c Life,
) -> BoxFuture<'c, Result<Declared, StoreError>> {
    Box::pin(suspicions::declare(c, suspect, witness, TTL))
}

/// The network between two nodes broke, and each saw the other dead at the same moment.
#[tokio::test]
async fn of_two_nodes_that_declare_each_other_dead_one_lives() -> Result<()> {
    let (backend, name) = named();
    let bed = Bed::with(backend, patient()).await?;
    let others = bed.second_store().await?;
    let life = register(&bed.store, "b").await?;
    let (a, b) = ((NodeId::new("a"), Incarnation(1)), (NodeId::new("b"), life));
    let (witness, suspect) = (a.clone(), b.clone());
    let first = Paused::after(&others, move |c| {
        Box::pin(async move { declare(c, &suspect, &witness).await })
    });
    let first = first.await?;
    let store = bed.store.clone();
    let second = tokio::spawn(async move {
        let declared = store.write("second", move |c| {
            Box::pin(async move { declare(c, &a, &b).await })
        });
        declared.await
    });
    waiting(&others, &name, 1).await?;

    let first = first.commit().await?;
    let second = soon().limit("the second one", second).await???;

    assert_eq!((first, second), (Declared::Dead, Declared::Undecided));
    let rows = bed
        .store
        .read("nodes", |c| Box::pin(nodes::list(c)))
        .await?;
    let alive = rows.iter().filter(|row| !row.lease_left.is_zero());
    let alive: Vec<_> = alive.map(|row| row.node.as_str()).collect();
    assert_eq!(alive, ["a"]);
    Ok(())
}

/// Takes shard 0 without a look at the former owner.
async fn take_one(
    c: &mut actor_core::store::Connection,
    node: &NodeId,
    incarnation: Incarnation,
) -> Result<u64, actor_core::store::StoreError> {
    const TAKE: Sql = Sql::same(
        "UPDATE shards SET owner = $1, incarnation = $2, epoch = epoch + 1 WHERE shard = 0",
    );
    c.execute(&TAKE, vec![node.into(), incarnation.into()])
        .await
}

/// Deletes runs that ended, two at most.
fn prune_two(c: &mut Connection) -> BoxFuture<'_, Result<u64, StoreError>> {
    Box::pin(async move { runs::prune(c, Duration::ZERO, 2).await })
}

#[tokio::test]
async fn nodes_that_prune_at_once_delete_different_runs_each_with_its_journal() -> Result<()> {
    const RUNS: Sql = Sql::same(
        "INSERT INTO runs (kind, id, shard, state, version, input, context, created_at,
           updated_at, finished_at)
         SELECT 'trip', 'r-' || n, 0, 'completed', 1, '\\x00', '', 0, 0, n
         FROM generate_series(1, 4) AS n",
    );
    const ENTRIES: Sql = Sql::same(
        "INSERT INTO journal SELECT 'trip', 'r-' || n, s, 0, '\\x00', 0
         FROM generate_series(1, 5) AS n, generate_series(1, 3) AS s",
    );
    const LEFT: Sql =
        Sql::same("SELECT (SELECT count(*) FROM runs), count(*), min(run), max(run) FROM journal");
    let bed = Bed::with(Backend::postgres(""), patient()).await?;
    let others = bed.second_store().await?;
    for sql in [RUNS, ENTRIES] {
        bed.sql(move |c| Box::pin(async move { c.execute(&sql, vec![]).await }))
            .await?;
    }

    let first = Paused::after(&bed.store, prune_two).await?;
    let second = soon().limit("the second one", others.write("prune", prune_two));
    let second = second.await??;

    assert_eq!((first.commit().await?, second), (2, 2));
    let left = others.read("left", |c| {
        Box::pin(async move { c.query_one(&LEFT, vec![]).await })
    });
    let left = left.await?.context("one row")?;
    // What belongs to another run stays.
    assert_eq!((left.int(0)?, left.int(1)?), (0, 3));
    assert_eq!((left.text(2)?, left.text(3)?), ("r-5".into(), "r-5".into()));
    Ok(())
}

#[tokio::test]
async fn two_nodes_that_bring_groups_at_once_give_them_numbers_of_their_own() -> Result<()> {
    let (backend, name) = named();
    let bed = Bed::with(backend, patient()).await?;
    let others = bed.second_store().await?;
    let first = Paused::after(&others, |c| {
        register_on(c, "b", vec![kind("clip", "media"), kind("cart", "default")])
    });
    let first = first.await?;
    let store = bed.store.clone();
    let second = tokio::spawn(async move {
        let hosted = vec![kind("cart", "default"), kind("page", "web")];
        let write = store.write("register", |c| register_on(c, "c", hosted));
        write.await
    });
    waiting(&bed.store, &name, 1).await?;

    first.commit().await?;
    let known = soon().limit("the second registers", second).await???;

    assert_eq!(known.group_of("clip"), Some(GroupId(1)));
    assert_eq!(known.group_of("page"), Some(GroupId(2)));
    let rows = bed.sql(|c| Box::pin(ownership::list(c))).await?;
    assert_eq!(rows.len(), 3 * SHARDS as usize);
    Ok(())
}
