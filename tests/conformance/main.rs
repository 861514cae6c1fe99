//! What every database must do for us, on SQLite. The same files run on PostgreSQL, in the target
//! `postgres`.

mod deaths;
mod files;
mod gone;
mod groups;
mod lane_epochs;
mod lane_items;
mod lane_order;
mod leases;
mod machine_ids;
mod messages;
mod opening;
mod owners;
mod quiet;
mod rows;

use actor_tests::bed::on_sqlite as for_each_backend;
