//! Migrating, failing, panicking, closing.

use actor_core::store::{
    Sql, StoreErrorKind, meta,
    migrate::{self, Migration},
    topics,
};
use actor_tests::{
    Result,
    bed::{Bed, SHARDS},
};

use crate::{
    for_each_backend,
    rows::{event, state, version},
};

#[tokio::test]
async fn migrations_run_once() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;

        assert!(migrate::run(&bed.store).await?.is_empty());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_edited_migration_is_refused() -> Result<()> {
    const EDIT: Sql = Sql::same("UPDATE migrations SET checksum = 'other' WHERE version = 1");
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        bed.sql(|c| Box::pin(c.execute(&EDIT, vec![]))).await?;

        let error = migrate::run(&bed.store).await.expect_err("edited");

        assert_eq!(error.kind(), StoreErrorKind::Incompatible);
        assert!(error.to_string().contains("0001_init"), "{error}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_refused() -> Result<()> {
    const ADD: Sql = Sql::same(
        "INSERT INTO migrations (version, name, checksum, applied_at, oldest)
         VALUES (9000, '9000_future', '', 0, 2)",
    );
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        bed.sql(|c| Box::pin(c.execute(&ADD, vec![]))).await?;

        let error = migrate::run(&bed.store).await.expect_err("newer");

        assert_eq!(error.kind(), StoreErrorKind::Incompatible);
        assert!(error.to_string().contains("9000_future"), "{error}");
        Ok(())
    })
    .await
}

const BADGES: &[Migration] = &[
    Migration {
        name: "0001_badges",
        sqlite: "CREATE TABLE badges (holder TEXT)",
        postgres: "CREATE TABLE badges (holder text)",
        oldest: 0,
    },
    Migration {
        name: "0002_holders",
        sqlite: "ALTER TABLE badges RENAME COLUMN holder TO owner",
        postgres: "ALTER TABLE badges RENAME COLUMN holder TO owner",
        oldest: 2,
    },
];

#[tokio::test]
async fn a_programs_own_migrations_say_which_programs_go_on() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let store = &bed.store;

        assert_eq!(
            migrate::run_with(store, &BADGES[..1]).await?,
            ["0001_badges"]
        );
        assert!(migrate::run_with(store, &BADGES[..1]).await?.is_empty());
        // A program of before: it may go on.
        assert!(migrate::run(store).await?.is_empty());
        assert_eq!(migrate::run_with(store, BADGES).await?, ["0002_holders"]);

        for older in [&BADGES[..0], &BADGES[..1]] {
            let error = migrate::run_with(store, older).await.expect_err("too old");
            assert_eq!(error.kind(), StoreErrorKind::Incompatible);
            assert!(error.to_string().contains("0002_holders"), "{error}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn nodes_must_agree_on_the_number_of_shards() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;

        let error = meta::agree(&bed.store, 512)
            .await
            .expect_err("another number");

        assert_eq!(error.kind(), StoreErrorKind::Incompatible);
        let message = error.to_string();
        assert!(
            message.contains("shards = 8") && message.contains("512"),
            "{message}"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_database_that_was_set_up_by_other_rules_is_refused() -> Result<()> {
    const SET: Sql = Sql::same("UPDATE cluster_meta SET value = $2 WHERE key = $1");
    let rules = [
        ("shards", SHARDS.to_string(), "9"),
        ("hash", meta::HASH.to_owned(), "another-hash"),
        ("row_version", meta::ROW_VERSION.to_owned(), "2"),
    ];
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        for (key, ours, theirs) in &rules {
            let set = async |value: &str| {
                let values = vec![(*key).into(), value.into()];
                bed.sql(move |c| Box::pin(async move { c.execute(&SET, values).await }))
                    .await
            };

            assert_eq!(set(theirs).await?, 1, "{key} is written at the first start");
            let refused = meta::agree(&bed.store, SHARDS).await;
            set(ours).await?;

            let error = refused.expect_err(key);
            assert_eq!(error.kind(), StoreErrorKind::Incompatible, "{key}");
            let message = error.to_string();
            let both = [format!("{key} = {theirs}"), format!("{key} = {ours}")];
            assert!(both.iter().all(|side| message.contains(side)), "{message}");
            meta::agree(&bed.store, SHARDS).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_transaction_that_fails_leaves_nothing() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        const NO_SUCH: Sql = Sql::same("SELECT nothing FROM nowhere");
        const TOPIC: Sql =
            Sql::same("INSERT INTO streams (topic, epoch, last_offset) VALUES ('t', 1, 1)");

        let failed = bed.sql(|c| {
            Box::pin(async move {
                c.execute(&TOPIC, vec![]).await?;
                c.query(&NO_SUCH, vec![]).await
            })
        });

        assert_eq!(
            failed.await.expect_err("no such table").kind(),
            StoreErrorKind::Bug
        );
        let position = bed.sql(|c| Box::pin(topics::position(c, "t"))).await?;
        assert_eq!(position, topics::Position::default());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_panic_inside_a_transaction_leaves_nothing_and_breaks_nothing() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let cart = bed.cart("c-1");
        const DELETE: Sql = Sql::same("DELETE FROM shards");

        let panicked = bed.sql::<()>(|c| {
            Box::pin(async move {
                c.execute(&DELETE, vec![]).await?;
                panic!("on purpose");
            })
        });
        assert_eq!(
            panicked.await.expect_err("a panic").kind(),
            StoreErrorKind::Unclear
        );

        assert!(
            bed.commit(cart.shard, vec![state(&cart, 1, "x")])
                .await
                .is_committed()
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_write_nobody_waits_for_still_ends() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let cart = bed.cart("c-1");
        const TOPIC: Sql =
            Sql::same("INSERT INTO streams (topic, epoch, last_offset) VALUES ('t', 1, 1)");
        let (began, begun) = tokio::sync::oneshot::channel();
        let (go, gone) = tokio::sync::oneshot::channel::<()>();
        let store = bed.store.clone();
        let writing = tokio::spawn(async move {
            let write = store.write("abandoned", move |c| {
                Box::pin(async move {
                    let _ = began.send(());
                    let _ = gone.await;
                    c.execute(&TOPIC, vec![]).await
                })
            });
            write.await
        });
        begun.await?;

        writing.abort();
        assert!(writing.await.expect_err("aborted").is_cancelled());
        drop(go);

        // Queued behind it: the writer is first come, first served.
        assert!(
            bed.commit(cart.shard, vec![event("u", "x")])
                .await
                .is_committed()
        );
        let position = bed.sql(|c| Box::pin(topics::position(c, "t"))).await?;
        assert_eq!(position.offset, 1);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_closed_store_says_so() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let cart = bed.cart("c-1");

        bed.store.close().await?;

        let error = version(&bed, &cart).await.expect_err("closed");
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        assert!(error.to_string().contains("closed"), "{error}");
        Ok(())
    })
    .await
}
