//! Routes with steps: they take messages from a queue, a topic, a subscription or a pattern of topics, look into them, change,
//! divide and send them on, each message in one transaction with what becomes of it.
//!
//! A declaration is compiled once ([`program`]); one evaluation ([`run`]) serves the running engine, trials and explanations
//! alike. This crate refuses to know doors and the journal.

mod cycles;
mod document;
mod engine;
mod error;
mod explain;
mod fault;
mod hold;
mod ids;
pub mod limits;
mod live;
pub mod names;
mod packet;
pub mod program;
mod record;
mod routes;
pub mod run;
pub mod spec;
mod steps;
mod tables;
mod tools;
mod trail;
mod trial;
mod unstored;

pub use error::{Error, Invalid};
pub use explain::Explanation;
pub use fault::{Fault, FaultKind};
pub use live::{Counts, RouteState};
pub use program::Program;
pub use record::{Ending, Record};
pub use routes::{RouteStepsInfo, Routes};
pub use spec::RouteSteps;
pub use tools::{Services, Tools};
pub use trail::{Said, Verdict};
pub use trial::{Trial, Tried};
