//! Who may do what: the port through which a program decides.

use actor_core::Refusal;
use axum::http::request::Parts;
use futures_util::future::BoxFuture;

/// Who a request comes from, as far as the program's [`Guard`] found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Visitor {
    /// Who it is; for the guard's own use.
    pub name: Option<String>,
    /// The tenant the request runs for; it travels with every call the request causes.
    pub tenant: Option<String>,
}

impl Visitor {
    /// Returns a visitor with this name.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: Some(name.into()),
            tenant: None,
        }
    }

    /// Sets the tenant.
    #[must_use]
    pub fn of_tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }
}

/// What a visitor wants to do; over HTTP and WebSocket alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation<'a> {
    /// A method of an entity.
    Call {
        /// The kind.
        kind: &'a str,
        /// The id.
        id: &'a str,
        /// The method.
        method: &'a str,
    },
    /// Something with a saga: `start`, `result`, `signal`, `cancel`, `pause` or `resume`.
    Saga {
        /// The workflow's kind.
        kind: &'a str,
        /// The run's id.
        id: &'a str,
        /// What.
        verb: &'a str,
    },
    /// An event on a topic.
    Publish {
        /// The topic.
        topic: &'a str,
    },
    /// The events of a topic.
    Listen {
        /// The topic.
        topic: &'a str,
    },
}

/// Decides about each request before anything else looks at it.
///
/// A closure will do where the request alone decides:
///
/// ```
/// # fn routes(client: actor_core::Client) -> axum::Router {
/// use actor_core::Refusal;
/// use actor_gateway::{Gateway, Visitor};
/// use axum::http::request::Parts;
///
/// let guard = |request: &Parts| {
///     let known = request.headers.get("x-api-key").is_some_and(|key| key == "let me in");
///     async move { if known { Ok(Visitor::named("friend")) } else { Err(Refusal::Unauthorized) } }
/// };
/// Gateway::new(client).guard(guard).router()
/// # }
/// ```
pub trait Guard: Send + Sync + 'static {
    /// Says who the request comes from.
    ///
    /// # Errors
    /// `Unauthorized` or `Forbidden`: the request ends so.
    fn admit<'a>(&'a self, request: &'a Parts) -> BoxFuture<'a, Result<Visitor, Refusal>>;

    /// Says whether the visitor may do this; everything is allowed unless overridden. Called for
    /// every operation, also for those over a socket that was opened earlier.
    ///
    /// # Errors
    /// `Forbidden`: the operation ends so.
    fn permit(&self, _visitor: &Visitor, _operation: Operation<'_>) -> Result<(), Refusal> {
        Ok(())
    }
}

impl<F, D> Guard for F
where
    F: Fn(&Parts) -> D + Send + Sync + 'static,
    D: Future<Output = Result<Visitor, Refusal>> + Send + 'static,
{
    fn admit<'a>(&'a self, request: &'a Parts) -> BoxFuture<'a, Result<Visitor, Refusal>> {
        Box::pin(self(request))
    }
}

/// Keeps nobody out.
pub(super) struct Everybody;

impl Guard for Everybody {
    fn admit<'a>(&'a self, _: &'a Parts) -> BoxFuture<'a, Result<Visitor, Refusal>> {
        Box::pin(async { Ok(Visitor::default()) })
    }
}
