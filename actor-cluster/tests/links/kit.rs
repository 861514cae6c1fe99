//! Nodes that are nothing but links, a handler that records, and waits for events.

use std::{
    future::pending,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use actor_cluster::{
    node::Secret,
    transport::{
        Answer, Call, Inbound, LinkConfig, LinkEvent, Links, Note, Peer, PeerId, Request,
        Transport, Unanswered,
    },
};
use actor_core::{
    client::Invocation,
    clock::{Clock, Instant, Rng},
    codec::Codec,
    entity::Encoded,
    id::{Incarnation, NodeId},
    store::BoxFuture,
};
use tokio::sync::{Notify, Semaphore, broadcast};

/// Ends a test that hangs.
const LIMIT: Duration = Duration::from_secs(30);

/// Waits for `work`; fails the test if that takes for ever.
pub(crate) async fn soon<F: Future>(what: &str, work: F) -> F::Output {
    tokio::select! {
        biased;
        output = work => output,
        () = Clock.sleep(LIMIT) => panic!("{what}: not in time"),
    }
}

/// Bounds for tests: a silent peer is noticed soon, and dials follow each other quickly.
pub(crate) fn config() -> LinkConfig {
    let mut config = LinkConfig::new(Secret::new("the tests' shared secret"));
    config.backoff_max = Duration::from_millis(200);
    config
}

/// Answers by method: `echo`, `never`, `gated` once the test opens the gate, `panic`.
#[derive(Debug)]
pub(crate) struct Handler {
    /// The arguments of requests in the order they began.
    pub(crate) begun: Mutex<Vec<Vec<u8>>>,
    pub(crate) notes: Mutex<Vec<Note>>,
    count: AtomicUsize,
    changed: Notify,
    pub(crate) gate: Arc<Semaphore>,
}

impl Inbound for Handler {
    fn request(&self, _: &PeerId, request: Request, _: Duration) -> BoxFuture<'static, Answer> {
        let Request::Invoke(Call { invocation, .. }) = request else {
            panic!("the tests send calls");
        };
        self.begun
            .lock()
            .expect("no test panics under it")
            .push(invocation.args.clone());
        self.count.fetch_add(1, Ordering::Release);
        self.changed.notify_waiters();
        let gate = self.gate.clone();
        Box::pin(async move {
            match &*invocation.method {
                "echo" => {}
                "gated" => gate.acquire().await.expect("the gate stays").forget(),
                "panic" => panic!("on purpose"),
                _ => pending().await,
            }
            Answer::Outcome(Encoded {
                ok: true,
                bytes: invocation.args,
            })
        })
    }

    fn note(&self, _: &PeerId, note: Note) {
        self.notes
            .lock()
            .expect("no test panics under it")
            .push(note);
        self.changed.notify_waiters();
    }
}

impl Handler {
    /// Waits until `count` requests have begun.
    pub(crate) async fn reached(&self, count: usize) {
        soon("requests begin", self.until(|it| it.begun() >= count)).await;
    }

    pub(crate) fn begun(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    pub(crate) async fn until(&self, is: impl Fn(&Self) -> bool) {
        loop {
            // Made before the look, so that no change in between is missed.
            let changed = self.changed.notified();
            if is(self) {
                return;
            }
            changed.await;
        }
    }
}

/// One life of a node.
pub(crate) struct TestNode {
    pub(crate) links: Links,
    pub(crate) handler: Arc<Handler>,
    pub(crate) id: PeerId,
    events: broadcast::Receiver<LinkEvent>,
}

/// Starts a node on a free port.
pub(crate) async fn node(name: &str) -> TestNode {
    TestNode::start(
        name,
        1,
        "127.0.0.1:0".parse().expect("an address"),
        config(),
    )
    .await
}

/// Starts a node with other bounds.
pub(crate) async fn node_with(name: &str, change: impl FnOnce(&mut LinkConfig)) -> TestNode {
    let mut config = config();
    change(&mut config);
    TestNode::start(name, 1, "127.0.0.1:0".parse().expect("an address"), config).await
}

impl TestNode {
    pub(crate) async fn start(
        name: &str,
        incarnation: u64,
        listen: SocketAddr,
        config: LinkConfig,
    ) -> Self {
        let links = Links::bind(config, NodeId::new(name), listen, Rng::seeded(1))
            .await
            .expect("the node starts");
        let handler = Arc::new(Handler {
            begun: Mutex::default(),
            notes: Mutex::default(),
            count: AtomicUsize::new(0),
            changed: Notify::new(),
            gate: Arc::new(Semaphore::new(0)),
        });
        let events = links.events();
        links.open(Incarnation(incarnation), handler.clone());
        Self {
            links,
            handler,
            id: PeerId::new(name, incarnation),
            events,
        }
    }

    /// Returns how others reach it.
    pub(crate) fn peer(&self) -> Peer {
        self.peer_at(self.links.local_address())
    }

    /// Returns how others reach it by way of another address.
    pub(crate) fn peer_at(&self, address: SocketAddr) -> Peer {
        Peer {
            id: self.id.clone(),
            address: address.to_string().into(),
        }
    }

    /// Waits for the first event, from here on, of which `pick` returns something.
    pub(crate) async fn event<T>(
        &mut self,
        what: &str,
        pick: impl Fn(&LinkEvent) -> Option<T>,
    ) -> T {
        let search = async {
            loop {
                let event = self.events.recv().await.expect("events go on");
                if let Some(found) = pick(&event) {
                    return found;
                }
            }
        };
        soon(what, search).await
    }

    /// Links up with `peer`.
    pub(crate) async fn link(&mut self, peer: Peer) {
        let id = peer.id.clone();
        self.links.connect(peer);
        self.up(&id).await;
    }

    /// Waits until the link to `id` is up.
    pub(crate) async fn up(&mut self, id: &PeerId) {
        let is_up =
            |event: &LinkEvent| matches!(event, LinkEvent::Up(up) if up == id).then_some(());
        self.event("the link is up", is_up).await;
    }

    /// Sends a request at once; the future is its answer.
    pub(crate) fn ask(
        &self,
        to: &PeerId,
        method: &str,
        args: &[u8],
    ) -> BoxFuture<'static, Result<Answer, Unanswered>> {
        self.ask_by(to, method, args, Clock.now() + LIMIT)
    }

    pub(crate) fn ask_by(
        &self,
        to: &PeerId,
        method: &str,
        args: &[u8],
        deadline: Instant,
    ) -> BoxFuture<'static, Result<Answer, Unanswered>> {
        let invocation = Invocation::new("cart", "c-1", method);
        let call = Call {
            invocation: invocation.args(Codec::Json, args.to_vec()),
            epoch: None,
            request: None,
            chain: Arc::default(),
        };
        self.links.ask(to, &Request::Invoke(call), deadline)
    }

    /// Shows that requests to `to` are answered.
    pub(crate) async fn echoes(&self, to: &PeerId) {
        let answer = soon("an echo", self.ask(to, "echo", b"hello")).await;
        assert_eq!(answer, Ok(outcome(b"hello")));
    }
}

/// Returns the answer of a handler that returned these bytes.
pub(crate) fn outcome(bytes: &[u8]) -> Answer {
    Answer::Outcome(Encoded {
        ok: true,
        bytes: bytes.to_vec(),
    })
}
