//! Brings the schema up to date: each migration once, in order, in a transaction of its own.
//!
//! A migration is never edited after release: what was applied is compared with what is built in.

use std::collections::BTreeMap;

use super::{Connection, Dialect, Sql, Store, StoreError, StoreErrorKind, Value};

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

const APPLIED: Sql = Sql::same("SELECT version, name, checksum FROM migrations ORDER BY version");

const RECORD: Sql = Sql {
    sqlite: "INSERT INTO migrations (version, name, checksum, applied_at) VALUES ($1, $2, $3, $4)",
    postgres: "INSERT INTO migrations (version, name, checksum, applied_at)
               VALUES ($1, $2, $3, (extract(epoch FROM now()) * 1000)::bigint + $4)",
};

/// Applies the migrations the database does not have yet; returns their names.
///
/// # Errors
/// [`StoreErrorKind::Incompatible`] when an applied migration differs from the one built in, or
/// when the database has one this program does not know; what the statements returned otherwise.
pub async fn run(store: &Store) -> Result<Vec<&'static str>, StoreError> {
    let known = match store.dialect() {
        Dialect::Sqlite | Dialect::Postgres => SQLITE,
    };
    let mut names = Vec::new();
    for &migration in known {
        let applied = store
            .write("migrate", move |c| Box::pin(apply(c, known, migration)))
            .await?;
        names.extend(applied.then_some(migration.name));
    }
    Ok(names)
}

/// Applies one migration unless the database has it; says whether it did.
async fn apply(
    c: &mut Connection,
    known: &[Migration],
    migration: Migration,
) -> Result<bool, StoreError> {
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
    c.run_script(migration.text)
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
        for (index, migration) in SQLITE.iter().enumerate() {
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
