//! Do journal files keep what was synced, cut a torn tail, and refuse damage?

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use waystation_base::os::OsDisk;

use super::*;
use crate::{
    inspect,
    limits::CACHED_AFTER_READ_BYTES,
    salvage,
    test_disk::{Random, Tear, TestDisk},
};

const DIR: &str = "/journal";

fn options() -> Options {
    Options {
        file_bytes: 32 << 10,
        first_file_bytes: 16 << 10,
        align_bytes: 64,
        preparation: Preparation::Inline,
        spare_files_max: 2,
        free_bytes_min: 0,
        salt_seed: 1,
    }
}

fn open(dir: &Path) -> FileJournal {
    FileJournal::open(Arc::new(OsDisk), dir, options(), Verify::All).expect("opened").0
}

type Opened = (FileJournal, RecoveryReport, Vec<(Position, Vec<u8>)>);

/// Opens the journal of a test disk and gives what it replays.
fn try_replay(disk: &TestDisk, options: Options, verify: Verify) -> Result<Opened, OpenError> {
    let mut seen = Vec::new();
    let (journal, report) = FileJournal::open_and_replay(
        Arc::new(disk.clone()),
        Path::new(DIR),
        options,
        verify,
        &mut |entry| {
            seen.push((entry.position, entry.payload.to_vec()));
            ControlFlow::Continue(())
        },
    )?;
    Ok((journal, report, seen))
}

fn replay(disk: &TestDisk) -> Opened {
    try_replay(disk, options(), Verify::All).unwrap_or_else(|error| panic!("{error}"))
}

fn append(journal: &mut FileJournal, payloads: &[&[u8]]) -> Result<Vec<Position>, AppendError> {
    let mut group = Group::new(journal.end(), journal.align_bytes());
    let positions = payloads.iter().map(|p| group.push(1, |b| b.extend_from_slice(p))).collect();
    journal.append(journal.end(), Epoch(1), &mut group)?;
    Ok(positions)
}

fn put(journal: &mut FileJournal, payload: &[u8]) -> Position {
    let positions = append(journal, &[payload]).expect("appended");
    journal.sync().expect("synced");
    positions[0]
}

/// The only journal file of a disk.
fn only_file(disk: &TestDisk) -> PathBuf {
    let names: Vec<_> = disk.names().into_iter().filter(|name| name.ends_with(".journal")).collect();
    assert_eq!(names.len(), 1);
    Path::new(DIR).join(&names[0])
}

#[test]
fn the_journal_in_files_keeps_the_contract() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut n = 0;
    crate::conformance::check(|| {
        n += 1;
        open(&dir.path().join(n.to_string()))
    });
}

#[test]
fn the_journal_in_files_keeps_the_contract_with_files_prepared_in_the_background() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut n = 0;
    crate::conformance::check(|| {
        n += 1;
        let options = Options { preparation: Preparation::Background, align_bytes: 4096, ..options() };
        let path = dir.path().join(n.to_string());
        FileJournal::open(Arc::new(OsDisk), &path, options, Verify::All).expect("opened").0
    });
}

#[test]
fn the_journal_in_files_keeps_the_contract_without_prepared_files() {
    crate::conformance::check(|| {
        let options = Options { preparation: Preparation::None, ..options() };
        let disk = Arc::new(TestDisk::default());
        FileJournal::open(disk, Path::new(DIR), options, Verify::All).expect("opened").0
    });
}

#[test]
fn a_tail_torn_at_any_byte_leaves_exactly_the_groups_before() {
    let disk = TestDisk::default();
    let (mut journal, ..) = replay(&disk);
    for payload in [&b"one"[..], b"two", b"three"] {
        put(&mut journal, payload);
    }
    let end = journal.end();
    let path = only_file(&disk);
    let before = disk.bytes(&path);
    append(&mut journal, &[&[7; 300], &[8; 100]]).expect("appended");
    let after = disk.bytes(&path);
    let (from, to) =
        (journal.current.offset_of(end) as usize, journal.current.offset_of(journal.end()) as usize);
    for cut in from..=to {
        let disk = disk.fork();
        disk.set_bytes(&path, &[&after[..cut], &before[cut..]].concat());
        let (mut journal, report, seen) = replay(&disk);
        let payloads: Vec<_> = seen.iter().map(|(_, payload)| payload.as_slice()).collect();
        // Padding zeros may be cut unnoticed: then the group is whole.
        if report.end > end {
            assert_eq!(payloads.len(), 5, "cut at {cut}");
            assert_eq!(after[cut..to], before[cut..to]);
            continue;
        }
        assert_eq!(payloads, [&b"one"[..], b"two", b"three"], "cut at {cut}");
        assert_eq!(report.end, end);
        // Of the first bytes nobody can tell; once the position is there it is known for a torn group.
        assert!(report.torn_groups == u64::from(cut >= from + 32) || (from + 8..from + 32).contains(&cut));
        put(&mut journal, b"four");
        drop(journal);
        assert_eq!(replay(&disk).2.last().expect("some").1, b"four");
    }
}

#[test]
fn every_changed_byte_of_what_was_durable_is_refused_and_can_be_salvaged() {
    let disk = TestDisk::default();
    let (mut journal, ..) = replay(&disk);
    let mut positions = Vec::new();
    for n in 0..4u8 {
        positions.push(put(&mut journal, &[n; 50]));
    }
    let (start, end) = (journal.start(), journal.end());
    journal.close().expect("closed");
    let path = only_file(&disk);
    let (from, to) = (journal.current.offset_of(start) as usize, journal.current.offset_of(end) as usize);
    drop(journal);
    let whole = disk.bytes(&path);
    for at in from..to {
        let disk = disk.fork();
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        disk.set_bytes(&path, &bytes);
        let group = (at - from) / 128;
        match try_replay(&disk, options(), Verify::All) {
            Err(OpenError::Damaged(damage)) => {
                assert_eq!((damage.offset, damage.bytes), ((from + group * 128) as u64, 128), "byte {at}");
                assert_eq!(damage.file, path);
            }
            Err(other) => panic!("byte {at}: {other}"),
            Ok(_) => panic!("byte {at} was changed unnoticed"),
        }
        if at % 7 > 0 {
            continue;
        }
        let plan = salvage::plan(&disk, Path::new(DIR)).expect("planned");
        assert_eq!((plan.kept_entries, plan.lost_bytes), (3, 128));
        assert_eq!(disk.bytes(&path), bytes, "a plan changes nothing");
        assert_eq!(salvage::execute(&disk, Path::new(DIR)).expect("salvaged"), plan);
        assert_eq!(disk.bytes(&plan.rewritten[0].1), bytes, "the old file is kept");
        let (_, _, seen) = replay(&disk);
        let kept: Vec<_> = seen.iter().map(|(position, _)| *position).collect();
        let expected: Vec<_> =
            positions.iter().enumerate().filter(|(n, _)| *n != group).map(|(_, p)| *p).collect();
        assert_eq!(kept, expected);
        assert!(inspect::verify(&disk, Path::new(DIR)).expect("read").is_whole());
    }
}

#[test]
fn a_damaged_header_or_a_missing_file_is_refused_and_can_be_salvaged() {
    let disk = TestDisk::default();
    let (mut journal, ..) = replay(&disk);
    let count = 40;
    for n in 0..count {
        put(&mut journal, &[n; 3000]);
    }
    drop(journal);
    let files: Vec<_> = disk
        .names()
        .into_iter()
        .filter(|n| n.ends_with(".journal"))
        .map(|n| Path::new(DIR).join(n))
        .collect();
    assert!(files.len() > 3);
    for file in &files {
        let disk = disk.fork();
        let mut bytes = disk.bytes(file);
        bytes[17] ^= 1;
        disk.set_bytes(file, &bytes);
        let Err(OpenError::Damaged(damage)) = try_replay(&disk, options(), Verify::All) else {
            panic!("opened")
        };
        assert_eq!((&damage.file, damage.offset), (file, 0));
        let plan = salvage::execute(&disk, Path::new(DIR)).expect("salvaged");
        assert_eq!((plan.kept_entries, plan.lost_bytes), (u64::from(count), 0));
        assert_eq!(replay(&disk).2.len(), usize::from(count));
    }
    for file in &files[1..files.len() - 1] {
        let disk = disk.fork();
        disk.remove(file).expect("removed");
        assert!(try_replay(&disk, options(), Verify::All).is_err());
        let plan = salvage::execute(&disk, Path::new(DIR)).expect("salvaged");
        assert!(plan.lost_bytes > 0 && plan.kept_entries < u64::from(count));
        assert_eq!(replay(&disk).2.len() as u64, plan.kept_entries);
        assert!(salvage::plan(&disk, Path::new(DIR)).expect("planned").rewritten.is_empty());
    }
}

#[test]
fn a_file_of_a_later_version_is_refused_by_name() {
    let disk = TestDisk::default();
    drop(replay(&disk));
    let path = only_file(&disk);
    let mut bytes = disk.bytes(&path);
    bytes[8] = 2;
    let crc = crc32c::crc32c(&bytes[..40]);
    bytes[40..44].copy_from_slice(&crc.to_le_bytes());
    disk.set_bytes(&path, &bytes);
    let Err(error) = try_replay(&disk, options(), Verify::All) else { panic!("opened") };
    let expected = "cannot be read: the file has format version 2, and this program reads version 1 only";
    assert!(error.to_string().ends_with(expected), "{error}");
}

#[test]
fn a_hole_that_was_never_synced_is_torn_and_nothing_behind_it_comes_back() {
    let disk = TestDisk::default();
    let (mut journal, ..) = replay(&disk);
    put(&mut journal, b"durable");
    let end = journal.end();
    for payload in [b"a", b"b", b"c"] {
        append(&mut journal, &[payload]).expect("appended");
    }
    let path = only_file(&disk);
    let mut bytes = disk.bytes(&path);
    bytes[journal.current.offset_of(end) as usize + 70] ^= 1;
    drop(journal);
    disk.set_bytes(&path, &bytes);
    let (mut journal, report, seen) = replay(&disk);
    assert_eq!((seen.len(), report.end, report.torn_groups, report.torn_bytes), (1, end, 3, 3 * 128));
    // The new group ends where an old one begins, with the same salt.
    put(&mut journal, b"x");
    drop(journal);
    let (_, report, seen) = replay(&disk);
    assert_eq!(seen.len(), 2);
    assert_eq!(report.torn_groups, 0);
}

#[test]
fn a_start_from_a_snapshot_s_position_reads_only_what_is_behind() {
    let disk = TestDisk::default();
    let (mut journal, ..) = replay(&disk);
    let mut ends = vec![journal.end()];
    for n in 0..40u8 {
        put(&mut journal, &[n; 2000]);
        ends.push(journal.end());
    }
    drop(journal);
    for (n, end) in ends.iter().enumerate() {
        let disk = disk.fork();
        let (journal, report, seen) = try_replay(&disk, options(), Verify::From(*end)).expect("opened");
        assert_eq!((seen.len(), report.groups), (40 - n, 40 - n as u64));
        assert_eq!((journal.epoch(), journal.end()), (Epoch(1), ends[40]));
    }
    for wanted in [Position(ends[40].0 + 64), Position(ends[3].0 + 64), Position(ends[40].0 + (1 << 30))] {
        assert!(try_replay(&disk.fork(), options(), Verify::From(wanted)).is_err(), "{wanted}");
    }
    let missing = try_replay(&TestDisk::default(), options(), Verify::From(Position(4096)));
    assert!(matches!(missing, Err(OpenError::OutOfReach { .. })));
}

#[test]
fn a_dump_gives_the_entries_of_a_range() {
    let disk = TestDisk::default();
    let (mut journal, ..) = replay(&disk);
    let positions: Vec<_> = (0..40u8).map(|n| put(&mut journal, &[n; 2000])).collect();
    let mut seen = Vec::new();
    inspect::dump(&disk, Path::new(DIR), positions[5], positions[30], &mut |entry| {
        seen.push(entry.position);
        ControlFlow::Continue(())
    })
    .expect("dumped");
    assert_eq!(seen, positions[5..30]);
}

#[test]
fn after_a_failed_write_or_sync_nothing_more_is_taken_and_nothing_acknowledged_is_lost() {
    for fail_in in 0..60 {
        let mut random = Random(fail_in + 1);
        let disk = TestDisk::default();
        let (mut journal, ..) = replay(&disk);
        disk.fail_in(Some(fail_in));
        let mut acknowledged = Vec::new();
        let failure = loop {
            let payload = vec![acknowledged.len() as u8; 1500];
            match append(&mut journal, &[&payload]) {
                Ok(_) => {}
                Err(AppendError::Failed(failure)) => break failure,
                Err(other) => panic!("{other}"),
            }
            match journal.sync() {
                Ok(_) => acknowledged.push(payload),
                Err(failure) => break failure,
            }
        };
        assert!(failure.why.contains("told to fail"));
        disk.fail_in(None);
        assert_eq!(append(&mut journal, &[b"more"]), Err(AppendError::Failed(failure.clone())));
        assert_eq!(journal.sync(), Err(failure));
        drop(journal);
        // The process starts again, and finds what the page cache holds; then the power goes.
        let (mut journal, report, seen) = replay(&disk);
        assert!(report.after_failure);
        put(&mut journal, b"after");
        drop(journal);
        disk.crash(&mut random, Tear::OldOrNew);
        let (_, report, again) = replay(&disk);
        assert!(!report.after_failure);
        let payloads: Vec<_> = again.iter().map(|(_, payload)| payload.clone()).collect();
        assert!(payloads.starts_with(&acknowledged), "fail in {fail_in}");
        assert_eq!(payloads.len(), seen.len() + 1);
    }
}

/// Random appends, syncs, trims and crashes beside a list of what was appended.
fn crashes(seed: u64, align_bytes: usize, tear: Tear) {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9) | 1);
    let options = Options { align_bytes, salt_seed: seed, ..options() };
    let disk = TestDisk::default();
    let open = |disk: &TestDisk| {
        try_replay(disk, options.clone(), Verify::All).unwrap_or_else(|error| panic!("seed {seed}: {error}"))
    };
    let (mut journal, ..) = open(&disk);
    let mut appended: Vec<(Position, Vec<u8>)> = Vec::new();
    let mut durable = 0;
    let mut next = 0u64;
    for _ in 0..120 {
        match random.below(12) {
            0..=5 => {
                let payloads: Vec<Vec<u8>> = (0..=random.below(3))
                    .map(|_| {
                        next += 1;
                        let mut payload = next.to_le_bytes().to_vec();
                        payload.resize(8 + random.below(3000) as usize, next as u8);
                        payload
                    })
                    .collect();
                let slices: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
                let positions = append(&mut journal, &slices).expect("appended");
                appended.extend(positions.into_iter().zip(payloads));
            }
            6..=8 => {
                journal.sync().expect("synced");
                durable = appended.len();
            }
            9 => {
                if random.one_in(2) && durable > 0 {
                    journal.trim(appended[random.below(durable as u64) as usize].0).expect("trimmed");
                }
            }
            what => {
                if what == 10 {
                    journal.close().expect("closed");
                    durable = appended.len();
                }
                drop(journal);
                if random.one_in(4) {
                    // Only the process dies.
                    durable = appended.len();
                } else {
                    disk.crash(&mut random, tear);
                }
                let (opened, report, seen) = open(&disk);
                journal = opened;
                let first = appended.partition_point(|(position, _)| *position < report.start);
                let kept = first + seen.len();
                assert!(kept >= durable, "seed {seed}: {kept} of {durable} durable entries are there");
                assert_eq!(seen, appended[first..kept], "seed {seed}");
                appended.truncate(kept);
                durable = kept;
            }
        }
    }
}

#[test]
fn no_crash_loses_what_was_synced_or_brings_back_what_was_not() {
    for seed in 0..300 {
        crashes(seed, 64, Tear::OldOrNew);
    }
}

#[test]
fn with_page_aligned_groups_not_even_a_sector_that_turns_to_garbage_loses_what_was_synced() {
    for seed in 0..300 {
        crashes(seed, 4096, Tear::Garbage);
    }
}

#[test]
fn trimmed_files_are_used_again_and_never_show_what_was_in_them() {
    let disk = TestDisk::default();
    let (mut journal, ..) = replay(&disk);
    let mut most = 0;
    for n in 0..400u32 {
        put(&mut journal, &[n.to_le_bytes(); 500].concat());
        let end = journal.end();
        journal.trim(end).expect("trimmed");
        most = most.max(disk.used());
        if n % 37 == 0 {
            drop(journal);
            let (opened, report, seen) = replay(&disk);
            assert_eq!(report.torn_groups, 0, "old bytes are no torn groups");
            assert_eq!(seen.last().expect("some").1[..4], n.to_le_bytes());
            assert!(seen.is_sorted());
            journal = opened;
        }
    }
    assert!(most <= 6 * (36 << 10), "{most} bytes are used");
}

#[test]
fn a_reader_beside_the_owner_sees_whole_entries_or_that_they_were_trimmed() {
    for (align_bytes, uncached) in [(64, false), (4096, false), (64, true), (4096, true)] {
        let dir = tempfile::tempdir().expect("a folder");
        let options = Options { align_bytes, ..options() };
        let opened = FileJournal::open(Arc::new(OsDisk), dir.path(), options, Verify::All);
        let journal = opened.expect("opened").0;
        let reader = journal.reader();
        read_beside_the_owner(journal, if uncached { reader.uncached() } else { reader });
    }
}

fn read_beside_the_owner(mut journal: FileJournal, reader: Reader) {
    let (sender, positions) = std::sync::mpsc::sync_channel::<(Position, u8)>(64);
    let checker = std::thread::spawn(move || {
        let (mut read, mut trimmed) = (0, 0);
        for (position, n) in positions {
            match reader.read_at(position, 2000) {
                Ok(bytes) => {
                    assert_eq!(bytes.as_ref(), [n; 2000]);
                    read += 1;
                }
                Err(ReadError::Trimmed { .. }) => trimmed += 1,
                Err(other) => panic!("{other}"),
            }
            let end = reader.end();
            match reader.scan(position, end, &mut |entry| {
                assert!(entry.payload.iter().all(|byte| *byte == entry.payload[0]));
                ControlFlow::Continue(())
            }) {
                Ok(_) | Err(ReadError::Trimmed { .. } | ReadError::OutOfRange { .. }) => {}
                Err(other) => panic!("{other}"),
            }
        }
        (read, trimmed)
    });
    for n in 0..1500u32 {
        let position = append(&mut journal, &[&[n as u8; 2000]]).expect("appended")[0];
        let _ = sender.try_send((position, n as u8));
        if n % 10 == 0 {
            journal.sync().expect("synced");
            let end = journal.end();
            journal.trim(end).expect("trimmed");
        }
    }
    drop(sender);
    let (read, trimmed) = checker.join().expect("no panic");
    assert!(read > 0, "{read} read, {trimmed} trimmed");
}

#[test]
fn a_full_disk_leaves_room_for_acknowledgements_and_is_noticed_before_it_fails() {
    let disk = TestDisk::default();
    let (mut journal, ..) = replay(&disk);
    assert_eq!(journal.space(), Space::Enough);
    disk.set_capacity(Some(disk.used() + (20 << 10)));
    let mut room = None;
    for _ in 0..100 {
        put(&mut journal, &[1; 1000]);
        if let Space::Low { room_bytes } = journal.space() {
            room = Some(room_bytes);
            break;
        }
    }
    let room = room.expect("noticed");
    assert!(room >= 4 << 10, "{room} bytes are left");
    for _ in 0..room / (1024 + 64 + 64) {
        put(&mut journal, &[2; 1000]);
    }
    let Space::Low { room_bytes } = journal.space() else { panic!("no more room came") };
    assert!(room_bytes < 2048);
    disk.set_capacity(None);
    let _ = journal.space();
    assert_eq!(journal.space(), Space::Enough);
    put(&mut journal, &[3; 1000]);
    drop(journal);
    assert_eq!(replay(&disk).2.last().expect("some").1, [3; 1000]);
}

#[test]
fn what_is_read_past_the_page_cache_is_what_was_written_by_either_way() {
    let dir = tempfile::tempdir().expect("a folder");
    let options = Options { align_bytes: PAGE_BYTES, file_bytes: 256 << 10, ..options() };
    let opened = FileJournal::open(Arc::new(OsDisk), dir.path(), options, Verify::All);
    let mut journal = opened.expect("opened").0;
    let (cached, uncached) = (journal.reader(), journal.reader().uncached());
    let mut written = Vec::new();
    for n in 0..200_u32 {
        // Every third stretch is read by one who is behind, and what follows goes through the page cache.
        journal.shared.cached_until.store(if n / 10 % 3 == 0 { u64::MAX } else { 0 }, Ordering::Relaxed);
        assert_eq!(journal.shared.is_read_soon(journal.end), n / 10 % 3 == 0);
        let payload: Vec<u8> = (0..(n as usize * 97) % 9_000 + 1).map(|at| (at as u32 * n) as u8).collect();
        written.push((put(&mut journal, &payload), payload));
        for (position, payload) in written.iter().rev().take(20) {
            for reader in [&uncached, &cached] {
                let read = reader.read_at(*position, payload.len()).expect("read");
                assert!(read == payload[..], "{n}: {position:?}");
            }
        }
    }
    let past = uncached.read_at(journal.end(), 1);
    assert!(matches!(past, Err(ReadError::OutOfRange { .. })), "{past:?}");
}

#[test]
fn after_a_reader_who_is_behind_so_many_bytes_are_kept_in_the_page_cache() {
    let disk = TestDisk::default();
    let (mut journal, ..) = replay(&disk);
    let position = put(&mut journal, b"entry");
    let is_read_soon = |after: u64| journal.shared.is_read_soon(Position(journal.end().0 + after));
    journal.reader().uncached().read_at(position, 5).expect("read");
    assert!(!is_read_soon(0), "who settles is not behind");
    journal.reader().read_at(position, 5).expect("read");
    assert!(is_read_soon(CACHED_AFTER_READ_BYTES - 1));
    assert!(!is_read_soon(CACHED_AFTER_READ_BYTES));
}
