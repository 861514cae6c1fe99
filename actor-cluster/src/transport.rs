//! The port between nodes: requests with answers, notes without, and news of links that come and
//! go.
//!
//! Read in this order: what crosses a link ([`envelope`]), what bounds it ([`config`]), who may
//! link up (`handshake`, `tls`, `acceptor`), and how a link moves envelopes (`frame`, `outbox`,
//! `dialled`, `accepted`, `dialler`). [`Links`] is the transport over sockets. Not here: which node
//! owns what, and when something is sent again.
//!
//! A node dials every peer it sends to, so between two nodes there are two links: each carries the
//! requests of the node that dialled and the answers to them. Nobody has to elect one of two
//! simultaneous connections, and each node has evidence of its own about each peer.

pub mod config;
pub mod envelope;

mod accepted;
mod acceptor;
mod alarm;
mod answers;
mod dialled;
mod dialler;
mod frame;
mod handshake;
mod links;
mod meter;
mod outbox;
mod requests;
pub(crate) mod socket;
mod tls;
mod wire;

use std::{fmt, sync::Arc, time::Duration};

use actor_core::{
    clock::Instant,
    error::Refusal,
    id::{Incarnation, NodeId},
    store::BoxFuture,
};
use tokio::sync::broadcast;

pub use config::{LinkConfig, LinkConfigError};
pub use envelope::{Answer, Call, Note, OwnerHint, Request};
pub use links::Links;
pub use meter::{Direction, LinkSnapshot, LinkState};
pub use tls::{TlsError, TlsIdentity};

/// One life of a node, as links know it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId {
    /// The node's name.
    pub node: NodeId,
    /// Which life; 0 before it is registered.
    pub incarnation: Incarnation,
}

impl PeerId {
    /// Names one life of a node.
    pub fn new(node: impl AsRef<str>, incarnation: u64) -> Self {
        Self {
            node: NodeId::new(node),
            incarnation: Incarnation(incarnation),
        }
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.node, self.incarnation.0)
    }
}

/// One life of a node, and where it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Who it is.
    pub id: PeerId,
    /// What it advertises: host and port.
    pub address: Arc<str>,
}

/// Moves envelopes between nodes.
pub trait Transport: fmt::Debug + Send + Sync {
    /// Keeps a link to `peer`: dials it, and dials again whenever the link ends, until
    /// [`Transport::forget`]. Does nothing if it is kept already.
    fn connect(&self, peer: Peer);

    /// Ends the link to `peer` in order and dials it no more.
    fn forget(&self, peer: &PeerId);

    /// Sends `request` and returns its answer, at the latest at `deadline`.
    ///
    /// Requests of one task to one peer arrive in the order of the calls of this function, and a
    /// peer begins them in that order.
    fn ask(
        &self,
        to: &PeerId,
        request: &Request,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<Answer, Unanswered>>;

    /// Sends `note`, which may get lost with its link.
    ///
    /// # Errors
    /// When there is no link, or its queue is full.
    fn tell(&self, to: &PeerId, note: &Note) -> Result<(), Unanswered>;

    /// Dials `peer` once, learns who answers there, and hangs up.
    fn probe(&self, peer: Peer) -> BoxFuture<'static, Result<PeerId, DialFailure>>;

    /// Says whether peers can still arrive; `false` before [`LinkEvent::ListenerLost`] is told, and
    /// for ever after.
    fn is_listening(&self) -> bool;

    /// Returns the news from now on. Up to 1024 wait; a reader that falls behind is told so, and
    /// looks at [`Transport::snapshot`].
    fn events(&self) -> broadcast::Receiver<LinkEvent>;

    /// Returns every link, for operators.
    fn snapshot(&self) -> Vec<LinkSnapshot>;
}

/// What links ask of the node they arrive at.
pub trait Inbound: fmt::Debug + Send + Sync {
    /// Serves a request of a peer. Called in the order in which the peer sent them, and the future
    /// is polled for the first time before the next request is looked at.
    ///
    /// `within` is what is left of the caller's time.
    fn request(
        &self,
        from: &PeerId,
        request: Request,
        within: Duration,
    ) -> BoxFuture<'static, Answer>;

    /// Takes note. Must not wait.
    fn note(&self, from: &PeerId, note: Note);
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unanswered {
    /// There is no link to the peer, or it is ending. The request did not leave.
    NotLinked(Box<str>),
    /// The link's queue is full. The request did not leave.
    Overloaded {
        /// When a retry may succeed.
        retry_after: Duration,
    },
    /// The deadline passed while it waited for its turn. The request did not leave.
    Unsent,
    /// It is larger than a frame may be. The request did not leave.
    TooLarge(Box<str>),
    /// The deadline passed after it left.
    Late,
    /// The link ended after it left, or the answer could not be read: nobody here knows what
    /// became of it.
    Lost(Box<str>),
}

impl Unanswered {
    /// Says whether the peer may have begun the request.
    pub fn may_have_begun(&self) -> bool {
        matches!(self, Self::Late | Self::Lost(_))
    }

    /// Returns what the caller is told if it is not sent again.
    pub fn refusal(self) -> Refusal {
        match self {
            Self::NotLinked(why) => Refusal::Unavailable(why),
            Self::Overloaded { retry_after } => Refusal::Overloaded { retry_after },
            Self::Unsent => Refusal::Timeout { started: false },
            Self::TooLarge(what) => Refusal::TooLarge(what),
            Self::Late => Refusal::Timeout { started: true },
            Self::Lost(why) => Refusal::UnknownOutcome(why),
        }
    }
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.clone().refusal().fmt(f)
    }
}

impl std::error::Error for Unanswered {}

/// What happened to a link. News of dialled links are what a node may testify with (architecture
/// D3): it had an authenticated link, that link ended, and a new dial failed in a telling way.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkEvent {
    /// The link this node dialled is up; both sides proved who they are.
    Up(PeerId),
    /// The peer takes no more requests; what it has it still answers.
    Leaving(PeerId),
    /// The link this node dialled ended.
    Down {
        /// To whom.
        peer: PeerId,
        /// Why.
        why: LinkEnd,
    },
    /// A dial failed.
    Unreached {
        /// Whom it was meant for.
        peer: PeerId,
        /// Why.
        why: DialFailure,
        /// Whether this transport had an authenticated link to that life of the peer before.
        had_link: bool,
    },
    /// A peer linked up with this node.
    Accepted(PeerId),
    /// The link a peer dialled ended.
    Gone {
        /// Whose.
        peer: PeerId,
        /// Why.
        why: LinkEnd,
    },
    /// The listener cannot go on; the node no longer holds the port it advertises.
    ListenerLost(Box<str>),
}

/// Why a link ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkEnd {
    /// This node ended it.
    Local,
    /// The peer ended it in order.
    Orderly,
    /// The connection was cut, perhaps inside a frame.
    Cut(Box<str>),
    /// Nothing arrived for the silence limit.
    Silence,
    /// The peer did not take what was written to it.
    Stalled,
    /// The peer broke the protocol.
    Garbage(Box<str>),
    /// The peer dialled anew.
    Replaced,
}

impl fmt::Display for LinkEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("this node ended the link"),
            Self::Orderly => f.write_str("the peer ended the link"),
            Self::Cut(why) => write!(f, "the link was cut: {why}"),
            Self::Silence => f.write_str("the peer is silent"),
            Self::Stalled => f.write_str("the peer takes nothing"),
            Self::Garbage(why) => write!(f, "the peer broke the protocol: {why}"),
            Self::Replaced => f.write_str("the peer dialled anew"),
        }
    }
}

/// Why a dial did not become a link.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DialFailure {
    /// The machine answered that nothing listens there.
    Refused,
    /// Another node, or another life of this one, answered and proved it.
    Other(PeerId),
    /// It did not answer in time.
    TimedOut,
    /// It could not be reached.
    Unreachable(Box<str>),
    /// TLS failed.
    Tls(Box<str>),
    /// It did not prove that it knows the secret, or did not believe this node.
    Unauthenticated,
    /// The two programs share no format of frames.
    Format {
        /// The peer's oldest and newest.
        theirs: (u16, u16),
    },
    /// It takes no more links: it is stopping.
    Leaving,
    /// What answered does not speak this protocol.
    Garbage(Box<str>),
}

impl fmt::Display for DialFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("nothing listens there"),
            Self::Other(peer) => write!(f, "{peer} answered"),
            Self::TimedOut => f.write_str("no answer in time"),
            Self::Unreachable(why) => write!(f, "unreachable: {why}"),
            Self::Tls(why) => write!(f, "TLS failed: {why}"),
            Self::Unauthenticated => f.write_str("not authenticated: is the secret the same?"),
            Self::Format { theirs: (min, max) } => {
                write!(f, "it speaks link formats {min} to {max} only")
            }
            Self::Leaving => f.write_str("it is stopping"),
            Self::Garbage(why) => write!(f, "it does not speak the links' protocol: {why}"),
        }
    }
}

impl std::error::Error for DialFailure {}
