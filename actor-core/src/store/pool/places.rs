//! Where the connections that write are kept: one for everything in SQLite, several on a server.

use tokio::sync::Mutex;

use crate::store::{
    Connection, StoreError,
    open::{Purpose, Target},
};

/// How many connections read beside the writers.
const READERS_OF_FILE: usize = 2;
const READERS_OF_SERVER: usize = 4;

/// A connection while nobody uses it; the lock is first come, first served.
pub(super) type Place = Mutex<Option<Connection>>;

/// The places.
#[derive(Debug)]
pub(super) struct Places {
    write: Place,
    /// Missing in SQLite, where one writer does everything.
    server: Option<Server>,
}

/// The places that only a server has.
#[derive(Debug)]
struct Server {
    lease: Place,
    migrate: Place,
    lanes: Vec<Place>,
}

impl Places {
    /// Puts the first writer in its place; the others are opened when they are needed.
    pub(super) fn new(target: &Target, writer: Connection) -> Self {
        let server = match target {
            Target::Memory | Target::File(_) => None,
            Target::Server(server) => Some(Server {
                lease: Place::default(),
                migrate: Place::default(),
                lanes: (0..server.lanes()).map(|_| Place::default()).collect(),
            }),
        };
        let write = Mutex::new(Some(writer));
        Self { write, server }
    }

    /// Returns the place of the connection for `purpose`.
    pub(super) fn of(&self, purpose: Purpose) -> &Place {
        let Some(server) = &self.server else {
            return &self.write;
        };
        match purpose {
            Purpose::Lease => &server.lease,
            Purpose::Migrate => &server.migrate,
            Purpose::Lane(lane) => server.lanes.get(lane).unwrap_or(&self.write),
            Purpose::Write | Purpose::Read | Purpose::Checkpoint => &self.write,
        }
    }

    /// Closes what is in the places, once nobody uses it.
    pub(super) async fn close(&self) -> Result<(), StoreError> {
        let mut places = vec![&self.write];
        if let Some(server) = &self.server {
            places.extend([&server.lease, &server.migrate]);
            places.extend(&server.lanes);
        }
        for place in places {
            if let Some(connection) = place.lock().await.take() {
                connection.close().await?;
            }
        }
        Ok(())
    }
}

/// Returns how many connections read beside the writers.
pub(super) fn readers(target: &Target) -> usize {
    match target {
        Target::Memory | Target::File(_) => READERS_OF_FILE,
        Target::Server(_) => READERS_OF_SERVER,
    }
}
