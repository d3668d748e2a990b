//! Dead letters: grouped by why they failed, looked at, and redriven: moved back to where they failed, or elsewhere, each in one
//! step, by a job that outlives crashes and can be paused, aborted and undone.
//!
//! This crate refuses to know doors, the journal and other features. It moves messages by the broker's transactions and keeps its
//! own state on topics.

pub mod fingerprint;
pub mod groups;
mod index;
pub mod job;
pub mod letter;
pub mod letters;
pub mod limits;
pub mod which;

pub use groups::{Group, Groups};
pub use job::{Redrive, Redrives, Spec};
pub use letter::{Letter, Origin, OriginKind};
pub use letters::Letters;
pub use which::Which;
