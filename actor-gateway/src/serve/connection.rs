//! Connections: accepted within a bound, served, and let go in order.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use actor_core::clock::Clock;
use axum::{Router, body::Body, extract::ConnectInfo, http::Request, response::Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    select,
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};
use tower::ServiceExt;

use super::ServeConfig;
use crate::drain::Drain;

/// The pause after the system could not give a connection, as when it is out of files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bytes a connection may hold in each direction before it waits for the other side.
const BUFFER: usize = 128 * 1024;

/// The connections of one server.
pub(crate) struct Connections {
    app: Router,
    builder: http1::Builder,
    permits: Arc<Semaphore>,
    drain: Drain,
    tasks: JoinSet<()>,
}

impl Connections {
    pub(super) fn new(app: Router, config: &ServeConfig, drain: Drain) -> Self {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(config.header_read_timeout)
            .max_headers(config.headers_max)
            .max_header_size(config.header_bytes_max)
            // Of each connection, for what it reads and what it writes; 8 KiB is hyper's least.
            .max_buf_size(BUFFER.max(config.header_bytes_max));
        let most = config.connections_max.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            app,
            builder,
            permits: Arc::new(Semaphore::new(most)),
            drain,
            tasks: JoinSet::new(),
        }
    }

    /// Accepts connections until it is dropped.
    ///
    /// # Cancel safety
    /// A connection that was accepted is served.
    pub(super) async fn accept(&mut self, listener: &TcpListener) -> Infallible {
        loop {
            let permit = self.permits.clone().acquire_owned().await;
            let permit = permit.expect("the semaphore is never closed");
            match listener.accept().await {
                Ok((stream, peer)) => self.serve(stream, peer, permit),
                Err(error) if is_peers(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    Clock.sleep(ACCEPT_PAUSE).await;
                }
            }
            while self.tasks.try_join_next().is_some() {}
        }
    }

    fn serve(&mut self, stream: TcpStream, peer: SocketAddr, permit: OwnedSemaphorePermit) {
        // Answers are small and whole: waiting to fill a packet only delays them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a socket takes no options");
        }
        let (app, drain) = (self.app.clone(), self.drain.clone());
        let service = service_fn({
            let drain = drain.clone();
            move |request| answer(app.clone(), drain.clone(), peer, request)
        });
        let serving = self.builder.serve_connection(TokioIo::new(stream), service);
        let serving = serving.with_upgrades();
        self.tasks.spawn(async move {
            let mut serving = std::pin::pin!(serving);
            let served = select! {
                biased;
                served = serving.as_mut() => served,
                () = drain.begun() => {
                    serving.as_mut().graceful_shutdown();
                    serving.await
                }
            };
            if let Err(error) = served {
                tracing::debug!(%peer, %error, "a connection ended early");
            }
            drop(permit);
        });
    }

    /// Waits until all connections, sockets and streams have ended.
    pub(super) async fn ended(&mut self) {
        while self.tasks.join_next().await.is_some() {}
        self.drain.empty().await;
    }
}

async fn answer(
    app: Router,
    drain: Drain,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response, Infallible> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(peer));
    request.extensions_mut().insert(drain);
    app.oneshot(request).await
}

/// Says whether an error of `accept` is about one peer that went away, not about us.
fn is_peers(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}
