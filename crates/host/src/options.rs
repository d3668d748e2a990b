//! How a broker is opened, within which bounds it runs, and why it could not be opened.

use std::{io, path::PathBuf, sync::Arc};

use waystation_broker::{ReplayError, SnapshotError};
use waystation_journal::{DataDirError, Mode, settled, snapshot};

use crate::MemoryBound;

/// Requests that one commit unit takes; the committer waits no longer than these take.
pub(crate) const UNIT_REQUESTS_MAX: usize = 256;
/// Bytes of messages of one commit unit, unless it is one request.
pub(crate) const UNIT_BYTES_MAX: usize = 4 << 20;
/// Bytes of messages of one request, with what storing adds: so that its entries fit into one commit unit.
pub const REQUEST_BYTES_MAX: usize = 33 << 20;
/// Reads that may wait for the reading thread; more wait in the driver, one for each window and consumer.
pub(crate) const READS_MAX: usize = 64;
/// Events of the journal that may wait for the driver.
pub(crate) const JOURNAL_EVENTS_MAX: usize = 256;
/// Answers to loads that are found in memory in one turn of the driver; further loads wait for the next.
pub(crate) const LOADS_PER_TURN: usize = 256;
/// Room in the journal below which no request at all is accepted any more.
pub(crate) const ROOM_BYTES_MIN: u64 = 8 << 20;
/// Room in the journal below which not even that is written which makes room.
pub(crate) const ROOM_BYTES_LAST: u64 = 2 << 20;
/// Bytes of journal or settled files that one settling job leaves behind.
pub(crate) const JOB_BYTES: u64 = 64 << 20;
/// The same at the least, however many batches there are.
pub(crate) const JOB_BYTES_MIN: u64 = 4 << 20;
/// Batches that one settling job should look at: its plan takes a few milliseconds of the publish path.
pub(crate) const JOB_BATCHES: u64 = 40_000;
/// The same where the batches of more than [`JOB_LOGS_FEW`] logs lie in no order: then it is held in memory.
pub(crate) const JOB_BYTES_CROWDED: u64 = 16 << 20;
/// How long copying rests after each step at most, in percent of the time that the step took.
pub(crate) const REST_PERCENT_MAX: u32 = 100;
/// Logs that a settling job reads one after the other; each goes through the journal once.
pub(crate) const JOB_LOGS_FEW: usize = 4;
/// Settled files below this size are put together when there are more than [`SMALL_FILES_MAX`] of them.
pub(crate) const SMALL_FILE_BYTES: u64 = 24 << 20;
/// Small settled files that are left alone.
pub(crate) const SMALL_FILES_MAX: usize = 8;
/// Journal that is not settled, in multiples of what may be, above which those who publish are slowed down.
pub(crate) const LAG_MAX: u64 = 3;
/// The longest wait, in milliseconds, between two takings of requests while settling lags behind.
pub(crate) const LAG_WAIT_MS_MAX: u64 = 20;

/// How a broker runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// The data directory.
    pub dir: PathBuf,
    /// Who opens it: told to whoever tries to open it too.
    pub owner: String,
    /// What an acknowledgement is worth.
    pub mode: Mode,
    /// Bytes of the newest commit groups that are kept in memory for consumers that are nearly up to date.
    pub cache_bytes: usize,
    /// Bytes of one journal file.
    pub journal_file_bytes: u64,
    /// Bytes of journal above which the oldest messages are settled.
    pub hot_bytes: u64,
    /// Bytes of journal from one snapshot to the next.
    pub snapshot_bytes: u64,
    /// Free bytes of the file system below which publishing is refused.
    pub disk_reserve_bytes: u64,
    /// How much memory the process may use before publishing is refused; none: that is not looked at.
    pub memory: Option<Arc<MemoryBound>>,
    /// Requests that may wait for the driver; callers wait when there are more.
    pub requests_max: usize,
    /// How long records of changes are kept; none: there are none.
    pub audit: Option<crate::audit::Audit>,
    /// How the record of messages is kept; none: there is none.
    pub record: Option<waystation_record::Options>,
}

impl Options {
    /// The usual bounds for a data directory.
    pub fn new(dir: impl Into<PathBuf>) -> Options {
        Options {
            dir: dir.into(),
            owner: format!("process {}", std::process::id()),
            mode: Mode::Sync,
            cache_bytes: 32 << 20,
            journal_file_bytes: 64 << 20,
            hot_bytes: 256 << 20,
            snapshot_bytes: 128 << 20,
            disk_reserve_bytes: 256 << 20,
            memory: None,
            requests_max: 4096,
            audit: None,
            record: None,
        }
    }
}

/// Why a broker could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The data directory is in use or cannot be.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] waystation_journal::OpenError),
    /// Entries of the journal, while they were replayed.
    #[error(transparent)]
    Read(#[from] waystation_journal::ReadError),
    /// The snapshots.
    #[error(transparent)]
    Snapshot(#[from] snapshot::Error),
    /// A snapshot whose checksum fits and whose content does not.
    #[error("snapshot {} cannot be understood: {error}", path.display())]
    State {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        error: SnapshotError,
    },
    /// A journal entry whose checksum fits and whose content does not.
    #[error("the journal entry at position {position} cannot be replayed: {error}")]
    Replay {
        /// Which.
        position: waystation_base::Position,
        /// What is wrong with it.
        error: ReplayError,
    },
    /// The settled files.
    #[error(transparent)]
    Settled(#[from] settled::Error),
    /// A settled file that holds messages is not there.
    #[error("settled file {file} with {bytes} bytes of messages is missing from {}; restore it", dir.display())]
    Missing {
        /// Its number.
        file: u32,
        /// Bytes of it that are alive.
        bytes: u64,
        /// Where it should be.
        dir: PathBuf,
    },
    /// The first entries of this run could not be taken.
    #[error("the first entries of this run were not taken by the journal: {0}")]
    Refused(#[from] waystation_journal::Refused),
    /// A thread, or a file.
    #[error("{what} failed: {error}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        error: io::Error,
    },
}
