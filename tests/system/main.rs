//! The real `shop` program: started, used over HTTP and WebSocket, killed, and started again.
//!
//! Not for what one process can show: that is for the other tiers. Each test has a folder and a
//! database of its own.

mod bad_input;
mod cluster;
mod nothing_lost;
mod on_postgres;
mod shop;
mod starting;
mod stopping;
