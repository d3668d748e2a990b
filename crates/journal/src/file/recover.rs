//! What is in a journal folder after whatever happened, and whether it may be written on.
//!
//! Files other than the last were synced before the next one began, and every file's header before its name. So
//! there a bad byte is damage. In the last file a bad frame is the torn end, unless a frame behind it says, in
//! `synced_through`, that the bad one had been durable. A torn end is cut: every frame behind it is overwritten with
//! zeros and synced before anything else is written, so that it can never come back.

use std::{
    io,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use waystation_base::{Position, disk::Disk};

use super::{
    pool::Spare,
    walk::{Found, JournalFile, Stop, WalkError, Walker},
};
use crate::{
    contract::{Epoch, Failure, Visitor},
    layout::{
        file_header::{self, FileHeader, HeaderError, header_bytes},
        frame::{FrameError, FrameHeader},
    },
    limits::PAGE_BYTES,
};

/// How much of the journal is checked when it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// Every group.
    All,
    /// The groups from this position on, which is the start of one: the position of the snapshot. Older files are
    /// only checked for being there and being long enough.
    From(Position),
}

/// What was found when the journal was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// The first position that can be read.
    pub start: Position,
    /// Where the next group begins.
    pub end: Position,
    /// Files of the journal.
    pub files: usize,
    /// Groups that were checked.
    pub groups: u64,
    /// Groups at the end that were not completely written, never durable, and were cut.
    pub torn_groups: u64,
    /// Bytes of them.
    pub torn_bytes: u64,
    /// Whether the last run ended after a failed write or sync; then the groups at the end were written again.
    pub after_failure: bool,
}

/// A part of the journal that is not what was written, though it had been durable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} is damaged at offset {offset}: {why}; {bytes} bytes (positions {from} to {to}{}) that had been durable \
     cannot be read; restore the file, or see what can be kept with `waystation journal salvage --dry-run`",
    file.display(), entries.map_or(String::new(), |n| format!(", {n} entries"))
)]
pub struct Damage {
    /// Which file.
    pub file: PathBuf,
    /// Where in the file.
    pub offset: u64,
    /// How many bytes, up to the next good group.
    pub bytes: u64,
    /// The first position that is lost.
    pub from: Position,
    /// The position after.
    pub to: Position,
    /// How many entries, if that can be known.
    pub entries: Option<u32>,
    /// What does not fit.
    pub why: String,
}

/// Why a journal could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The system refused.
    #[error("{what} {} failed: {error}", place.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        place: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A part that had been durable is not what was written.
    #[error(transparent)]
    Damaged(Box<Damage>),
    /// A file of another program or version.
    #[error("{} cannot be read: {why}", place.display())]
    Unknown {
        /// Which file.
        place: PathBuf,
        /// What it is.
        why: String,
    },
    /// A file of the chain is not there.
    #[error(
        "the journal has a gap: {} ends at {from} and the next file begins at {to}; restore the files between, \
         or see what can be kept with `waystation journal salvage --dry-run`",
        after.display()
    )]
    Gap {
        /// The file before the gap.
        after: PathBuf,
        /// Where it ends.
        from: Position,
        /// Where the next one begins.
        to: Position,
    },
    /// The journal does not reach to where it is needed.
    #[error("the journal covers positions {start} to {end}, but is needed from {wanted} on")]
    OutOfReach {
        /// From where it is needed.
        wanted: Position,
        /// Its first position.
        start: Position,
        /// Its end.
        end: Position,
    },
    /// What recovery had to write could not be written.
    #[error(transparent)]
    Failed(#[from] Failure),
}

impl OpenError {
    pub(crate) fn io(what: &'static str, place: &Path) -> impl FnOnce(io::Error) -> OpenError {
        let place = place.to_owned();
        move |error| OpenError::Io { what, place, error }
    }
}

/// The names in a journal folder, by what they mean.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) journal: Vec<(Position, PathBuf)>,
    pub(crate) spares: Vec<PathBuf>,
    pub(crate) unfinished: Vec<PathBuf>,
}

/// The name of the journal file with this base.
pub(crate) fn file_name(base: Position) -> String {
    format!("{:020}.journal", base.0)
}

/// Left behind, best effort, when a write or sync failed: it lives as long as the page cache that is in doubt.
pub(crate) const FAILURE_MARK: &str = "failed";

pub(crate) fn list(disk: &dyn Disk, dir: &Path) -> Result<Listing, OpenError> {
    let mut listing = Listing::default();
    for path in disk.list(dir).map_err(OpenError::io("listing", dir))? {
        let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
        match path.extension().and_then(|e| e.to_str()) {
            Some("journal") if stem.len() == 20 => {
                if let Ok(base) = stem.parse() {
                    listing.journal.push((Position(base), path));
                }
            }
            Some("spare") => listing.spares.push(path),
            Some("preparing") => listing.unfinished.push(path),
            _ => {}
        }
    }
    listing.journal.sort();
    Ok(listing)
}

/// Opens a journal file and checks its header.
pub(crate) fn load(disk: &dyn Disk, path: &Path, base: Position) -> Result<JournalFile, LoadError> {
    let file = disk.open(path, false)?;
    let prepared_bytes = file.len()?;
    let mut bytes = vec![0; PAGE_BYTES.min(prepared_bytes as usize)];
    file.read_exact_at(&mut bytes, 0)?;
    let header = FileHeader::decode(&bytes)?;
    if header.base != base {
        return Err(LoadError::Header(HeaderError::Base(header.base)));
    }
    let path = path.to_owned();
    Ok(JournalFile {
        path,
        base,
        salt: header.salt,
        epoch: header.epoch,
        prepared_bytes,
        file,
        uncached: None,
    })
}

/// Why a journal file could not be taken into the chain.
#[derive(Debug)]
pub(crate) enum LoadError {
    Io(io::Error),
    Header(HeaderError),
}

impl From<io::Error> for LoadError {
    fn from(error: io::Error) -> LoadError {
        LoadError::Io(error)
    }
}

impl From<HeaderError> for LoadError {
    fn from(error: HeaderError) -> LoadError {
        LoadError::Header(error)
    }
}

/// A journal as it was found, fit to be written on.
pub(crate) struct Recovered {
    pub(crate) chain: Vec<Arc<JournalFile>>,
    pub(crate) spares: Vec<Spare>,
    pub(crate) epoch: Epoch,
    pub(crate) report: RecoveryReport,
}

/// Reads the folder, checks, gives the entries from the verified position on to `visitor`, and cuts the torn end.
///
/// `visitor` may have seen entries when an error is returned.
pub(crate) fn recover(
    disk: &dyn Disk,
    dir: &Path,
    verify: Verify,
    visitor: &mut Visitor<'_>,
) -> Result<Recovered, OpenError> {
    let listing = list(disk, dir)?;
    for path in &listing.unfinished {
        disk.remove(path).map_err(OpenError::io("removing", path))?;
    }
    let spares = load_spares(disk, listing.spares)?;
    let chain = load_chain(disk, &listing.journal)?;
    let mut recovery =
        Recovery { chain, epoch: Epoch(0), vouched: Position(0), report: RecoveryReport::default() };
    let mark = dir.join(FAILURE_MARK);
    recovery.report.after_failure = disk.list(dir).map_err(OpenError::io("listing", dir))?.contains(&mark);
    recovery.run(verify, visitor)?;
    if recovery.report.after_failure {
        disk.remove(&mark).map_err(OpenError::io("removing", &mark))?;
    }
    // A process that died between naming a file and syncing the folder leaves a name that may not last.
    disk.sync_dir(dir).map_err(OpenError::io("syncing", dir))?;
    Ok(Recovered { chain: recovery.chain, spares, epoch: recovery.epoch, report: recovery.report })
}

fn load_spares(disk: &dyn Disk, paths: Vec<PathBuf>) -> Result<Vec<Spare>, OpenError> {
    let mut spares = Vec::new();
    for path in paths {
        let file = disk.open(&path, false).map_err(OpenError::io("opening", &path))?;
        let bytes = file.len().map_err(OpenError::io("measuring", &path))?;
        spares.push(Spare { path, file, bytes });
    }
    Ok(spares)
}

fn load_chain(disk: &dyn Disk, named: &[(Position, PathBuf)]) -> Result<Vec<Arc<JournalFile>>, OpenError> {
    let mut chain: Vec<Arc<JournalFile>> = Vec::new();
    for (at, (base, path)) in named.iter().enumerate() {
        let next = named.get(at + 1).map(|(base, _)| *base);
        let file = match load(disk, path, *base) {
            Ok(file) => file,
            Err(LoadError::Io(error)) => {
                return Err(OpenError::Io { what: "reading", place: path.clone(), error });
            }
            Err(LoadError::Header(error @ HeaderError::Version(_))) => {
                return Err(OpenError::Unknown { place: path.clone(), why: error.to_string() });
            }
            Err(LoadError::Header(error)) => return Err(damaged_header(disk, path, *base, next, &error)),
        };
        if let Some(next) = next
            && file.offset_of(next) > file.prepared_bytes
        {
            let from = file_header::position_of(*base, file.prepared_bytes.max(header_bytes(*base)));
            return Err(OpenError::Gap { after: path.clone(), from, to: next });
        }
        chain.push(Arc::new(file));
    }
    Ok(chain)
}

fn damaged_header(
    disk: &dyn Disk,
    path: &Path,
    base: Position,
    next: Option<Position>,
    error: &HeaderError,
) -> OpenError {
    let length = disk.open(path, false).and_then(|file| file.len()).unwrap_or(0);
    let end = file_header::position_of(base, length.max(header_bytes(base)));
    OpenError::Damaged(Box::new(Damage {
        file: path.to_owned(),
        offset: 0,
        bytes: length,
        from: base,
        to: next.unwrap_or(end),
        entries: None,
        why: error.to_string(),
    }))
}

struct Recovery {
    chain: Vec<Arc<JournalFile>>,
    epoch: Epoch,
    /// Some group says that everything before this position had been durable.
    vouched: Position,
    report: RecoveryReport,
}

impl Recovery {
    fn run(&mut self, verify: Verify, visitor: &mut Visitor<'_>) -> Result<(), OpenError> {
        let start = self.chain.first().map_or(Position(0), |file| file.base);
        let from = match verify {
            Verify::All => start,
            Verify::From(position) => position,
        };
        self.report.start = start;
        self.report.files = self.chain.len();
        let Some(last) = self.chain.last().cloned() else {
            return out_of_reach(from, start, start);
        };
        if from < start {
            return out_of_reach(from, start, last.base);
        }
        self.epoch = last.epoch;
        let mut visiting = true;
        for at in 0..self.chain.len() {
            let file = self.chain[at].clone();
            let next = self.chain.get(at + 1).map(|file| file.base);
            match next {
                Some(next) if next <= from => {}
                Some(next) => self.middle(&file, from.max(file.base), next, visitor, &mut visiting)?,
                None => self.last(&file, from, visitor, &mut visiting)?,
            }
        }
        out_of_reach(from, start, self.report.end)
    }

    /// Checks a file after which another one was begun.
    fn middle(
        &mut self,
        file: &JournalFile,
        from: Position,
        next: Position,
        visitor: &mut Visitor<'_>,
        visiting: &mut bool,
    ) -> Result<(), OpenError> {
        let mut walker = Walker::new(file);
        match self.visit(&mut walker, file, from, Some(next), visitor, visiting)? {
            Stop::Bad(bad, why) => Err(damage(&mut walker, file, bad, why, Some(next))?),
            Stop::End(_) | Stop::Broken(_) => Ok(()),
        }
    }

    /// Checks the last file, finds its end and cuts what is torn.
    fn last(
        &mut self,
        file: &JournalFile,
        from: Position,
        visitor: &mut Visitor<'_>,
        visiting: &mut bool,
    ) -> Result<(), OpenError> {
        let mut walker = Walker::new(file);
        let from = from.max(file.base);
        let reached = self.headers_before(&mut walker, file, from);
        let from = if reached == from { from } else { reached };
        let (end, why) = match self.visit(&mut walker, file, from, None, visitor, visiting)? {
            Stop::Bad(end, why) => (end, why),
            Stop::End(end) | Stop::Broken(end) => (end, FrameError::TooShort),
        };
        self.report.end = end;
        let torn = Torn::find(&mut walker, file, end)?;
        if let FrameError::Version(_) = why {
            return Err(OpenError::Unknown { place: file.path.clone(), why: why.to_string() });
        }
        if torn.vouched_past(end) {
            return Err(damage(&mut walker, file, end, why, None)?);
        }
        self.report.torn_groups = torn.groups;
        self.report.torn_bytes = torn.to.0 - end.0;
        let write = |error| OpenError::Failed(Failure::new("cutting the torn end of", &file.path, &error));
        zero(file, end, torn.to).map_err(write)?;
        // Not only when a failure is on record: the mark itself, or a start before this one, may have failed.
        rewrite(file, self.vouched.clamp(file.base, end), end).map_err(write)?;
        // What was read may so far be in the page cache only.
        file.file.sync_data().map_err(write)
    }

    /// Visits the entries of checked frames.
    fn visit(
        &mut self,
        walker: &mut Walker<'_>,
        file: &JournalFile,
        from: Position,
        limit: Option<Position>,
        visitor: &mut Visitor<'_>,
        visiting: &mut bool,
    ) -> Result<Stop, OpenError> {
        let (epoch, vouched, groups) = (&mut self.epoch, &mut self.vouched, &mut self.report.groups);
        walker
            .walk(from, limit, &mut |frame| {
                for entry in frame.entries() {
                    let entry = entry?;
                    *visiting = *visiting && visitor(entry) == ControlFlow::Continue(());
                }
                *epoch = (*epoch).max(frame.header.epoch);
                *vouched = (*vouched).max(frame.header.synced_through);
                *groups += 1;
                Ok(ControlFlow::Continue(()))
            })
            .map_err(OpenError::io("reading", &file.path))
    }

    /// Learns the epochs of the last file's groups before `from` from their headers alone, and that the groups reach
    /// to `from`. Returns where they do end.
    fn headers_before(&mut self, walker: &mut Walker<'_>, file: &JournalFile, from: Position) -> Position {
        let mut at = file.base;
        while at < from {
            let Ok(header) = walker.header_alone(at) else { break };
            self.epoch = self.epoch.max(header.epoch);
            self.vouched = self.vouched.max(header.synced_through);
            at = header.end();
        }
        at
    }
}

fn out_of_reach(wanted: Position, start: Position, end: Position) -> Result<(), OpenError> {
    if wanted < start || wanted > end {
        return Err(OpenError::OutOfReach { wanted, start, end });
    }
    Ok(())
}

/// What lies behind the last good frame of the last file.
pub(crate) struct Torn {
    pub(crate) groups: u64,
    /// The end of what must be overwritten.
    pub(crate) to: Position,
    synced_through: Position,
}

impl Torn {
    /// Looks at everything behind `end`, where no good frame is.
    pub(crate) fn find(
        walker: &mut Walker<'_>,
        file: &JournalFile,
        end: Position,
    ) -> Result<Torn, OpenError> {
        let mut torn = Torn { groups: 0, to: end, synced_through: Position(0) };
        match walker.header(end) {
            Ok(header) => torn.add(&header),
            Err(WalkError::Frame(_)) => torn.add_remains(walker, file, end)?,
            Err(WalkError::Io(error)) => return Err(OpenError::io("reading", &file.path)(error)),
        }
        walker
            .find_after(end, &mut |Found { header, .. }| {
                torn.add(&header);
                ControlFlow::Continue(())
            })
            .map_err(OpenError::io("reading", &file.path))?;
        let file_end = file_header::position_of(file.base, file.prepared_bytes.max(header_bytes(file.base)));
        torn.to = torn.to.min(file_end).max(end);
        Ok(torn)
    }

    /// Whether a frame behind says that what is at `end` had been durable.
    pub(crate) fn vouched_past(&self, end: Position) -> bool {
        self.synced_through > end
    }

    fn add(&mut self, header: &FrameHeader) {
        self.groups += 1;
        self.to = self.to.max(header.end());
        self.synced_through = self.synced_through.max(header.synced_through);
    }

    /// Counts a frame of which so little is left that its header does not hold.
    fn add_remains(
        &mut self,
        walker: &mut Walker<'_>,
        file: &JournalFile,
        end: Position,
    ) -> Result<(), OpenError> {
        let step = crate::limits::FRAME_STEP_BYTES;
        let bytes = walker.window(file.offset_of(end), step).map_err(OpenError::io("reading", &file.path))?;
        // An earlier use of the file leaves frames of earlier positions: those are no remains of this one.
        let ours = bytes.len() < 32 || bytes[24..32] == end.0.to_le_bytes();
        if bytes.starts_with(&crate::layout::frame::MAGIC[..1]) && ours {
            self.groups += 1;
            self.to = Position(end.0 + step as u64);
        }
        Ok(())
    }
}

/// The error for a bad frame at `bad` that had been durable.
pub(crate) fn damage(
    walker: &mut Walker<'_>,
    file: &JournalFile,
    bad: Position,
    why: FrameError,
    next: Option<Position>,
) -> Result<OpenError, OpenError> {
    if let FrameError::Version(_) = why {
        return Ok(OpenError::Unknown { place: file.path.clone(), why: why.to_string() });
    }
    let header = walker.header(bad).ok();
    let to = next_whole(walker, bad).map_err(OpenError::io("reading", &file.path))?;
    let file_end = file_header::position_of(file.base, file.prepared_bytes);
    let to = match (to, next) {
        (Some(to), Some(next)) => to.min(next),
        (Some(to), None) => to,
        (None, next) => next.unwrap_or(file_end),
    };
    Ok(OpenError::Damaged(Box::new(Damage {
        file: file.path.clone(),
        offset: file.offset_of(bad),
        bytes: to.0 - bad.0,
        from: bad,
        to,
        entries: header.filter(|header| header.end() == to).map(|header| header.entries),
        why: why.to_string(),
    })))
}

/// Where the next whole frame behind `bad` begins.
pub(crate) fn next_whole(walker: &mut Walker<'_>, bad: Position) -> io::Result<Option<Position>> {
    let mut next = None;
    walker.find_after(bad, &mut |found| {
        if found.whole {
            next = Some(found.header.start);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    Ok(next)
}

fn zero(file: &JournalFile, from: Position, to: Position) -> io::Result<()> {
    let zeros = [0; 16 * PAGE_BYTES];
    let mut at = from.0;
    while at < to.0 {
        let step = (to.0 - at).min(zeros.len() as u64);
        file.file.write_all_at(&zeros[..step as usize], file.offset_of(Position(at)))?;
        at += step;
    }
    Ok(())
}

/// Writes again what may be in the page cache only: after a failed sync the system holds such pages for clean.
fn rewrite(file: &JournalFile, from: Position, to: Position) -> io::Result<()> {
    let mut bytes = vec![0; 1 << 20];
    let mut at = from.0;
    while at < to.0 {
        let step = (to.0 - at).min(bytes.len() as u64) as usize;
        let offset = file.offset_of(Position(at));
        file.file.read_exact_at(&mut bytes[..step], offset)?;
        file.file.write_all_at(&bytes[..step], offset)?;
        at += step as u64;
    }
    Ok(())
}
