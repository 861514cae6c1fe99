//! Whole clusters on virtual time: what must hold whatever fails.

mod kinds;

mod basics;
mod cluster;
mod crashes;
mod determinism;
mod timers;
