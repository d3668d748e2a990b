//! Listeners, TLS, connection permits, time limits on a socket, and the drain at the end: what every door needs before the
//! first byte of its own protocol.
//!
//! This crate refuses to know what is said over a connection, and the broker.

pub mod drain;
pub mod listener;
pub mod permits;
pub mod timed;
pub mod tls;

pub use drain::Drain;
pub use listener::{Listener, Stream};
pub use permits::{Permit, Permits};
pub use timed::{Pace, Timed, Times};
pub use tls::Tls;
