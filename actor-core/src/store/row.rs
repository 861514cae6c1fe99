//! One row of an answer, read by column index.

use std::fmt;

use sqlx::{
    ColumnIndex, Decode, Postgres, Row as _, Sqlite, Type, TypeInfo as _, ValueRef as _,
    postgres::PgRow, sqlite::SqliteRow,
};

use super::error::{StoreError, StoreErrorKind};
use crate::id::{CallId, EntityId, Epoch, Incarnation, NodeId, ShardId};

/// One row of an answer.
///
/// Getters count columns from 0 and fail with [`StoreErrorKind::Unreadable`], naming the column and
/// what was expected there; a column that is not in the answer counts as such too.
pub struct Row(Kind);

enum Kind {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    pub(super) fn sqlite(row: SqliteRow) -> Self {
        Self(Kind::Sqlite(row))
    }

    pub(super) fn postgres(row: PgRow) -> Self {
        Self(Kind::Postgres(row))
    }

    /// Returns an integer.
    ///
    /// # Errors
    /// When the column is missing, `NULL` or of another type.
    pub fn int(&self, column: usize) -> Result<i64, StoreError> {
        self.int_or_null(column)?
            .ok_or_else(|| unexpected(column, "an integer", "it is null"))
    }

    /// Returns an integer, or `None` for `NULL`.
    ///
    /// # Errors
    /// When the column is missing or of another type.
    pub fn int_or_null(&self, column: usize) -> Result<Option<i64>, StoreError> {
        let read = match &self.0 {
            Kind::Sqlite(row) => row.try_get(column),
            Kind::Postgres(row) => any_int(row, column),
        };
        read.map_err(|error| unexpected(column, "an integer", error))
    }

    /// Returns a boolean, stored as 0 or 1.
    ///
    /// # Errors
    /// When the column is missing, `NULL` or not an integer.
    pub fn bool(&self, column: usize) -> Result<bool, StoreError> {
        Ok(self.int(column)? != 0)
    }

    /// Returns a counter: an integer that is never negative.
    ///
    /// # Errors
    /// When the column is missing, `NULL`, of another type or negative.
    pub fn counter(&self, column: usize) -> Result<u64, StoreError> {
        let value = self.int(column)?;
        u64::try_from(value).map_err(|error| unexpected(column, "a counter", error))
    }

    /// Returns a small number, such as a count of attempts.
    ///
    /// # Errors
    /// When the column is missing, `NULL`, of another type or out of range.
    pub fn small(&self, column: usize) -> Result<u32, StoreError> {
        let value = self.int(column)?;
        u32::try_from(value).map_err(|error| unexpected(column, "a small number", error))
    }

    /// Returns a text.
    ///
    /// # Errors
    /// When the column is missing, `NULL` or of another type.
    pub fn text(&self, column: usize) -> Result<String, StoreError> {
        self.get(column, "a text")
    }

    /// Returns a text, or `None` for `NULL`.
    ///
    /// # Errors
    /// When the column is missing or of another type.
    pub fn text_or_null(&self, column: usize) -> Result<Option<String>, StoreError> {
        self.get(column, "a text or null")
    }

    /// Returns bytes.
    ///
    /// # Errors
    /// When the column is missing, `NULL` or of another type.
    pub fn blob(&self, column: usize) -> Result<Vec<u8>, StoreError> {
        self.get(column, "bytes")
    }

    /// Returns bytes, or `None` for `NULL`.
    ///
    /// # Errors
    /// When the column is missing or of another type.
    pub fn blob_or_null(&self, column: usize) -> Result<Option<Vec<u8>>, StoreError> {
        self.get(column, "bytes or null")
    }

    /// Returns a shard.
    ///
    /// # Errors
    /// When the column does not hold one.
    pub fn shard(&self, column: usize) -> Result<ShardId, StoreError> {
        self.small(column).map(ShardId)
    }

    /// Returns an epoch.
    ///
    /// # Errors
    /// When the column does not hold one.
    pub fn epoch(&self, column: usize) -> Result<Epoch, StoreError> {
        self.counter(column).map(Epoch)
    }

    /// Returns an incarnation.
    ///
    /// # Errors
    /// When the column does not hold one.
    pub fn incarnation(&self, column: usize) -> Result<Incarnation, StoreError> {
        self.counter(column).map(Incarnation)
    }

    /// Returns a node's name.
    ///
    /// # Errors
    /// When the column does not hold a text.
    pub fn node(&self, column: usize) -> Result<NodeId, StoreError> {
        self.text(column).map(NodeId::new)
    }

    /// Returns an entity id.
    ///
    /// # Errors
    /// When the column does not hold a text.
    pub fn entity(&self, column: usize) -> Result<EntityId, StoreError> {
        self.text(column).map(|id| EntityId::from(id.as_str()))
    }

    /// Returns a call id.
    ///
    /// # Errors
    /// When the column does not hold sixteen bytes.
    pub fn call_id(&self, column: usize) -> Result<CallId, StoreError> {
        let bytes = self.blob(column)?;
        CallId::from_bytes(&bytes)
            .ok_or_else(|| unexpected(column, "a call id", format!("{} bytes", bytes.len())))
    }

    /// Returns what the column holds, whatever it is: a text as its bytes, an integer as digits.
    ///
    /// # Errors
    /// When the column is missing.
    pub fn raw(&self, column: usize) -> Result<Vec<u8>, StoreError> {
        let read = match &self.0 {
            Kind::Sqlite(row) => row.try_get_unchecked::<Option<Vec<u8>>, _>(column),
            Kind::Postgres(row) => row.try_get_unchecked::<Option<Vec<u8>>, _>(column),
        };
        let read = read.map_err(|error| unexpected(column, "anything", error))?;
        Ok(read.unwrap_or_default())
    }

    /// Returns a text for people's eyes: what is none is shown as its bytes.
    ///
    /// # Errors
    /// When the column is missing.
    pub fn shown(&self, column: usize) -> Result<String, StoreError> {
        self.text(column).or_else(|_| {
            let bytes = self.raw(column)?;
            let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
            Ok(format!("x'{}'", digits.collect::<String>()))
        })
    }

    fn get<'r, T>(&'r self, column: usize, expected: &str) -> Result<T, StoreError>
    where
        T: Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, Postgres> + Type<Postgres>,
    {
        let read = match &self.0 {
            Kind::Sqlite(row) => row.try_get(column),
            Kind::Postgres(row) => row.try_get(column),
        };
        read.map_err(|error| unexpected(column, expected, error))
    }
}

/// Reads an integer of any width: literals and some functions are narrower than our columns.
fn any_int(row: &PgRow, column: usize) -> Result<Option<i64>, sqlx::Error> {
    let width = row.try_get_raw(column)?.type_info().name().to_owned();
    match width.as_str() {
        "INT4" => Ok(row.try_get::<Option<i32>, _>(column)?.map(i64::from)),
        "INT2" => Ok(row.try_get::<Option<i16>, _>(column)?.map(i64::from)),
        "BOOL" => Ok(row.try_get::<Option<bool>, _>(column)?.map(i64::from)),
        _ => row.try_get(column),
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Sqlite(row) => f.debug_list().entries(types(row)).finish(),
            Kind::Postgres(row) => f.debug_list().entries(types(row)).finish(),
        }
    }
}

/// Returns the types of a row's values.
fn types<R: sqlx::Row>(row: &R) -> impl Iterator<Item = String> + '_
where
    usize: ColumnIndex<R>,
{
    (0..row.len()).map(|column| match row.try_get_raw(column) {
        Ok(value) => value.type_info().name().to_owned(),
        Err(error) => error.to_string(),
    })
}

fn unexpected(column: usize, expected: &str, error: impl fmt::Display) -> StoreError {
    StoreError::new(
        StoreErrorKind::Unreadable,
        format_args!("column {column} does not hold {expected}: {error}"),
    )
}
