//! What the error codes of PostgreSQL mean (architecture D6).

use sqlx::{
    error::DatabaseError,
    postgres::{PgDatabaseError, PgSeverity},
};

use super::StoreErrorKind;

/// Says what an error means and whether its connection is beyond use; `None` if it is not
/// PostgreSQL's.
pub(super) fn classify(error: &dyn DatabaseError) -> Option<(StoreErrorKind, bool)> {
    let error = error.try_downcast_ref::<PgDatabaseError>()?;
    let (kind, broken) = kind_of(error.code());
    Some((kind, broken || is_fatal(error.severity())))
}

/// Says whether a server's connection ended without an answer to what was asked.
///
/// Not so for SQLite: its errors of input and output are answers.
pub(super) fn is_loss(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(error) => error
            .try_downcast_ref::<PgDatabaseError>()
            .is_some_and(|error| is_fatal(error.severity())),
        _ => false,
    }
}

/// After such an error the server closes the connection.
fn is_fatal(severity: PgSeverity) -> bool {
    matches!(severity, PgSeverity::Fatal | PgSeverity::Panic)
}

/// Sorts a code by what to do about it.
fn kind_of(code: &str) -> (StoreErrorKind, bool) {
    match (code, code.get(..2).unwrap_or_default()) {
        // Could not serialize, deadlock, lock time-out.
        ("40001" | "40P01" | "55P03", _) => (StoreErrorKind::Busy, false),
        // Statement time-out, idle-in-transaction time-out: rolled back; the connection is closed,
        // in the first case by us.
        ("57014" | "25P03", _) => (StoreErrorKind::Busy, true),
        // A standby, or a primary that became one: the next connection may find the new primary.
        ("25006", _) => (StoreErrorKind::Unavailable, true),
        // A statement that meets a row twice, bad values, broken constraints, limits such as the
        // size of an index entry.
        (_, "21" | "22" | "23" | "54") => (StoreErrorKind::Data, false),
        // The connection, the user, no such database, resources, the operator, the system.
        (_, "08" | "28" | "3D" | "53" | "57" | "58" | "XX") => (StoreErrorKind::Unavailable, true),
        _ => (StoreErrorKind::Bug, false),
    }
}

#[cfg(test)]
mod tests {
    use super::{StoreErrorKind::*, *};

    #[test]
    fn error_codes_of_postgres_are_sorted_by_what_to_do() {
        let table = [
            ("40001", Busy, false),       // serialization_failure
            ("40P01", Busy, false),       // deadlock_detected
            ("55P03", Busy, false),       // lock_not_available
            ("57014", Busy, true),        // query_canceled
            ("25P03", Busy, true),        // idle_in_transaction_session_timeout
            ("21000", Data, false),       // cardinality_violation
            ("22021", Data, false),       // character_not_in_repertoire
            ("23502", Data, false),       // not_null_violation
            ("23505", Data, false),       // unique_violation
            ("54000", Data, false),       // program_limit_exceeded
            ("08006", Unavailable, true), // connection_failure
            ("28P01", Unavailable, true), // invalid_password
            ("3D000", Unavailable, true), // invalid_catalog_name
            ("53100", Unavailable, true), // disk_full
            ("57P01", Unavailable, true), // admin_shutdown
            ("25006", Unavailable, true), // read_only_sql_transaction
            ("XX001", Unavailable, true), // data_corrupted
            ("25P02", Bug, false),        // in_failed_sql_transaction
            ("42P01", Bug, false),        // undefined_table
            ("", Bug, false),
        ];
        for (code, kind, broken) in table {
            assert_eq!(kind_of(code), (kind, broken), "code {code}");
        }
    }
}
