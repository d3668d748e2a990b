//! The record: what became of each message, and why. Facts read off the journal's entries, kept without bodies, found by
//! message, cause, correlation, trace or business key.
//!
//! - [`Recorder`] follows the journal on a thread of its own, behind the durable position; nothing waits for it.
//! - [`Record`] answers questions; [`Feed`] is what the journal's owner tells it.
//! - Facts are in memory until there are enough for a record file (`waystation_journal::record`). A file covers a stretch of the
//!   journal; what comes behind the last file is read off the journal again after a restart.
//!
//! This crate refuses to know doors, the shard's state and what a journey looks like to people.

mod alike;
mod block;
mod fact;
mod feed;
mod figures;
mod meta;
mod observer;
mod options;
mod publish;
mod rates;
mod recent;
mod record;
mod recorder;
mod rules;
mod runs;
mod shelf;
mod tap;
mod tried;

pub use alike::Alike;
pub use block::{Block, put_key};
pub use fact::{
    ATTRIBUTE_BYTES_MAX, ATTRIBUTES_MAX, Attribute, ERROR_BYTES_MAX, Fact, Fate, Place, Published, What,
};
pub use feed::Feed;
pub use meta::{Client, Gap, Sweep};
pub use observer::Known;
pub use options::{Options, Sources};
pub use record::{Damage, Event, Happening, Mention, Mentions, Record, Sought, Status};
pub use recorder::Recorder;
pub use rules::{RULES_MAX, Rule};
pub use tap::{Tap, Told};
pub use tried::{ATTEMPTS, Tried};

/// A map whose order does not matter.
pub(crate) type HashMap<K, V> = hashbrown::HashMap<K, V, foldhash::fast::RandomState>;
