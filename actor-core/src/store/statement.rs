//! A write of one row, told in such a way that the lane can make one statement of many rows.

use std::sync::{Arc, OnceLock};

/// How many rows the longest prepared text takes; shorter ones are the powers of two below.
///
/// Fixed sizes keep the number of texts small, so that each finds its prepared statement again.
pub const ROWS_MAX: usize = 64;

/// How many prepared sizes there are: 1, 2, 4, … [`ROWS_MAX`].
const SIZES: usize = ROWS_MAX.ilog2() as usize + 1;

/// The type of a column, for databases that want to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// 64-bit integers and booleans.
    Int,
    /// A time: [`Value::FromNow`](super::Value::FromNow) or absolute milliseconds.
    Time,
    /// Texts.
    Text,
    /// Bytes.
    Blob,
}

/// Where a statement stands in the order in which every transaction visits the tables.
///
/// One order for everybody keeps transactions from waiting for each other in a circle (D2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank(pub u8);

impl Rank {
    /// `streams`.
    pub const STREAMS: Self = Self(10);
    /// `events`.
    pub const EVENTS: Self = Self(15);
    /// `entities`.
    pub const ENTITIES: Self = Self(20);
    /// `replies`.
    pub const REPLIES: Self = Self(30);
    /// `dead_letters`, which copies from `mailbox` before the row is deleted there.
    pub const DEAD_LETTERS: Self = Self(40);
    /// `mailbox`, inserts and updates.
    pub const MAILBOX: Self = Self(50);
    /// `mailbox`, deletes.
    pub const MAILBOX_DELETES: Self = Self(55);
    /// `runs`.
    pub const RUNS: Self = Self(60);
    /// `journal`.
    pub const JOURNAL: Self = Self(70);
}

/// What it means when a row of a batch was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The item conflicts with what is stored; it must be left out as a whole.
    Conflict,
    /// Nothing: it was deleted before, or need not exist.
    Fine,
}

/// Several rows of one key in one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// Each is written.
    No,
    /// Rows that build on one another become the last one, based on what the first was based on.
    Chain {
        /// The column with the version a row makes.
        version: usize,
        /// The column with the version it was made from.
        base: usize,
    },
}

/// A single-row write. Make it a `static`: it remembers the texts of its multi-row forms.
///
/// The text is `head`, then `VALUES (…), (…)` with the batch's rows, then `tail`. Where the database
/// wants to know which rows were written, `RETURNING` and the names of the key columns follow.
///
/// ```
/// use actor_core::store::statement::{ColumnType::*, Missing, Rank, Statement};
///
/// static REMOVE: Statement = Statement::new(
///     "remove lines",
///     Rank(90),
///     "DELETE FROM lines WHERE number IN (",
///     &[Int],
///     ")",
/// );
/// static INSERT: Statement = Statement::new(
///     "insert lines",
///     Rank(90),
///     "INSERT INTO lines (number, body)",
///     &[Int, Blob],
///     "ON CONFLICT (number) DO NOTHING",
/// )
/// .key(&[0], "number")
/// .missing(Missing::Conflict);
/// # assert_ne!(REMOVE.name(), INSERT.name());
/// ```
#[derive(Debug)]
pub struct Statement {
    name: &'static str,
    rank: Rank,
    head: &'static str,
    columns: &'static [ColumnType],
    tail: &'static str,
    key: &'static [usize],
    key_names: &'static str,
    assigned: Option<&'static str>,
    missing: Missing,
    merge: Merge,
    texts: [OnceLock<Arc<str>>; SIZES],
    texts_returning: [OnceLock<Arc<str>>; SIZES],
}

impl Statement {
    /// Returns a statement whose rows may be missing, without a key and without a number to return.
    pub const fn new(
        name: &'static str,
        rank: Rank,
        head: &'static str,
        columns: &'static [ColumnType],
        tail: &'static str,
    ) -> Self {
        Self {
            name,
            rank,
            head,
            columns,
            tail,
            key: &[],
            key_names: "",
            assigned: None,
            missing: Missing::Fine,
            merge: Merge::No,
            texts: [const { OnceLock::new() }; SIZES],
            texts_returning: [const { OnceLock::new() }; SIZES],
        }
    }

    /// Says which columns, counted from 0, are the key, and how `RETURNING` names them.
    ///
    /// Rows are written in the order of their keys, and what was written is known by the key.
    #[must_use]
    pub const fn key(mut self, columns: &'static [usize], names: &'static str) -> Self {
        self.key = columns;
        self.key_names = names;
        self
    }

    /// Says what it means when a row was not written. Needs a key.
    #[must_use]
    pub const fn missing(mut self, missing: Missing) -> Self {
        self.missing = missing;
        self
    }

    /// Says that the database numbers each row in this column; rows are written in the order of the
    /// items and the verdict carries the numbers. Needs a key.
    #[must_use]
    pub const fn assigned(mut self, column: &'static str) -> Self {
        self.assigned = Some(column);
        self
    }

    /// Says what becomes of several rows of one key in a batch.
    #[must_use]
    pub const fn merge(mut self, merge: Merge) -> Self {
        self.merge = merge;
        self
    }

    /// Returns the name, for errors and traces.
    pub const fn name(&self) -> &'static str {
        self.name
    }
}
