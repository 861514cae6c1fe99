//! Node links over real sockets on loopback: what crosses them, who may link up, and how they end.
//!
//! What needs no socket is tested beside the code, on a paused clock. Here nothing depends on how
//! fast the machine is: every wait is for an event, and a limit only ends a test that hangs.

mod ends;
mod kit;
mod proxy;
mod round_trip;
mod strangers;
mod tls;
