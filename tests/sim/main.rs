//! Whole clusters on virtual time: what must hold whatever fails.

mod kinds;

mod basics;
mod crashes;
mod determinism;
mod timers;
