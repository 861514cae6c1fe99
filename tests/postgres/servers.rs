//! Servers as they are: several nodes at once, several clusters in a database, wrong settings,
//! silence.

use std::{sync::Arc, time::Duration};

use actor_core::{
    id::{Epoch, ShardId},
    store::{
        Sql, Store, StoreConfig, StoreError, StoreErrorKind, TaskExecutor, migrate, ownership,
    },
};
use actor_tests::{
    Result,
    bed::{Backend, Bed},
    postgres::Postgres,
    proxy::{Fate, Proxy, Way},
};

use crate::{
    rows::{event, state, version},
    sessions::{lock_entity, patient, soon},
};

async fn open(url: &str) -> Result<Store, StoreError> {
    let mut config = StoreConfig::new(url);
    config.connect_timeout = Duration::from_secs(1);
    Store::open(config, Arc::new(TaskExecutor)).await
}

#[tokio::test]
async fn nodes_that_start_at_once_migrate_once() -> Result<()> {
    for backend in [Backend::postgres(""), Backend::pooled("")] {
        let start =
            |url: String| tokio::spawn(async move { migrate::run(&open(&url).await?).await });
        let nodes: Vec<_> = (0..8).map(|_| start(backend.url.clone())).collect();

        let mut applied = Vec::new();
        for node in nodes {
            applied.extend(node.await??);
        }

        assert_eq!(applied, ["0001_init"]);
    }
    Ok(())
}

#[tokio::test]
async fn clusters_in_one_database_do_not_see_each_other() -> Result<()> {
    const RAISE: Sql = Sql::same("UPDATE shards SET epoch = epoch + 41 WHERE shard = 3");
    let one = Bed::new(Backend::postgres("")).await?;
    let two = Bed::new(Backend::pooled("")).await?;
    let cart = one.cart("c-1");

    let stored = one.commit(cart.shard, vec![state(&cart, 1, "x")]).await;
    one.sql(|c| Box::pin(c.execute(&RAISE, vec![]))).await?;

    assert!(stored.is_committed(), "{stored:?}");
    assert_eq!(version(&two, &cart).await?, 0);
    let rows = two.sql(|c| Box::pin(ownership::list(c))).await?;
    assert_eq!(rows[3].epoch, Epoch(1));
    let kept = two.commit(ShardId(3), vec![event("t", "x")]).await;
    assert!(kept.is_committed(), "{kept:?}");
    Ok(())
}

#[tokio::test]
async fn lanes_do_not_wait_for_each_other() -> Result<()> {
    let schema = Postgres::new_schema();
    let url = format!("{}?schema={schema}&lanes=2", Postgres::get().url);
    let backend = Backend {
        url,
        ..Backend::sqlite()
    };
    let bed = Bed::with(backend, patient()).await?;
    let carts: Vec<_> = (0..20).map(|n| bed.cart(&format!("c-{n}"))).collect();
    let of_lane = |lane| carts.iter().find(|cart| cart.shard.0 % 2 == lane);
    let (even, odd) = (of_lane(0).expect("even"), of_lane(1).expect("odd"));
    let others = bed.second_store().await?;
    for cart in [even, odd] {
        let born = bed.commit(cart.shard, vec![state(cart, 1, "x")]).await;
        assert!(born.is_committed(), "{born:?}");
    }
    let lock = lock_entity(&others, even).await?;
    let begun = bed.fault.begun("commit");
    let blocked = bed.submit(even.shard, bed.activation(), vec![state(even, 2, "y")]);
    // Until it is under way, another item would join its transaction.
    bed.fault.reached("commit", begun + 1).await;

    let free = bed.commit(odd.shard, vec![state(odd, 2, "y")]);
    let free = soon().limit("the other lane", free).await?;

    assert!(free.is_committed(), "{free:?}");
    lock.commit().await?;
    assert!(blocked.await?.is_committed());
    Ok(())
}

#[tokio::test]
async fn a_server_that_may_forget_commits_is_refused() -> Result<()> {
    let backend = Backend::postgres("options=-c%20synchronous_commit=off");

    let error = open(&backend.url).await.expect_err("refused");

    assert_eq!(error.kind(), StoreErrorKind::Incompatible, "{error}");
    assert!(error.to_string().contains("synchronous_commit"), "{error}");
    Ok(())
}

#[tokio::test]
async fn an_error_that_was_passed_over_is_not_committed() -> Result<()> {
    const NO_SUCH: Sql = Sql::same("SELECT nothing FROM nowhere");
    const TOPIC: Sql =
        Sql::same("INSERT INTO streams (topic, epoch, last_offset) VALUES ('t', 1, 1)");
    let bed = Bed::new(Backend::postgres("")).await?;

    let written = bed.sql(|c| {
        Box::pin(async move {
            c.execute(&TOPIC, vec![]).await?;
            // The server has given the transaction up, and would answer COMMIT with ROLLBACK.
            let _ = c.query(&NO_SUCH, vec![]).await;
            Ok(())
        })
    });

    assert_eq!(
        written.await.expect_err("not stored").kind(),
        StoreErrorKind::Bug
    );
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_without_the_password() -> Result<()> {
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;

    let error = open(&format!("postgres://app:secret@{nowhere}/shop")).await;

    let error = error.expect_err("nobody listens");
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    let message = error.to_string();
    assert!(message.contains(&nowhere.to_string()), "{message}");
    assert!(!message.contains("secret"), "{message}");
    Ok(())
}

#[tokio::test]
async fn a_server_that_says_nothing_does_not_hold_anybody_up() -> Result<()> {
    let server = Postgres::get();
    let (host, port) = server.address();
    let proxy = Proxy::start(format!("{host}:{port}").parse()?).await?;
    proxy.set(Way::Down, Fate::Swallow);

    let opening = open(&server.url_by(proxy.address().port())).await;

    let error = opening.expect_err("no answer");
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(error.to_string().contains("no answer within"), "{error}");
    Ok(())
}

#[tokio::test]
async fn the_servers_clock_is_known_after_the_first_lease() -> Result<()> {
    let backend = Backend::postgres("");
    let store = open(&backend.url).await?;
    let here = store.now_ms();

    store
        .write_lease("look", |_| Box::pin(async { Ok(()) }))
        .await?;

    // The same machine: what is shown differs by a round trip at most, but by the minute never.
    assert!((store.now_ms() - here).abs() < 60_000);
    Ok(())
}
