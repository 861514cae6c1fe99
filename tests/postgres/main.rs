//! The conformance suite on PostgreSQL, directly and by way of PgBouncer; and what only a server
//! with several sessions can show.
//!
//! It starts its own servers; see `actor_tests::postgres`.

#[path = "../conformance/deaths.rs"]
mod deaths;
#[path = "../conformance/gone.rs"]
mod gone;
#[path = "../conformance/groups.rs"]
mod groups;
#[path = "../conformance/lane_epochs.rs"]
mod lane_epochs;
#[path = "../conformance/lane_items.rs"]
mod lane_items;
#[path = "../conformance/lane_order.rs"]
mod lane_order;
#[path = "../conformance/leases.rs"]
mod leases;
#[path = "../conformance/machine_ids.rs"]
mod machine_ids;
#[path = "../conformance/messages.rs"]
mod messages;
#[path = "../conformance/opening.rs"]
mod opening;
#[path = "../conformance/owners.rs"]
mod owners;
#[path = "../conformance/quiet.rs"]
mod quiet;
#[path = "../conformance/rows.rs"]
mod rows;

mod sessions;

mod clocks;
mod cuts;
mod plans;
mod poison;
mod races;
mod servers;
mod tables;

use actor_tests::bed::on_postgres as for_each_backend;
