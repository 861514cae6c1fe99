//! Connections that end, or freeze, in the middle of a batch (architecture D6, D8).

use std::time::Duration;

use actor_core::{
    id::Epoch,
    store::{Sql, StoreErrorKind, Verdict, entities},
};
use actor_tests::{
    Result,
    bed::{Backend, Bed, Bounds, SHARDS},
    postgres::Postgres,
    proxy::{Proxy, Then},
};

use crate::{
    rows::{state, version},
    sessions::{lock_entity, named, patient, register, soon, take, waiting},
};

/// The text of the first statement after the fence.
const AFTER_FENCE: &[u8] = b"INSERT INTO entities";

/// The message that commits; the words of an isolation level contain the word, too.
const COMMIT: &[u8] = b"COMMIT\0";

/// A bed whose connections go by way of a proxy.
async fn proxied(bounds: Bounds) -> Result<(Bed, Proxy)> {
    let server = Postgres::get();
    let (host, port) = server.address();
    let proxy = Proxy::start(format!("{host}:{port}").parse()?).await?;
    let backend = Backend::at(&server.url_by(proxy.address().port()), "");
    Ok((Bed::with(backend, bounds).await?, proxy))
}

/// Commits the first state of a cart while `then` happens to its `COMMIT`; what is stored then?
async fn unclear(bounds: Bounds, then: Then, stored: u64) -> Result<()> {
    let (bed, proxy) = proxied(bounds).await?;
    let (cart, old) = (bed.cart("c-1"), bed.epoch(bed.cart("c-1").shard));
    // The lane's connection is there already, so that nothing else of this bed commits meanwhile.
    assert!(bed.commit(cart.shard, vec![]).await.is_committed());
    proxy.trap(COMMIT, then);

    let verdict = bed.commit(cart.shard, vec![state(&cart, 1, "x")]).await;
    proxy.sprung(1).await;
    let settled = bed.lanes.settled(cart.shard);
    soon().limit("the shard is settled", settled).await?;

    assert!(matches!(verdict, Verdict::Unclear(_)), "{verdict:?}");
    assert_eq!(bed.shards.epoch(cart.shard), Some(Epoch(old.0 + 1)));
    let found = version(&bed, &cart).await?;
    assert_eq!(found, stored);
    // Reloaded under the new epoch, it goes on; under the old one nothing is stored.
    let writes = |n| vec![state(&cart, n, "y")];
    let late = bed.submit_under(cart.shard, old, bed.activation(), writes(found + 1));
    assert!(matches!(late.await?, Verdict::Fenced));
    let next = bed.commit(cart.shard, writes(found + 1)).await;
    assert!(next.is_committed(), "{next:?}");
    Ok(())
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_found_at_the_reload() -> Result<()> {
    unclear(patient(), Then::CloseAfter, 1).await
}

#[tokio::test]
async fn a_commit_that_never_arrives_is_missing_at_the_reload() -> Result<()> {
    unclear(patient(), Then::CloseBefore, 0).await
}

/// The transaction is still open when the epoch is raised: the raise waits for its row lock.
#[tokio::test]
async fn a_commit_that_is_stuck_in_a_socket_ends_before_the_epoch_is_raised() -> Result<()> {
    let bounds = Bounds {
        // How long the client waits for an answer, and the server for the client.
        statement_timeout: Duration::from_secs(3),
        lease_ttl: Duration::from_secs(1),
        ..Bounds::default()
    };
    unclear(bounds, Then::Vanish, 0).await
}

/// The server ended the transaction and says so: no `COMMIT` can change that.
#[tokio::test]
async fn a_commit_after_the_server_lost_patience_is_repeated() -> Result<()> {
    let bounds = Bounds {
        lease_ttl: Duration::from_secs(1),
        ..patient()
    };
    let (bed, proxy) = proxied(bounds).await?;
    let (cart, epoch) = (bed.cart("c-1"), bed.epoch(bed.cart("c-1").shard));
    proxy.trap(COMMIT, Then::Freeze);

    let verdict = bed.commit(cart.shard, vec![state(&cart, 1, "x")]).await;

    proxy.sprung(1).await;
    assert!(verdict.is_committed(), "{verdict:?}");
    assert_eq!(bed.shards.epoch(cart.shard), Some(epoch));
    assert_eq!(version(&bed, &cart).await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_node_frozen_between_fence_and_commit_loses_its_locks() -> Result<()> {
    let bounds = Bounds {
        // Far apart, so that only the server's patience with an idle client can end it.
        lease_ttl: Duration::from_secs(1),
        ..patient()
    };
    let (bed, proxy) = proxied(bounds).await?;
    let (cart, others) = (bed.cart("c-1"), bed.second_store().await?);
    bed.fault.advance_ms(20_000);
    let b = register(&others, "b").await?;
    proxy.trap(AFTER_FENCE, Then::Freeze);
    let batch = bed.submit(cart.shard, bed.activation(), vec![state(&cart, 1, "x")]);
    proxy.sprung(1).await;

    let takeover = async || take(&others, "b", b).await.ok();
    let taken = soon().poll("the takeover gets its locks", takeover).await?;

    assert_eq!(taken.len(), SHARDS as usize);
    // The batch is repeated on another connection, and meets the fence.
    let batch = soon().limit("the batch", batch).await??;
    assert!(matches!(batch, Verdict::Fenced), "{batch:?}");
    assert_eq!(version(&bed, &cart).await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_connection_that_ends_before_the_commit_costs_a_repeat_and_nothing_else() -> Result<()> {
    let (bed, proxy) = proxied(patient()).await?;
    let (cart, epoch) = (bed.cart("c-1"), bed.epoch(bed.cart("c-1").shard));
    proxy.trap(AFTER_FENCE, Then::CloseBefore);

    let verdict = bed.commit(cart.shard, vec![state(&cart, 1, "x")]).await;

    assert!(verdict.is_committed(), "{verdict:?}");
    proxy.sprung(1).await;
    assert_eq!(bed.shards.epoch(cart.shard), Some(epoch));
    assert_eq!(version(&bed, &cart).await?, 1);
    Ok(())
}

/// Ends all sessions of this name but the one that asks.
async fn terminate(bed: &Bed, name: &str) -> Result<()> {
    const TERMINATE: Sql = Sql::same(
        "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity
         WHERE application_name = $1 AND pid <> pg_backend_pid()",
    );
    let (store, name) = (bed.second_store().await?, name.to_owned());
    let ended = store.write("terminate", move |c| {
        Box::pin(async move { c.query(&TERMINATE, vec![name.into()]).await })
    });
    ended.await?;
    Ok(())
}

#[tokio::test]
async fn connections_that_ended_while_idle_are_replaced_unseen() -> Result<()> {
    let (backend, name) = named();
    let bed = Bed::with(backend, patient()).await?;
    let cart = bed.cart("c-1");
    assert!(
        bed.commit(cart.shard, vec![state(&cart, 1, "x")])
            .await
            .is_committed()
    );
    terminate(&bed, &name).await?;

    let verdict = bed.commit(cart.shard, vec![state(&cart, 2, "y")]).await;

    assert!(verdict.is_committed(), "{verdict:?}");
    register(&bed.store, "b").await?;
    Ok(())
}

#[tokio::test]
async fn a_batch_whose_session_is_ended_by_an_operator_is_repeated() -> Result<()> {
    let (backend, name) = named();
    let bed = Bed::with(backend, patient()).await?;
    let (cart, others) = (bed.cart("c-1"), bed.second_store().await?);
    let born = bed.commit(cart.shard, vec![state(&cart, 1, "x")]).await;
    assert!(born.is_committed(), "{born:?}");
    let lock = lock_entity(&others, &cart).await?;
    let batch = bed.submit(cart.shard, bed.activation(), vec![state(&cart, 2, "y")]);
    waiting(&bed.store, &name, 1).await?;

    // The one that holds the lock is among them.
    terminate(&bed, &name).await?;

    let batch = soon().limit("the batch", batch).await??;
    assert!(batch.is_committed(), "{batch:?}");
    assert!(lock.commit().await.is_err());
    // A transaction replaces its connection; a read of this moment may meet the one that ended.
    let row = bed.sql(move |c| Box::pin(async move { entities::load(c, &cart).await }));
    assert_eq!(row.await?.map(|row| row.version), Some(2));
    Ok(())
}

#[tokio::test]
async fn a_connection_whose_statement_timed_out_is_closed() -> Result<()> {
    const PID: Sql = Sql::same("SELECT pg_backend_pid()");
    const SLEEP: Sql = Sql::same("SELECT pg_sleep(60)::text");
    let bounds = Bounds {
        statement_timeout: Duration::from_millis(300),
        ..Bounds::default()
    };
    let bed = Bed::with(Backend::postgres(""), bounds).await?;
    let pid = || bed.sql(|c| Box::pin(async move { c.query_one(&PID, vec![]).await }));
    let before = pid().await?.expect("a row").int(0)?;

    let slow = bed.sql(|c| Box::pin(c.query(&SLEEP, vec![]))).await;

    assert_eq!(slow.expect_err("too slow").kind(), StoreErrorKind::Busy);
    assert_ne!(pid().await?.expect("a row").int(0)?, before);
    Ok(())
}
