//! Brings the schema up to date: each migration once, in order, in a transaction of its own.
//!
//! Several nodes may start at once: SQLite's writer excludes the others; on Postgres each holds
//! the lock row of `cluster_meta` meanwhile (architecture D9; not an advisory lock, which strands
//! behind a pooler).
//!
//! A migration is never edited after release: what was applied is compared with what is built in.
//! Older programs go on running on a schema that a newer one changed, as long as the change says
//! that they may: nodes are replaced one by one.

use std::{collections::BTreeMap, sync::Arc};

use super::{Connection, Dialect, Sql, Store, StoreError, StoreErrorKind, Value, open::Purpose};

/// A change to the schema that a program brings for tables of its own.
///
/// It is made once, by whichever node starts first, in a transaction of its own, in the schema that
/// the framework uses. It must leave alone what it did not make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migration {
    /// Begins with its number, counted from 1 without a gap: `0001_badges`. Never changed.
    pub name: &'static str,
    /// The statements for SQLite; never changed.
    pub sqlite: &'static str,
    /// The statements for PostgreSQL; never changed.
    pub postgres: &'static str,
    /// The number of the newest of its migrations that a program must have to run on the changed
    /// schema; 0 if every earlier program may, as while nodes are replaced one by one.
    pub oldest: u32,
}

/// One migration in the words of one dialect.
#[derive(Clone, Copy, Debug)]
struct Step {
    version: i64,
    /// The file's name, the same in both dialects.
    name: &'static str,
    text: &'static str,
    /// The newest version a program must have to run on what this makes.
    oldest: i64,
}

/// Migrations of users are counted from here.
const OWN: i64 = 1_000_000;

/// All migrations of the framework, oldest first.
const BUILT_IN: &[Migration] = &[Migration {
    name: "0001_init",
    sqlite: include_str!("../../../migrations/sqlite/0001_init.sql"),
    postgres: include_str!("../../../migrations/postgres/0001_init.sql"),
    oldest: 1,
}];

/// Numbers migrations after `base`.
fn steps(
    migrations: &'static [Migration],
    base: i64,
    dialect: Dialect,
) -> impl Iterator<Item = Step> {
    migrations
        .iter()
        .zip(1..)
        .map(move |(migration, number)| Step {
            version: base + number,
            name: migration.name,
            text: match dialect {
                Dialect::Sqlite => migration.sqlite,
                Dialect::Postgres => migration.postgres,
            },
            oldest: base + i64::from(migration.oldest),
        })
}

/// How often the making of the first tables is repeated: of several nodes that start at once, all
/// but one may meet an error there, in spite of `IF NOT EXISTS`.
const FIRST_TRIES: u32 = 10;

/// What the database says about a migration it has.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Applied {
    name: String,
    checksum: String,
    oldest: i64,
}

const CREATE: Sql = Sql {
    sqlite: "CREATE TABLE IF NOT EXISTS migrations (
               version INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL,
               checksum TEXT NOT NULL, applied_at INTEGER NOT NULL, oldest INTEGER NOT NULL)",
    postgres: "CREATE TABLE IF NOT EXISTS migrations (
                 version BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL,
                 checksum TEXT NOT NULL, applied_at BIGINT NOT NULL, oldest BIGINT NOT NULL)",
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

const APPLIED: Sql =
    Sql::same("SELECT version, name, checksum, oldest FROM migrations ORDER BY version");

const RECORD: Sql = Sql {
    sqlite: "INSERT INTO migrations (version, name, checksum, applied_at, oldest)
             VALUES ($1, $2, $3, $4, $5)",
    postgres: "INSERT INTO migrations (version, name, checksum, applied_at, oldest)
               VALUES ($1, $2, $3, actor_now() + $4, $5)",
};

/// Applies the framework's migrations that the database does not have yet; returns their names.
///
/// # Errors
/// As [`run_with`].
pub async fn run(store: &Store) -> Result<Vec<&'static str>, StoreError> {
    run_with(store, &[]).await
}

/// Applies the framework's migrations and then a program's `own`, those that the database does not
/// have yet; returns their names.
///
/// # Errors
/// [`StoreErrorKind::Incompatible`] when an applied migration differs from the one built in, when
/// the database has one that this program does not know and that says it must, or when `own` is not
/// numbered from 1 without a gap; what the statements returned otherwise.
pub async fn run_with(
    store: &Store,
    own: &'static [Migration],
) -> Result<Vec<&'static str>, StoreError> {
    if let Some(migration) = misnumbered(own) {
        let text = format!(
            "migration {}: names are 0001_…, 0002_… in order",
            migration.name
        );
        return Err(StoreError::new(StoreErrorKind::Incompatible, text));
    }
    let dialect = store.dialect();
    if dialect == Dialect::Postgres {
        make_lock(store).await?;
    }
    let known: Arc<[Step]> = steps(BUILT_IN, 0, dialect)
        .chain(steps(own, OWN, dialect))
        .collect();
    let mut names = Vec::new();
    for step in known.iter().copied() {
        let known = known.clone();
        let applied = store
            .transact(Purpose::Migrate, "migrate", move |c| {
                Box::pin(async move { apply(c, &known, step).await })
            })
            .await?;
        names.extend(applied.then_some(step.name));
    }
    Ok(names)
}

/// Returns the first migration whose name does not begin with its number.
fn misnumbered(migrations: &'static [Migration]) -> Option<&'static Migration> {
    let numbered = migrations.iter().zip(1_u32..);
    let wrong = |(migration, number): &(&Migration, u32)| {
        let prefix = format!("{number:04}_");
        !migration.name.starts_with(&prefix) || migration.oldest > *number
    };
    numbered
        .into_iter()
        .find(wrong)
        .map(|(migration, _)| migration)
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
async fn apply(c: &mut Connection, known: &[Step], migration: Step) -> Result<bool, StoreError> {
    if c.dialect() == Dialect::Postgres {
        c.query(&LOCK, vec![]).await?;
    }
    c.execute(&CREATE, vec![]).await?;
    let mut applied = BTreeMap::new();
    for row in c.query(&APPLIED, vec![]).await? {
        let (name, checksum, oldest) = (row.text(1)?, row.text(2)?, row.int(3)?);
        let (version, one) = (
            row.int(0)?,
            Applied {
                name,
                checksum,
                oldest,
            },
        );
        applied.insert(version, one);
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
        migration.oldest.into(),
    ];
    c.execute(&RECORD, values).await?;
    Ok(true)
}

/// Compares what was applied with what is built in.
fn check(known: &[Step], applied: &BTreeMap<i64, Applied>) -> Result<(), String> {
    for (version, applied) in applied {
        let Some(migration) = known.iter().find(|known| known.version == *version) else {
            let of_its_sort = |known: &&Step| (known.version > OWN) == (*version > OWN);
            let newest = known.iter().rfind(of_its_sort);
            let base = if *version > OWN { OWN } else { 0 };
            if applied.oldest <= newest.map_or(base, |newest| newest.version) {
                // Whoever made it said that programs as old as this one go on running.
                continue;
            }
            let newest = newest.map_or("none", |newest| newest.name);
            return Err(format!(
                "the database has migration {}, too new for this program, whose newest is \
                 {newest}: use a newer program",
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

    const KNOWN: &[Step] = &[Step {
        version: 1,
        name: "0001_init",
        text: "CREATE TABLE a (b INTEGER);\n",
        oldest: 1,
    }];

    fn applied(version: i64, name: &str, text: &str, oldest: i64) -> BTreeMap<i64, Applied> {
        let (name, checksum) = (name.to_owned(), checksum(text));
        let one = Applied {
            name,
            checksum,
            oldest,
        };
        BTreeMap::from([(version, one)])
    }

    #[test]
    fn an_applied_migration_must_be_the_one_built_in() {
        let same = applied(1, "0001_init", KNOWN[0].text, 1);
        let crlf = applied(1, "0001_init", "CREATE TABLE a (b INTEGER);\r\n", 1);
        let edited = applied(1, "0001_init", "CREATE TABLE a (b TEXT);\n", 1);

        assert_eq!(check(KNOWN, &BTreeMap::new()), Ok(()));
        assert_eq!(check(KNOWN, &same), Ok(()));
        assert_eq!(check(KNOWN, &crlf), Ok(()));
        assert!(
            check(KNOWN, &edited)
                .expect_err("edited")
                .contains("must not be edited")
        );
    }

    #[test]
    fn a_newer_schema_is_used_by_the_programs_it_says_may_use_it() {
        let table = [
            (applied(2, "0002_more", "", 1), true),
            (applied(3, "0003_less", "", 2), false),
            (applied(OWN + 1, "0001_badges", "", OWN), true),
            (applied(OWN + 2, "0002_names", "", OWN + 1), false),
        ];

        for (applied, accepted) in table {
            let checked = check(KNOWN, &applied);
            assert_eq!(checked.is_ok(), accepted, "{applied:?}");
            if let Err(text) = checked {
                assert!(text.contains("use a newer program"), "{text}");
            }
        }
    }

    #[test]
    fn names_begin_with_their_numbers() {
        const RIGHT: &[Migration] = &[named("0001_a", 0), named("0002_b", 1)];
        const WRONG: [&[Migration]; 3] = [
            &[named("badges", 0)],
            &[named("0001_a", 0), named("0003_b", 0)],
            &[named("0001_a", 2)],
        ];

        assert_eq!(misnumbered(BUILT_IN), None);
        assert_eq!(misnumbered(RIGHT), None);
        for wrong in WRONG {
            assert_eq!(misnumbered(wrong), wrong.last());
        }
        for text in BUILT_IN.iter().flat_map(|it| [it.sqlite, it.postgres]) {
            assert!(text.starts_with("-- What it allows: "), "{text}");
        }
    }

    const fn named(name: &'static str, oldest: u32) -> Migration {
        Migration {
            name,
            sqlite: "",
            postgres: "",
            oldest,
        }
    }
}
