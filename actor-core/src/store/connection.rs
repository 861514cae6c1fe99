//! One connection to one database, whatever its dialect.
//!
//! It is only ever used inside an [executor](super::executor)'s job, so no statement is cancelled.

use std::{sync::Arc, time::Duration};

use sqlx::{
    Arguments as _, AssertSqlSafe, Connection as _, Executor as _, SqlSafeStr, SqlStr,
    error::BoxDynError,
    sqlite::{SqliteArguments, SqliteConnection},
};

use super::{
    error::{StoreError, StoreErrorKind},
    postgres::{Arguments, Session},
    row::Row,
    sql::{Dialect, Sql},
    statement::Statement,
    value::Value,
};

/// How long a server's connection may have been idle before it is asked whether it still is one.
const IDLE_TRUSTED: Duration = Duration::from_secs(1);

/// One connection, inside one job.
#[derive(Debug)]
pub struct Connection {
    kind: Kind,
    /// The database's time for this job; resolves [`Value::FromNow`] where SQL has no clock of its
    /// own.
    now_ms: i64,
}

#[derive(Debug)]
enum Kind {
    Sqlite(SqliteConnection),
    Postgres(Box<Session>),
}

impl Connection {
    pub(super) fn sqlite(connection: SqliteConnection) -> Self {
        Self {
            kind: Kind::Sqlite(connection),
            now_ms: 0,
        }
    }

    pub(super) fn postgres(session: Session) -> Self {
        Self {
            kind: Kind::Postgres(Box::new(session)),
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
            Kind::Postgres(_) => Dialect::Postgres,
        }
    }

    /// Says whether an error told that the connection is beyond use.
    pub(super) fn is_broken(&self) -> bool {
        match &self.kind {
            Kind::Sqlite(_) => false,
            Kind::Postgres(session) => session.is_broken(),
        }
    }

    /// Says whether a read needs a transaction of its own.
    pub(super) fn is_pooled(&self) -> bool {
        match &self.kind {
            Kind::Sqlite(_) => false,
            Kind::Postgres(session) => session.is_pooled(),
        }
    }

    /// Says whether the connection still is one, asking the server after a while.
    pub(super) async fn is_alive(&mut self) -> bool {
        match &mut self.kind {
            Kind::Sqlite(_) => true,
            Kind::Postgres(session) if session.idle() < IDLE_TRUSTED => true,
            Kind::Postgres(session) => session.plain("SELECT 1".into()).await.is_ok(),
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
    pub(super) async fn run_script(&mut self, text: Arc<str>) -> Result<(), StoreError> {
        match &mut self.kind {
            Kind::Sqlite(connection) => {
                connection
                    .execute(sqlx::raw_sql(AssertSqlSafe(text)))
                    .await?;
            }
            Kind::Postgres(session) => {
                session.plain(text).await?;
            }
        }
        Ok(())
    }

    /// Runs a statement built from our own constants and returns how many rows it changed.
    pub(super) async fn change(&mut self, text: SqlStr, bound: Bound) -> Result<u64, StoreError> {
        match (&mut self.kind, bound) {
            (Kind::Sqlite(connection), Bound::Sqlite(bound)) => {
                let query = sqlx::query_with(text, bound);
                Ok(connection.execute(query).await?.rows_affected())
            }
            (Kind::Postgres(session), Bound::Postgres(bound)) => session.change(text, bound).await,
            _ => Err(bound_elsewhere()),
        }
    }

    /// Runs a statement built from our own constants and returns its rows.
    pub(super) async fn fetch(
        &mut self,
        text: SqlStr,
        bound: Bound,
    ) -> Result<Vec<Row>, StoreError> {
        match (&mut self.kind, bound) {
            (Kind::Sqlite(connection), Bound::Sqlite(bound)) => {
                let query = sqlx::query_with(text, bound);
                let rows = connection.fetch_all(query).await?;
                Ok(rows.into_iter().map(Row::sqlite).collect())
            }
            (Kind::Postgres(session), Bound::Postgres(bound)) => {
                let rows = session.fetch(text, bound).await?;
                Ok(rows.into_iter().map(Row::postgres).collect())
            }
            _ => Err(bound_elsewhere()),
        }
    }

    /// Binds values, resolving times; shared texts stay shared, bytes are copied once by sqlx.
    pub(super) fn bind<'v>(
        &self,
        count: usize,
        values: impl Iterator<Item = &'v Value>,
    ) -> Result<Bound, StoreError> {
        if matches!(self.kind, Kind::Postgres(_)) {
            return Arguments::of(values).map(Bound::Postgres);
        }
        let mut arguments = SqliteArguments::default();
        arguments.reserve(count, 0);
        for value in values {
            add(&mut arguments, value, self.now_ms).map_err(|error| {
                let message = format_args!("cannot bind a value: {error}");
                StoreError::new(StoreErrorKind::Bug, message)
            })?;
        }
        Ok(Bound::Sqlite(arguments))
    }

    /// Binds `count` rows of a statement; `value` finds a value by row and column.
    pub(super) fn bind_rows<'v>(
        &self,
        statement: &Statement,
        count: usize,
        value: impl Fn(usize, usize) -> &'v Value,
    ) -> Result<Bound, StoreError> {
        let columns = statement.columns().len();
        match self.kind {
            Kind::Sqlite(_) => {
                let row = |row| (0..columns).map(move |column| (row, column));
                let values = (0..count).flat_map(row);
                self.bind(
                    columns * count,
                    values.map(|(row, column)| value(row, column)),
                )
            }
            Kind::Postgres(_) => Arguments::columns(statement, count, value).map(Bound::Postgres),
        }
    }

    /// Begins a transaction; `opening` is what a server's begins with. Returns the server's time if
    /// the opening asks for it.
    pub(super) async fn begin(
        &mut self,
        opening: Option<Arc<str>>,
    ) -> Result<Option<i64>, StoreError> {
        match (&mut self.kind, opening) {
            (Kind::Postgres(session), Some(opening)) => session.begin(opening).await,
            // Immediate: a transaction that reads and then writes would otherwise fail at once with
            // BUSY, without waiting.
            _ => self.run_plain("BEGIN IMMEDIATE").await.map(|()| None),
        }
    }

    pub(super) async fn commit(&mut self) -> Result<(), StoreError> {
        match &mut self.kind {
            Kind::Postgres(session) => session.commit().await,
            Kind::Sqlite(_) => {
                let committed = self.run_plain("COMMIT").await;
                committed.map_err(StoreError::at_commit)
            }
        }
    }

    pub(super) async fn rollback(&mut self) -> Result<(), StoreError> {
        match &mut self.kind {
            Kind::Postgres(session) => session.rollback().await,
            Kind::Sqlite(_) => self.run_plain("ROLLBACK").await,
        }
    }

    /// Closes the connection and waits until the database has let go of it.
    pub(super) async fn close(self) -> Result<(), StoreError> {
        match self.kind {
            Kind::Sqlite(connection) => Ok(connection.close().await?),
            Kind::Postgres(session) => session.close().await,
        }
    }

    async fn run_plain(&mut self, text: &'static str) -> Result<(), StoreError> {
        let bound = self.bind(0, std::iter::empty())?;
        self.change(text.into_sql_str(), bound).await.map(drop)
    }
}

/// Values bound for one run of a statement.
#[derive(Debug)]
pub(super) enum Bound {
    Sqlite(SqliteArguments),
    Postgres(Arguments),
}

fn bound_elsewhere() -> StoreError {
    StoreError::new(StoreErrorKind::Bug, "values bound for another connection")
}

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
