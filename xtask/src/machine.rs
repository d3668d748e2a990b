//! What were the figures measured on: processor, memory, kernel, disk, and the commit?

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

/// Bytes of each write of the disk probe: one small commit group.
const PROBE_BYTES: usize = 16 << 10;
/// Writes of the disk probe: a median that is steady, in well under a second on a disk of today.
const PROBE_WRITES: usize = 200;

/// The lines that stand above every figure.
pub fn describe(root: &Path, dir: &Path) -> String {
    let lines = [
        ("machine", format!("{}, {} cores, {}", processor(), cores(), memory())),
        ("kernel", first_line("/proc/sys/kernel/osrelease")),
        ("disk", disk(dir)),
        ("fdatasync", fdatasync(dir).unwrap_or_else(|error| format!("not measured: {error}"))),
        ("commit", commit(root)),
    ];
    lines.map(|(name, value)| format!("{name:10} {value}")).join("\n")
}

fn first_line(path: &str) -> String {
    fs::read_to_string(path).ok().and_then(|text| text.lines().next().map(str::to_owned)).unwrap_or_default()
}

/// The value of `name` in a file of `name : value` lines.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn processor() -> String {
    field("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(0, |count| count.get())
}

fn memory() -> String {
    let kilobytes =
        field("/proc/meminfo", "MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    kilobytes.map_or_else(|| "memory unknown".to_owned(), |kilobytes| format!("{} GiB", kilobytes >> 20))
}

/// The device and file system that hold `dir`: the longest mount point above it.
fn disk(dir: &Path) -> String {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let above = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (device, point, kind) = (words.next()?, words.next()?, words.next()?);
        dir.starts_with(point).then(|| (point.len(), format!("{device}, {kind}")))
    });
    let name = above.max_by_key(|(length, _)| *length).map_or_else(|| "unknown".to_owned(), |(_, name)| name);
    format!("{name} (data in {})", dir.display())
}

/// How long one write with fdatasync takes: to a file that grows, and to one written before.
fn fdatasync(dir: &Path) -> io::Result<String> {
    let path = dir.join("waystation-fdatasync-probe");
    let file = File::options().create(true).truncate(true).write(true).open(&path)?;
    let grown = probe(&file);
    let again = probe(&file);
    fs::remove_file(&path)?;
    let (grown, again) = (grown?, again?);
    Ok(format!(
        "{} KiB: {} growing (p99 {}), {} in place (p99 {})",
        PROBE_BYTES >> 10,
        micros(median(&grown)),
        micros(near_worst(&grown)),
        micros(median(&again)),
        micros(near_worst(&again)),
    ))
}

/// Sorted durations of the probe's writes.
fn probe(file: &File) -> io::Result<Vec<Duration>> {
    let block = vec![0x5A; PROBE_BYTES];
    let mut took = Vec::with_capacity(PROBE_WRITES);
    for index in 0..PROBE_WRITES {
        let begun = Instant::now();
        file.write_all_at(&block, (index * PROBE_BYTES) as u64)?;
        file.sync_data()?;
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    Ok(took)
}

fn median(sorted: &[Duration]) -> Duration {
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn near_worst(sorted: &[Duration]) -> Duration {
    sorted.get(sorted.len() * 99 / 100).copied().unwrap_or_default()
}

fn micros(duration: Duration) -> String {
    format!("{} us", duration.as_micros())
}

fn commit(root: &Path) -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).current_dir(root).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(head) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown (no git)".to_owned() };
    match git(&["status", "--porcelain"]).is_some_and(|changes| !changes.is_empty()) {
        true => format!("{head} with changes that are not committed"),
        false => head,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_names_each_thing_once_and_leaves_no_probe_behind() {
        let dir = std::env::temp_dir().join(format!("waystation-machine-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let text = describe(Path::new(env!("CARGO_MANIFEST_DIR")), &dir);
        for name in ["machine", "kernel", "disk", "fdatasync", "commit"] {
            assert_eq!(text.lines().filter(|line| line.starts_with(name)).count(), 1, "{name} in:\n{text}");
        }
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
        fs::remove_dir(&dir).unwrap();
    }
}
