//! Opening a database: a SQLite file, memory, or a server; and saying why that failed.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use sqlx::{
    ConnectOptions as _,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use super::{
    StoreConfig,
    connection::Connection,
    error::{StoreError, StoreErrorKind},
    postgres::Server,
};

/// How many prepared statements a connection keeps: all sizes of all our multi-row statements.
const STATEMENTS_KEPT: usize = 512;

/// How many rows may wait in the channel between SQLite's thread and ours.
const ROWS_AHEAD: usize = 512;

/// The page cache of the writer and of each other connection, in KiB, which SQLite writes as a
/// negative number. The writer's holds the pages that a few seconds of commits touch.
const CACHE_WRITER: &str = "-32768";
const CACHE_OTHERS: &str = "-8192";

/// Which database a configuration names.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// A private database that dies with its only connection.
    Memory,
    /// A file.
    File(PathBuf),
    /// A schema of a database of a PostgreSQL server.
    Server(Box<Server>),
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// What has no connection of its own; SQLite's lane and lease, too.
    Write,
    /// Anything that changes nothing.
    Read,
    /// Writing SQLite's log back.
    Checkpoint,
    /// Renewing the lease, which must not wait for other work.
    Lease,
    /// One lane's commits.
    Lane(usize),
    /// Changes of the schema.
    Migrate,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write => f.write_str("write"),
            Self::Read => f.write_str("read"),
            Self::Checkpoint => f.write_str("checkpoint"),
            Self::Lease => f.write_str("lease"),
            Self::Lane(lane) => write!(f, "lane-{lane}"),
            Self::Migrate => f.write_str("migrate"),
        }
    }
}

impl Target {
    /// Reads the address in `config`.
    pub(super) fn parse(config: &StoreConfig) -> Result<Self, StoreError> {
        let url = config.url.as_str();
        if Server::is_meant(url) {
            return Server::parse(url).map(|server| Self::Server(Box::new(server)));
        }
        let rest = url.strip_prefix("sqlite:").ok_or_else(|| {
            let message = format!(
                "cannot open {url:?}: expected sqlite://PATH, sqlite::memory: or postgres://…"
            );
            StoreError::new(StoreErrorKind::Unavailable, message)
        })?;
        let path = rest.strip_prefix("//").unwrap_or(rest);
        let fail = |why: &str| {
            let message = format!("cannot open {url:?}: {why}");
            Err(StoreError::new(StoreErrorKind::Unavailable, message))
        };
        match path {
            ":memory:" => Ok(Self::Memory),
            "" => fail("the path is empty"),
            // A parameter we ignore would be a setting that does not hold.
            path if path.contains('?') => fail("parameters are not known here"),
            path => Ok(Self::File(path.into())),
        }
    }

    /// Opens one connection.
    pub(super) async fn connect(
        &self,
        config: &StoreConfig,
        purpose: Purpose,
    ) -> Result<Connection, StoreError> {
        match self {
            Self::Memory => {}
            Self::File(path) => explain_missing(path, config.create)?,
            Self::Server(server) => {
                let session = server.connect(config, purpose).await?;
                return Ok(Connection::postgres(session));
            }
        }
        match options(self, config, purpose).connect().await {
            Ok(connection) => Ok(Connection::sqlite(connection)),
            Err(error) => Err(explain(self, error.into())),
        }
    }
}

fn options(target: &Target, config: &StoreConfig, purpose: Purpose) -> SqliteConnectOptions {
    let synchronous = match config.sync {
        true => SqliteSynchronous::Full,
        false => SqliteSynchronous::Normal,
    };
    let cache = match purpose {
        Purpose::Read | Purpose::Checkpoint => CACHE_OTHERS,
        _ => CACHE_WRITER,
    };
    let options = SqliteConnectOptions::new()
        .disable_statement_logging()
        .busy_timeout(config.busy_timeout)
        .foreign_keys(false)
        .synchronous(synchronous)
        .pragma("cache_size", cache)
        .pragma("temp_store", "memory")
        .statement_cache_capacity(STATEMENTS_KEPT)
        .row_buffer_size(ROWS_AHEAD)
        .thread_name(move |_| format!("sqlite-{purpose:?}").to_lowercase());
    let options = match target {
        Target::Memory | Target::Server(_) => return options.in_memory(true),
        Target::File(path) => options
            .filename(path)
            .create_if_missing(config.create)
            .journal_mode(SqliteJournalMode::Wal),
    };
    match purpose {
        // Checkpoints inside a commit would make its caller wait for the whole log.
        Purpose::Read => options.pragma("query_only", "on"),
        _ => options.pragma("wal_autocheckpoint", "0"),
    }
}

/// Says what is wrong with a path before SQLite says `unable to open database file`.
fn explain_missing(path: &Path, create: bool) -> Result<(), StoreError> {
    let fail = |why: String| {
        let message = format!("cannot open the database {}: {why}", path.display());
        Err(StoreError::new(StoreErrorKind::Unavailable, message))
    };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if path.is_dir() {
        return fail("it is a folder".to_owned());
    }
    if !folder.is_dir() {
        return fail(format!("the folder {} does not exist", folder.display()));
    }
    if !create && !path.exists() {
        return fail("the file does not exist".to_owned());
    }
    Ok(())
}

/// Adds the file and, where the file system tells more than SQLite, the cause.
fn explain(target: &Target, error: StoreError) -> StoreError {
    let Target::File(path) = target else {
        return error.context("cannot open the database in memory");
    };
    let error = match cause(path) {
        Some(cause) => error.context(cause),
        None => error,
    };
    error.context(format_args!("cannot open the database {}", path.display()))
}

/// Returns what the file system has against opening `path` for writing.
fn cause(path: &Path) -> Option<String> {
    let mut options = fs::OpenOptions::new();
    // Never truncates: the file may be a database that another reason keeps us from opening.
    let opened = options.read(true).append(true).open(path);
    match opened {
        Ok(_) => None,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Some("it cannot be created there".to_owned())
        }
        Err(error) => Some(format!("it cannot be written ({error})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_memory_a_file_or_a_server() {
        let table = [
            ("sqlite::memory:", Some("Memory")),
            ("sqlite://shop.db", Some("File(\"shop.db\")")),
            ("sqlite:///var/shop.db", Some("File(\"/var/shop.db\")")),
            ("sqlite:shop.db", Some("File(\"shop.db\")")),
            ("sqlite://", None),
            ("sqlite://shop.db?mode=ro", None),
            ("mysql://host/shop", None),
            ("postgres://host/shop?schema=A", None),
        ];
        for (url, expected) in table {
            let target = Target::parse(&StoreConfig::new(url)).ok();
            let told = target.map(|target| format!("{target:?}"));
            assert_eq!(told.as_deref(), expected, "{url}");
        }
        let server = Target::parse(&StoreConfig::new("postgres://host/shop"));
        assert!(matches!(server, Ok(Target::Server(_))));
    }
}
