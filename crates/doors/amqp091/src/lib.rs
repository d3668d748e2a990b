//! The AMQP 0-9-1 door: what RabbitMQ's clients say, to commands; results, to what they expect to hear.
//!
//! This crate refuses to know the journal, other doors and the terminal.

mod adapter;
pub mod directory;
pub mod limits;
pub mod management;
pub mod mapping;
mod registry;
pub mod session;
pub mod wire;

pub use adapter::{Error, Options, serve};
pub use limits::Limits;
pub use registry::{ChannelCounts, ChannelInfo, ConnectionInfo, ConsumerInfo, Open, Registry, Totals};
