//! One connection to a server: its statements, and what is left of it after an error.

use std::{pin::pin, sync::Arc, time::Duration};

use sqlx::{
    AssertSqlSafe, Connection as _, Executor as _, Row as _, SqlStr,
    postgres::{PgConnection, PgRow},
};

use super::Arguments;
use crate::{
    clock::Clock,
    store::{StoreError, StoreErrorKind},
};

/// How long a farewell may take.
const CLOSE_MAX: Duration = Duration::from_secs(1);

/// One connection.
#[derive(Debug)]
pub(crate) struct Session {
    connection: PgConnection,
    /// Whether a pooler may give the next transaction another connection of the server.
    pooled: bool,
    /// How long an answer may take at all.
    limit: Duration,
    /// Whether a transaction is open.
    open: bool,
    /// Whether a statement of the open transaction failed.
    failed: bool,
    /// Whether an error ended the connection, or must.
    broken: bool,
    /// When it was last in order.
    used_at: crate::clock::Instant,
}

impl Session {
    pub(super) fn new(connection: PgConnection, pooled: bool, limit: Duration) -> Self {
        Self {
            connection,
            pooled,
            limit,
            open: false,
            failed: false,
            broken: false,
            used_at: Clock.now(),
        }
    }

    /// Says whether the connection must be closed.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Says whether every statement must be inside a transaction.
    pub(crate) fn is_pooled(&self) -> bool {
        self.pooled
    }

    /// Returns how long the connection was not used.
    pub(crate) fn idle(&self) -> Duration {
        Clock.now().saturating_duration_since(self.used_at)
    }

    /// Begins a transaction with this text; returns the server's time if the text asks for it.
    pub(crate) async fn begin(&mut self, opening: Arc<str>) -> Result<Option<i64>, StoreError> {
        let rows = self.plain(opening).await?;
        (self.open, self.failed) = (true, false);
        let time = rows.last().map(|row| row.try_get::<String, _>(0));
        Ok(time.transpose()?.and_then(|time| time.parse().ok()))
    }

    /// Commits. Only a clean refusal is an error other than `Unclear`.
    pub(crate) async fn commit(&mut self) -> Result<(), StoreError> {
        if self.failed {
            // The server would answer with a rollback that looks like success.
            let message = "a statement failed, but its transaction was to be committed";
            return Err(StoreError::new(StoreErrorKind::Bug, message));
        }
        self.open = false;
        let committed = self.plain("COMMIT".into()).await;
        committed.map(drop).map_err(StoreError::at_commit)
    }

    pub(crate) async fn rollback(&mut self) -> Result<(), StoreError> {
        self.open = false;
        self.plain("ROLLBACK".into()).await.map(drop)
    }

    /// Runs statements without parameters.
    pub(crate) async fn plain(&mut self, text: Arc<str>) -> Result<Vec<PgRow>, StoreError> {
        let run = self
            .connection
            .fetch_all(sqlx::raw_sql(AssertSqlSafe(text)));
        let answer = bounded(self.limit, run).await;
        self.after(answer)
    }

    /// Runs a statement and returns how many rows it changed.
    pub(crate) async fn change(
        &mut self,
        text: SqlStr,
        bound: Arguments,
    ) -> Result<u64, StoreError> {
        let query = sqlx::query_with(text, bound.0).persistent(!self.pooled);
        let answer = bounded(self.limit, self.connection.execute(query)).await;
        self.after(answer).map(|done| done.rows_affected())
    }

    /// Runs a statement and returns its rows.
    pub(crate) async fn fetch(
        &mut self,
        text: SqlStr,
        bound: Arguments,
    ) -> Result<Vec<PgRow>, StoreError> {
        let query = sqlx::query_with(text, bound.0).persistent(!self.pooled);
        let answer = bounded(self.limit, self.connection.fetch_all(query)).await;
        self.after(answer)
    }

    /// Remembers what an answer means for the connection and the transaction.
    fn after<T>(&mut self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        self.used_at = Clock.now();
        answer.map_err(|error| {
            self.failed = true;
            self.broken |= error.breaks_connection();
            match self.open {
                true => error.before_commit(),
                false => error,
            }
        })
    }

    /// Closes the connection; one that is broken just goes.
    pub(crate) async fn close(self) -> Result<(), StoreError> {
        if self.broken {
            return Ok(());
        }
        bounded(CLOSE_MAX, self.connection.close()).await
    }
}

/// Waits for an answer, but not for ever: a network may swallow it without a word.
///
/// A run that is given up leaves its connection in the middle of a message: it must be closed, and
/// the error says so.
pub(super) async fn bounded<T>(
    limit: Duration,
    run: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, StoreError> {
    let mut run = pin!(run);
    tokio::select! {
        biased;
        answer = &mut run => Ok(answer?),
        () = Clock.sleep(limit) => {
            let message = format!("no answer within {limit:?}");
            Err(StoreError::new(StoreErrorKind::Unavailable, message).losing())
        }
    }
}
