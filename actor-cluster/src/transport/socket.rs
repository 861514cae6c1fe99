//! Where the connections of links come from: TCP, or the wires of a simulation.
//!
//! Not here: who may connect (`handshake`) and what is said (`wire`).

use std::{fmt, io, net::SocketAddr, sync::Arc};

use actor_core::store::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};

use super::Inbound;

/// A connection's bytes.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// One end of a connection.
pub(crate) type Stream = Box<dyn Io>;

/// Opens and takes connections.
pub(crate) trait Sockets: fmt::Debug + Send + Sync {
    /// Takes a port; port 0 stands for any that is free.
    fn listen(&self, at: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>>;

    /// Opens a connection to `HOST:PORT`. Dropping the future gives it up.
    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Stream>>;

    /// Returns what requests and notes go to: a simulation may stand between.
    fn inbound(&self, inbound: Arc<dyn Inbound>) -> Arc<dyn Inbound> {
        inbound
    }
}

/// A port that is held.
pub(crate) trait Listener: fmt::Debug + Send + Sync {
    /// Returns the address it is reached at.
    fn address(&self) -> io::Result<SocketAddr>;

    /// Waits for the next connection. Cancel safe: a connection that arrived stays there.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Stream, SocketAddr)>>;
}

/// The sockets of the machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tcp;

impl Sockets for Tcp {
    fn listen(&self, at: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = TcpListener::bind(at).await?;
            Ok(Box::new(listener) as Box<dyn Listener>)
        })
    }

    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Stream>> {
        let address = address.to_owned();
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Stream)
        })
    }
}

impl Listener for TcpListener {
    fn address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Stream, SocketAddr)>> {
        Box::pin(async move {
            let (stream, from) = TcpListener::accept(self).await?;
            // A connection that is gone already shows when it is read.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%from, %error, "an arrival left");
            }
            Ok((Box::new(stream) as Stream, from))
        })
    }
}
