//! The durable record: commit groups in files, recovery, snapshots and settled files.
//!
//! This crate is the sole owner of data files. It refuses to know queues, topics, messages and protocols: an entry is
//! a kind and bytes.
//!
//! - [`Journal`] is the contract, [`FileJournal`] keeps it in files, [`MemoryJournal`] in memory.
//! - [`Committer`] lets many writers share one sync; [`Reader`] reads beside it.
//! - [`snapshot`] keeps the state at a position, [`settled`] what outlives its journal file, [`record`] what is told of the past.
//! - [`inspect`] reports on a journal and [`salvage`] mends a damaged one.
//! - [`DataDir`] locks a data directory and names its folders.

pub mod conformance;
pub mod inspect;
pub mod layout;
pub mod limits;
pub mod record;
pub mod salvage;
pub mod settled;
pub mod snapshot;

mod buffer;
mod committer;
mod contract;
mod data_dir;
mod file;
mod group;
mod memory;
mod sequential;
#[cfg(test)]
mod test_disk;

pub use self::{
    committer::{Committer, Event, Hand, Mode, Refused},
    contract::{AppendError, Entry, Epoch, Failure, Journal, ReadError, Space, Visitor},
    data_dir::{DataDir, DataDirError},
    file::{Damage, FileJournal, OpenError, Options, Preparation, Reader, RecoveryReport, Verify},
    group::{Group, Mark},
    memory::MemoryJournal,
};
