//! How a damaged journal is made fit to be opened again, giving up as little as can be.
//!
//! Positions stay what they are: where bytes are lost, void frames stand in for them, so that snapshots and indexes
//! that name positions stay true. Nothing is thrown away: the file as it was is kept beside, with `.damaged` behind
//! its name. Done again after an interruption, it comes to the same end.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use waystation_base::{
    Position,
    disk::{Disk, File},
};

use crate::{
    contract::Epoch,
    file::OpenError,
    inspect::{self, FileReport, JournalReport, header_of},
    layout::{
        file_header::{header_bytes, offset_of},
        frame::FrameHeader,
    },
    limits::GROUP_BYTES_MAX,
};

/// What salvage would do, or did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What is there.
    pub report: JournalReport,
    /// Entries that are kept.
    pub kept_entries: u64,
    /// Bytes that are lost.
    pub lost_bytes: u64,
    /// Files that are written anew, and where the old one is kept.
    pub rewritten: Vec<(PathBuf, PathBuf)>,
}

/// Looks at the journal in `dir` and says what salvage would do. Changes nothing.
pub fn plan(disk: &dyn Disk, dir: &Path) -> Result<Plan, OpenError> {
    let report = inspect::verify(disk, dir)?;
    let damaged = report.files.iter().filter(|file| !file.is_whole());
    let rewritten = damaged.map(|file| (file.path.clone(), kept_path(disk, &file.path))).collect();
    Ok(Plan { kept_entries: report.entries(), lost_bytes: report.lost_bytes(), rewritten, report })
}

/// Does it: afterwards the journal can be opened. Returns what was done.
pub fn execute(disk: &dyn Disk, dir: &Path) -> Result<Plan, OpenError> {
    let plan = plan(disk, dir)?;
    for (path, kept) in &plan.rewritten {
        let file = plan.report.files.iter().find(|file| file.path == *path).expect("planned from these");
        rewrite(disk, dir, file, kept)?;
    }
    Ok(plan)
}

/// A name for the file as it was that no earlier salvage has used.
fn kept_path(disk: &dyn Disk, path: &Path) -> PathBuf {
    let there = path.parent().and_then(|dir| disk.list(dir).ok()).unwrap_or_default();
    let name = |n: u32| match n {
        0 => path.with_extension("journal.damaged"),
        n => path.with_extension(format!("journal.damaged-{n}")),
    };
    (0..).map(name).find(|name| !there.contains(name)).expect("some number is free")
}

/// Copies the file aside, then puts a mended copy into its place in one step.
fn rewrite(disk: &dyn Disk, dir: &Path, report: &FileReport, kept: &Path) -> Result<(), OpenError> {
    let mended = report.path.with_extension("salvaging");
    let old = if report.missing { None } else { Some(open(disk, &report.path, false)?) };
    if let Some(old) = &old {
        let aside = open(disk, kept, true)?;
        copy(old.as_ref(), aside.as_ref()).map_err(OpenError::io("copying", kept))?;
    }
    let file = open(disk, &mended, true)?;
    mend(old.as_deref(), file.as_ref(), report).map_err(OpenError::io("writing", &mended))?;
    disk.sync_dir(dir).map_err(OpenError::io("syncing", dir))?;
    disk.rename(&mended, &report.path).map_err(OpenError::io("renaming", &mended))?;
    disk.sync_dir(dir).map_err(OpenError::io("syncing", dir))
}

fn open(disk: &dyn Disk, path: &Path, create: bool) -> Result<Arc<dyn File>, OpenError> {
    disk.open(path, create).map_err(OpenError::io("opening", path))
}

fn copy(from: &dyn File, to: &dyn File) -> io::Result<()> {
    let length = from.len()?;
    to.set_len(0)?;
    let mut bytes = vec![0; 1 << 20];
    let mut at = 0;
    while at < length {
        let step = (length - at).min(bytes.len() as u64) as usize;
        from.read_exact_at(&mut bytes[..step], at)?;
        to.write_all_at(&bytes[..step], at)?;
        at += step as u64;
    }
    to.sync_data()
}

fn mend(old: Option<&dyn File>, file: &dyn File, report: &FileReport) -> io::Result<()> {
    match old {
        Some(old) => copy(old, file)?,
        None => file.set_len(0)?,
    }
    if report.header.is_some() || report.missing {
        let mut page = vec![0; header_bytes(report.base) as usize];
        let header = header_of(report).encode();
        page[..header.len()].copy_from_slice(&header);
        file.write_all_at(&page, 0)?;
    }
    for extent in &report.bad {
        fill(file, report, extent.from, extent.to)?;
    }
    file.sync_data()
}

/// Puts void frames where bytes are lost.
fn fill(file: &dyn File, report: &FileReport, from: Position, to: Position) -> io::Result<()> {
    let mut at = from.0;
    while at < to.0 {
        let length = (to.0 - at).min(GROUP_BYTES_MAX as u64) as u32;
        let start = Position(at);
        let header = FrameHeader {
            void: true,
            length,
            entries: 0,
            entry_bytes: 0,
            start,
            synced_through: start,
            epoch: Epoch(0),
            salt: report.salt,
        };
        let mut frame = vec![0; length as usize];
        header.seal(&mut frame);
        file.write_all_at(&frame, offset_of(report.base, start))?;
        at += u64::from(length);
    }
    Ok(())
}
