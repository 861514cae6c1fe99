//! Values as PostgreSQL gets them: one by one, or one array a column.

use sqlx::{
    Arguments as _, Encode, Postgres, Type,
    encode::IsNull,
    error::BoxDynError,
    postgres::{PgArgumentBuffer, PgArguments, PgTypeInfo, types::Oid},
};

use crate::store::{
    StoreError, StoreErrorKind, Value,
    statement::{ColumnType, Statement},
};

/// Values bound for one run of a statement.
#[derive(Debug, Default)]
pub(crate) struct Arguments(pub(super) PgArguments);

impl Arguments {
    /// Binds values one by one. A time is bound as its distance from now, which the text adds.
    pub(crate) fn of<'v>(values: impl Iterator<Item = &'v Value>) -> Result<Self, StoreError> {
        let mut arguments = PgArguments::default();
        for value in values {
            let added = match value {
                Value::Null => arguments.add(Untyped),
                Value::Int(value) | Value::FromNow(value) => arguments.add(*value),
                Value::Text(text) => arguments.add(&**text),
                Value::Blob(bytes) => arguments.add(&**bytes),
            };
            added.map_err(unbound)?;
        }
        Ok(Self(arguments))
    }

    /// Binds `count` rows of a statement, column by column; `value` finds a value by row and
    /// column.
    pub(crate) fn columns<'v>(
        statement: &Statement,
        count: usize,
        value: impl Fn(usize, usize) -> &'v Value,
    ) -> Result<Self, StoreError> {
        let mut arguments = PgArguments::default();
        for (index, column) in statement.columns().iter().enumerate() {
            let values = || (0..count).map(|row| value(row, index));
            let added = match column {
                ColumnType::Int => arguments.add(list(values(), int)?),
                ColumnType::Text => arguments.add(list(values(), text)?),
                ColumnType::Blob => arguments.add(list(values(), bytes)?),
                ColumnType::Time => {
                    let counted = |value: &Value| matches!(value, Value::FromNow(_));
                    let flags: Vec<_> = values().map(counted).collect();
                    let times = arguments.add(list(values(), time)?);
                    times.and_then(|()| arguments.add(flags))
                }
            };
            added.map_err(unbound)?;
        }
        Ok(Self(arguments))
    }
}

/// Collects what `read` finds in each value: `None` for null, an error for another type.
fn list<'v, T>(
    values: impl Iterator<Item = &'v Value>,
    read: impl Fn(&'v Value) -> Option<T>,
) -> Result<Vec<Option<T>>, StoreError> {
    let read = |value: &'v Value| match (value, read(value)) {
        (Value::Null, _) => Ok(None),
        (_, Some(found)) => Ok(Some(found)),
        (_, None) => Err(unbound(format!("{value:?} in a column of another type"))),
    };
    values.map(read).collect()
}

fn int(value: &Value) -> Option<i64> {
    match value {
        Value::Int(value) => Some(*value),
        _ => None,
    }
}

fn time(value: &Value) -> Option<i64> {
    match value {
        Value::Int(value) | Value::FromNow(value) => Some(*value),
        _ => None,
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::Blob(bytes) => Some(bytes),
        _ => None,
    }
}

fn unbound(why: impl std::fmt::Display) -> StoreError {
    let message = format_args!("cannot bind a value: {why}");
    StoreError::new(StoreErrorKind::Bug, message)
}

/// A null whose type the server finds out, as it does for a literal.
struct Untyped;

impl Type<Postgres> for Untyped {
    fn type_info() -> PgTypeInfo {
        /// The type `unknown`.
        const UNKNOWN: Oid = Oid(705);
        PgTypeInfo::with_oid(UNKNOWN)
    }
}

impl Encode<'_, Postgres> for Untyped {
    fn encode_by_ref(&self, _: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Ok(IsNull::Yes)
    }
}
