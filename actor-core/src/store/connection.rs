//! One connection to one database, whatever its dialect.
//!
//! It is only ever used inside an [executor](super::executor)'s job, so no statement is cancelled.

use std::sync::Arc;

use sqlx::{
    Arguments as _, Connection as _, Executor as _, SqlSafeStr, SqlStr,
    error::BoxDynError,
    sqlite::{SqliteArguments, SqliteConnection},
};

use super::{
    error::{StoreError, StoreErrorKind},
    row::Row,
    sql::{Dialect, Sql},
    value::Value,
};

/// One connection, inside one job.
#[derive(Debug)]
pub struct Connection {
    kind: Kind,
    /// The database's time for this job; resolves [`Value::FromNow`] where SQL has no clock of its own.
    now_ms: i64,
}

#[derive(Debug)]
enum Kind {
    Sqlite(SqliteConnection),
}

impl Connection {
    pub(super) fn sqlite(connection: SqliteConnection) -> Self {
        Self {
            kind: Kind::Sqlite(connection),
            now_ms: 0,
        }
    }

    /// Starts a job at this time.
    pub(super) fn set_now(&mut self, now_ms: i64) {
        self.now_ms = now_ms;
    }

    /// Returns which SQL this connection speaks.
    pub fn dialect(&self) -> Dialect {
        match self.kind {
            Kind::Sqlite(_) => Dialect::Sqlite,
        }
    }

    /// Runs a statement and returns how many rows it changed.
    ///
    /// # Errors
    /// With the kind that says what the failure means; see [`StoreErrorKind`].
    pub async fn execute(&mut self, sql: &Sql, values: Vec<Value>) -> Result<u64, StoreError> {
        let text = sql.text(self.dialect()).into_sql_str();
        let bound = self.bind(values.len(), values.iter())?;
        self.change(text, bound).await
    }

    /// Runs a statement and returns its rows.
    ///
    /// # Errors
    /// With the kind that says what the failure means; see [`StoreErrorKind`].
    pub async fn query(&mut self, sql: &Sql, values: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        let text = sql.text(self.dialect()).into_sql_str();
        let bound = self.bind(values.len(), values.iter())?;
        self.fetch(text, bound).await
    }

    /// Runs a statement of which at most one row is of interest.
    ///
    /// # Errors
    /// With the kind that says what the failure means; see [`StoreErrorKind`].
    pub async fn query_one(
        &mut self,
        sql: &Sql,
        values: Vec<Value>,
    ) -> Result<Option<Row>, StoreError> {
        let mut rows = self.query(sql, values).await?;
        Ok(if rows.is_empty() {
            None
        } else {
            Some(rows.swap_remove(0))
        })
    }

    /// Runs all statements of a migration, which take no parameters.
    pub(super) async fn run_script(&mut self, text: &'static str) -> Result<(), StoreError> {
        let Kind::Sqlite(connection) = &mut self.kind;
        connection.execute(sqlx::raw_sql(text)).await?;
        Ok(())
    }

    /// Runs a statement built from our own constants and returns how many rows it changed.
    pub(super) async fn change(&mut self, text: SqlStr, bound: Bound) -> Result<u64, StoreError> {
        let Kind::Sqlite(connection) = &mut self.kind;
        let query = sqlx::query_with(text, bound.0);
        Ok(connection.execute(query).await?.rows_affected())
    }

    /// Runs a statement built from our own constants and returns its rows.
    pub(super) async fn fetch(
        &mut self,
        text: SqlStr,
        bound: Bound,
    ) -> Result<Vec<Row>, StoreError> {
        let Kind::Sqlite(connection) = &mut self.kind;
        let rows = connection
            .fetch_all(sqlx::query_with(text, bound.0))
            .await?;
        Ok(rows.into_iter().map(Row::new).collect())
    }

    /// Binds values, resolving times; shared texts stay shared, bytes are copied once by sqlx.
    pub(super) fn bind<'v>(
        &self,
        count: usize,
        values: impl Iterator<Item = &'v Value>,
    ) -> Result<Bound, StoreError> {
        let mut arguments = SqliteArguments::default();
        arguments.reserve(count, 0);
        for value in values {
            add(&mut arguments, value, self.now_ms).map_err(|error| {
                let message = format_args!("cannot bind a value: {error}");
                StoreError::new(StoreErrorKind::Bug, message)
            })?;
        }
        Ok(Bound(arguments))
    }

    pub(super) async fn begin(&mut self) -> Result<(), StoreError> {
        // Immediate: a transaction that reads and then writes would otherwise fail at once with
        // BUSY, without waiting.
        self.run_plain("BEGIN IMMEDIATE").await
    }

    pub(super) async fn commit(&mut self) -> Result<(), StoreError> {
        self.run_plain("COMMIT")
            .await
            .map_err(StoreError::at_commit)
    }

    pub(super) async fn rollback(&mut self) -> Result<(), StoreError> {
        self.run_plain("ROLLBACK").await
    }

    /// Closes the connection and waits until the database has let go of it.
    pub(super) async fn close(self) -> Result<(), StoreError> {
        let Kind::Sqlite(connection) = self.kind;
        Ok(connection.close().await?)
    }

    async fn run_plain(&mut self, text: &'static str) -> Result<(), StoreError> {
        self.change(text.into_sql_str(), Bound::default())
            .await
            .map(drop)
    }
}

/// Values bound for one run of a statement.
#[derive(Debug, Default)]
pub(super) struct Bound(SqliteArguments);

/// Adds one value.
fn add(arguments: &mut SqliteArguments, value: &Value, now_ms: i64) -> Result<(), BoxDynError> {
    match value {
        Value::Null => arguments.add(None::<i64>),
        Value::Int(value) => arguments.add(*value),
        Value::FromNow(after) => arguments.add(now_ms.saturating_add(*after)),
        Value::Text(text) => arguments.add(Arc::clone(text)),
        Value::Blob(bytes) => arguments.add(Arc::clone(bytes)),
    }
}
