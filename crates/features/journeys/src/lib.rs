//! Journeys: "what became of order 4711, and why?" The facts of the record put together to what people ask for: the messages that
//! are meant, what each came from and led to, what happened to it where, where it is now, and where it stopped.
//!
//! This crate refuses to know doors, the journal and how facts are kept.

mod cascade;
mod find;
mod journey;
mod now;
mod query;
mod steps;
mod stops;

pub use find::{Error, Pauses, find};
pub use journey::{
    Copy, Journey, Lack, Message, Now, Pause, RecordState, Sender, Standing, Stay, Step, Stop,
};
pub use query::{Query, Role};

/// Messages that one answer tells of, unless fewer are asked for.
pub const MESSAGES: usize = 200;
/// The most that can be asked for.
pub const MESSAGES_MAX: usize = 1_000;
