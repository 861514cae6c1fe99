//! The outside world of a node: HTTP, WebSockets, server-sent events, dashboard, health, metrics.
//!
//! Read in this order: what is reachable and who decides ([`gateway`]), how an error looks outside
//! ([`rejection`]), how a program serves it all and stops in order ([`mod@serve`]), how it drains
//! ([`drain`]). Below those: the routes of entities, sagas and topics, and one supervised actor per
//! WebSocket. No state is kept here that a restart would lose.

pub mod gateway;
pub mod rejection;

mod entities;
mod negotiation;
mod preferences;
mod request;
mod sagas;
mod session;
mod topics;

mod dashboard;
mod health;
mod metrics;

pub mod drain;
pub mod serve;

pub use gateway::{Gateway, Guard, Limits, Operation, TopicAccess, Visitor};
pub use rejection::Rejection;
pub use serve::{ServeConfig, Server, serve, serve_or_exit};
