//! The HTTP door: requests to commands, results to responses.
//!
//! This crate refuses to know the journal, other doors and the terminal.

pub mod api;
pub mod wire;
