//! What keeps dead rows in the tables, and how many there are, is known (architecture D17).

use actor_core::store::{
    Connection, Sql, Store, StoreError,
    tables::{self, TableHealth},
};
use actor_tests::{
    Context as _, Result,
    bed::{Backend, Bed},
};

use crate::sessions::{Paused, named, soon};

const TOPIC: Sql = Sql::same("INSERT INTO streams (topic, epoch, last_offset) VALUES ('t', 1, 1)");

async fn health(store: &Store) -> Result<TableHealth> {
    let read = store.read("table health", |c| Box::pin(tables::health(c)));
    read.await?.context("PostgreSQL knows")
}

/// How long a transaction that sessions of this name have open takes already, in milliseconds.
async fn open_for(c: &mut Connection, name: String) -> Result<Option<i64>, StoreError> {
    const OPEN: Sql = Sql::same(
        "SELECT floor(extract(epoch FROM clock_timestamp() - min(xact_start)) * 1000)::bigint
         FROM pg_stat_activity WHERE application_name = $1 AND backend_xid IS NOT NULL",
    );
    let row = c.query_one(&OPEN, vec![name.into()]).await?;
    row.map_or(Ok(None), |row| row.int_or_null(0))
}

#[tokio::test]
async fn the_oldest_open_transaction_is_known() -> Result<()> {
    let (backend, name) = named();
    let bed = Bed::new(backend).await?;
    let others = bed.second_store().await?;
    let open = Paused::after(&bed.store, |c| {
        Box::pin(async move { c.execute(&TOPIC, vec![]).await.map(drop) })
    });
    let open = open.await?;

    // Nothing is asked before the server itself sees that it takes time.
    let a_while = async || {
        let name = name.clone();
        let asked = others.read("open for", move |c| Box::pin(open_for(c, name)));
        asked.await.ok()?.filter(|ms| *ms > 0)
    };
    let took = soon().poll("the transaction takes time", a_while).await?;

    let oldest = health(&others).await?.oldest_snapshot.as_millis();
    assert!(oldest >= u128::try_from(took)?, "{oldest} of {took} ms");
    open.commit().await
}

#[tokio::test]
async fn dead_rows_are_counted_by_table() -> Result<()> {
    const ROWS: Sql = Sql::same(
        "INSERT INTO streams (topic, epoch, last_offset)
         SELECT n::text, 1, 1 FROM generate_series(1, 40) AS n",
    );
    const GONE: Sql = Sql::same("DELETE FROM streams");
    let bed = Bed::new(Backend::postgres("")).await?;
    let others = bed.second_store().await?;
    for sql in [ROWS, GONE] {
        bed.sql(move |c| Box::pin(async move { c.execute(&sql, vec![]).await }))
            .await?;
    }

    // Sessions report what they did when they end, at the latest.
    bed.lanes.stop().await;
    bed.store.close().await?;
    let dead = async || {
        let found = health(&others).await.ok()?.dead_rows;
        let (_, rows) = found.into_iter().find(|(table, _)| table == "streams")?;
        (rows > 0).then_some(rows)
    };

    let dead = soon().poll("the session reports", dead).await?;
    assert_eq!(dead, 40);
    Ok(())
}

#[tokio::test]
async fn sqlite_has_no_dead_rows() -> Result<()> {
    let bed = Bed::new(Backend::sqlite()).await?;

    let asked = bed
        .store
        .read("table health", |c| Box::pin(tables::health(c)));

    assert_eq!(asked.await?, None);
    Ok(())
}
