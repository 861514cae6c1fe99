//! A connection that can be cut, slowed to nothing, or watched: what networks do to links.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
    task::JoinHandle,
};

/// Forwards connections to a node.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    listening: JoinHandle<()>,
}

struct State {
    /// Counts the cuts; every connection ends at each.
    cuts: watch::Sender<u64>,
    /// Bytes the dialler may still send.
    budget: AtomicU64,
    /// Whether what the acceptor sends is swallowed.
    mute: AtomicBool,
    /// What somebody on the way slips in between.
    injected: Mutex<Vec<u8>>,
    inject: Notify,
}

impl Proxy {
    pub(crate) async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State {
            cuts: watch::Sender::new(0),
            budget: AtomicU64::new(u64::MAX),
            mute: AtomicBool::new(false),
            injected: Mutex::default(),
            inject: Notify::new(),
        });
        let shared = state.clone();
        let listening = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((arrived, _)) = listener.accept().await {
                if let Ok(onward) = TcpStream::connect(target).await {
                    connections.spawn(forward(shared.clone(), arrived, onward));
                }
            }
        });
        Self {
            address,
            state,
            listening,
        }
    }

    /// Cuts every connection.
    pub(crate) fn cut(&self) {
        self.state.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Lets the dialler send this many bytes more, then cuts the connection.
    pub(crate) fn cut_after(&self, bytes: u64) {
        self.state.budget.store(bytes, Ordering::Relaxed);
    }

    /// Lets connections live as long as they want again.
    pub(crate) fn heal(&self) {
        self.state.budget.store(u64::MAX, Ordering::Relaxed);
        self.state.mute.store(false, Ordering::Relaxed);
    }

    /// Sends bytes to the acceptor that the dialler did not send.
    pub(crate) fn inject(&self, bytes: &[u8]) {
        self.state
            .injected
            .lock()
            .expect("no test panics under it")
            .extend_from_slice(bytes);
        self.state.inject.notify_one();
    }

    /// Swallows what the acceptor sends.
    pub(crate) fn mute(&self) {
        self.state.mute.store(true, Ordering::Relaxed);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn forward(state: Arc<State>, arrived: TcpStream, onward: TcpStream) {
    let (from_dialler, to_dialler) = arrived.into_split();
    let (from_acceptor, to_acceptor) = onward.into_split();
    let mut cuts = state.cuts.subscribe();
    tokio::select! {
        _ = cuts.changed() => {}
        () = requests(&state, from_dialler, to_acceptor) => {}
        () = answers(&state, from_acceptor, to_dialler) => {}
    }
}

async fn requests(
    state: &State,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) {
    let mut bytes = vec![0; 4096];
    loop {
        let read = tokio::select! {
            () = state.inject.notified() => {
                let injected = state.injected.lock().expect("no test panics under it").split_off(0);
                to.write_all(&injected).await.expect("the node reads");
                continue;
            }
            read = from.read(&mut bytes) => match read {
                Ok(read @ 1..) => read,
                _ => return,
            },
        };
        let budget = state.budget.load(Ordering::Relaxed);
        let allowed = budget.min(read as u64);
        if budget != u64::MAX {
            state.budget.fetch_sub(allowed, Ordering::Relaxed);
        }
        if to.write_all(&bytes[..allowed as usize]).await.is_err() || allowed < read as u64 {
            return;
        }
    }
}

async fn answers(state: &State, mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    let mut bytes = vec![0; 4096];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        if state.mute.load(Ordering::Relaxed) {
            continue;
        }
        if to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}
