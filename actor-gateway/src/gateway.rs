//! What of a node the outside can reach, within which bounds, and who decides.
//!
//! Not here: the routes themselves (`entities.rs`, `sagas.rs`, `topics.rs`, `session.rs`).

mod guard;
mod limits;
mod shared;

use std::{collections::BTreeMap, fmt, sync::Arc};

use actor_cluster::Node;
use actor_core::{Client, Event};
use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware,
    routing::{get, post},
};

pub use guard::{Guard, Operation, Visitor};
pub use limits::Limits;
pub(crate) use shared::{Family, Shared, shown};

use crate::{dashboard, drain::Drain, entities, health, metrics, request, sagas, session, topics};

/// What the outside may do with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicAccess {
    /// Listen.
    Listen,
    /// Listen and publish. What outsiders publish reaches listeners, never `#[on]` handlers.
    Publish,
}

/// Builds the routes that make a node reachable.
///
/// Entities and workflows are reachable if their attribute says `expose`, topics if they are named
/// here. A [`Guard`] sees every such request first; health probes and metrics answer everybody, the
/// dashboard has its own rule (`ACTOR_ADMIN_TOKEN`, or loopback only).
///
/// ```
/// # fn routes(client: actor_core::Client) -> axum::Router {
/// use actor_gateway::{Gateway, TopicAccess};
///
/// Gateway::new(client)
///     .topic("orders", TopicAccess::Listen)
///     .router()
/// # }
/// ```
pub struct Gateway {
    client: Client,
    node: Option<Node>,
    guard: Arc<dyn Guard>,
    limits: Limits,
    topics: BTreeMap<String, TopicAccess>,
    admin_token: Option<String>,
    drain: Drain,
}

impl Gateway {
    /// Starts with nobody kept out, no topic open and no admin token.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            node: None,
            guard: Arc::new(guard::Everybody),
            limits: Limits::default(),
            topics: BTreeMap::new(),
            admin_token: None,
            drain: Drain::default(),
        }
    }

    /// Starts with a node's client and its `ACTOR_ADMIN_TOKEN`; the dashboard shows its links too.
    pub fn of(node: &Node) -> Self {
        let token = node.settings().admin_token.as_ref();
        let token = token.map(|token| token.expose().to_owned());
        Self {
            node: Some(node.clone()),
            ..Self::new(node.client()).admin_token(token)
        }
    }

    /// Sets who decides about each request.
    #[must_use]
    pub fn guard(mut self, guard: impl Guard) -> Self {
        self.guard = Arc::new(guard);
        self
    }

    /// Sets the bounds.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Opens a topic.
    #[must_use]
    pub fn topic(mut self, name: impl Into<String>, access: TopicAccess) -> Self {
        self.topics.insert(name.into(), access);
        self
    }

    /// Opens the topic of an event type.
    #[must_use]
    pub fn topic_of<E: Event>(self, access: TopicAccess) -> Self {
        self.topic(E::TOPIC, access)
    }

    /// Sets the bearer token of the dashboard's JSON; without one it answers on loopback only.
    #[must_use]
    pub fn admin_token(mut self, token: Option<String>) -> Self {
        self.admin_token = token.filter(|token| !token.is_empty());
        self
    }

    /// Sets the drain that sockets watch where no server brings its own, as in tests.
    #[must_use]
    pub fn drain(mut self, drain: Drain) -> Self {
        self.drain = drain;
        self
    }

    /// Returns the routes; merge them into the program's own.
    pub fn router(self) -> Router {
        let shared = Arc::new(Shared::new(self));
        let admitted = middleware::from_fn_with_state(shared.clone(), request::admit);
        let saga = post(sagas::start).get(sagas::result);
        let reachable = Router::new()
            .route("/entities/{kind}/{id}/{method}", post(entities::call))
            .route("/sagas/{kind}/{id}", saga)
            .route("/sagas/{kind}/{id}/signals/{name}", post(sagas::signal))
            .route("/sagas/{kind}/{id}/cancel", post(sagas::cancel))
            .route("/sagas/{kind}/{id}/pause", post(sagas::pause))
            .route("/sagas/{kind}/{id}/resume", post(sagas::resume))
            .route(
                "/topics/{*topic}",
                get(topics::listen).post(topics::publish),
            )
            .route("/ws", get(session::upgrade::upgrade))
            .layer(DefaultBodyLimit::max(shared.limits.body_bytes_max))
            .route_layer(admitted)
            .with_state(shared.clone());
        let operators = Router::new()
            .route("/health/live", get(health::live))
            .route("/health/ready", get(health::ready))
            .route("/health/startup", get(health::startup))
            .route("/metrics", get(metrics::render))
            .with_state(shared.clone());
        reachable
            .merge(operators)
            .merge(dashboard::router(&shared))
            .method_not_allowed_fallback(request::wrong_method)
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway")
            .field("limits", &self.limits)
            .field("topics", &self.topics)
            .finish_non_exhaustive()
    }
}
