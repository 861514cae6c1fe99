//! A TCP proxy on the loopback interface that does to connections what networks do: cut, cut in one
//! direction, delay, hold, swallow, reset, refuse.
//!
//! Not for payloads: it knows bytes, except that it can act when certain bytes pass, and tell
//! connections apart by what they said first, such as the name that each of a node's connections
//! tells the database.

mod carry;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From who dialled to who listens.
    Up,
    /// Back.
    Down,
}

/// What becomes of bytes that go one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// They arrive.
    #[default]
    Pass,
    /// They arrive later.
    Delay(Duration),
    /// They arrive when this is no more their fate.
    Hold,
    /// They are taken and never arrive; nobody is told.
    Swallow,
    /// They are taken, and the receiver is told that there will be no more.
    Cut,
}

/// How connections end that are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// In order, as when a program exits.
    Close,
    /// With a reset, as when a machine is gone and back.
    Reset,
}

/// What a trap does to the connection that springs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Closes it both ways; the bytes do not arrive.
    CloseBefore,
    /// Closes it both ways once the bytes have arrived; no answer comes back.
    CloseAfter,
    /// Swallows the bytes and all that follow them, as if their sender were frozen.
    Freeze,
    /// The same both ways, as if the network between them were gone.
    Vanish,
    /// Keeps the bytes, and all that follow them, until [`Proxy::release`].
    Hold,
    /// Lets half of the bytes arrive and resets the connection.
    CutInside,
}

/// What happens when certain bytes go up.
#[derive(Clone, Debug)]
struct Trap {
    /// What a connection must have said first.
    of: Vec<u8>,
    bytes: Vec<u8>,
    then: Then,
}

/// What becomes of bytes now.
#[derive(Debug, Default)]
struct Fates {
    up: Fate,
    down: Fate,
    /// Of connections that said this first; of several, the last one counts.
    of: Vec<(Vec<u8>, Fate)>,
}

#[derive(Debug)]
struct Shared {
    target: Mutex<SocketAddr>,
    fates: watch::Sender<Fates>,
    /// Counts the ends of everything that is open.
    ends: watch::Sender<(u64, End)>,
    trap: Mutex<Option<Trap>>,
    trapped: watch::Sender<usize>,
    /// Counts how often held bytes were let go.
    released: watch::Sender<u64>,
    open: AtomicUsize,
}

/// A proxy; dropping it ends its connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Holds the listener.
    door: Mutex<Option<JoinHandle<()>>>,
}

impl Proxy {
    /// Starts a proxy to `target` on a free port.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            target: Mutex::new(target),
            fates: watch::Sender::default(),
            ends: watch::Sender::new((0, End::Close)),
            trap: Mutex::default(),
            trapped: watch::Sender::new(0),
            released: watch::Sender::new(0),
            open: AtomicUsize::new(0),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self {
            address,
            shared,
            door: Mutex::new(Some(task)),
        })
    }

    /// Returns where to dial instead of the target.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Leads new connections to another target.
    pub fn aim(&self, target: SocketAddr) {
        *lock(&self.shared.target) = target;
    }

    /// Decides what becomes of bytes that go this way from now on, in all connections.
    pub fn set(&self, way: Way, fate: Fate) {
        self.shared.fates.send_modify(|fates| match way {
            Way::Up => fates.up = fate,
            Way::Down => fates.down = fate,
        });
    }

    /// Decides what becomes of bytes that go either way.
    pub fn set_both(&self, fate: Fate) {
        self.set(Way::Up, fate);
        self.set(Way::Down, fate);
    }

    /// Decides what becomes of all bytes of connections whose first bytes contain `said`, whatever
    /// becomes of others.
    pub fn set_of(&self, said: &[u8], fate: Fate) {
        let said = said.to_vec();
        self.shared
            .fates
            .send_modify(|fates| fates.of.push((said, fate)));
    }

    /// Lets everything pass again, in all connections.
    pub fn heal(&self) {
        self.shared.fates.send_replace(Fates::default());
    }

    /// Ends all open connections, both ways, and returns how many there were. New ones may be
    /// dialled.
    pub fn end_all(&self, end: End) -> usize {
        let open = self.shared.open.load(Ordering::SeqCst);
        self.shared.ends.send_modify(|(count, how)| {
            *count += 1;
            *how = end;
        });
        open
    }

    /// Refuses new connections, as a port at which nobody listens.
    pub async fn close_door(&self) {
        let door = lock(&self.door).take();
        if let Some(door) = door {
            door.abort();
            // The listener is gone when its task is.
            drop(door.await);
        }
    }

    /// Takes new connections again.
    ///
    /// # Errors
    /// When somebody else has the port now.
    pub async fn open_door(&self) -> io::Result<()> {
        self.close_door().await;
        let listener = TcpListener::bind(self.address).await?;
        let task = tokio::spawn(accept(listener, Arc::clone(&self.shared)));
        *lock(&self.door) = Some(task);
        Ok(())
    }

    /// When `bytes` next go up in one piece, does `then` to their connection, once. Without bytes,
    /// when anything next goes up.
    pub fn trap(&self, bytes: &[u8], then: Then) {
        self.trap_of(b"", bytes, then);
    }

    /// The same, in connections whose first bytes contain `said`.
    pub fn trap_of(&self, said: &[u8], bytes: &[u8], then: Then) {
        let (of, bytes) = (said.to_vec(), bytes.to_vec());
        *lock(&self.shared.trap) = Some(Trap { of, bytes, then });
    }

    /// Waits until traps have been sprung `count` times.
    ///
    /// # Panics
    /// Never: the sender lives as long as the proxy.
    pub async fn sprung(&self, count: usize) {
        let mut trapped = self.shared.trapped.subscribe();
        let enough = trapped.wait_for(|so_far| *so_far >= count).await;
        enough.expect("the proxy lives");
    }

    /// Lets go of what traps hold.
    pub fn release(&self) {
        self.shared.released.send_modify(|count| *count += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.end_all(End::Close);
        if let Some(door) = lock(&self.door).take() {
            door.abort();
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((near, _)) = listener.accept().await {
        tokio::spawn(carry::carry(near, Arc::clone(&shared)));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };

    use super::*;

    /// A proxy, and both ends of one connection by way of it, which has said hello.
    async fn connected() -> (Proxy, TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap()).await.unwrap();
        let mut near = TcpStream::connect(proxy.address()).await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        near.write_all(b"hello").await.unwrap();
        let mut hello = [0; 5];
        far.read_exact(&mut hello).await.unwrap();
        (proxy, near, far)
    }

    #[tokio::test]
    async fn a_reset_is_told_as_one_on_both_sides() {
        let (proxy, mut near, mut far) = connected().await;

        assert_eq!(proxy.end_all(End::Reset), 1);

        for side in [&mut near, &mut far] {
            let error = side.read(&mut [0; 8]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        }
    }

    #[tokio::test]
    async fn held_bytes_arrive_in_order_once_they_are_let_go() {
        let (proxy, mut near, mut far) = connected().await;
        proxy.trap_of(b"hello", b"two", Then::Hold);

        near.write_all(b"two").await.unwrap();
        proxy.sprung(1).await;
        near.write_all(b"three").await.unwrap();
        proxy.set_of(b"hello", Fate::Hold);
        proxy.release();
        proxy.heal();

        let mut all = [0; 8];
        far.read_exact(&mut all).await.unwrap();
        assert_eq!(&all, b"twothree");
    }

    #[tokio::test]
    async fn only_connections_that_said_so_share_a_fate() {
        let (proxy, mut near, mut far) = connected().await;
        proxy.set_of(b"somebody else", Fate::Swallow);

        near.write_all(b"passes").await.unwrap();
        far.read_exact(&mut [0; 6]).await.unwrap();
        proxy.set_of(b"ello", Fate::Cut);
        near.write_all(b"lost").await.unwrap();

        assert_eq!(far.read(&mut [0; 8]).await.unwrap(), 0, "told the end");
    }

    #[tokio::test]
    async fn a_closed_door_refuses_and_an_open_one_leads_to_the_new_target() {
        let (proxy, _near, _far) = connected().await;

        proxy.close_door().await;
        let refused = TcpStream::connect(proxy.address()).await.unwrap_err();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        proxy.aim(listener.local_addr().unwrap());
        proxy.open_door().await.unwrap();
        let _near = TcpStream::connect(proxy.address()).await.unwrap();

        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert!(listener.accept().await.is_ok());
    }

    #[tokio::test]
    async fn a_cut_inside_lets_half_of_a_piece_arrive() {
        let (proxy, mut near, mut far) = connected().await;
        proxy.trap(b"", Then::CutInside);

        near.write_all(b"12345678").await.unwrap();

        let mut half = [0; 4];
        far.read_exact(&mut half).await.unwrap();
        assert_eq!(&half, b"1234");
        let error = far.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}
