//! The HTTP door: requests to commands, results to responses.
//!
//! This crate refuses to know the journal, other doors and the terminal.

mod adapter;
pub mod api;
mod auth;
mod definitions;
mod door;
mod failure;
mod incoming;
pub mod limits;
mod serve;
pub mod wire;

pub use adapter::description;
pub use adapter::metrics::Open;
pub use definitions::{Definitions, Saying, Unsaid};
pub use limits::Limits;
pub use serve::{Error, Figures, Opened, Options, serve};
