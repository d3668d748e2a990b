//! The AMQP 0-9-1 door: what RabbitMQ's clients say, to commands; results, to what they expect to hear.
//!
//! This crate refuses to know the journal, other doors and the terminal.

pub mod mapping;
pub mod wire;
