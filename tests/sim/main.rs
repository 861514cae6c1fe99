//! Whole clusters on virtual time: what must hold whatever fails.

mod kinds;
mod sagas;

mod basics;
mod chaos;
mod cluster;
mod crashes;
mod determinism;
mod fences;
mod handoff;
mod messages;
mod network;
mod once;
mod operations;
mod order;
mod ownership;
mod poison;
mod releases;
mod timers;
