//! Brings the schema up to date: each migration once, in order, in a transaction of its own.
//!
//! Several nodes may start at once: SQLite's writer excludes the others; on Postgres each holds
//! the lock row of `cluster_meta` meanwhile (architecture D9; not an advisory lock, which strands
//! behind a pooler).
//!
//! A migration is never edited after release: what was applied is compared with what is built in.

use std::collections::BTreeMap;

use super::{Connection, Dialect, Sql, Store, StoreError, StoreErrorKind, Value, open::Purpose};

/// One migration, as built in.
#[derive(Clone, Copy, Debug)]
struct Migration {
    version: i64,
    /// The file's name, the same in both dialects.
    name: &'static str,
    text: &'static str,
}

/// All migrations for SQLite, oldest first.
const SQLITE: &[Migration] = &[Migration {
    version: 1,
    name: "0001_init",
    text: include_str!("../../../migrations/sqlite/0001_init.sql"),
}];

/// All migrations for Postgres: the same names.
const POSTGRES: &[Migration] = &[Migration {
    version: 1,
    name: "0001_init",
    text: include_str!("../../../migrations/postgres/0001_init.sql"),
}];

/// How often the making of the first tables is repeated: of several nodes that start at once, all
/// but one may meet an error there, in spite of `IF NOT EXISTS`.
const FIRST_TRIES: u32 = 10;

/// What the database says about a migration it has.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Applied {
    name: String,
    checksum: String,
}

const CREATE: Sql = Sql {
    sqlite: "CREATE TABLE IF NOT EXISTS migrations (
               version INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL,
               checksum TEXT NOT NULL, applied_at INTEGER NOT NULL)",
    postgres: "CREATE TABLE IF NOT EXISTS migrations (
                 version BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL,
                 checksum TEXT NOT NULL, applied_at BIGINT NOT NULL)",
};

/// The table with the lock row, which exists before the first migration.
const CREATE_META: &str = "CREATE TABLE IF NOT EXISTS cluster_meta (
  key text COLLATE \"C\" NOT NULL PRIMARY KEY, value text NOT NULL)";

const FIND_META: Sql = Sql::same("SELECT to_regclass('cluster_meta') IS NULL");

const FIND_SCHEMA: Sql =
    Sql::same("SELECT count(*) FROM pg_catalog.pg_namespace WHERE nspname = $1");

const ADD_LOCK: Sql = Sql::same(
    "INSERT INTO cluster_meta (key, value) VALUES ('lock', '') ON CONFLICT (key) DO NOTHING",
);

const LOCK: Sql = Sql::same("SELECT 1 FROM cluster_meta WHERE key = 'lock' FOR UPDATE");

const APPLIED: Sql = Sql::same("SELECT version, name, checksum FROM migrations ORDER BY version");

const RECORD: Sql = Sql {
    sqlite: "INSERT INTO migrations (version, name, checksum, applied_at) VALUES ($1, $2, $3, $4)",
    postgres: "INSERT INTO migrations (version, name, checksum, applied_at)
               VALUES ($1, $2, $3, actor_now() + $4)",
};

/// Applies the migrations the database does not have yet; returns their names.
///
/// # Errors
/// [`StoreErrorKind::Incompatible`] when an applied migration differs from the one built in, or
/// when the database has one this program does not know; what the statements returned otherwise.
pub async fn run(store: &Store) -> Result<Vec<&'static str>, StoreError> {
    let known = match store.dialect() {
        Dialect::Sqlite => SQLITE,
        Dialect::Postgres => {
            make_lock(store).await?;
            POSTGRES
        }
    };
    let mut names = Vec::new();
    for &migration in known {
        let applied = store
            .transact(Purpose::Migrate, "migrate", move |c| {
                Box::pin(apply(c, known, migration))
            })
            .await?;
        names.extend(applied.then_some(migration.name));
    }
    Ok(names)
}

/// Makes the schema, if the address names one, and the table with the lock row.
async fn make_lock(store: &Store) -> Result<(), StoreError> {
    let schema = store.schema().map(str::to_owned);
    let mut tries = 0;
    loop {
        let schema = schema.clone();
        let made = store.transact::<_, StoreError, _>(Purpose::Migrate, "first tables", |c| {
            Box::pin(async move { first_tables(c, schema).await })
        });
        tries += 1;
        match made.await {
            // Another node made them at the same time: next time they are there.
            Err(error) if tries < FIRST_TRIES && error.kind() != StoreErrorKind::Unavailable => {
                tracing::debug!(%error, "the first tables were not made");
            }
            made => return made,
        }
    }
}

async fn first_tables(c: &mut Connection, schema: Option<String>) -> Result<(), StoreError> {
    if let Some(schema) = schema {
        // Asked first: creating needs a right that a node of an existing cluster need not have.
        let found = c
            .query_one(&FIND_SCHEMA, vec![schema.as_str().into()])
            .await?;
        if found.map_or(Ok(0), |row| row.int(0))? == 0 {
            // The name was checked when the address was read.
            c.run_script(format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\"").into())
                .await?;
        }
    }
    let missing = c.query_one(&FIND_META, vec![]).await?;
    if missing.is_some_and(|row| row.bool(0).unwrap_or(true)) {
        c.run_script(CREATE_META.into()).await?;
    }
    c.execute(&ADD_LOCK, vec![]).await.map(drop)
}

/// Applies one migration unless the database has it; says whether it did.
async fn apply(
    c: &mut Connection,
    known: &[Migration],
    migration: Migration,
) -> Result<bool, StoreError> {
    if c.dialect() == Dialect::Postgres {
        c.query(&LOCK, vec![]).await?;
    }
    c.execute(&CREATE, vec![]).await?;
    let mut applied = BTreeMap::new();
    for row in c.query(&APPLIED, vec![]).await? {
        let (name, checksum) = (row.text(1)?, row.text(2)?);
        applied.insert(row.int(0)?, Applied { name, checksum });
    }
    check(known, &applied)
        .map_err(|message| StoreError::new(StoreErrorKind::Incompatible, message))?;
    if applied.contains_key(&migration.version) {
        return Ok(false);
    }
    c.run_script(migration.text.into())
        .await
        .map_err(|error| error.context(format_args!("migration {}", migration.name)))?;
    let name = migration.name.into();
    let values = vec![
        migration.version.into(),
        name,
        checksum(migration.text).into(),
        Value::NOW,
    ];
    c.execute(&RECORD, values).await?;
    Ok(true)
}

/// Compares what was applied with what is built in.
fn check(known: &[Migration], applied: &BTreeMap<i64, Applied>) -> Result<(), String> {
    for (version, applied) in applied {
        let Some(migration) = known.iter().find(|known| known.version == *version) else {
            let newest = known.last().map_or("none", |known| known.name);
            return Err(format!(
                "the database has migration {}, newer than this program's newest, {newest}: use a \
                 newer program",
                applied.name
            ));
        };
        if migration.name != applied.name || checksum(migration.text) != applied.checksum {
            return Err(format!(
                "migration {} differs from the one that was applied to the database as {}: a \
                 released migration must not be edited",
                migration.name, applied.name
            ));
        }
    }
    Ok(())
}

/// Returns the checksum of a migration; line ends do not count, since checkouts change them.
fn checksum(text: &str) -> String {
    let mut hash = xxhash_rust::xxh3::Xxh3Default::new();
    for line in text.lines() {
        hash.update(line.as_bytes());
        hash.update(b"\n");
    }
    format!("{:032x}", hash.digest128())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[Migration] = &[Migration {
        version: 1,
        name: "0001_init",
        text: "CREATE TABLE a (b INTEGER);\n",
    }];

    fn applied(version: i64, name: &str, text: &str) -> BTreeMap<i64, Applied> {
        let (name, checksum) = (name.to_owned(), checksum(text));
        BTreeMap::from([(version, Applied { name, checksum })])
    }

    #[test]
    fn an_applied_migration_must_be_the_one_built_in() {
        let same = applied(1, "0001_init", KNOWN[0].text);
        let crlf = applied(1, "0001_init", "CREATE TABLE a (b INTEGER);\r\n");
        let edited = applied(1, "0001_init", "CREATE TABLE a (b TEXT);\n");
        let newer = applied(2, "0002_more", "");

        assert_eq!(check(KNOWN, &BTreeMap::new()), Ok(()));
        assert_eq!(check(KNOWN, &same), Ok(()));
        assert_eq!(check(KNOWN, &crlf), Ok(()));
        assert!(
            check(KNOWN, &edited)
                .expect_err("edited")
                .contains("must not be edited")
        );
        assert!(
            check(KNOWN, &newer)
                .expect_err("newer")
                .contains("use a newer program")
        );
    }

    #[test]
    fn versions_count_up_and_names_begin_with_them() {
        let names = |known: &[Migration]| known.iter().map(|known| known.name).collect::<Vec<_>>();
        assert_eq!(names(SQLITE), names(POSTGRES));
        let numbered = |known: &'static [Migration]| known.iter().enumerate();
        for (index, migration) in numbered(SQLITE).chain(numbered(POSTGRES)) {
            assert_eq!(migration.version, i64::try_from(index).expect("few") + 1);
            assert!(
                migration
                    .name
                    .starts_with(&format!("{:04}_", migration.version))
            );
            assert!(
                migration.text.starts_with("-- What it allows: "),
                "{}",
                migration.name
            );
        }
    }
}
