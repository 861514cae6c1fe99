//! Whole clusters on virtual time: what must hold whatever fails.

mod diary;
mod kinds;
mod rows;
mod sagas;

mod basics;
mod brittle;
mod chaos;
mod cluster;
mod crashes;
mod cycles;
mod determinism;
mod drains;
mod fences;
mod groups;
mod handoff;
mod ids;
mod messages;
mod moved;
mod network;
mod once;
mod operations;
mod order;
mod ownership;
mod poison;
mod releases;
mod sweeping;
mod takeover;
mod timers;
mod topics;
