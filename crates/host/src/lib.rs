//! The driver: owns the shard, feeds it commands and time, gives its entries to the journal and carries out its effects once
//! they may be; keeps the tail cache, loads cold messages, settles old journal files and takes snapshots.
//!
//! Three threads stand beside it, each at the end of a bounded channel: the journal's, which writes and syncs; one that
//! reads what is not in memory; and one of low priority that writes snapshots and copies old messages.
//!
//! This crate refuses to know protocols and their sockets.

mod alarms;
pub mod audit;
mod browse;
mod cache;
mod consumers;
mod driver;
mod exemplars;
mod handle;
mod keeper;
mod loader;
mod log;
mod mailbox;
mod options;
mod overlay;
mod recovery;
mod replies;
mod scan;
mod settler;
mod snapshots;
pub mod task;
mod view;

pub(crate) use handle::Request;
pub use handle::{Broker, Browse, Consumer, Delivery, Event, Overview, Page, Pending, Target};

pub use alarms::{Alarms, MemoryBound};
pub use driver::Driver;
pub use exemplars::Exemplar;
pub use options::{OpenError, Options, REQUEST_BYTES_MAX};
pub use overlay::Overlay;
pub use recovery::{Hand, Recovery, open, open_by_hand};
pub use view::View;
pub use waystation_journal::{Failure, Mode};
