//! Opening a SQLite file, and saying why that failed.

use std::{
    fs,
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
};

/// How many prepared statements a connection keeps: all sizes of all our multi-row statements.
const STATEMENTS_KEPT: usize = 512;

/// How many rows may wait in the channel between SQLite's thread and ours.
const ROWS_AHEAD: usize = 512;

/// The page cache of the writer and of each other connection, in KiB, which SQLite writes as a negative
/// number. The writer's holds the pages that a few seconds of commits touch.
const CACHE_WRITER: &str = "-32768";
const CACHE_OTHERS: &str = "-8192";

/// Which database a configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A private database that dies with its only connection.
    Memory,
    /// A file.
    File(PathBuf),
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Write,
    Read,
    Checkpoint,
}

impl Target {
    /// Reads the address in `config`.
    pub(super) fn parse(config: &StoreConfig) -> Result<Self, StoreError> {
        let url = config.url.as_str();
        let rest = url.strip_prefix("sqlite:").ok_or_else(|| {
            let message = format!("cannot open {url:?}: expected sqlite://PATH or sqlite::memory:");
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
        if let Self::File(path) = self {
            explain_missing(path, config.create)?;
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
        Purpose::Write => CACHE_WRITER,
        Purpose::Read | Purpose::Checkpoint => CACHE_OTHERS,
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
        Target::Memory => return options.in_memory(true),
        Target::File(path) => options
            .filename(path)
            .create_if_missing(config.create)
            .journal_mode(SqliteJournalMode::Wal),
    };
    match purpose {
        // Checkpoints inside a commit would make its caller wait for the whole log.
        Purpose::Write | Purpose::Checkpoint => options.pragma("wal_autocheckpoint", "0"),
        Purpose::Read => options.pragma("query_only", "on"),
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
    fn an_address_names_memory_or_a_file() {
        let table = [
            ("sqlite::memory:", Some(Target::Memory)),
            ("sqlite://shop.db", Some(Target::File("shop.db".into()))),
            (
                "sqlite:///var/shop.db",
                Some(Target::File("/var/shop.db".into())),
            ),
            ("sqlite:shop.db", Some(Target::File("shop.db".into()))),
            ("sqlite://", None),
            ("sqlite://shop.db?mode=ro", None),
            ("mysql://host/shop", None),
        ];
        for (url, target) in table {
            assert_eq!(Target::parse(&StoreConfig::new(url)).ok(), target, "{url}");
        }
    }
}
