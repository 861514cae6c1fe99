//! The sessions of one gateway: how many there may be, and who supervises them.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use actor_core::{Refusal, clock::Rng};
use ractor::{
    Actor, ActorCell, ActorProcessingErr, ActorRef, ActorRuntime, ActorStatus, Message,
    SupervisionEvent,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    drain::{Drain, Resident},
    gateway::Limits,
};

/// What a refused client is told to wait.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The sessions of one gateway.
pub(crate) struct Sessions {
    most: usize,
    sockets: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    spread: Duration,
    supervisor: Mutex<Option<ActorCell>>,
}

/// A session's place; free again when dropped.
pub(crate) struct Admitted {
    _permit: OwnedSemaphorePermit,
    _resident: Resident,
}

impl Sessions {
    pub(crate) fn new(limits: &Limits) -> Self {
        // The library's own bound on permits is far above what a machine can hold open.
        let most = limits.sessions_max.min(Semaphore::MAX_PERMITS);
        Self {
            most,
            sockets: Arc::new(Semaphore::new(most)),
            streams: Arc::new(Semaphore::new(most)),
            spread: limits.reconnect_spread,
            supervisor: Mutex::new(None),
        }
    }

    /// Takes a place for a socket.
    pub(crate) fn socket(&self, drain: &Drain) -> Result<Admitted, Refusal> {
        admit(&self.sockets, drain)
    }

    /// Takes a place for an event stream.
    pub(crate) fn stream(&self, drain: &Drain) -> Result<Admitted, Refusal> {
        admit(&self.streams, drain)
    }

    /// Returns how many sockets and streams are open.
    pub(crate) fn count(&self) -> usize {
        2 * self.most - self.sockets.available_permits() - self.streams.available_permits()
    }

    /// Returns when one client should come back; clients' answers are spread over time.
    pub(crate) fn reconnect_after(&self, rng: &Rng) -> Duration {
        let spread = u64::try_from(self.spread.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(rng.below(spread).saturating_add(100))
    }

    /// Returns the supervisor of all sessions, itself supervised by the node's.
    pub(crate) fn supervisor(&self, root: &ActorCell) -> Result<ActorCell, Refusal> {
        let mut supervisor = self
            .supervisor
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(cell) = &*supervisor
            && !matches!(
                cell.get_status(),
                ActorStatus::Stopping | ActorStatus::Stopped
            )
        {
            return Ok(cell.clone());
        }
        let spawned = ActorRuntime::spawn_linked_instant(None, Supervisor, (), root.clone());
        let (actor, _started) = spawned.map_err(|error| {
            Refusal::Unavailable(format!("sessions have no supervisor: {error}").into())
        })?;
        let cell = actor.get_cell();
        *supervisor = Some(cell.clone());
        Ok(cell)
    }
}

fn admit(places: &Arc<Semaphore>, drain: &Drain) -> Result<Admitted, Refusal> {
    if drain.has_begun() {
        return Err(Refusal::Unavailable("the node is draining".into()));
    }
    let permit = places.clone().try_acquire_owned();
    let overloaded = |_| Refusal::Overloaded {
        retry_after: RETRY_AFTER,
    };
    let (permit, resident) = (permit.map_err(overloaded)?, drain.enter());
    Ok(Admitted {
        _permit: permit,
        _resident: resident,
    })
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sessions({})", self.count())
    }
}

/// Supervises sessions: one that fails is logged, its socket closes, its client comes back.
struct Supervisor;

/// Supervisors are told nothing; they watch.
struct Watch;

impl Message for Watch {}

impl Actor for Supervisor {
    type Msg = Watch;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Watch>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Watch>,
        event: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(_, error) = event {
            metrics::counter!("actor_session_failures_total").increment(1);
            tracing::error!(%error, "a session failed");
        }
        Ok(())
    }
}
