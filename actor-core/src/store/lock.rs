//! One process per SQLite file: an operating system lock beside it (architecture D9).
//!
//! The kernel frees it when the process dies, so holding it proves that the former holder is gone.
//! It is never taken on the database itself: SQLite has its own locks there.

use std::{
    fmt,
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use crate::id::NodeId;

/// A held lock; dropping it frees it.
#[derive(Debug)]
pub struct FileLock {
    /// Kept open: the lock lives as long as the handle.
    _file: File,
    path: PathBuf,
}

/// Why a lock was not taken.
#[derive(Debug)]
#[non_exhaustive]
pub enum LockError {
    /// Another process holds it.
    Held {
        /// The lock file.
        path: PathBuf,
        /// What the holder wrote into it: `pid N, node NAME`.
        holder: Box<str>,
    },
    /// The lock file cannot be made or locked.
    Io {
        /// The lock file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl FileLock {
    /// Locks `<database>.lock` for this process and writes down who holds it.
    ///
    /// # Errors
    /// [`LockError::Held`] naming the holder, at once: it does not wait.
    pub fn acquire(database: &Path, node: &NodeId) -> Result<Self, LockError> {
        let mut path = database.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        match lock(&path, node) {
            Ok(Ok(file)) => Ok(Self { _file: file, path }),
            Ok(Err(holder)) => Err(LockError::Held { path, holder }),
            Err(source) => Err(LockError::Io { path, source }),
        }
    }

    /// Returns the lock file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Returns the locked file, or the name of its holder.
fn lock(path: &Path, node: &NodeId) -> io::Result<Result<File, Box<str>>> {
    let mut options = OpenOptions::new();
    // Truncated only once it is ours: until then the text in it names the holder.
    let mut file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "pid {}, node {node}", std::process::id())?;
            file.sync_data()?;
            Ok(Ok(file))
        }
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder)?;
            Ok(Err(holder.trim().into()))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { path, holder } if holder.is_empty() => {
                write!(f, "another process holds {}", path.display())
            }
            Self::Held { path, holder } => {
                write!(f, "another process holds {}: {holder}", path.display())
            }
            Self::Io { path, source } => write!(f, "cannot lock {}: {source}", path.display()),
        }
    }
}

impl std::error::Error for LockError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Held { .. } => None,
        }
    }
}
