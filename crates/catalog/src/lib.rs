//! Virtual hosts, policies and parameters, for all doors: kept as documents in the broker, in RabbitMQ's words, and laid over
//! whatever any door declares.
//!
//! This crate refuses to know protocols and their sockets.

mod book;
mod change;
mod definition;
mod effect;
mod records;
pub mod terms;

pub use book::{Effective, PATTERN_BYTES_MAX, default_vhost};
pub use change::{Catalog, Error, RECORD_NAME_BYTES_MAX, VHOSTS_MAX, check_policy};
pub use records::{ApplyTo, GlobalParameter, Parameter, Policy, Rank, Vhost};
