//! What can go wrong between us and the database, sorted by what to do about it.
//!
//! Not here: errors of calls; the host turns a [`StoreError`] into a `CallError`.

mod postgres;

use std::{error::Error, fmt, time::Duration};

use crate::error::Refusal;

/// What a failed statement or transaction means for whoever asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// Another transaction was in the way; nothing was stored, repeat it.
    Busy,
    /// The database refuses these values (constraint, type, size); nothing was stored, this item is
    /// bad.
    Data,
    /// The connection or the answer was lost at or after `COMMIT`: it may or may not be stored.
    Unclear,
    /// The database cannot be reached, opened or written; nothing was stored. The message says why.
    Unavailable,
    /// A bounded queue is full; nothing was stored, repeat it later.
    Overloaded,
    /// The database belongs to another version or configuration of this program.
    Incompatible,
    /// A statement does not fit the schema: our own mistake; nothing was stored.
    Bug,
    /// A stored row does not hold what its columns are for; the other rows are as good as before.
    Unreadable,
}

/// A failed statement or transaction.
#[derive(Debug)]
#[non_exhaustive]
pub struct StoreError {
    kind: StoreErrorKind,
    message: Box<str>,
    source: Option<Box<dyn Error + Send + Sync>>,
    /// Whether the connection must not be used again.
    broken: bool,
    /// Whether a server's connection ended; only ever with `broken`.
    lost: bool,
}

impl StoreError {
    /// Returns an error without a cause.
    pub fn new(kind: StoreErrorKind, message: impl fmt::Display) -> Self {
        Self {
            kind,
            message: message.to_string().into(),
            source: None,
            broken: false,
            lost: false,
        }
    }

    /// Attaches the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Returns what it means for the caller.
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// Returns what a caller is told whose call met this error.
    pub fn refusal(&self) -> Refusal {
        let text = format!("the store: {self}").into();
        match self.kind {
            StoreErrorKind::Data | StoreErrorKind::Bug | StoreErrorKind::Unreadable => {
                Refusal::Crashed(text)
            }
            StoreErrorKind::Unclear => Refusal::UnknownOutcome(text),
            StoreErrorKind::Overloaded => Refusal::Overloaded {
                retry_after: Duration::from_millis(100),
            },
            _ => Refusal::Unavailable(text),
        }
    }

    /// Says whether certainly nothing was stored.
    pub fn is_clean(&self) -> bool {
        self.kind != StoreErrorKind::Unclear
    }

    /// Says whether the connection that gave this error must be closed.
    pub(crate) fn breaks_connection(&self) -> bool {
        self.broken
    }

    /// Returns the same error for a `COMMIT` that failed with it.
    pub(crate) fn at_commit(mut self) -> Self {
        self.kind = kind_at_commit(self.kind);
        self
    }

    /// Returns the same error for a statement that an open transaction lost its connection with:
    /// without a `COMMIT` the database rolls back, so the whole may be repeated.
    pub(crate) fn before_commit(mut self) -> Self {
        if self.lost {
            self.kind = StoreErrorKind::Busy;
        }
        self
    }

    /// Says that the connection ended without an answer.
    #[must_use]
    pub(crate) fn losing(mut self) -> Self {
        (self.broken, self.lost) = (true, true);
        self
    }

    /// Says whether the connection itself ended, whatever was asked on it.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost
    }

    /// Puts `context` before the message.
    pub(crate) fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message).into();
        self
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn Error + 'static))
    }
}

impl Clone for StoreError {
    /// Copies kind and message; the cause's text becomes part of the message.
    fn clone(&self) -> Self {
        Self {
            kind: self.kind,
            message: self.message.clone(),
            source: self.source.as_ref().map(|source| source.to_string().into()),
            broken: self.broken,
            lost: self.lost,
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let (kind, broken) = classify(&error);
        Self {
            kind,
            message: describe(&error).into(),
            lost: postgres::is_loss(&error),
            source: Some(Box::new(error)),
            broken,
        }
    }
}

/// Says what an error of sqlx means, and whether its connection is beyond use.
fn classify(error: &sqlx::Error) -> (StoreErrorKind, bool) {
    match error {
        sqlx::Error::Database(database) => {
            if let Some(answer) = postgres::classify(database.as_ref()) {
                return answer;
            }
            let code = database.code().and_then(|code| code.parse().ok());
            code.map_or((StoreErrorKind::Bug, false), classify_sqlite)
        }
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::Protocol(_) => (StoreErrorKind::Unavailable, true),
        sqlx::Error::Configuration(_) => (StoreErrorKind::Unavailable, false),
        _ => (StoreErrorKind::Bug, false),
    }
}

/// Says what SQLite's result code means; extended codes carry the primary one in their low byte.
fn classify_sqlite(code: i32) -> (StoreErrorKind, bool) {
    match code & 0xff {
        // BUSY, LOCKED, INTERRUPT; and PROTOCOL, a lost race while opening the log.
        5 | 6 | 9 | 15 => (StoreErrorKind::Busy, false),
        // TOOBIG, CONSTRAINT, MISMATCH.
        18..=20 => (StoreErrorKind::Data, false),
        // PERM, NOMEM, READONLY, IOERR, CORRUPT, FULL, CANTOPEN, NOLFS, AUTH, NOTADB.
        3 | 7 | 8 | 10 | 11 | 13 | 14 | 22 | 23 | 26 => (StoreErrorKind::Unavailable, true),
        _ => (StoreErrorKind::Bug, false),
    }
}

/// Says what an error means when it answered `COMMIT`: only a busy database is known to have kept
/// nothing.
fn kind_at_commit(kind: StoreErrorKind) -> StoreErrorKind {
    match kind {
        StoreErrorKind::Busy => StoreErrorKind::Busy,
        _ => StoreErrorKind::Unclear,
    }
}

/// Returns the database's own words without sqlx's wrapping.
fn describe(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(database) => database.message().to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::{StoreErrorKind::*, *};

    #[test]
    fn result_codes_of_sqlite_are_sorted_by_what_to_do() {
        let table = [
            (5, Busy),                    // SQLITE_BUSY
            (5 | (2 << 8), Busy),         // SQLITE_BUSY_SNAPSHOT
            (6, Busy),                    // SQLITE_LOCKED
            (19 | (6 << 8), Data),        // SQLITE_CONSTRAINT_PRIMARYKEY
            (19 | (12 << 8), Data),       // SQLITE_CONSTRAINT_DATATYPE
            (18, Data),                   // SQLITE_TOOBIG
            (8, Unavailable),             // SQLITE_READONLY
            (10 | (3 << 8), Unavailable), // SQLITE_IOERR_WRITE
            (11, Unavailable),            // SQLITE_CORRUPT
            (13, Unavailable),            // SQLITE_FULL
            (14, Unavailable),            // SQLITE_CANTOPEN
            (26, Unavailable),            // SQLITE_NOTADB
            (1, Bug),                     // SQLITE_ERROR: no such table
        ];
        for (code, kind) in table {
            assert_eq!(classify_sqlite(code).0, kind, "code {code}");
        }
    }

    #[test]
    fn a_lost_connection_is_clean_before_commit_and_unclear_at_it() {
        let error = StoreError::from(sqlx::Error::WorkerCrashed);
        assert_eq!(error.kind(), Unavailable);
        assert!(error.breaks_connection());

        assert_eq!(error.at_commit().kind(), Unclear);
    }

    #[test]
    fn a_busy_commit_stored_nothing() {
        assert_eq!(
            StoreError::new(Busy, "database is locked")
                .at_commit()
                .kind(),
            Busy
        );
    }
}
