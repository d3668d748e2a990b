//! What is in a journal folder, good or bad: for `journal verify`, `journal dump` and salvage. Changes nothing.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use waystation_base::{Position, disk::Disk};

use crate::{
    contract::Entry,
    file::{
        OpenError,
        recover::{LoadError, Torn, list, load, next_whole},
        walk::{JournalFile, Stop, Walker},
    },
    layout::{
        file_header::{FileHeader, HeaderError, header_bytes, position_of},
        frame::FrameHeader,
    },
    limits::FRAME_STEP_BYTES,
};

/// A part of a file that cannot be read though it had been durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadExtent {
    /// Where in the file.
    pub offset: u64,
    /// The first position that is lost.
    pub from: Position,
    /// The position after.
    pub to: Position,
    /// How many entries are lost, if that can be known.
    pub entries: Option<u32>,
    /// What does not fit.
    pub why: String,
}

/// What is in one journal file, or in the place of one that is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReport {
    /// Its path.
    pub path: PathBuf,
    /// Its first position.
    pub base: Position,
    /// The position after its last group.
    pub end: Position,
    /// Good groups.
    pub groups: u64,
    /// Their entries.
    pub entries: u64,
    /// Bytes of their frames.
    pub bytes: u64,
    /// What was given up by an earlier salvage.
    pub void_bytes: u64,
    /// What is lost.
    pub bad: Vec<BadExtent>,
    /// What is wrong with its header, if something is.
    pub header: Option<HeaderError>,
    /// Whether there is no such file.
    pub missing: bool,
    /// Groups at the end that were never durable, which the next start cuts.
    pub torn_groups: u64,
    /// Salt of its frames; kept for salvage.
    pub(crate) salt: u64,
}

/// What is in a journal folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalReport {
    /// File after file, missing ones included.
    pub files: Vec<FileReport>,
}

impl JournalReport {
    /// Whether nothing that had been durable is lost.
    pub fn is_whole(&self) -> bool {
        self.files.iter().all(FileReport::is_whole)
    }

    /// Bytes that are lost.
    pub fn lost_bytes(&self) -> u64 {
        self.files.iter().map(FileReport::lost_bytes).sum()
    }

    /// Entries that can be read.
    pub fn entries(&self) -> u64 {
        self.files.iter().map(|file| file.entries).sum()
    }
}

impl FileReport {
    /// Whether nothing that had been durable is lost.
    pub fn is_whole(&self) -> bool {
        self.bad.is_empty() && self.header.is_none() && !self.missing
    }

    /// Bytes that are lost.
    pub fn lost_bytes(&self) -> u64 {
        self.bad.iter().map(|extent| extent.to.0 - extent.from.0).sum()
    }

    fn new(path: PathBuf, base: Position, salt: u64) -> FileReport {
        FileReport {
            path,
            base,
            end: base,
            groups: 0,
            entries: 0,
            bytes: 0,
            void_bytes: 0,
            bad: Vec::new(),
            header: None,
            missing: false,
            torn_groups: 0,
            salt,
        }
    }

    fn missing(path: PathBuf, base: Position, to: Position) -> FileReport {
        let lost =
            BadExtent { offset: 0, from: base, to, entries: None, why: "the file is missing".to_owned() };
        FileReport { end: to, bad: vec![lost], missing: true, ..FileReport::new(path, base, 0) }
    }
}

/// Reads every group of every file and reports. The folder should not be in use.
pub fn verify(disk: &dyn Disk, dir: &Path) -> Result<JournalReport, OpenError> {
    let mut report = JournalReport::default();
    walk(disk, dir, &mut |_, _| ControlFlow::Continue(()), &mut report)?;
    Ok(report)
}

/// Gives `sink` the entries with a position from `from` to before `to`, from all groups that are good.
pub fn dump(
    disk: &dyn Disk,
    dir: &Path,
    from: Position,
    to: Position,
    sink: &mut dyn FnMut(Entry<'_>) -> ControlFlow<()>,
) -> Result<JournalReport, OpenError> {
    let mut report = JournalReport::default();
    let mut visit = |entry: Entry<'_>, _: &FrameHeader| {
        if entry.position >= to {
            return ControlFlow::Break(());
        }
        if entry.position < from { ControlFlow::Continue(()) } else { sink(entry) }
    };
    walk(disk, dir, &mut visit, &mut report)?;
    Ok(report)
}

type Visit<'a> = dyn FnMut(Entry<'_>, &FrameHeader) -> ControlFlow<()> + 'a;

fn walk(
    disk: &dyn Disk,
    dir: &Path,
    visit: &mut Visit<'_>,
    report: &mut JournalReport,
) -> Result<(), OpenError> {
    let named = list(disk, dir)?.journal;
    for (at, (base, path)) in named.iter().enumerate() {
        let next = named.get(at + 1).map(|(base, _)| *base);
        let (file, header) = open(disk, path, *base)?;
        let mut walked = FileReport { header, ..FileReport::new(path.clone(), *base, file.salt) };
        let flow = walk_file(&file, next, visit, &mut walked)?;
        let end = walked.end;
        report.files.push(walked);
        if flow == ControlFlow::Break(()) {
            return Ok(());
        }
        if let Some(next) = next
            && end < next
        {
            let path = dir.join(crate::file::recover::file_name(end));
            report.files.push(FileReport::missing(path, end, next));
        }
    }
    Ok(())
}

/// Opens a journal file; if its header does not hold, what its frames say stands in.
fn open(
    disk: &dyn Disk,
    path: &Path,
    base: Position,
) -> Result<(Arc<JournalFile>, Option<HeaderError>), OpenError> {
    let header = match load(disk, path, base) {
        Ok(file) => return Ok((Arc::new(file), None)),
        Err(LoadError::Header(error @ HeaderError::Version(_))) => {
            return Err(OpenError::Unknown { place: path.to_owned(), why: error.to_string() });
        }
        Err(LoadError::Header(error)) => error,
        Err(LoadError::Io(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            HeaderError::TooShort
        }
        Err(LoadError::Io(error)) => return Err(OpenError::io("reading", path)(error)),
    };
    let file = disk.open(path, false).map_err(OpenError::io("opening", path))?;
    let prepared_bytes = file.len().map_err(OpenError::io("measuring", path))?;
    let path = path.to_owned();
    let epoch = crate::contract::Epoch(0);
    let mut file = JournalFile { path, base, salt: 0, epoch, prepared_bytes, file, uncached: None };
    file.salt = guess_salt(&file).map_err(OpenError::io("reading", &file.path))?;
    Ok((Arc::new(file), Some(header)))
}

/// The salt of the first frame that stands where it says.
fn guess_salt(file: &JournalFile) -> std::io::Result<u64> {
    let mut walker = Walker::new(file);
    let mut offset = header_bytes(file.base);
    while offset < file.prepared_bytes {
        let window = walker.window(offset, FRAME_STEP_BYTES)?;
        if let Ok(header) = FrameHeader::decode(window)
            && header.start == position_of(file.base, offset)
        {
            return Ok(header.salt);
        }
        offset += FRAME_STEP_BYTES as u64;
    }
    Ok(0)
}

fn walk_file(
    file: &JournalFile,
    next: Option<Position>,
    visit: &mut Visit<'_>,
    report: &mut FileReport,
) -> Result<ControlFlow<()>, OpenError> {
    let io = || OpenError::io("reading", &file.path);
    let mut walker = Walker::new(file);
    let mut from = file.base;
    loop {
        let stop = walker
            .walk(from, next, &mut |frame| {
                for entry in frame.entries() {
                    if visit(entry?, &frame.header) == ControlFlow::Break(()) {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                report.add(&frame.header);
                Ok(ControlFlow::Continue(()))
            })
            .map_err(io())?;
        let (bad, why) = match stop {
            Stop::End(end) => {
                report.end = end;
                return Ok(ControlFlow::Continue(()));
            }
            Stop::Broken(end) => {
                report.end = end;
                return Ok(ControlFlow::Break(()));
            }
            Stop::Bad(bad, why) => (bad, why),
        };
        report.end = bad;
        let Some(to) = bad_until(&mut walker, file, bad, next, report)? else {
            return Ok(ControlFlow::Continue(()));
        };
        let header = walker.header(bad).ok().filter(|header| header.end() == to);
        report.bad.push(BadExtent {
            offset: file.offset_of(bad),
            from: bad,
            to,
            entries: header.map(|header| header.entries),
            why: why.to_string(),
        });
        report.end = to;
        from = to;
    }
}

impl FileReport {
    fn add(&mut self, header: &FrameHeader) {
        if header.void {
            self.void_bytes += u64::from(header.length);
            return;
        }
        self.groups += 1;
        self.entries += u64::from(header.entries);
        self.bytes += u64::from(header.length);
    }
}

/// Where what is bad at `bad` ends, or `None` if nothing durable is behind it: then the journal or the file ends there.
fn bad_until(
    walker: &mut Walker<'_>,
    file: &JournalFile,
    bad: Position,
    next: Option<Position>,
    report: &mut FileReport,
) -> Result<Option<Position>, OpenError> {
    let whole = next_whole(walker, bad).map_err(OpenError::io("reading", &file.path))?;
    let Some(next) = next else {
        let torn = Torn::find(walker, file, bad)?;
        if torn.vouched_past(bad) && whole.is_some() {
            return Ok(whole);
        }
        report.torn_groups = torn.groups;
        return Ok(None);
    };
    // A file that is too short has lost its end; where another file is missing in between nobody can tell.
    Ok(Some(whole.map_or(next, |whole| whole.min(next))))
}

/// The header that a file would have with what is known of it.
pub(crate) fn header_of(report: &FileReport) -> FileHeader {
    FileHeader { base: report.base, salt: report.salt, epoch: crate::contract::Epoch(0) }
}
