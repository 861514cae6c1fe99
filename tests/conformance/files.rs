//! What only a SQLite file does: its lock, its log, its place on the disk; and a database in
//! memory.

use std::{fs, path::Path, sync::Arc, time::Duration};

use actor_core::{
    id::NodeId,
    store::{
        Store, StoreConfig, StoreError, StoreErrorKind, TaskExecutor,
        lock::{FileLock, LockError},
        meta, migrate, topics,
    },
};
use actor_tests::Result;

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
