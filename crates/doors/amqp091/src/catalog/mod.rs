//! Which virtual hosts, policies and parameters are there, and what do they make of queues and exchanges?

mod account;
mod book;
mod change;
mod definition;
mod effect;
mod records;

pub use book::{Effective, PATTERN_BYTES_MAX};
pub use change::{Catalog, Error, RECORD_NAME_BYTES_MAX, VHOSTS_MAX, check_policy};
pub(crate) use effect::BEFORE;
pub use records::{ApplyTo, GlobalParameter, Parameter, Policy, Rank, Vhost};
