//! A write of one row, told in such a way that the lane can make one statement of many rows.

mod postgres;

use std::sync::{Arc, OnceLock};

use super::Dialect;

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
/// The text is `head`, then the batch's rows, then `tail`. Where the database must say which rows
/// were written, `RETURNING` and the names of the key columns follow. SQLite gets the rows as
/// `VALUES (…), (…)`, Postgres as a `SELECT` from one array for each column; in both the columns
/// are called `column1`, `column2` and so on.
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
    texts: Texts,
    texts_returning: Texts,
    text_postgres: OnceLock<Arc<str>>,
    text_postgres_returning: OnceLock<Arc<str>>,
}

/// The texts of one statement, by size, made when first needed.
type Texts = [OnceLock<Arc<str>>; SIZES];

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
            text_postgres: OnceLock::new(),
            text_postgres_returning: OnceLock::new(),
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

    pub(super) fn rank(&self) -> Rank {
        self.rank
    }

    pub(super) fn columns(&self) -> &'static [ColumnType] {
        self.columns
    }

    pub(super) fn key_columns(&self) -> &'static [usize] {
        self.key
    }

    pub(super) fn missing_means(&self) -> Missing {
        self.missing
    }

    pub(super) fn merging(&self) -> Merge {
        self.merge
    }

    pub(super) fn is_assigned(&self) -> bool {
        self.assigned.is_some()
    }

    /// Returns the text for `rows` rows: for SQLite one of the [`parts`], for Postgres any number.
    pub(super) fn text(&self, dialect: Dialect, rows: usize) -> &Arc<str> {
        let place = match dialect {
            Dialect::Sqlite => &self.texts[rows.ilog2() as usize],
            Dialect::Postgres => &self.text_postgres,
        };
        place.get_or_init(|| self.build(dialect, rows, self.tail))
    }

    /// Returns the text that also tells the keys of the rows it wrote, and their numbers if the
    /// database assigns any.
    pub(super) fn text_returning(&self, dialect: Dialect, rows: usize) -> &Arc<str> {
        let place = match dialect {
            Dialect::Sqlite => &self.texts_returning[rows.ilog2() as usize],
            Dialect::Postgres => &self.text_postgres_returning,
        };
        place.get_or_init(|| {
            let assigned = self.assigned.map(|column| format!(", {column}"));
            let (tail, names) = (self.tail, self.key_names);
            let assigned = assigned.unwrap_or_default();
            let tail = format!("{tail} RETURNING {names}{assigned}");
            self.build(dialect, rows, &tail)
        })
    }

    fn build(&self, dialect: Dialect, rows: usize, tail: &str) -> Arc<str> {
        let text = match dialect {
            Dialect::Sqlite => rows_text(self.head, self.columns.len(), rows, tail),
            Dialect::Postgres => postgres::text(self.head, self.columns, tail),
        };
        text.into()
    }
}

/// Returns `head VALUES (?, ?), (?, ?) tail`. Plain question marks: SQLite looks numbered ones up
/// one by one, which costs more than the statement when there are hundreds.
pub(super) fn rows_text(head: &str, columns: usize, rows: usize, tail: &str) -> String {
    let row = format!("({})", vec!["?"; columns].join(","));
    format!("{head} VALUES {} {tail}", vec![row; rows].join(","))
}

/// Cuts `rows` into parts that have a prepared text: arrays have one for any number, `VALUES` only
/// for some sizes, the largest first.
pub(super) fn parts<R>(dialect: Dialect, rows: &[R]) -> impl Iterator<Item = &[R]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let whole = 1 << rest.len().checked_ilog2()?;
        let size = match dialect {
            Dialect::Sqlite => ROWS_MAX.min(whole),
            Dialect::Postgres => rest.len(),
        };
        let (part, after) = rest.split_at(size);
        rest = after;
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_rows_is_cut_into_prepared_sizes() {
        let cut = |dialect, count| {
            let rows = vec![(); count];
            parts(dialect, &rows).map(<[()]>::len).collect::<Vec<_>>()
        };

        assert!(cut(Dialect::Sqlite, 0).is_empty());
        assert_eq!(cut(Dialect::Sqlite, 13), [8, 4, 1]);
        assert_eq!(cut(Dialect::Sqlite, 64), [64]);
        assert_eq!(cut(Dialect::Sqlite, 131), [64, 64, 2, 1]);
        assert_eq!(cut(Dialect::Postgres, 131), [131]);
        assert!(cut(Dialect::Postgres, 0).is_empty());
    }

    #[test]
    fn a_statement_of_many_rows_returns_keys_and_numbers() {
        static INSERT: Statement = Statement::new(
            "insert",
            Rank(1),
            "INSERT INTO t (a, b)",
            &[ColumnType::Int, ColumnType::Blob],
            "ON CONFLICT (a) DO NOTHING",
        )
        .key(&[0], "a")
        .assigned("seq");

        assert_eq!(
            &**INSERT.text(Dialect::Sqlite, 2),
            "INSERT INTO t (a, b) VALUES (?,?),(?,?) ON CONFLICT (a) DO NOTHING"
        );
        assert_eq!(
            &**INSERT.text_returning(Dialect::Sqlite, 1),
            "INSERT INTO t (a, b) VALUES (?,?) ON CONFLICT (a) DO NOTHING RETURNING a, seq"
        );
        assert_eq!(
            &**INSERT.text_returning(Dialect::Postgres, 9),
            "INSERT INTO t (a, b) SELECT column1, column2 FROM \
             UNNEST($1::bigint[], $2::bytea[]) AS batch (column1, column2) \
             ON CONFLICT (a) DO NOTHING RETURNING a, seq"
        );
    }
}
