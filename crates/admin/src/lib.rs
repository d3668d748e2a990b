//! Operations on the topology: the file that describes it, the plan that leads there, how both are shown.
//!
//! All of it is pure: callers fetch the current state and carry out the steps. This crate refuses to know sockets,
//! files and the terminal.

pub mod bindings;
pub mod document;
pub mod export;
pub mod plan;
pub mod render;
pub mod topology;

pub use plan::{Action, Plan, Step, plan};
pub use topology::Topology;
