//! Sagas on one node with a real store: steps, compensation, sleeps, crashes, cancelling.
//!
//! Names of tests are claims; the ids of the acceptance cases they answer stand in comments.

mod bytes;
mod columns;
mod crashes;
mod endings;
mod kit;
mod operators;
mod replays;
mod steps;
