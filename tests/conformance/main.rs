//! What every database must do for us: the same tests on every backend.

mod lane_epochs;
mod lane_items;
mod lane_order;
mod messages;
mod opening;
mod owners;
mod rows;
