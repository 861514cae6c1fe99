//! Several sessions of one database that meet where a test wants them to.

use std::time::Duration;

use actor_core::{
    id::{Incarnation, NodeId, ShardId},
    store::{
        BoxFuture, Connection, Sql, Store, StoreError,
        entities::Place,
        nodes,
        ownership::{self, Seen, Taken},
    },
};
use actor_tests::{
    Deadline, Result,
    bed::{Backend, Bounds, SHARDS, TTL},
};
use tokio::{sync::oneshot, task::JoinHandle};

/// Bounds in which nothing ends because the machine is slow.
pub(crate) fn patient() -> Bounds {
    Bounds {
        busy_timeout: Duration::from_secs(60),
        statement_timeout: Duration::from_secs(60),
        ..Bounds::default()
    }
}

/// How long anything may take before a test fails.
pub(crate) fn soon() -> Deadline {
    Deadline::seconds(30)
}

/// Returns a backend whose sessions carry a name of their own, and the name.
pub(crate) fn named() -> (Backend, String) {
    let name = actor_tests::postgres::Postgres::new_schema();
    (Backend::postgres(&format!("application_name={name}")), name)
}

/// A transaction that did something and waits for leave to commit.
pub(crate) struct Paused<T> {
    go: oneshot::Sender<()>,
    task: JoinHandle<Result<T, StoreError>>,
}

impl<T: Send + 'static> Paused<T> {
    /// Runs `run` in a transaction of `store`, up to just before its commit.
    ///
    /// The server does not mind that it idles: the test decides how long.
    pub(crate) async fn after<F>(store: &Store, run: F) -> Result<Self>
    where
        F: for<'c> FnOnce(&'c mut Connection) -> BoxFuture<'c, Result<T, StoreError>>
            + Send
            + 'static,
    {
        const UNHURRIED: Sql = Sql::same("SET LOCAL idle_in_transaction_session_timeout = 0");
        let (go, gone) = oneshot::channel();
        let (did, done) = oneshot::channel();
        let store = store.clone();
        let task = tokio::spawn(async move {
            let write = store.write("paused", move |c| {
                Box::pin(async move {
                    c.execute(&UNHURRIED, vec![]).await?;
                    let answer = run(c).await?;
                    let _ = did.send(());
                    let _ = gone.await;
                    Ok(answer)
                })
            });
            write.await
        });
        // An error comes with the commit.
        let _ = soon().limit("the transaction does its part", done).await?;
        Ok(Self { go, task })
    }

    /// Lets it commit.
    pub(crate) async fn commit(self) -> Result<T> {
        let _ = self.go.send(());
        Ok(soon().limit("the transaction ends", self.task).await???)
    }
}

/// Locks the row of an entity, which a batch writes after its fence.
pub(crate) async fn lock_entity(store: &Store, place: &Place) -> Result<Paused<()>> {
    const LOCK: Sql =
        Sql::same("SELECT version FROM entities WHERE kind = $1 AND id = $2 FOR UPDATE");
    let values = vec![(&place.kind).into(), (&place.id).into()];
    let locked = Paused::after(store, move |c| {
        Box::pin(async move { c.query(&LOCK, values).await.map(drop) })
    });
    locked.await
}

/// Waits until `count` sessions of this name wait for a lock.
pub(crate) async fn waiting(store: &Store, name: &str, count: i64) -> Result<()> {
    const WAITING: Sql = Sql::same(
        "SELECT count(*) FROM pg_stat_activity
         WHERE application_name = $1 AND wait_event_type = 'Lock'",
    );
    let look = async || {
        let name = name.to_owned();
        let read = store.read("waiting", move |c| {
            Box::pin(async move { c.query_one(&WAITING, vec![name.into()]).await })
        });
        let row = read.await.ok()??;
        (row.int(0).ok()? >= count).then_some(())
    };
    soon().poll("sessions wait for a lock", look).await
}

/// Registers a node.
pub(crate) async fn register(store: &Store, node: &str) -> Result<Incarnation, StoreError> {
    let node = NodeId::new(node);
    let registered = store.write("register", move |c| {
        Box::pin(async move { nodes::register(c, &node, "", TTL).await })
    });
    registered.await
}

/// Takes whatever is free.
pub(crate) async fn take(
    store: &Store,
    node: &str,
    incarnation: Incarnation,
) -> Result<Vec<Taken>, StoreError> {
    let node = NodeId::new(node);
    let taken = store.write("take", move |c| {
        Box::pin(async move { take_on(c, &node, incarnation).await })
    });
    taken.await
}

/// Takes whatever is free, inside a transaction.
pub(crate) async fn take_on(
    c: &mut Connection,
    node: &NodeId,
    incarnation: Incarnation,
) -> Result<Vec<Taken>, StoreError> {
    let all: Vec<_> = (0..SHARDS).map(ShardId).collect();
    ownership::take(c, &all, node, incarnation, &Seen::default()).await
}
