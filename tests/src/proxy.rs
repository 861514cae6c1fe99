//! A TCP proxy on the loopback interface that does to connections what networks do: cut, cut in one
//! direction, delay, swallow, reset.
//!
//! Not for payloads: it knows bytes, except that it can act when certain bytes pass.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

use crate::deadline::Deadline;

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
}

/// What happens when certain bytes go up.
#[derive(Clone, Debug)]
struct Trap {
    bytes: Vec<u8>,
    then: Then,
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    up: watch::Sender<Fate>,
    down: watch::Sender<Fate>,
    /// Counts the ends of everything that is open.
    ends: watch::Sender<(u64, End)>,
    trap: Mutex<Option<Trap>>,
    trapped: watch::Sender<usize>,
}

/// A proxy; dropping it ends its connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
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
            target,
            up: watch::Sender::new(Fate::Pass),
            down: watch::Sender::new(Fate::Pass),
            ends: watch::Sender::new((0, End::Close)),
            trap: Mutex::default(),
            trapped: watch::Sender::new(0),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self {
            address,
            shared,
            task,
        })
    }

    /// Returns where to dial instead of the target.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Decides what becomes of bytes that go this way from now on, in all connections.
    pub fn set(&self, way: Way, fate: Fate) {
        let sender = match way {
            Way::Up => &self.shared.up,
            Way::Down => &self.shared.down,
        };
        sender.send_replace(fate);
    }

    /// Ends all open connections, both ways. New ones may be dialled.
    pub fn end_all(&self, end: End) {
        self.shared.ends.send_modify(|(count, how)| {
            *count += 1;
            *how = end;
        });
    }

    /// When `bytes` next go up in one piece, does `then` to their connection, once.
    pub fn trap(&self, bytes: &[u8], then: Then) {
        let bytes = bytes.to_vec();
        *lock(&self.shared.trap) = Some(Trap { bytes, then });
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
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.end_all(End::Close);
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((near, _)) = listener.accept().await {
        tokio::spawn(carry(near, Arc::clone(&shared)));
    }
}

/// Carries one connection until it ends, or is ended.
async fn carry(near: TcpStream, shared: Arc<Shared>) {
    let mut ends = shared.ends.subscribe();
    ends.mark_unchanged();
    let Ok(far) = TcpStream::connect(shared.target).await else {
        return;
    };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    // Says that no answer goes down any more.
    let muted = watch::Sender::new(false);
    let mut up = tokio::spawn(copy(
        near_read,
        far_write,
        Way::Up,
        muted.clone(),
        shared.clone(),
    ));
    let mut down = tokio::spawn(copy(far_read, near_write, Way::Down, muted, shared));
    let mut halves = [None, None];
    let mut running = 2;
    while running > 0 {
        tokio::select! {
            biased;
            _ = ends.changed() => break,
            ended = &mut up, if halves[0].is_none() => {
                running -= 1;
                halves[0] = Some(ended);
            }
            ended = &mut down, if halves[1].is_none() => {
                running -= 1;
                halves[1] = Some(ended);
            }
        }
        // A trap ends both ways.
        if halves
            .iter()
            .flatten()
            .any(|ended| matches!(ended, Ok(Copied { trapped: true, .. })))
        {
            break;
        }
    }
    let reset = running > 0 && ends.borrow().1 == End::Reset;
    for (task, half) in [up, down].into_iter().zip(halves) {
        let copied = match half {
            Some(copied) => copied.ok(),
            None => {
                task.abort();
                task.await.ok()
            }
        };
        if let (true, Some(copied)) = (reset, copied) {
            reset_on_close(copied.writer.as_ref());
        }
    }
}

/// Makes the end of a socket a reset.
fn reset_on_close(socket: &TcpStream) {
    // Without it the end is an ordinary one, which a test would notice.
    let _ = socket.set_zero_linger();
}

/// How the copying of one way ended.
struct Copied {
    writer: OwnedWriteHalf,
    trapped: bool,
}

async fn copy(
    mut reader: OwnedReadHalf,
    mut writer: OwnedWriteHalf,
    way: Way,
    muted: watch::Sender<bool>,
    shared: Arc<Shared>,
) -> Copied {
    let fates = match way {
        Way::Up => shared.up.subscribe(),
        Way::Down => shared.down.subscribe(),
    };
    let mut piece = vec![0; 64 * 1024];
    let (mut cut, mut frozen) = (false, false);
    while let Ok(count @ 1..) = reader.read(&mut piece).await {
        let bytes = &piece[..count];
        match (way == Way::Up).then(|| sprung(&shared, bytes)).flatten() {
            None => {}
            Some(Then::Freeze) => frozen = true,
            Some(Then::Vanish) => {
                frozen = true;
                muted.send_replace(true);
            }
            Some(then) => {
                if then == Then::CloseAfter {
                    muted.send_replace(true);
                    // The receiver acts on what it read before it sees the end.
                    let _ = writer.write_all(bytes).await;
                    let _ = writer.shutdown().await;
                }
                let trapped = true;
                return Copied { writer, trapped };
            }
        }
        let silent = frozen || way == Way::Down && *muted.borrow();
        let fate = if silent {
            Fate::Swallow
        } else {
            *fates.borrow()
        };
        match fate {
            Fate::Pass => {}
            Fate::Delay(time) => Deadline::after(time).wait().await,
            Fate::Swallow => continue,
            Fate::Cut if cut => continue,
            Fate::Cut => {
                cut = true;
                let _ = writer.shutdown().await;
                continue;
            }
        }
        if writer.write_all(bytes).await.is_err() {
            break;
        }
    }
    let _ = writer.shutdown().await;
    let trapped = false;
    Copied { writer, trapped }
}

/// Takes the trap out if `bytes` spring it; returns what it does.
fn sprung(shared: &Shared, bytes: &[u8]) -> Option<Then> {
    let mut trap = lock(&shared.trap);
    let springs = |trap: &mut Trap| {
        let wanted = &trap.bytes;
        bytes.windows(wanted.len()).any(|window| window == wanted)
    };
    let then = trap.take_if(springs)?.then;
    shared.trapped.send_modify(|count| *count += 1);
    Some(then)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
