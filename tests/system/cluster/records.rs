//! What the database of a cluster says, asked by no node and no proxy.
//!
//! A trigger of the test's own writes down every change of the shard map, so that the order of
//! owners is read, not sampled.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use actor_core::{
    id::ShardId,
    store::{Row, Sql, Store, StoreConfig, StoreError, TaskExecutor, Value},
};
use actor_tests::Result;
use tokio::sync::OnceCell;

use super::nodes::SHARDS;

/// Writes down each change of an owner or an epoch.
const WATCH: [Sql; 3] = [
    Sql::same(
        "CREATE TABLE test_changes (
           seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, shard bigint NOT NULL,
           owner text, incarnation bigint NOT NULL, epoch bigint NOT NULL)",
    ),
    Sql::same(
        "CREATE FUNCTION test_note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           INSERT INTO test_changes (shard, owner, incarnation, epoch)
           VALUES (NEW.shard, NEW.owner, NEW.incarnation, NEW.epoch);
           RETURN NEW; END $$",
    ),
    Sql::same(
        "CREATE TRIGGER test_note AFTER INSERT OR UPDATE ON shards
         FOR EACH ROW EXECUTE FUNCTION test_note()",
    ),
];

const CHANGES: Sql =
    Sql::same("SELECT shard, owner, incarnation, epoch FROM test_changes ORDER BY seq");

const OWNED: Sql = Sql::same("SELECT shard FROM shards WHERE owner = $1");

/// The database of one cluster.
pub(crate) struct Records {
    url: String,
    store: OnceCell<Store>,
}

impl Records {
    pub(crate) fn new(url: String) -> Self {
        let store = OnceCell::new();
        Self { url, store }
    }

    /// Returns the store, opened when first needed.
    pub(crate) async fn store(&self) -> Result<&Store> {
        self.store.get_or_try_init(|| self.another()).await
    }

    /// Returns another store, with connections of its own.
    pub(crate) async fn another(&self) -> Result<Store> {
        let config = StoreConfig::new(self.url.as_str());
        // Boxed: whoever asks for a number would carry the whole opening of a store.
        Ok(Box::pin(Store::open(config, Arc::new(TaskExecutor))).await?)
    }

    /// Begins to write changes of the shard map down; there must be one.
    pub(crate) async fn watch(&self) -> Result<()> {
        let watching = self.store().await?.write("watch", |c| {
            Box::pin(async move {
                for sql in &WATCH {
                    c.execute(sql, vec![]).await?;
                }
                Ok(())
            })
        });
        Ok(watching.await?)
    }

    /// Asks for rows.
    pub(crate) async fn rows(&self, sql: &'static Sql, values: Vec<Value>) -> Result<Vec<Row>> {
        let asked = self.store().await?.read("look", move |c| {
            Box::pin(async move { c.query(sql, values).await })
        });
        Ok(asked.await?)
    }

    /// Asks for one number.
    pub(crate) async fn number(&self, sql: &'static Sql, values: Vec<Value>) -> Result<i64> {
        let rows = self.rows(sql, values).await?;
        Ok(rows.first().map_or(Ok(0), |row| row.int(0))?)
    }

    /// Returns names of stocks, at most `count`, whose shards a node owns.
    pub(crate) async fn stocks_of(&self, node: usize, count: usize) -> Result<Vec<String>> {
        let node = format!("shop-{node}");
        let rows = self.rows(&OWNED, vec![node.as_str().into()]).await?;
        let owned: BTreeSet<_> = rows
            .iter()
            .map(|row| row.shard(0))
            .collect::<Result<_, _>>()?;
        let all = (0..1_000).map(|number| format!("stock-{number}"));
        let of_node = all.filter(|sku| owned.contains(&ShardId::of("stock", sku, SHARDS as u32)));
        Ok(of_node.take(count).collect())
    }

    /// Changes something in one transaction; returns how many rows the last statement changed.
    pub(crate) async fn change(&self, statements: Vec<(&'static Sql, Vec<Value>)>) -> Result<u64> {
        let changed = self.store().await?.write("change", move |c| {
            Box::pin(async move {
                let mut changed = 0;
                for (sql, values) in statements {
                    changed = c.execute(sql, values).await?;
                }
                Ok::<_, StoreError>(changed)
            })
        });
        Ok(changed.await?)
    }

    /// Fails unless each epoch of a shard had one owner, and later ones are higher. Returns how
    /// many changes there were.
    pub(crate) async fn one_owner_for_each_epoch(&self) -> Result<usize> {
        let rows = self.rows(&CHANGES, vec![]).await?;
        let mut last = BTreeMap::<i64, i64>::new();
        let mut owners = BTreeMap::<(i64, i64), (String, i64)>::new();
        for row in &rows {
            let (shard, epoch) = (row.int(0)?, row.int(3)?);
            let before = last.insert(shard, epoch).unwrap_or_default();
            assert!(before <= epoch, "shard {shard}: {before} before {epoch}");
            // Released: the epoch ends with its owner.
            let Some(owner) = row.text_or_null(1)? else {
                continue;
            };
            let owner = (owner, row.int(2)?);
            let first = owners
                .entry((shard, epoch))
                .or_insert_with(|| owner.clone());
            assert_eq!(
                *first, owner,
                "two owners of shard {shard} in epoch {epoch}"
            );
        }
        assert!(!rows.is_empty(), "no change was written down");
        Ok(rows.len())
    }
}
