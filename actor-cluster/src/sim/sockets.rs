//! The sockets of one part of a simulation, as real links use them.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use actor_core::store::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    machine::PartClock,
    network::{LATENCY_MIN, Part},
    shared::Shared,
    traffic::SimInbound,
    wires::{DIALLED, DIALLER, Host, Inbox, Number, Over, Port},
};
use crate::transport::{
    Inbound,
    socket::{Listener, Sockets, Stream},
};

/// The sockets of one part.
#[derive(Clone, Debug)]
pub(super) struct SimSockets {
    pub(super) shared: Arc<Shared>,
    pub(super) part: Part,
    pub(super) clock: PartClock,
}

impl Sockets for SimSockets {
    fn listen(&self, at: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let port = self.shared.wires().listen(at);
        let listener = port.map(|port| {
            let shared = self.shared.clone();
            Box::new(SimListener { shared, at, port }) as Box<dyn Listener>
        });
        let listener = listener.ok_or_else(|| io::ErrorKind::AddrInUse.into());
        Box::pin(std::future::ready(listener))
    }

    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Stream>> {
        let nowhere = || io::Error::from(io::ErrorKind::HostUnreachable);
        let (shared, host) = (self.shared.clone(), Host::from(self.part));
        let latency = shared.latency();
        let dialled = address
            .parse()
            .ok()
            .and_then(|to| shared.wires().dial(host, to, latency));
        Box::pin(async move {
            let (number, inbox, answer) = dialled.ok_or_else(nowhere)?;
            // Made before it is answered: giving up closes it.
            let socket = Socket {
                shared,
                number,
                side: DIALLER,
                inbox,
            };
            match answer.await {
                Ok(true) => Ok(Box::new(socket) as Stream),
                _ => Err(io::ErrorKind::ConnectionRefused.into()),
            }
        })
    }

    fn inbound(&self, inbound: Arc<dyn Inbound>) -> Arc<dyn Inbound> {
        Arc::new(SimInbound {
            shared: self.shared.clone(),
            part: self.part,
            clock: self.clock,
            inbound,
        })
    }
}

/// A port of a simulated host.
struct SimListener {
    shared: Arc<Shared>,
    at: SocketAddr,
    port: Arc<Port>,
}

impl Listener for SimListener {
    fn address(&self) -> io::Result<SocketAddr> {
        Ok(self.at)
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Stream, SocketAddr)>> {
        Box::pin(std::future::poll_fn(|cx| {
            let mut waiting = self.port.lock();
            if waiting.lost {
                return Poll::Ready(Err(io::ErrorKind::NetworkDown.into()));
            }
            if let Some(arrival) = waiting.queue.pop_front() {
                return Poll::Ready(Ok(arrival));
            }
            waiting.taker = Some(cx.waker().clone());
            Poll::Pending
        }))
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        let closed = self.shared.wires().close_port(self.at);
        // Connections that were not taken close, each under the lock of its own.
        drop(closed);
        let left = std::mem::take(&mut self.port.lock().queue);
        drop(left);
    }
}

impl fmt::Debug for SimListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimListener({})", self.at)
    }
}

/// One end of a simulated connection.
struct Socket {
    shared: Arc<Shared>,
    number: Number,
    side: usize,
    inbox: Arc<Inbox>,
}

/// Makes the end of whoever was dialled.
pub(super) fn dialled(shared: &Arc<Shared>, number: Number, inbox: Arc<Inbox>) -> Stream {
    Box::new(Socket {
        shared: shared.clone(),
        number,
        side: DIALLED,
        inbox,
    })
}

impl Socket {
    fn end(&self, over: Over) {
        // No draw: whatever is dropped together is dropped in whatever order.
        let mut wires = self.shared.wires();
        wires.end(self.number, self.side, over, LATENCY_MIN);
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut arrived = self.inbox.lock();
        if arrived.over == Some(Over::Reset) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if arrived.bytes.is_empty() && arrived.over.is_none() {
            arrived.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        while buffer.remaining() > 0 && !arrived.bytes.is_empty() {
            let (front, _) = arrived.bytes.as_slices();
            let taken = front.len().min(buffer.remaining());
            buffer.put_slice(&front[..taken]);
            arrived.bytes.drain(..taken);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.inbox.lock().over == Some(Over::Reset) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let latency = self.shared.latency();
        self.shared
            .wires()
            .send(self.number, self.side, bytes, latency);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end(Over::Closed);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.inbox.lock().dropped = true;
        self.end(Over::Closed);
    }
}
