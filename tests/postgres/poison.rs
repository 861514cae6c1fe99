//! Failures whose texts the database does not store as they are: counted and buried all the same.

use std::sync::Arc;

use actor_core::{
    Client, Entity, handlers,
    hosting::Hosting,
    store::{
        Sql, Store, TaskExecutor,
        dead_letters::{self, DeadLetter},
    },
};
use actor_tests::{
    Result,
    bed::Backend,
    hosting::{client, host_with},
};
use serde::{Deserialize, Serialize};

use crate::sessions::soon;

const HOUR: std::time::Duration = std::time::Duration::from_secs(3600);

/// Tells only such by their names.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Colour {
    Red,
}

/// Keeps what it is told.
#[derive(Debug, Default, Entity, Serialize, Deserialize)]
#[entity(durable)]
struct Diary {
    lines: Vec<String>,
}

#[handlers]
impl Diary {
    /// Fails, and says so with this text.
    pub fn fail(&mut self, text: String) {
        panic!("bad {text}");
    }

    /// Notes a colour.
    pub fn paint(&mut self, colour: Colour) {
        self.lines.push(format!("{colour:?}"));
    }

    /// Keeps a line.
    pub fn keep(&mut self, line: String) {
        self.lines.push(line);
    }

    /// Returns what it kept.
    pub fn lines(&self) -> Vec<String> {
        self.lines.clone()
    }
}

async fn life(backend: &Backend) -> (Arc<Hosting>, Client) {
    let hosting = host_with::<Diary>(&backend.url, Arc::new(TaskExecutor), |_| {}).await;
    let client = client(&hosting);
    (hosting, client)
}

async fn change(store: &Store, sql: &'static str) -> Result<u64> {
    let changed = store.write("change", move |c| {
        Box::pin(async move { c.execute(&Sql::same(sql), vec![]).await })
    });
    Ok(changed.await?)
}

async fn dead(store: &Store) -> Option<DeadLetter> {
    let listed = store.read("list", |c| {
        Box::pin(async move { dead_letters::list(c, 0, 10).await })
    });
    listed.await.ok()?.into_iter().next()
}

#[tokio::test]
async fn a_failure_whose_text_cannot_be_stored_is_counted_and_given_up() -> Result<()> {
    let backend = Backend::postgres("");
    let (hosting, client) = life(&backend).await;
    let diary = client.entity::<Diary>("a");
    let text = format!("\0 {}", "x".repeat(1024 * 1024));
    diary.fail(text).cast().await?;
    diary.keep("behind".into()).cast().await?;

    let poison = "UPDATE mailbox SET attempts = 9 WHERE method = 'fail' AND attempts > 0";
    let counted = async || (change(hosting.store(), poison).await.ok()? == 1).then_some(());
    soon().poll("the first failure", counted).await?;
    hosting.stop().await;
    hosting.store().close().await?;
    let (hosting, client) = life(&backend).await;
    let letter = async || dead(hosting.store()).await;
    let letter = soon().poll("the dead letter", letter).await?;

    assert!(letter.error.contains("bad \u{FFFD} x"), "{}", letter.error);
    assert!(letter.error.len() < 10_000, "{} bytes", letter.error.len());
    assert_eq!(letter.attempts, 10);
    let lines = client.entity::<Diary>("a").lines().await?;
    assert_eq!(lines, ["behind"]);
    hosting.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_message_whose_decoder_names_what_cannot_be_stored_is_given_up() -> Result<()> {
    let backend = Backend::postgres("");
    let (hosting, client) = life(&backend).await;
    let diary = client.entity::<Diary>("a");
    diary.paint(Colour::Red).after(HOUR).await?;
    let spoil = "UPDATE mailbox SET due_at = NULL, args = decode(replace(
        encode(args, 'hex'), encode('Red', 'hex'), '000000'), 'hex')";
    assert_eq!(change(hosting.store(), spoil).await?, 1);

    hosting.poll(0).await?;
    let letter = async || dead(hosting.store()).await;
    let letter = soon().poll("the dead letter", letter).await?;

    assert!(
        letter.error.contains("unknown variant `\u{FFFD}"),
        "{}",
        letter.error
    );
    hosting.stop().await;
    Ok(())
}
