//! A program's HTTP server: bounded connections, and an end in order.
//!
//! On SIGTERM or SIGINT: not ready any more, no new connections, requests in flight end, sockets
//! close with 1012, the node drains and leaves. A second Ctrl-C ends the process at once.

mod connection;
mod dress;
mod signals;

use std::{fmt, io, net::SocketAddr, time::Duration};

use actor_cluster::{
    Node,
    node::{Phase, Settings},
};
use actor_core::clock::{Clock, Instant};
use axum::Router;
use tokio::{net::TcpListener, select};

pub(crate) use self::connection::Connections;
use crate::{drain::Drain, metrics};

/// The part of the drain time-out that is left for the node after requests and sockets had theirs.
const NODE_SHARE: f64 = 0.5;

/// How a program is served. Each bound says what happens when it is reached.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServeConfig {
    /// Where to listen; port 0 takes any free one.
    pub listen: SocketAddr,
    /// How long the end may take in all; what still runs then is cut off. Default 25 s.
    pub drain_timeout: Duration,
    /// Open connections; more wait in the system's queue. Default 10 000.
    pub connections_max: usize,
    /// How long a request's head may take to arrive; then the connection closes. Default 10 s.
    pub header_read_timeout: Duration,
    /// Headers of a request; more are 431. Default 100.
    pub headers_max: usize,
    /// Bytes of a request's head; more are 431. Default 64 KiB.
    pub header_bytes_max: usize,
    /// Bytes of a body, where a route says nothing else; more are 413. Default 1 MiB.
    pub body_bytes_max: usize,
    /// How long a response may take to begin; then 504. Default 330 s: the longest call and some.
    pub request_timeout: Duration,
}

impl ServeConfig {
    /// Returns the defaults for this address.
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            drain_timeout: Duration::from_secs(25),
            connections_max: 10_000,
            header_read_timeout: Duration::from_secs(10),
            headers_max: 100,
            header_bytes_max: 64 * 1024,
            body_bytes_max: 1024 * 1024,
            request_timeout: Duration::from_secs(330),
        }
    }

    /// Returns what a node's settings say.
    pub fn of(settings: &Settings) -> Self {
        Self {
            drain_timeout: settings.drain_timeout,
            ..Self::new(settings.http_listen)
        }
    }
}

/// Why serving ended early, in one line.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServeError {
    /// The address cannot be listened on.
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The node lost its lease: its program should end and start again.
    NodeLost(Phase),
}

impl ServeError {
    /// Returns the code a program should end with: 2 when the way it was started is wrong.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Listen { .. } => 2,
            Self::NodeLost(_) => 1,
        }
    }
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen { address, source } => write!(
                f,
                "ACTOR_HTTP_LISTEN is {address}: cannot listen there ({source}); \
                 choose a free port, or port 0 for any"
            ),
            Self::NodeLost(phase) => write!(f, "the node serves nothing any more: {phase:?}"),
        }
    }
}

impl std::error::Error for ServeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Listen { source, .. } => Some(source),
            Self::NodeLost(_) => None,
        }
    }
}

/// Serves `app` until a signal, an admin's drain or the node's loss, and stops the node.
///
/// Prints the dashboard's address as `dashboard: http://…/admin`.
///
/// # Errors
/// When the address is taken or the node lost its lease. The node is stopped in both cases.
pub async fn serve(node: Node, app: Router) -> Result<(), ServeError> {
    let config = ServeConfig::of(node.settings());
    let server = match Server::bind(config, app).await {
        Ok(server) => server,
        Err(error) => {
            node.shutdown().await;
            return Err(error);
        }
    };
    print_address(server.address());
    let drain = server.drain();
    let stop = async {
        // The end of any arm ends the server: none is begun again.
        select! {
            biased;
            phase = node.ended() => Err(ServeError::NodeLost(phase)),
            () = drain.begun() => Ok(()),
            signal = signals::first() => {
                tracing::info!(signal, "stopping");
                Ok(())
            }
        }
    };
    let upkeep = tokio::spawn(metrics::keep_up());
    let (stopped, deadline) = server.run(stop).await;
    let leaving = node.shutdown();
    select! {
        biased;
        stopped = leaving => tracing::debug!(?stopped, "the node left"),
        // The process ends after this: what is cut off here is what a crash would cut off.
        () = Clock.sleep_until(deadline) => tracing::warn!("the drain timed out"),
    }
    upkeep.abort();
    stopped
}

/// Serves like [`serve`]; prints why it cannot and ends the program.
pub async fn serve_or_exit(node: Node, app: Router) {
    if let Err(error) = serve(node, app).await {
        eprintln!("{error}");
        std::process::exit(error.exit_code());
    }
}

/// Says where the dashboard is; an address that means "all" is not one a browser can open.
fn print_address(mut address: SocketAddr) {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    println!("dashboard: http://{address}/admin");
}

/// A server that listens but does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    app: Router,
    config: ServeConfig,
    drain: Drain,
}

impl Server {
    /// Listens.
    ///
    /// # Errors
    /// When the address is taken or not this machine's.
    pub async fn bind(config: ServeConfig, app: Router) -> Result<Self, ServeError> {
        let refused = |source| ServeError::Listen {
            address: config.listen,
            source,
        };
        let listener = TcpListener::bind(config.listen).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let app = dress::dress(app, &config);
        Ok(Self {
            listener,
            address,
            app,
            config,
            drain: Drain::default(),
        })
    }

    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns what its sockets watch; beginning it stops the server.
    pub fn drain(&self) -> Drain {
        self.drain.clone()
    }

    /// Answers until `stop` ends; then lets requests and sockets end.
    ///
    /// Returns what `stop` returned, and when the whole program's drain time-out is over. Requests
    /// and sockets get half of it; the rest is the node's.
    pub async fn run<T>(self, stop: impl Future<Output = T>) -> (T, Instant) {
        let Self {
            listener,
            app,
            config,
            drain,
            ..
        } = self;
        let (drain_timeout, mut connections) = (
            config.drain_timeout,
            Connections::new(app, &config, drain.clone()),
        );
        let stopped = select! {
            biased;
            stopped = stop => stopped,
            never = connections.accept(&listener) => match never {},
        };
        let now = Clock.now();
        drain.begin();
        drop(listener);
        let ends = now + drain_timeout.mul_f64(1.0 - NODE_SHARE);
        select! {
            biased;
            () = connections.ended() => {}
            () = Clock.sleep_until(ends) => {
                tracing::warn!(sockets = drain.residents(), "requests or sockets were cut off");
            }
        }
        (stopped, now + drain_timeout)
    }
}
