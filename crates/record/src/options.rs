//! How the record is kept, and what the recorder works with.

use std::{path::PathBuf, sync::Arc};

use waystation_base::{Clock, disk::Disk};
use waystation_journal::{Committer, Reader};

use crate::{observer::Known, rules::Rule};

/// How the record is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Milliseconds for which facts are kept.
    pub retention_ms: u64,
    /// Bytes of record files past which the oldest go.
    pub retention_bytes: u64,
    /// What of which address is recorded; the first one that fits holds, and what none fits is recorded whole.
    pub rules: Vec<Rule>,
    /// Journal behind the recorder that is kept for it; past that it goes, and the record has a gap.
    pub lag_bytes: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            retention_ms: 7 * 24 * 60 * 60 * 1000,
            retention_bytes: 1 << 30,
            rules: Vec::new(),
            lag_bytes: 1 << 30,
        }
    }
}

/// What the recorder works with.
pub struct Sources {
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// The folder of the record files.
    pub dir: PathBuf,
    /// The time, for retention.
    pub clock: Arc<dyn Clock>,
    /// The journal.
    pub reader: Reader,
    /// What makes the journal durable: a file is written only about what is.
    pub committer: Arc<Committer>,
    /// What there is at the journal's end.
    pub known: Known,
}
