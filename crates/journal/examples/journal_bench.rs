//! How fast the journal is beside the bare disk: the same groups through the committer and by plain write and sync.
//!
//! `journal_bench [--dir DIR] [--megabytes N] [--only NAME]` prints lines `name value unit`, then a summary.

#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a benchmark measures and prints")]

use std::{
    collections::VecDeque,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use waystation_base::{Position, disk::Disk, os::OsDisk};
use waystation_journal::{
    Committer, Epoch, Event, FileJournal, Mode, Options, Preparation, Reader, Verify,
    limits::GROUP_BYTES_SOFT,
};

const ROUNDS: usize = 5;
/// Rounds of throughput, ours and the bare disk's in turn: one round is over in a tenth of a second, and the disk's rate
/// differs by a third from one to the next.
const PAIRS: usize = 25;
const ENTRY_BYTES: usize = 64 << 10;

struct Settings {
    dir: PathBuf,
    megabytes: usize,
    only: Option<String>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut settings = Settings { dir: std::env::temp_dir(), megabytes: 256, only: None };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or("each option takes a value")?;
        match name.as_str() {
            "--dir" => settings.dir = value.into(),
            "--megabytes" => settings.megabytes = value.parse()?,
            "--only" => settings.only = Some(value),
            _ => return Err(format!("unknown option {name}; there are --dir, --megabytes and --only").into()),
        }
    }
    let wanted = |name: &str| settings.only.as_deref().is_none_or(|only| only == name);
    if wanted("throughput") {
        throughput(&settings)?;
    }
    if wanted("lone") {
        lone_writer(&settings)?;
    }
    if wanted("small") {
        small_entries(&settings)?;
    }
    if wanted("replay") {
        replay(&settings)?;
    }
    if wanted("open") {
        open(&settings)?;
    }
    if wanted("preparation") {
        preparation(&settings)?;
    }
    Ok(())
}

fn print(name: &str, value: f64, unit: &str) {
    println!("{name} {value:.3} {unit}");
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn quantile(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}

/// A journal in a fresh folder that goes with it.
struct Bench {
    dir: PathBuf,
    reader: Reader,
    committer: Option<Committer>,
    ends: Arc<Groups>,
}

/// What was told durable.
#[derive(Default)]
struct Groups {
    ends: Mutex<Vec<(Position, Position)>>,
    changed: Condvar,
    durable: AtomicU64,
}

impl Bench {
    fn new(parent: &Path, mode: Mode, options: Options) -> Result<Bench, Box<dyn std::error::Error>> {
        let dir = parent.join(format!("journal-bench-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let (journal, _) = FileJournal::open(Arc::new(OsDisk), &dir, options, Verify::All)?;
        let (reader, ends) = (journal.reader(), Arc::new(Groups::default()));
        let told = ends.clone();
        let committer = Committer::spawn(journal, mode, Epoch(1), move |event| match event {
            Event::Durable { start, end, .. } => {
                told.ends.lock().expect("no panic").push((start, end));
                told.durable.store(end.0, Ordering::Release);
                told.changed.notify_all();
            }
            Event::Failed(failure) => panic!("{failure}"),
            Event::Space(_) | Event::Synced { .. } => {}
        })?;
        Ok(Bench { dir, reader, committer: Some(committer), ends })
    }

    fn committer(&self) -> &Committer {
        self.committer.as_ref().expect("not stopped")
    }

    /// Waits until everything up to `position` is durable.
    fn wait(&self, position: Position) {
        let mut ends = self.ends.ends.lock().expect("no panic");
        while self.ends.durable.load(Ordering::Acquire) <= position.0 {
            ends = self.ends.changed.wait(ends).expect("no panic");
        }
    }

    /// Puts `entries` entries, never more ahead than the soft limit; returns the seconds until all are durable.
    fn put(&self, entries: usize, bytes: usize) -> f64 {
        let payload = vec![0x5a; bytes];
        let begin = Instant::now();
        let mut last = Position(0);
        for n in 0..entries {
            if n % 64 == 0 || bytes > 4096 {
                while self.committer().is_busy() {
                    self.wait(self.committer().durable());
                }
            }
            let pushed =
                self.committer().with_group(|group| group.push(1, |b| b.extend_from_slice(&payload)));
            last = pushed.expect("taken");
        }
        self.wait(last);
        begin.elapsed().as_secs_f64()
    }

    /// Trims everything and waits until the files are ready to be used again.
    fn trim(&self) {
        self.committer().trim(self.committer().durable());
        let journal_files = || {
            let names = std::fs::read_dir(&self.dir).expect("there").flatten().map(|entry| entry.file_name());
            names.filter(|name| !name.to_string_lossy().ends_with(".spare")).count()
        };
        while journal_files() > 1 {
            std::thread::yield_now();
        }
    }

    fn group_bytes(&self) -> Vec<usize> {
        let ends = self.ends.ends.lock().expect("no panic");
        ends.iter().map(|(start, end)| (end.0 - start.0) as usize).collect()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        drop(self.committer.take());
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Writes and syncs groups of these sizes, nothing else, into files of zeros as large as the journal's.
struct Bare {
    files: Vec<(Arc<dyn waystation_base::disk::File>, PathBuf)>,
    file_bytes: usize,
}

impl Bare {
    fn new(parent: &Path, bytes: usize, file_bytes: usize) -> Result<Bare, std::io::Error> {
        let mut files = Vec::new();
        let zeros = vec![0; 1 << 20];
        for n in 0..bytes.div_ceil(file_bytes - GROUP_BYTES_SOFT) + 1 {
            let path = parent.join(format!("bare-bench-{}-{n}", std::process::id()));
            let file = OsDisk.open(&path, true)?;
            for at in (0..file_bytes).step_by(zeros.len()) {
                file.write_all_at(&zeros, at as u64)?;
            }
            file.sync_data()?;
            files.push((file, path));
        }
        Ok(Bare { files, file_bytes })
    }

    fn write(&self, groups: &[usize]) -> Result<f64, std::io::Error> {
        let longest = groups.iter().copied().max().unwrap_or(0);
        let bytes = vec![0xa5; longest + 4096];
        let lead = bytes.as_ptr().align_offset(4096);
        let mut files = self.files.iter();
        let (mut file, mut at) = (&files.next().expect("one").0, 0);
        let begin = Instant::now();
        for group in groups {
            if at + group > self.file_bytes {
                (file, at) = (&files.next().expect("enough").0, 0);
            }
            file.write_all_at(&bytes[lead..lead + group], at as u64)?;
            file.sync_data()?;
            at += group;
        }
        Ok(begin.elapsed().as_secs_f64())
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        for (_, path) in &self.files {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Large entries through the committer and the same groups by bare write and sync, in turn.
fn throughput(settings: &Settings) -> Result<(), Box<dyn std::error::Error>> {
    let entries = settings.megabytes * (1 << 20) / ENTRY_BYTES;
    let file_bytes = 64 << 20;
    let bare = Bare::new(&settings.dir, settings.megabytes << 20, file_bytes)?;
    let (mut ours, mut theirs, mut ratios, mut sizes) = (vec![], vec![], vec![], vec![]);
    let options = Options { first_file_bytes: file_bytes as u64, spare_files_max: 16, ..Options::default() };
    let bench = Bench::new(&settings.dir, Mode::Sync, options)?;
    // First rounds make the files, which are then trimmed and used again: the state of a server that has run.
    for _ in 0..2 {
        bench.put(entries, ENTRY_BYTES);
        bench.trim();
    }
    for _ in 0..PAIRS {
        let before = bench.group_bytes().len();
        let megabytes = (entries * ENTRY_BYTES) as f64 / f64::from(1 << 20);
        let rate = megabytes / bench.put(entries, ENTRY_BYTES);
        let groups = bench.group_bytes().split_off(before);
        bench.trim();
        let bare_rate = groups.iter().sum::<usize>() as f64 / f64::from(1 << 20) / bare.write(&groups)?;
        sizes.push(groups.iter().sum::<usize>() as f64 / groups.len() as f64 / f64::from(1 << 20));
        println!("# round: journal {rate:.0} MiB/s, bare {bare_rate:.0} MiB/s, {} groups", groups.len());
        ours.push(rate);
        theirs.push(bare_rate);
        ratios.push(rate / bare_rate);
    }
    print("journal.throughput", median(ours.clone()), "MiB/s");
    print("bare.throughput", median(theirs.clone()), "MiB/s");
    print("journal.group", median(sizes), "MiB");
    print("journal.ratio", median(ratios), "journal/bare");
    Ok(())
}

/// One entry at a time: the time to durable beside one bare write and sync.
fn lone_writer(settings: &Settings) -> Result<(), Box<dyn std::error::Error>> {
    const EACH: usize = 1000;
    let file_bytes = 64 << 20;
    let bare = Bare::new(&settings.dir, 1, file_bytes)?;
    let options = Options { first_file_bytes: file_bytes as u64, ..Options::default() };
    let bench = Bench::new(&settings.dir, Mode::Sync, options)?;
    let (mut ours, mut theirs) = (VecDeque::new(), VecDeque::new());
    for _ in 0..ROUNDS {
        for _ in 0..EACH {
            ours.push_back(bench.put(1, 100) * 1e6);
        }
        for _ in 0..EACH {
            theirs.push_back(bare.write(&[4096])? * 1e6);
        }
    }
    for (name, times) in [("journal", &mut ours), ("bare", &mut theirs)] {
        let mut times: Vec<f64> = times.drain(..).collect();
        times.sort_by(f64::total_cmp);
        for (quantile_name, share) in [("p50", 0.5), ("p99", 0.99)] {
            print(&format!("{name}.lone.{quantile_name}"), quantile(&times, share), "us");
        }
    }
    Ok(())
}

/// Small entries from one thread: what an entry costs.
fn small_entries(settings: &Settings) -> Result<(), Box<dyn std::error::Error>> {
    const ENTRIES: usize = 2_000_000;
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        let bench = Bench::new(&settings.dir, Mode::Sync, Options::default())?;
        rates.push(ENTRIES as f64 / bench.put(ENTRIES, 100));
    }
    print("journal.small.100B", median(rates), "entries/s");
    let mut group = waystation_journal::Group::new(Position(0), 4096);
    let (payload, mark) = (vec![7; 100], group.mark());
    let mut nanoseconds = Vec::new();
    for _ in 0..50 {
        group.roll_back(mark);
        let begin = Instant::now();
        for _ in 0..10_000 {
            std::hint::black_box(group.push(1, |b| b.extend_from_slice(&payload)));
        }
        nanoseconds.push(begin.elapsed().as_secs_f64() * 1e9 / 10_000.0);
    }
    print("group.push.100B", median(nanoseconds), "ns");
    Ok(())
}

/// Reading everything back from the page cache, checked.
fn replay(settings: &Settings) -> Result<(), Box<dyn std::error::Error>> {
    for (name, bytes) in [("64KiB", ENTRY_BYTES), ("1KiB", 1024), ("100B", 100)] {
        let bench = Bench::new(&settings.dir, Mode::Os, Options::default())?;
        bench.put((256 << 20) / (bytes + 5), bytes);
        let (from, to) = (bench.reader.start(), bench.reader.end());
        let mut rates = Vec::new();
        for _ in 0..ROUNDS {
            let begin = Instant::now();
            let mut seen = 0;
            bench.reader.scan(from, to, &mut |entry| {
                seen += entry.payload.len();
                ControlFlow::Continue(())
            })?;
            rates.push((to.0 - from.0) as f64 / begin.elapsed().as_secs_f64() / 1e6);
            assert!(seen > 0);
        }
        print(&format!("journal.replay.{name}"), median(rates), "MB/s");
        bench.committer().sync_through(to)?;
    }
    Ok(())
}

/// How long a start takes: in an empty folder, and with a journal to check from its beginning.
fn open(settings: &Settings) -> Result<(), Box<dyn std::error::Error>> {
    let (mut empty, mut full, mut bytes) = (vec![], vec![], 0);
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        let mut bench = Bench::new(&settings.dir, Mode::Os, Options::default())?;
        empty.push(begin.elapsed().as_secs_f64() * 1e3);
        bench.put((256 << 20) / 1029, 1024);
        let committer = bench.committer.take().expect("not stopped");
        committer.flush_and_stop()?;
        let begin = Instant::now();
        let (_, report) = FileJournal::open(Arc::new(OsDisk), &bench.dir, Options::default(), Verify::All)?;
        full.push(begin.elapsed().as_secs_f64() * 1e3);
        bytes = report.end.0 - report.start.0;
    }
    print("journal.open.empty", median(empty), "ms");
    print("journal.open.full", median(full), "ms");
    print("journal.open.bytes", bytes as f64 / f64::from(1 << 20), "MiB");
    Ok(())
}

/// Whether it pays to prepare files: groups of 16 KiB, one after the other.
fn preparation(settings: &Settings) -> Result<(), Box<dyn std::error::Error>> {
    const COMMITS: usize = 2000;
    let variants = [
        ("none", Preparation::None, 1),
        ("zeros", Preparation::Background, 1),
        ("reused", Preparation::Background, 2),
    ];
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); variants.len()];
    for _ in 0..3 {
        for (at, (_, preparation, passes)) in variants.iter().enumerate() {
            let options =
                Options { preparation: *preparation, first_file_bytes: 64 << 20, ..Options::default() };
            let bench = Bench::new(&settings.dir, Mode::Sync, options)?;
            for pass in 0..*passes {
                for _ in 0..COMMITS {
                    let time = bench.put(1, 16 << 10) * 1e6;
                    if pass + 1 == *passes {
                        times[at].push(time);
                    }
                }
                bench.committer().trim(bench.committer().durable());
            }
        }
    }
    for ((name, ..), mut times) in variants.iter().zip(times) {
        times.sort_by(f64::total_cmp);
        print(&format!("journal.files.{name}.p50"), quantile(&times, 0.5), "us");
        print(&format!("journal.files.{name}.p99"), quantile(&times, 0.99), "us");
    }
    Ok(())
}
