//! The text of a statement in each dialect.

/// The database family a store speaks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// SQLite, one node.
    Sqlite,
    /// PostgreSQL 15 or newer, clusters.
    Postgres,
}

/// One statement, both dialects side by side; parameters are `$1`, `$2`, … in both.
///
/// A time parameter is a [`Value::FromNow`](super::value::Value::FromNow). The SQLite text gets it
/// resolved to milliseconds since 1970. The Postgres text gets the offset and adds it to
/// `actor_now()`, a function of our schema that returns `now()` in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Sql {
    /// The text for SQLite.
    pub sqlite: &'static str,
    /// The text for PostgreSQL.
    pub postgres: &'static str,
}

impl Sql {
    /// Returns a statement whose text is the same in both dialects.
    pub const fn same(text: &'static str) -> Self {
        Self {
            sqlite: text,
            postgres: text,
        }
    }

    /// Returns the text for `dialect`.
    pub const fn text(&self, dialect: Dialect) -> &'static str {
        match dialect {
            Dialect::Sqlite => self.sqlite,
            Dialect::Postgres => self.postgres,
        }
    }
}
