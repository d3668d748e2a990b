//! Redrives: jobs that take dead letters and bring them back to where they failed, or elsewhere.
//!
//! A job has one task, which owns its record. Each step is one transaction: the letters leave their queue, arrive, and the record
//! says so. So a crash loses nothing, doubles nothing and forgets no count; the job goes on after the restart.

mod edit;
mod error;
mod figures;
mod forward;
mod outgoing;
mod preview;
mod record;
mod redrives;
mod spec;
mod undo;
mod work;

pub use error::Error;
pub use preview::{Preview, Sample};
pub use record::{Redrive, State};
pub use redrives::{Engine, Maker, Redrives};
pub use spec::{Edit, Spec};
