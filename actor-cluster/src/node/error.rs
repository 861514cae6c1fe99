//! Why a node did not start.

use std::{error::Error, fmt};

use actor_core::{
    Failure,
    id::NodeId,
    store::{StoreError, StoreErrorKind, lock::LockError},
};

use super::config::{SettingError, Settings};
use crate::transport::DialFailure;

/// Why a node did not start, in one line.
#[derive(Debug)]
#[non_exhaustive]
pub struct StartError {
    kind: StartErrorKind,
    message: Box<str>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// What has to change before the node can start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartErrorKind {
    /// A setting has a value that is not accepted, or not by this database.
    Setting,
    /// Another process uses the database file, or is the node of this name.
    Held,
    /// The database cannot be opened, read or written.
    Store,
    /// The program's own wiring is wrong, such as two kinds of one name.
    Wiring,
}

impl StartError {
    /// Returns what has to change.
    pub fn kind(&self) -> StartErrorKind {
        self.kind
    }

    /// Returns the code a program should end with: 2 when the way it was started is wrong.
    pub fn exit_code(&self) -> i32 {
        match self.kind {
            StartErrorKind::Setting | StartErrorKind::Held | StartErrorKind::Store => 2,
            StartErrorKind::Wiring => 1,
        }
    }

    /// Prints the line to standard error and ends the program.
    pub fn exit(&self) -> ! {
        super::config::exit(self, self.exit_code())
    }

    pub(super) fn links(settings: &Settings, error: &(dyn std::error::Error + 'static)) -> Self {
        let listen = settings.cluster_listen;
        Self::setting(format!("ACTOR_CLUSTER_LISTEN is {listen}: {error}"))
    }

    pub(super) fn unreachable(address: &str) -> Self {
        Self::setting(format!(
            "ACTOR_CLUSTER_ADVERTISE is {address}, which only this machine can dial, and the \
             database is on another: set it, or ACTOR_CLUSTER_LISTEN, to an address that the other \
             nodes reach"
        ))
    }

    pub(super) fn no_secret(other: &NodeId) -> Self {
        Self::setting(format!(
            "ACTOR_CLUSTER_SECRET is not set, and the node {other} uses this database: nodes of \
             one cluster need the same secret, of at least 16 bytes"
        ))
    }

    pub(super) fn unwelcome(other: &NodeId, why: &DialFailure) -> Self {
        Self::setting(format!(
            "no node of this database accepts this one ({other}: {why}): ACTOR_CLUSTER_SECRET and \
             the TLS files must belong to the same cluster"
        ))
    }

    fn setting(message: String) -> Self {
        Self {
            kind: StartErrorKind::Setting,
            message: message.into(),
            source: None,
        }
    }

    pub(super) fn name_taken(name: &NodeId) -> Self {
        let message = format!(
            "another process is the node {name} and renews its lease: set ACTOR_NODE_NAME to a \
             name of its own for each"
        );
        Self {
            kind: StartErrorKind::Held,
            message: message.into(),
            source: None,
        }
    }

    fn new(
        kind: StartErrorKind,
        message: impl fmt::Display,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self {
            kind,
            message: message.to_string().into(),
            source: Some(source.into()),
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().and_then(Error::source)
    }
}

impl From<SettingError> for StartError {
    fn from(error: SettingError) -> Self {
        Self::new(StartErrorKind::Setting, &error, error.clone())
    }
}

impl From<LockError> for StartError {
    fn from(error: LockError) -> Self {
        let kind = match error {
            LockError::Held { .. } => StartErrorKind::Held,
            _ => StartErrorKind::Store,
        };
        Self::new(kind, error.to_string(), error)
    }
}

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> Self {
        let kind = match error.kind() {
            StoreErrorKind::Incompatible => StartErrorKind::Setting,
            _ => StartErrorKind::Store,
        };
        Self::new(kind, error.to_string(), error)
    }
}

impl From<Failure> for StartError {
    fn from(failure: Failure) -> Self {
        Self {
            kind: StartErrorKind::Wiring,
            message: failure.message.into(),
            source: None,
        }
    }
}
