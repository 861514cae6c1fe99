//! What passes between the parts of a simulation: requests to nodes, and their answers, each with a
//! latency of its own.

use std::{any::Any, collections::BTreeMap, fmt, pin::Pin, time::Duration};

use tokio::sync::oneshot;

use crate::Node;

/// The shortest time anything takes from one part to another, and therefore the longest step in
/// which parts may run without looking at one another.
pub(super) const LATENCY_MIN: Duration = Duration::from_millis(5);

/// Latencies are spread over this much more.
pub(super) const LATENCY_SPREAD_MS: u64 = 6;

/// A part of a simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// The test's body.
    Driver,
    /// One life of one node.
    Node {
        /// Counts from 0.
        index: usize,
        /// Counts the starts of this node, from 1.
        life: u64,
    },
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Driver => f.write_str("test"),
            Self::Node { index, .. } => write!(f, "n{index}"),
        }
    }
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The node was not there; nothing was done.
    Undelivered(Undelivered),
    /// The node died after it got the request; what it did by then is done.
    Unanswered,
}

/// Why a node did not get a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undelivered {
    /// It is not running.
    Down,
    /// It has not finished its start.
    Starting,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Undelivered(Undelivered::Down) => "the node is down",
            Self::Undelivered(Undelivered::Starting) => "the node is starting",
            Self::Unanswered => "the node died before it answered",
        })
    }
}

impl std::error::Error for Broken {}

/// A value on its way from one runtime to another.
pub(super) type Parcel = Box<dyn Any + Send>;

/// What to do at a node.
pub(super) type Work = Box<dyn FnOnce(Node) -> Pin<Box<dyn Future<Output = Parcel> + Send>> + Send>;

/// Receives the answer to a request.
pub(super) type Answer = oneshot::Receiver<Result<Parcel, Broken>>;

/// Something under way.
pub(super) enum Packet {
    /// To a node.
    Request { to: usize, number: u64, work: Work },
    /// Back to whoever asked.
    Answer {
        to: Part,
        sender: oneshot::Sender<Result<Parcel, Broken>>,
        answer: Result<Parcel, Broken>,
    },
}

/// A request that was not answered yet.
struct Waiting {
    from: Part,
    to: usize,
    delivered: bool,
    sender: oneshot::Sender<Result<Parcel, Broken>>,
}

/// Everything under way.
#[derive(Default)]
pub(super) struct Network {
    next: u64,
    flying: BTreeMap<(Duration, u64), Packet>,
    waiting: BTreeMap<u64, Waiting>,
}

impl Network {
    /// Sends a request that arrives at `at`; returns its number.
    pub(super) fn ask(&mut self, from: Part, to: usize, at: Duration, work: Work) -> (u64, Answer) {
        let (sender, answer) = oneshot::channel();
        let number = self.number();
        self.waiting.insert(
            number,
            Waiting {
                from,
                to,
                delivered: false,
                sender,
            },
        );
        self.flying
            .insert((at, number), Packet::Request { to, number, work });
        (number, answer)
    }

    /// Sends the answer to a request; it arrives at `at`. A second answer is no matter.
    pub(super) fn answer(&mut self, number: u64, at: Duration, answer: Result<Parcel, Broken>) {
        if let Some(Waiting {
            from: to, sender, ..
        }) = self.waiting.remove(&number)
        {
            let order = self.number();
            self.flying
                .insert((at, order), Packet::Answer { to, sender, answer });
        }
    }

    /// Takes what arrives at `part` up to and including `until`, in the order of arrival.
    pub(super) fn arrivals(&mut self, part: Part, until: Duration) -> Vec<(Duration, Packet)> {
        let is_for = |packet: &Packet| match (packet, part) {
            (Packet::Answer { to, .. }, part) => *to == part,
            (Packet::Request { to, .. }, Part::Node { index, .. }) => *to == index,
            (Packet::Request { .. }, Part::Driver) => false,
        };
        self.take(until, is_for)
    }

    /// Takes the requests to a node that is not there.
    pub(super) fn requests_to(&mut self, node: usize, until: Duration) -> Vec<(Duration, Packet)> {
        self.take(
            until,
            |packet| matches!(packet, Packet::Request { to, .. } if *to == node),
        )
    }

    /// Notes that a node has the request, so that its death leaves the outcome open.
    pub(super) fn delivered(&mut self, number: u64) {
        if let Some(waiting) = self.waiting.get_mut(&number) {
            waiting.delivered = true;
        }
    }

    /// Returns the requests that `node` has and did not answer, and forgets what was asked by the
    /// life `dead`.
    pub(super) fn died(&mut self, node: usize, dead: Part) -> Vec<u64> {
        self.waiting.retain(|_, waiting| waiting.from != dead);
        self.flying
            .retain(|_, packet| !matches!(packet, Packet::Answer { to, .. } if *to == dead));
        let open = self
            .waiting
            .iter()
            .filter(|(_, waiting)| waiting.to == node && waiting.delivered);
        open.map(|(number, _)| *number).collect()
    }

    /// Says whether nothing is under way and nobody waits for an answer.
    pub(super) fn is_quiet(&self) -> bool {
        self.flying.is_empty() && self.waiting.is_empty()
    }

    fn take(
        &mut self,
        until: Duration,
        is_wanted: impl Fn(&Packet) -> bool,
    ) -> Vec<(Duration, Packet)> {
        let due = self.flying.range(..=(until, u64::MAX));
        let keys: Vec<_> = due
            .filter(|(_, packet)| is_wanted(packet))
            .map(|(key, _)| *key)
            .collect();
        keys.into_iter()
            .filter_map(|key| Some((key.0, self.flying.remove(&key)?)))
            .collect()
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Network({} flying, {} waiting)",
            self.flying.len(),
            self.waiting.len()
        )
    }
}
