//! Opening, locking, migrating, closing; what SQLite's own files may do to us.

use std::{fs, path::Path, sync::Arc, time::Duration};

use actor_core::{
    id::NodeId,
    store::{
        Sql, Store, StoreConfig, StoreError, StoreErrorKind, TaskExecutor,
        lock::{FileLock, LockError},
        meta, migrate, topics,
    },
};
use actor_tests::{
    Result,
    bed::{Bed, for_each_backend},
};

use crate::rows::{event, state, version};

async fn open(path: &Path) -> Result<Store, StoreError> {
    let config = StoreConfig::new(format!("sqlite://{}", path.display()));
    Store::open(config, Arc::new(TaskExecutor)).await
}

/// Opens what cannot be opened and returns the message.
async fn refusal(path: &Path) -> String {
    let error = open(path).await.expect_err("it cannot be opened");
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    let message = error.to_string();
    assert!(message.contains(&path.display().to_string()), "{message}");
    message
}

#[tokio::test]
async fn a_database_that_cannot_be_opened_says_which_and_why() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let corrupt = folder.path().join("corrupt.db");
    fs::write(&corrupt, vec![b'x'; 8192])?;

    assert!(refusal(&corrupt).await.contains("file is not a database"));
    assert!(refusal(folder.path()).await.contains("it is a folder"));
    let nowhere = folder.path().join("missing/shop.db");
    assert!(refusal(&nowhere).await.contains("missing does not exist"));
    Ok(())
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_folder_that_cannot_be_written_is_named() {
    // Nobody may create files there, not even root.
    let message = refusal(Path::new("/sys/kernel/shop.db")).await;

    assert!(message.contains("cannot be created"), "{message}");
}

#[tokio::test]
async fn a_missing_file_is_not_created_against_the_configuration() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("shop.db");
    let mut config = StoreConfig::new(format!("sqlite://{}", path.display()));
    config.create = false;

    let error = Store::open(config, Arc::new(TaskExecutor))
        .await
        .expect_err("missing");

    assert!(
        error.to_string().contains("the file does not exist"),
        "{error}"
    );
    assert!(!path.exists());
    Ok(())
}

#[tokio::test]
async fn a_lock_has_one_holder_and_names_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let database = folder.path().join("shop.db");
    let held = FileLock::acquire(&database, &NodeId::new("first"))?;

    let error = FileLock::acquire(&database, &NodeId::new("second")).expect_err("held");

    let LockError::Held { path, holder } = &error else {
        panic!("{error}")
    };
    assert_eq!(path, held.path());
    assert_eq!(**holder, *format!("pid {}, node first", std::process::id()));
    assert!(error.to_string().contains("shop.db.lock"), "{error}");
    drop(held);
    let second = FileLock::acquire(&database, &NodeId::new("second"))?;
    let text = fs::read_to_string(second.path())?;
    assert!(
        text.contains("node second") && !text.contains("first"),
        "{text}"
    );
    Ok(())
}

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
        "INSERT INTO migrations (version, name, checksum, applied_at)
         VALUES (9000, '9000_future', '', 0)",
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

#[tokio::test]
async fn the_log_is_written_back_and_cut_when_it_is_long() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("shop.db");
    let mut config = StoreConfig::new(format!("sqlite://{}", path.display()));
    (config.checkpoint_every, config.log_bytes_max) = (Duration::ZERO, 100_000);
    let store = Store::open(config, Arc::new(TaskExecutor)).await?;
    migrate::run(&store).await?;
    let log = folder.path().join("shop.db-wal");
    let long = fs::metadata(&log)?.len();
    assert!(long > 100_000, "the schema's log has {long} bytes");

    store.checkpoint().await?;

    assert_eq!(fs::metadata(&log)?.len(), 0);
    Ok(())
}

#[tokio::test]
async fn a_database_in_memory_is_its_own_world() -> Result<()> {
    let store = || Store::open(StoreConfig::new("sqlite::memory:"), Arc::new(TaskExecutor));
    let (one, two) = (store().await?, store().await?);

    migrate::run(&one).await?;
    meta::agree(&one, 8).await?;

    let seen = one
        .read("topics", |c| Box::pin(topics::list(c, "", 9)))
        .await?;
    assert!(seen.is_empty());
    let error = two
        .read("topics", |c| Box::pin(topics::list(c, "", 9)))
        .await;
    assert_eq!(error.expect_err("no schema").kind(), StoreErrorKind::Bug);
    assert_eq!(one.file(), None);
    Ok(())
}
