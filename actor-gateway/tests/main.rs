//! The gateway seen from outside: each module one surface.

mod admin;
mod bytes;
mod codecs;
mod errors;
mod kit;
mod operators;
mod sagas;
mod server;
mod sockets;
mod streams;
