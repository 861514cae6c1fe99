//! The node's own listener: who arrives, proves who it is in time, and becomes a link.
//!
//! Holds the advertised port from before the lease until after it. Not here: what a link does
//! (`accepted`).

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use actor_core::clock::Clock;
use tokio::task::{AbortHandle, JoinSet};

use super::{
    LinkEvent, PeerId,
    accepted::Accepted,
    alarm::within,
    answers::Answers,
    handshake::{self, Agreed, Purpose, Rejected},
    links::Shared,
    meter::{Direction, LinkSnapshot, LinkState, Meter, UpGuard},
    socket::{Listener, Stream},
    tls::Channel,
};

/// The pause after the system refused to hand over a connection, for want of descriptors mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// After how many refusals in a row the listener counts as lost.
const ACCEPT_FAILURES_MAX: u32 = 100;

/// The links that peers dialled, and the arrivals that are not links yet.
#[derive(Default)]
pub(super) struct Arrivals {
    links: Mutex<BTreeMap<PeerId, Arc<Arrived>>>,
    /// Arrivals in their handshake, oldest first.
    handshakes: Mutex<BTreeMap<u64, AbortHandle>>,
    next: AtomicU64,
}

/// A link that a peer dialled.
pub(super) struct Arrived {
    number: u64,
    encrypted: bool,
    answers: Arc<Answers>,
    meter: Arc<Meter>,
}

/// Takes connections until it is aborted or the listener is lost.
pub(super) async fn listen(shared: Arc<Shared>, mut listener: Box<dyn Listener>) {
    let mut tasks = JoinSet::new();
    let mut failures = 0;
    loop {
        let arrival = tokio::select! {
            biased;
            // Cancel safe by tokio's word.
            Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
            // Cancel safe by the port's word.
            arrival = listener.accept() => arrival,
        };
        match arrival {
            Ok((stream, from)) => {
                failures = 0;
                admit(&shared, &mut tasks, stream, from);
            }
            Err(error) => {
                failures += 1;
                tracing::warn!(%error, "a node link could not be accepted");
                if failures >= ACCEPT_FAILURES_MAX {
                    shared.emit(LinkEvent::ListenerLost(error.to_string().into()));
                    return;
                }
                Clock.sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Starts the handshake of an arrival; the oldest one in progress makes room.
fn admit(shared: &Arc<Shared>, tasks: &mut JoinSet<()>, stream: Stream, from: SocketAddr) {
    let arrivals = &shared.arrivals;
    let number = arrivals.next.fetch_add(1, Ordering::Relaxed);
    let mut handshakes = arrivals.lock_handshakes();
    // Before it runs: it takes itself off the list under this lock.
    let task = tasks.spawn(serve(shared.clone(), number, stream, from));
    handshakes.insert(number, task);
    if handshakes.len() > shared.config.handshakes_max
        && let Some((_, oldest)) = handshakes.pop_first()
    {
        oldest.abort();
        drop(handshakes);
        count("crowded");
        tracing::warn!("too many node links are being opened; the oldest was dropped");
    }
}

async fn serve(shared: Arc<Shared>, number: u64, stream: Stream, from: SocketAddr) {
    let limit = shared.config.handshake_timeout;
    let opened = within(limit, open(&shared, stream)).await;
    shared.arrivals.lock_handshakes().remove(&number);
    let (channel, agreed, encrypted) = match opened {
        Some(Ok(Some(opened))) => opened,
        Some(Ok(None)) => return,
        Some(Err(why)) => {
            count(why.name());
            return why.log(from);
        }
        None => {
            count("slow");
            tracing::warn!(%from, "a node link was dropped: its handshake took too long");
            return;
        }
    };
    let Some(inbound) = shared.inbound() else {
        return;
    };
    let meter = Arc::new(Meter::new());
    let frame_bytes_max = agreed.frame_bytes_max as usize;
    let answers = Arc::new(Answers::new(&shared.config, frame_bytes_max, meter.clone()));
    let arrived = Arc::new(Arrived {
        number,
        encrypted,
        answers: answers.clone(),
        meter: meter.clone(),
    });
    let peer = agreed.peer;
    let up = UpGuard::new(Direction::Accepted);
    if let Some(former) = shared.arrivals.lock().insert(peer.clone(), arrived) {
        former.answers.replace();
    }
    if !shared.is_open() {
        answers.leave();
    }
    tracing::info!(%peer, %from, "a node linked up");
    shared.emit(LinkEvent::Accepted(peer.clone()));
    let accepted = Accepted {
        stream: channel.stream,
        peer: peer.clone(),
        inbound,
        answers,
        meter,
        config: shared.config.clone(),
    };
    let why = accepted.run().await;
    drop(up);
    shared.arrivals.remove(&peer, number);
    tracing::info!(%peer, %why, "a node's link ended");
    shared.emit(LinkEvent::Gone { peer, why });
}

/// TLS, if it is set, and the proof of identity; `None` for one that only asked who is here.
async fn open(shared: &Shared, stream: Stream) -> Result<Option<(Channel, Agreed, bool)>, Turned> {
    let tls = shared.config.tls.as_ref();
    let mut channel = match tls {
        Some(tls) => tls
            .accept(stream)
            .await
            .map_err(|error| Turned::Tls(error.to_string()))?,
        None => Channel::plain(stream),
    };
    let who = || (shared.me(), shared.is_open());
    let Channel { stream, binding } = &mut channel;
    let terms = shared.terms();
    let (agreed, purpose) = handshake::accept(stream, binding, &shared.key, who, &terms)
        .await
        .map_err(Turned::Handshake)?;
    Ok((purpose == Purpose::Link).then_some((channel, agreed, tls.is_some())))
}

/// Why an arrival was turned away.
enum Turned {
    Tls(String),
    Handshake(Rejected),
}

impl Turned {
    fn name(&self) -> &'static str {
        match self {
            Self::Tls(_) => "tls",
            Self::Handshake(Rejected::Silent) => "silent",
            Self::Handshake(Rejected::Garbage(_)) => "garbage",
            Self::Handshake(Rejected::Stranger(_)) => "stranger",
            Self::Handshake(Rejected::Told(..)) => "told",
        }
    }

    fn log(self, from: SocketAddr) {
        match self {
            Self::Tls(error) => tracing::warn!(%from, error, "a node link was refused: TLS"),
            Self::Handshake(Rejected::Silent) => tracing::debug!(%from, "an arrival said nothing"),
            Self::Handshake(Rejected::Garbage(error)) => {
                tracing::warn!(%from, error, "a node link was refused: not our protocol");
            }
            Self::Handshake(Rejected::Stranger(says)) => {
                // What a stranger says is shown escaped.
                tracing::warn!(%from, ?says, "a node link was refused: wrong secret");
            }
            Self::Handshake(Rejected::Told(peer, verdict)) => {
                tracing::info!(%from, %peer, ?verdict, "a node link was refused");
            }
        }
    }
}

impl Arrivals {
    /// Asks every peer for no more requests.
    pub(super) fn leave(&self) {
        for arrived in self.lock().values() {
            arrived.answers.leave();
        }
    }

    /// Says whether no peer has a link here.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    pub(super) fn snapshot(&self) -> Vec<LinkSnapshot> {
        let links = self.lock();
        let snapshot = links.iter().map(|(peer, arrived)| {
            let (open, queue_bytes, unconsumed_bytes) = arrived.answers.depth();
            let state = if arrived.answers.is_leaving() {
                LinkState::Leaving
            } else {
                LinkState::Up
            };
            LinkSnapshot {
                node: peer.node.as_str().to_owned(),
                incarnation: peer.incarnation.0,
                address: String::new(),
                direction: Direction::Accepted,
                state,
                encrypted: arrived.encrypted,
                open,
                queue_bytes,
                unconsumed_bytes,
                frames_in: arrived.meter.frames_in.load(Ordering::Relaxed),
                frames_out: arrived.meter.frames_out.load(Ordering::Relaxed),
                bytes_in: arrived.meter.bytes_in.load(Ordering::Relaxed),
                bytes_out: arrived.meter.bytes_out.load(Ordering::Relaxed),
                reconnects: 0,
                trouble: None,
            }
        });
        snapshot.collect()
    }

    /// Forgets a link, unless a newer one of the same peer took its place.
    fn remove(&self, peer: &PeerId, number: u64) {
        let mut links = self.lock();
        if links
            .get(peer)
            .is_some_and(|arrived| arrived.number == number)
        {
            links.remove(peer);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PeerId, Arc<Arrived>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_handshakes(&self) -> MutexGuard<'_, BTreeMap<u64, AbortHandle>> {
        self.handshakes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (links, handshakes) = (self.lock().len(), self.lock_handshakes().len());
        write!(f, "Arrivals({links} links, {handshakes} handshakes)")
    }
}

fn count(why: &'static str) {
    metrics::counter!("actor_link_arrivals_rejected_total", "why" => why).increment(1);
}
