//! What every other crate speaks in: ids, positions, time, named limits, names, the message and its
//! stored form, and the world (clock, disk, memory, chance) as traits.
//!
//! This crate refuses to know queues, topics, protocols, journals, sockets and tasks.

pub mod batch;
pub mod chance;
pub mod class;
pub mod disk;
pub mod filter;
pub mod ids;
pub mod limits;
pub mod memory;
pub mod message;
pub mod name;
pub mod os;
pub mod partitioner;
pub mod text;
pub mod time;
pub mod trace;
pub mod value;
pub mod varint;
pub mod vhost;

pub use chance::Chance;
pub use class::Class;
pub use ids::{Attempt, ClientId, ConsumerId, EntityId, MessageId, Offset, Position, Tag};

pub use message::{Headers, Message};
pub use name::Name;
pub use time::{Clock, Millis};
pub use value::Value;
