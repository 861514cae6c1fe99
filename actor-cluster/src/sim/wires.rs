//! Connections between the hosts of a simulation: bytes in order, with a latency, until somebody
//! dies or the network is in the way.
//!
//! What the kernel of a machine does is done here, so a frozen program still has a port that
//! connections arrive at, and bytes that wait for it. Not here: what the bytes mean, which is what
//! real links say.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
    time::Duration,
};

use tokio::sync::oneshot;

use super::network::Part;
use crate::transport::socket::Stream;

/// The port on which the links of every node listen.
const PORT: u16 = 4000;

/// A machine: it outlives the programs on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Host {
    /// Where the test's body runs.
    Driver,
    /// Where the lives of a node run.
    Node(usize),
}

impl Host {
    /// Returns where links listen.
    pub(super) fn address(self) -> SocketAddr {
        let (group, number) = match self {
            Self::Driver => (0, 1),
            Self::Node(index) => (1, u8::try_from(index).expect("few nodes are simulated")),
        };
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, group, number)), PORT)
    }

    fn at(address: SocketAddr) -> Option<Self> {
        match address.ip() {
            IpAddr::V4(ip) => match ip.octets() {
                [10, 0, 0, 1] => Some(Self::Driver),
                [10, 0, 1, index] => Some(Self::Node(index.into())),
                _ => None,
            },
            IpAddr::V6(_) => None,
        }
    }
}

impl From<Part> for Host {
    fn from(part: Part) -> Self {
        match part {
            Part::Driver => Self::Driver,
            Part::Node { index, .. } => Self::Node(index),
        }
    }
}

/// How one side learns that a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// The other side closed it.
    Closed,
    /// It broke: what was under way is lost.
    Reset,
}

/// What arrived for one end of a connection.
#[derive(Debug, Default)]
pub(super) struct Inbox(Mutex<Arrived>);

#[derive(Debug, Default)]
pub(super) struct Arrived {
    pub(super) bytes: VecDeque<u8>,
    pub(super) over: Option<Over>,
    /// Whether nobody reads here any more.
    pub(super) dropped: bool,
    pub(super) reader: Option<Waker>,
}

impl Inbox {
    pub(super) fn lock(&self) -> MutexGuard<'_, Arrived> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what arrived; says whether anybody is there to read it.
    fn put(&self, bytes: &[u8], over: Option<Over>) -> bool {
        let mut arrived = self.lock();
        if arrived.dropped {
            return false;
        }
        arrived.bytes.extend(bytes);
        arrived.over = arrived.over.or(over);
        let reader = arrived.reader.take();
        drop(arrived);
        if let Some(reader) = reader {
            reader.wake();
        }
        true
    }
}

/// A port that is listened at.
#[derive(Default)]
pub(super) struct Port(Mutex<Waiting>);

#[derive(Default)]
pub(super) struct Waiting {
    pub(super) queue: VecDeque<(Stream, SocketAddr)>,
    pub(super) taker: Option<Waker>,
    /// Nothing can be accepted any more.
    pub(super) lost: bool,
}

impl Port {
    pub(super) fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Port({} wait)", self.lock().queue.len())
    }
}

/// Names a connection.
pub(super) type Number = u64;

/// The sides of a connection: who dialled, and who was dialled.
pub(super) const DIALLER: usize = 0;
pub(super) const DIALLED: usize = 1;

/// Something on its way from one host to another.
#[derive(Debug)]
enum Parcel {
    Dial,
    Answer { accepted: bool },
    Bytes { side: usize, bytes: Vec<u8> },
    Over { side: usize, over: Over },
}

#[derive(Debug)]
struct Connection {
    hosts: [Host; 2],
    inboxes: [Arc<Inbox>; 2],
    dialled: Option<oneshot::Sender<bool>>,
}

/// What the network does to one direction between two hosts.
#[derive(Clone, Copy, Debug, Default)]
struct Way {
    /// Nothing arrives; it waits.
    blocked: bool,
    /// Dials are refused though somebody listens.
    refused: bool,
    /// Everything takes this much longer.
    slower: Duration,
}

/// Makes the second end of a connection for whoever listens: number, inbox.
pub(super) type Accept<'a> = &'a dyn Fn(Number, Arc<Inbox>) -> Stream;

/// All connections, and all that is under way.
#[derive(Debug, Default)]
pub(super) struct Wires {
    /// The simulation's time at the start of this round.
    now: Duration,
    next: u64,
    flying: BTreeMap<(Duration, u64), (Number, Host, Host, Parcel)>,
    /// What waits for a way to be free again, in order.
    held: BTreeMap<(Host, Host), Vec<(Number, Parcel)>>,
    ways: BTreeMap<(Host, Host), Way>,
    /// When the last parcel of a direction arrives: nothing overtakes.
    last: BTreeMap<(Host, Host), Duration>,
    ports: BTreeMap<SocketAddr, Arc<Port>>,
    connections: BTreeMap<Number, Connection>,
}

impl Wires {
    /// Holds a port; `None` if it is taken.
    pub(super) fn listen(&mut self, at: SocketAddr) -> Option<Arc<Port>> {
        if self.ports.contains_key(&at) {
            return None;
        }
        let port = Arc::new(Port::default());
        self.ports.insert(at, port.clone());
        Some(port)
    }

    /// Gives a port back. What is returned must be dropped without a lock: connections wait in it.
    pub(super) fn close_port(&mut self, at: SocketAddr) -> Option<Arc<Port>> {
        self.ports.remove(&at)
    }

    /// Lets nothing be accepted at a port any more.
    pub(super) fn lose_port(&mut self, at: SocketAddr) {
        let Some(port) = self.ports.get(&at) else {
            return;
        };
        let mut waiting = port.lock();
        waiting.lost = true;
        if let Some(taker) = waiting.taker.take() {
            taker.wake();
        }
    }

    /// Begins a connection; the receiver learns whether somebody listens there.
    pub(super) fn dial(
        &mut self,
        from: Host,
        to: SocketAddr,
        latency: Duration,
    ) -> Option<(Number, Arc<Inbox>, oneshot::Receiver<bool>)> {
        let to = Host::at(to)?;
        let (dialled, answer) = oneshot::channel();
        self.next += 1;
        let number = self.next;
        let inboxes = [Arc::<Inbox>::default(), Arc::<Inbox>::default()];
        let inbox = inboxes[DIALLER].clone();
        let connection = Connection {
            hosts: [from, to],
            inboxes,
            dialled: Some(dialled),
        };
        self.connections.insert(number, connection);
        self.push(number, from, to, latency, Parcel::Dial);
        Some((number, inbox, answer))
    }

    /// Sends bytes from one side of a connection to the other.
    pub(super) fn send(&mut self, number: Number, from: usize, bytes: &[u8], latency: Duration) {
        let side = 1 - from;
        let bytes = bytes.to_vec();
        self.push_from(number, from, latency, Parcel::Bytes { side, bytes });
    }

    /// Tells the other side that this one ended.
    pub(super) fn end(&mut self, number: Number, from: usize, over: Over, latency: Duration) {
        let side = 1 - from;
        self.push_from(number, from, latency, Parcel::Over { side, over });
    }

    /// Lets everything arrive that is due at `now`.
    pub(super) fn carry(&mut self, now: Duration, latency: Duration, accept: Accept<'_>) {
        self.now = now;
        while let Some(entry) = self.flying.first_entry() {
            if entry.key().0 > now {
                return;
            }
            let (number, from, to, parcel) = entry.remove();
            if self.way(from, to).blocked {
                let held = self.held.entry((from, to)).or_default();
                held.push((number, parcel));
            } else {
                self.arrive(number, parcel, latency, accept);
            }
        }
    }

    /// Lets nothing pass in this direction any more; it is not lost.
    pub(super) fn block(&mut self, from: Host, to: Host) {
        self.ways.entry((from, to)).or_default().blocked = true;
    }

    /// Refuses dials in this direction, as a firewall does; what is connected breaks.
    pub(super) fn refuse(&mut self, from: Host, to: Host, latency: Duration) {
        self.ways.entry((from, to)).or_default().refused = true;
        self.cut(from, to, latency);
    }

    /// Lets everything in this direction take longer.
    pub(super) fn slow(&mut self, from: Host, to: Host, by: Duration) {
        self.ways.entry((from, to)).or_default().slower = by;
    }

    /// Breaks all connections between two hosts, and loses what is under way on them.
    pub(super) fn cut(&mut self, one: Host, other: Host, latency: Duration) {
        let between = |it: &Connection| it.hosts == [one, other] || it.hosts == [other, one];
        let numbers: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, it)| between(it) && it.dialled.is_none())
            .map(|(number, _)| *number)
            .collect();
        self.flying
            .retain(|_, (number, ..)| numbers.binary_search(number).is_err());
        for held in self.held.values_mut() {
            held.retain(|(number, _)| numbers.binary_search(number).is_err());
        }
        for number in numbers {
            for from in [DIALLER, DIALLED] {
                self.end(number, from, Over::Reset, latency);
            }
        }
    }

    /// Makes all ways as they were at the beginning; what waited goes on.
    pub(super) fn heal(&mut self, latency: Duration) {
        self.ways.clear();
        for ((from, to), held) in std::mem::take(&mut self.held) {
            for (number, parcel) in held {
                self.push(number, from, to, latency, parcel);
            }
        }
    }

    /// Says whether nothing is under way.
    pub(super) fn is_quiet(&self) -> bool {
        self.flying.is_empty()
    }

    fn way(&self, from: Host, to: Host) -> Way {
        self.ways.get(&(from, to)).copied().unwrap_or_default()
    }

    fn push_from(&mut self, number: Number, from: usize, latency: Duration, parcel: Parcel) {
        if let Some(connection) = self.connections.get(&number) {
            let (from, to) = (connection.hosts[from], connection.hosts[1 - from]);
            self.push(number, from, to, latency, parcel);
        }
    }

    fn push(&mut self, number: Number, from: Host, to: Host, latency: Duration, parcel: Parcel) {
        let soonest = self.now + latency + self.way(from, to).slower;
        let last = self.last.entry((from, to)).or_default();
        *last = soonest.max(*last);
        self.next += 1;
        self.flying
            .insert((*last, self.next), (number, from, to, parcel));
    }

    fn arrive(&mut self, number: Number, parcel: Parcel, latency: Duration, accept: Accept<'_>) {
        match parcel {
            Parcel::Dial => self.answer_dial(number, latency, accept),
            Parcel::Answer { accepted } => {
                let connection = self.connections.get_mut(&number);
                if let Some(dialled) = connection.and_then(|it| it.dialled.take()) {
                    // Who gave up meanwhile has closed its end.
                    let _ = dialled.send(accepted);
                }
                if !accepted {
                    self.connections.remove(&number);
                }
            }
            Parcel::Bytes { side, bytes } => {
                let Some(connection) = self.connections.get(&number) else {
                    return;
                };
                if !connection.inboxes[side].put(&bytes, None) {
                    self.end(number, side, Over::Reset, latency);
                }
            }
            Parcel::Over { side, over } => {
                let Some(connection) = self.connections.get(&number) else {
                    return;
                };
                if !connection.inboxes[side].put(&[], Some(over)) {
                    self.connections.remove(&number);
                }
            }
        }
    }

    /// The kernel answers a dial, whatever the program behind the port is doing.
    fn answer_dial(&mut self, number: Number, latency: Duration, accept: Accept<'_>) {
        let Some(connection) = self.connections.get(&number) else {
            return;
        };
        let [from, to] = connection.hosts;
        let port = self.ports.get(&to.address());
        let accepted = match port.filter(|_| !self.way(from, to).refused) {
            Some(port) => {
                let stream = accept(number, connection.inboxes[DIALLED].clone());
                let mut waiting = port.lock();
                waiting.queue.push_back((stream, from.address()));
                let taker = waiting.taker.take();
                drop(waiting);
                if let Some(taker) = taker {
                    taker.wake();
                }
                true
            }
            None => false,
        };
        self.push(number, to, from, latency, Parcel::Answer { accepted });
    }
}
