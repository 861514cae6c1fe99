//! What goes into a statement and what comes out of it, the same for every database.
//!
//! Not here: how a value is bound or read; that is the connection's.

use std::{sync::Arc, time::Duration};

use crate::id::{CallId, EntityId, Epoch, Incarnation, NodeId, ShardId};

/// The longest remark that is stored, in bytes: a long error says what it says at its beginning.
const REMARK_BYTES_MAX: usize = 4096;

/// A parameter of a statement. Cheap to clone: texts and blobs are shared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// SQL's `NULL`.
    Null,
    /// An integer, a boolean or an absolute time in milliseconds of the database's clock.
    Int(i64),
    /// A time, in milliseconds after the database's *now* of the transaction that stores it.
    ///
    /// Node clocks never enter a row this way (architecture D13).
    FromNow(i64),
    /// A text.
    Text(Arc<str>),
    /// Bytes.
    Blob(Arc<[u8]>),
}

impl Value {
    /// The database's now.
    pub const NOW: Self = Self::FromNow(0);

    /// Returns the time `after` the database's now.
    pub fn from_now(after: Duration) -> Self {
        Self::FromNow(milliseconds(after))
    }

    /// Returns the time `before` the database's now.
    pub fn ago(before: Duration) -> Self {
        Self::FromNow(-milliseconds(before))
    }

    /// Returns a text that is there for people only, such as why something failed: cut where it is
    /// long, and without what no database stores in a text. Nothing is lost for want of its reason.
    pub fn remark(text: &str) -> Self {
        let cut = &text[..text.floor_char_boundary(REMARK_BYTES_MAX)];
        Self::from(cut.replace('\0', "\u{FFFD}"))
    }

    /// Returns about how many bytes the value takes, to bound a batch.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Blob(bytes) => bytes.len(),
            Self::Null | Self::Int(_) | Self::FromNow(_) => 8,
        }
    }
}

/// Returns `duration` in whole milliseconds, as rows store it.
pub fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Int(i64::from(value))
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Int(i64::from(value))
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.into())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value.into())
    }
}

impl From<Arc<str>> for Value {
    fn from(value: Arc<str>) -> Self {
        Self::Text(value)
    }
}

impl From<&Arc<str>> for Value {
    fn from(value: &Arc<str>) -> Self {
        Self::Text(Arc::clone(value))
    }
}

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Self::Blob(value.into())
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Blob(value.into())
    }
}

impl From<Arc<[u8]>> for Value {
    fn from(value: Arc<[u8]>) -> Self {
        Self::Blob(value)
    }
}

impl From<ShardId> for Value {
    fn from(value: ShardId) -> Self {
        Self::Int(i64::from(value.0))
    }
}

impl From<Epoch> for Value {
    fn from(value: Epoch) -> Self {
        counter(value.0)
    }
}

impl From<Incarnation> for Value {
    fn from(value: Incarnation) -> Self {
        counter(value.0)
    }
}

impl From<&NodeId> for Value {
    fn from(value: &NodeId) -> Self {
        value.as_str().into()
    }
}

impl From<&EntityId> for Value {
    fn from(value: &EntityId) -> Self {
        value.as_str().into()
    }
}

impl From<CallId> for Value {
    fn from(value: CallId) -> Self {
        Self::Blob(value.to_bytes().as_slice().into())
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// Stores a counter; one that left the range of SQL's integers would have counted for ages.
fn counter(value: u64) -> Value {
    Value::Int(i64::try_from(value).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remark_is_cut_between_characters_and_holds_no_nul() {
        let long = "é".repeat(REMARK_BYTES_MAX);

        assert_eq!(Value::remark("a\0b"), "a\u{FFFD}b".into());
        let Value::Text(cut) = Value::remark(&format!("x{long}")) else {
            panic!("it is a text");
        };
        assert_eq!(cut.len(), REMARK_BYTES_MAX - 1);
        assert!(cut.ends_with('é'));
    }

    #[test]
    fn times_are_counted_from_the_databases_now() {
        assert_eq!(
            Value::from_now(Duration::from_secs(2)),
            Value::FromNow(2000)
        );
        assert_eq!(Value::ago(Duration::from_secs(2)), Value::FromNow(-2000));
        assert_eq!(Value::from_now(Duration::MAX), Value::FromNow(i64::MAX));
    }

    #[test]
    fn an_absent_value_is_null() {
        assert_eq!(Value::from(None::<&str>), Value::Null);
        assert_eq!(Value::from(Some(ShardId(3))), Value::Int(3));
    }
}
