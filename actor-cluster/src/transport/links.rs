//! The transport over sockets: one listener, a dialler for each peer, and what they share.

use std::{
    collections::BTreeMap,
    fmt, io,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actor_core::{
    clock::{Clock, Instant, Rng},
    id::{Incarnation, NodeId},
    store::BoxFuture,
};
use futures_util::FutureExt as _;
use tokio::{
    sync::broadcast,
    task::{AbortHandle, JoinHandle},
};

use super::{
    Answer, DialFailure, Inbound, LinkConfig, LinkConfigError, LinkEvent, LinkSnapshot, Note, Peer,
    PeerId, Request, Transport, Unanswered,
    acceptor::{self, Arrivals},
    dialler::{self, Kept},
    handshake::{Key, Purpose, Terms},
    socket::{Listener, Sockets, Tcp},
};

/// News that wait for a slow reader.
const EVENTS_KEPT: usize = 1024;

/// Between two looks at whether every peer has left.
const LEFT_EVERY: Duration = Duration::from_millis(10);

/// The links of one life of a node. Dropping it cuts them all, a little later.
#[derive(Debug)]
pub struct Links {
    shared: Arc<Shared>,
    address: SocketAddr,
    listening: JoinHandle<()>,
    kept: Mutex<BTreeMap<PeerId, (Arc<Kept>, AbortHandle)>>,
}

/// What the tasks of all links share.
pub(super) struct Shared {
    pub(super) config: Arc<LinkConfig>,
    pub(super) sockets: Arc<dyn Sockets>,
    pub(super) key: Key,
    pub(super) rng: Rng,
    pub(super) arrivals: Arrivals,
    me: Mutex<PeerId>,
    inbound: OnceLock<Arc<dyn Inbound>>,
    /// Whether links of peers are welcome.
    open: AtomicBool,
    /// Whether the listener is lost.
    lost: AtomicBool,
    events: broadcast::Sender<LinkEvent>,
}

/// Links that cannot start.
#[derive(Debug)]
#[non_exhaustive]
pub enum BindError {
    /// A bound is not accepted.
    Config(LinkConfigError),
    /// The address cannot be listened at.
    Listen(io::Error),
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Listen(error) => write!(f, "node links cannot listen: {error}"),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Config(error) => Some(error),
            Self::Listen(error) => Some(error),
        }
    }
}

impl Links {
    /// Takes the port, so that nobody else has it while the node is registered. Until
    /// [`Links::open`], whoever dials learns the node's name with incarnation 0, and no link.
    ///
    /// # Errors
    /// When a bound is not accepted or the address is taken.
    pub async fn bind(
        config: LinkConfig,
        node: NodeId,
        listen: SocketAddr,
        rng: Rng,
    ) -> Result<Self, BindError> {
        Self::bind_on(config, node, listen, rng, Arc::new(Tcp)).await
    }

    /// As [`Links::bind`], on other sockets than the machine's.
    pub(crate) async fn bind_on(
        config: LinkConfig,
        node: NodeId,
        listen: SocketAddr,
        rng: Rng,
        sockets: Arc<dyn Sockets>,
    ) -> Result<Self, BindError> {
        config.check().map_err(BindError::Config)?;
        let listener = sockets.listen(listen).await.map_err(BindError::Listen)?;
        let address = listener.address().map_err(BindError::Listen)?;
        let me = PeerId {
            node,
            incarnation: Incarnation(0),
        };
        let shared = Arc::new(Shared {
            key: Key::new(&config.secret),
            config: Arc::new(config),
            sockets,
            rng,
            arrivals: Arrivals::default(),
            me: Mutex::new(me),
            inbound: OnceLock::new(),
            open: AtomicBool::new(false),
            lost: AtomicBool::new(false),
            events: broadcast::Sender::new(EVENTS_KEPT),
        });
        Ok(Self {
            listening: tokio::spawn(keep_listening(shared.clone(), listener)),
            shared,
            address,
            kept: Mutex::default(),
        })
    }

    /// Returns where peers arrive.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// Lets peers link up with this life of the node; what they ask goes to `inbound`. Only the
    /// first call counts.
    pub fn open(&self, incarnation: Incarnation, inbound: Arc<dyn Inbound>) {
        let inbound = self.shared.sockets.inbound(inbound);
        if self.shared.inbound.set(inbound).is_ok() {
            self.shared.lock_me().incarnation = incarnation;
            self.shared.open.store(true, Ordering::Release);
        }
    }

    /// Takes no more links and requests, ends every link in order, and returns when all have ended
    /// or `limit` has passed. The port stays taken until [`Links::release`].
    pub async fn close(&self, limit: Duration) {
        self.shared.open.store(false, Ordering::Release);
        self.shared.arrivals.leave();
        for (kept, _) in self.lock_kept().values() {
            kept.end();
        }
        let deadline = Clock.now() + limit;
        while Clock.now() < deadline && !self.is_quiet() {
            Clock.sleep(LEFT_EVERY).await;
        }
    }

    /// Cuts what is left and gives the port back; it is free when this returns.
    pub async fn release(mut self) {
        self.listening.abort();
        // It was aborted, and ends with nothing to tell.
        let _ = (&mut self.listening).await;
    }

    fn is_quiet(&self) -> bool {
        let kept = self.lock_kept();
        let ended = kept.values().all(|(_, task)| task.is_finished());
        ended && self.shared.arrivals.is_empty()
    }

    fn lock_kept(&self) -> MutexGuard<'_, BTreeMap<PeerId, (Arc<Kept>, AbortHandle)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn outbox(&self, to: &PeerId) -> Result<Arc<super::outbox::Outbox>, Unanswered> {
        let outbox = self.lock_kept().get(to).and_then(|(kept, _)| kept.outbox());
        outbox.ok_or_else(|| Unanswered::NotLinked(format!("no link to {to}").into()))
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.listening.abort();
        for (_, task) in self.lock_kept().values() {
            task.abort();
        }
    }
}

impl Transport for Links {
    fn connect(&self, peer: Peer) {
        let mut all = self.lock_kept();
        // One that was forgotten before and has ended may be kept anew.
        all.retain(|_, (_, task)| !task.is_finished());
        if all.get(&peer.id).is_some() {
            return;
        }
        let id = peer.id.clone();
        let kept = Arc::new(Kept::new(peer, self.shared.config.tls.is_some()));
        let task = tokio::spawn(dialler::keep(self.shared.clone(), kept.clone()));
        all.insert(id, (kept, task.abort_handle()));
    }

    fn forget(&self, peer: &PeerId) {
        if let Some((kept, _)) = self.lock_kept().get(peer) {
            kept.end();
        }
    }

    fn ask(
        &self,
        to: &PeerId,
        request: &Request,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<Answer, Unanswered>> {
        // Queued here and not in the future, so that the order of calls is the order sent.
        let ticket = self
            .outbox(to)
            .and_then(|outbox| outbox.ask(request.encode(), deadline));
        Box::pin(async move {
            let body = ticket?.answer().await?;
            Answer::decode(&body).map_err(|error| {
                Unanswered::Lost(format!("the answer cannot be read: {error}").into())
            })
        })
    }

    fn tell(&self, to: &PeerId, note: &Note) -> Result<(), Unanswered> {
        self.outbox(to)?.tell(note.encode())
    }

    fn probe(&self, peer: Peer) -> BoxFuture<'static, Result<PeerId, DialFailure>> {
        let shared = self.shared.clone();
        Box::pin(async move {
            let answered = dialler::dial(&shared, &peer, Purpose::Probe).await;
            answered.map(|(_, agreed)| agreed.peer)
        })
    }

    fn is_listening(&self) -> bool {
        !self.shared.lost.load(Ordering::Acquire)
    }

    fn events(&self) -> broadcast::Receiver<LinkEvent> {
        self.shared.events.subscribe()
    }

    fn snapshot(&self) -> Vec<LinkSnapshot> {
        let mut all: Vec<_> = self
            .lock_kept()
            .values()
            .filter(|(_, task)| !task.is_finished())
            .map(|(kept, _)| kept.snapshot())
            .collect();
        all.extend(self.shared.arrivals.snapshot());
        all
    }
}

impl Shared {
    /// Returns who this node is.
    pub(super) fn me(&self) -> PeerId {
        self.lock_me().clone()
    }

    /// Returns whether links of peers are welcome.
    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    pub(super) fn inbound(&self) -> Option<Arc<dyn Inbound>> {
        self.inbound.get().cloned()
    }

    /// Returns what this node says of itself.
    pub(super) fn terms(&self) -> Terms {
        let config = &self.config;
        Terms {
            formats: config.formats.clone(),
            window_bytes: config.window_bytes as u64,
            frame_bytes_max: u32::try_from(config.frame_bytes_max).unwrap_or(u32::MAX),
        }
    }

    /// Tells whoever listens.
    pub(super) fn emit(&self, event: LinkEvent) {
        if matches!(event, LinkEvent::ListenerLost(_)) {
            self.lost.store(true, Ordering::Release);
        }
        // Nobody may listen.
        let _ = self.events.send(event);
    }

    fn lock_me(&self) -> MutexGuard<'_, PeerId> {
        self.me.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Listens; a panic on the way, a bug, is told like any other loss of the port.
async fn keep_listening(shared: Arc<Shared>, listener: Box<dyn Listener>) {
    let listening = AssertUnwindSafe(acceptor::listen(shared.clone(), listener)).catch_unwind();
    if listening.await.is_err() {
        shared.emit(LinkEvent::ListenerLost("the listener panicked".into()));
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("me", &self.me())
            .field("arrivals", &self.arrivals)
            .finish_non_exhaustive()
    }
}
