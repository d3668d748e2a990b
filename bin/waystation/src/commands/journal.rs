//! What is in the journal of a data directory that no server uses, and how is a damaged one mended?

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::{Value, json};
use waystation_base::{Position, disk::Disk, os::OsDisk};
use waystation_journal::{
    DataDir, DataDirError, Entry, OpenError,
    inspect::{self, FileReport, JournalReport},
    record, salvage, settled, snapshot,
};

use crate::{
    args::server::JournalCommand,
    exit::{Exit, Failure},
    output::{self, Output},
    units::{show_count, show_size},
};

/// Bytes of an entry that a line shows.
const BYTES_SHOWN: usize = 48;

pub fn run(command: JournalCommand, output: Output) -> Result<Exit, Failure> {
    match command {
        JournalCommand::Verify { dir } => verify(&open(&dir.data)?, output),
        JournalCommand::Dump { dir, from, count, bytes } => {
            dump(&open(&dir.data)?, Position(from), count.unwrap_or(u64::MAX), bytes, output)
        }
        JournalCommand::Salvage { dir, execute, .. } => mend(&open(&dir.data)?, execute, output),
    }
}

/// Takes the data directory for this process, if it is one and nobody has it.
fn open(path: &Path) -> Result<DataDir, Failure> {
    if !path.join("journal").is_dir() {
        let message = format!("{} is no data directory: it has no folder 'journal'", path.display());
        return Err(Failure::new(Exit::NotFound, message).advise("name the folder that `serve --data` uses"));
    }
    let owner = format!("pid {} (waystation journal)", std::process::id());
    DataDir::open(Arc::new(OsDisk), path, &owner).map_err(|error| data_dir(&error))
}

/// Why a data directory cannot be had.
pub fn data_dir(error: &DataDirError) -> Failure {
    match error {
        DataDirError::InUse { .. } => {
            Failure::new(Exit::InUse, error).advise("stop that process first, or use another folder (--data)")
        }
        DataDirError::Io { .. } => Failure::new(Exit::Failure, error),
    }
}

/// Why a journal cannot be opened.
pub fn unreadable(error: &OpenError) -> Failure {
    match error {
        OpenError::Damaged(_) | OpenError::Gap { .. } | OpenError::OutOfReach { .. } => {
            Failure::new(Exit::Damaged, error)
                .advise("`waystation journal salvage DIR` shows what can be kept, and --execute does it")
        }
        OpenError::Unknown { .. } => {
            Failure::new(Exit::Damaged, error).advise("was it written by another version or another program?")
        }
        OpenError::Io { .. } => Failure::new(Exit::Failure, error),
        OpenError::Failed(_) => Failure::new(Exit::Storage, error),
    }
}

fn verify(dir: &DataDir, output: Output) -> Result<Exit, Failure> {
    let journal = inspect::verify(&**dir.disk(), &dir.journal()).map_err(|error| unreadable(&error))?;
    let (settled_files, settled_bytes, bad_settled) = verify_settled(dir)?;
    let (record_files, bad_records) = verify_record(dir)?;
    let bad_snapshots = verify_snapshots(dir)?;
    let mut wrong: Vec<String> = journal.files.iter().flat_map(complaints).collect();
    wrong.extend(bad_settled);
    wrong.extend(bad_records);
    // A damaged snapshot costs time and nothing else, as long as the journal reaches back to the one before.
    let told = json!({
        "good": wrong.is_empty(),
        "journal": shown(&journal),
        "settled": {"files": settled_files, "bytes": settled_bytes},
        "record": {"files": record_files},
        "damage": wrong,
        "snapshots_damaged": bad_snapshots,
    });
    output.say(&told, || {
        let files = journal.files.iter().filter(|file| !file.missing).count();
        let mut lines = vec![format!(
            "journal: {files} files, {} entries, {}; settled: {} files, {}; record: {record_files} files",
            show_count(journal.entries()),
            show_size(journal.files.iter().map(|file| file.bytes).sum()),
            settled_files,
            show_size(settled_bytes)
        )];
        let torn: u64 = journal.files.iter().map(|file| file.torn_groups).sum();
        lines.extend(
            (torn > 0)
                .then(|| format!("{torn} groups at the end were never durable; the next start cuts them")),
        );
        lines.extend(bad_snapshots.clone());
        lines.extend(wrong.clone());
        lines.push(if wrong.is_empty() { "all is good" } else { "DAMAGED" }.to_owned());
        lines.join("\n")
    })?;
    match wrong.is_empty() {
        true => Ok(Exit::Done),
        false => Err(Failure::new(Exit::Damaged, format!("{} places are damaged", wrong.len()))
            .advise("restore the files, or see what `waystation journal salvage` can keep")),
    }
}

fn verify_settled(dir: &DataDir) -> Result<(usize, u64, Vec<String>), Failure> {
    let fail = |error: settled::Error| Failure::new(Exit::Failure, error);
    let store = settled::Store::open(dir.disk().clone(), &dir.settled()).map_err(fail)?;
    let files = store.files().map_err(fail)?;
    let (mut bytes, mut wrong) = (0, Vec::new());
    for id in &files {
        match store.verify(*id) {
            Ok(read) => bytes += read,
            Err(error) => wrong.push(error.to_string()),
        }
    }
    Ok((files.len(), bytes, wrong))
}

fn verify_record(dir: &DataDir) -> Result<(usize, Vec<String>), Failure> {
    let fail = |error: record::Error| Failure::new(Exit::Failure, error);
    let store = record::Store::open(dir.disk().clone(), &dir.record()).map_err(fail)?;
    let files = store.files().map_err(fail)?;
    let told =
        |error: record::Error| format!("{error}; what it tells of messages is lost, and no message is");
    let wrong = files.iter().filter_map(|id| store.verify(*id).err()).map(told).collect();
    Ok((files.len(), wrong))
}

fn verify_snapshots(dir: &DataDir) -> Result<Vec<String>, Failure> {
    let latest = snapshot::latest(&**dir.disk(), &dir.snapshots());
    let latest = latest.map_err(|error| Failure::new(Exit::Damaged, error))?;
    Ok(latest.damaged.iter().map(|(path, why)| format!("snapshot {}: {why}", path.display())).collect())
}

/// What is wrong with one file, a line each.
fn complaints(file: &FileReport) -> Vec<String> {
    let name = file.path.display();
    let header = file.header.as_ref().map(|error| format!("{name}: its header is damaged: {error}"));
    let extents = file.bad.iter().map(|bad| {
        let entries = bad.entries.map(|count| format!(", {count} entries")).unwrap_or_default();
        let bytes = bad.to.0 - bad.from.0;
        format!(
            "{name} at offset {}: {}; {bytes} bytes (positions {} to {}{entries}) are lost",
            bad.offset, bad.why, bad.from, bad.to
        )
    });
    header.into_iter().chain(extents).collect()
}

fn shown(report: &JournalReport) -> Vec<Value> {
    let file = |file: &FileReport| {
        let bad = file.bad.iter().map(|bad| {
            json!({"offset": bad.offset, "from": bad.from.0, "to": bad.to.0, "entries": bad.entries, "why": bad.why})
        });
        json!({
            "file": file.path,
            "from": file.base.0,
            "to": file.end.0,
            "groups": file.groups,
            "entries": file.entries,
            "bytes": file.bytes,
            "given_up_bytes": file.void_bytes,
            "torn_groups": file.torn_groups,
            "missing": file.missing,
            "header_damage": file.header.as_ref().map(ToString::to_string),
            "damage": bad.collect::<Vec<_>>(),
        })
    };
    report.files.iter().map(file).collect()
}

fn dump(dir: &DataDir, from: Position, count: u64, bytes: bool, output: Output) -> Result<Exit, Failure> {
    let (mut left, mut failed) = (count, None);
    let mut sink = |entry: Entry<'_>| {
        if left == 0 {
            return ControlFlow::Break(());
        }
        left -= 1;
        match tell(entry, bytes, output) {
            Ok(()) => ControlFlow::Continue(()),
            Err(failure) => {
                failed = Some(failure);
                ControlFlow::Break(())
            }
        }
    };
    let end = Position(u64::MAX);
    let report = inspect::dump(&**dir.disk(), &dir.journal(), from, end, &mut sink);
    let report = report.map_err(|error| unreadable(&error))?;
    if let Some(failure) = failed {
        return Err(failure);
    }
    let wrong: Vec<String> = report.files.iter().flat_map(complaints).collect();
    match wrong.first() {
        Some(first) => Err(Failure::new(Exit::Damaged, first)),
        None => Ok(Exit::Done),
    }
}

fn tell(entry: Entry<'_>, bytes: bool, output: Output) -> Result<(), Failure> {
    let Entry { position, kind: number, payload } = entry;
    let name = waystation_broker::entry::kind_name(number);
    if output.json {
        let hex = bytes.then(|| hex(payload));
        let told = json!({
            "position": position.0, "kind": number, "name": name, "bytes": payload.len(), "hex": hex
        });
        return output.json(&told);
    }
    let shown = match bytes {
        true => format!("  {}", payload[..payload.len().min(BYTES_SHOWN)].escape_ascii()),
        false => String::new(),
    };
    let name = name.map_or_else(|| format!("kind {number}"), str::to_owned);
    output::text(&format!("{:>14}  {name:<8} {:>9} bytes{shown}", position.0, payload.len()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mend(dir: &DataDir, execute: bool, output: Output) -> Result<Exit, Failure> {
    let disk: &dyn Disk = &**dir.disk();
    let plan = match execute {
        true => salvage::execute(disk, &dir.journal()),
        false => salvage::plan(disk, &dir.journal()),
    };
    let plan = plan.map_err(|error| unreadable(&error))?;
    let rewritten: Vec<Value> =
        plan.rewritten.iter().map(|(file, kept)| json!({"file": file, "kept_as": kept})).collect();
    let told = json!({
        "executed": execute,
        "kept_entries": plan.kept_entries,
        "lost_bytes": plan.lost_bytes,
        "rewritten": rewritten,
        "journal": shown(&plan.report),
    });
    output.say(&told, || mended(&plan, execute))?;
    Ok(Exit::Done)
}

fn mended(plan: &salvage::Plan, execute: bool) -> String {
    if plan.rewritten.is_empty() {
        return format!("nothing is damaged; {} entries are there", show_count(plan.kept_entries));
    }
    let mut lines: Vec<String> = plan.report.files.iter().flat_map(complaints).collect();
    let (keep, rewrite) = match execute {
        true => ("were kept", "was written anew; as it was it is kept as"),
        false => ("would be kept", "would be written anew; as it is it would be kept as"),
    };
    let entries = show_count(plan.kept_entries);
    lines.push(format!("{entries} entries {keep}, {} bytes are lost", show_count(plan.lost_bytes)));
    let file = |(path, kept): &(PathBuf, PathBuf)| format!("{} {rewrite} {}", path.display(), kept.display());
    lines.extend(plan.rewritten.iter().map(file));
    if !execute {
        lines.push("nothing was changed; --execute does it".to_owned());
    }
    lines.join("\n")
}
