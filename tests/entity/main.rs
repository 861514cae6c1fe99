//! Entities on one node with a real store: calls, mailboxes, supervision, durable state.
//!
//! Names of tests are claims; the ids of the acceptance cases they answer stand in comments.

mod bytes;
mod calls;
mod columns;
mod durable;
mod ended;
mod keys;
mod kinds;
mod leases;
mod memory;
mod poison;
mod refused;
mod residency;
mod rows;
mod stuck;
mod unclear;
