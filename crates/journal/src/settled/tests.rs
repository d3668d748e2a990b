//! Do settled files give back what was written, find it by offset and time, and refuse damage?

use std::ops::Range;

use waystation_base::{EntityId, os::OsDisk};

use super::*;
use crate::test_disk::{Random, Tear, TestDisk};

fn store(dir: &Path) -> Arc<Store> {
    Store::open(Arc::new(OsDisk), dir).expect("opened")
}

fn payload(n: u64, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (n as usize * 31 + at) as u8).collect()
}

/// A file with `runs` runs of `batches` batches of five offsets and a gap of five, ten milliseconds apart.
fn write(store: &Arc<Store>, id: u32, runs: u16, batches: u64, bytes: usize) -> FileInfo {
    let mut writer = store.create(id).expect("created");
    for log in 0..runs {
        writer.begin_run(EntityId(7), log);
        for n in 0..batches {
            let (first, last) = (Offset(100 + n * 10), Offset(104 + n * 10));
            writer.batch(first, last, Millis(1000 + n * 10), &payload(n, bytes)).expect("written");
        }
    }
    writer.finish().expect("finished")
}

#[test]
fn batches_are_read_from_any_offset_to_the_end() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = store(dir.path());
    for (id, bytes) in [(1, 100), (2, 5000), (3, 200_000)] {
        let info = write(&store, id, 3, 50, bytes);
        assert_eq!(store.info(id).expect("read"), info);
        assert_eq!(store.length(id).expect("there"), info.bytes);
        assert_eq!(store.verify(id).expect("whole"), 150);
        for run in &info.runs {
            for from in [0, 100, 104, 105, 109, 110, 355, 594] {
                let mut next = Offset(from);
                let mut n = from.saturating_sub(95) / 10;
                while next <= run.last {
                    let batches = store.read(id, run, next, 20_000).expect("read");
                    assert!(!batches.is_empty());
                    assert!(
                        batches.len() == 1 || batches.iter().map(|b| b.bytes.len()).sum::<usize>() <= 20_000
                    );
                    for batch in batches {
                        assert_eq!(batch.first, Offset(100 + n * 10), "from {from}");
                        assert_eq!(batch.bytes, payload(n, bytes));
                        next = batch.last.next();
                        n += 1;
                    }
                }
                assert_eq!(n, 50);
            }
            assert!(store.read(id, run, Offset(595), 1).expect("read").is_empty());
        }
    }
    assert_eq!(store.files().expect("listed"), [1, 2, 3]);
    store.remove(2).expect("removed");
    assert_eq!(store.files().expect("listed"), [1, 3]);
}

#[test]
fn a_time_is_found_between_and_outside_of_the_batches() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = store(dir.path());
    let info = write(&store, 1, 2, 100, 3000);
    for run in &info.runs {
        assert!(run.index_entries > 0, "the index is used");
        for n in 0..100 {
            for time in [991 + n * 10, 1000 + n * 10] {
                let found = store.find_time(1, run, Millis(time)).expect("read");
                assert_eq!(found, Some(Offset(100 + n * 10)), "{time}");
            }
        }
        assert_eq!(store.find_time(1, run, Millis(0)).expect("read"), Some(Offset(100)));
        assert_eq!(store.find_time(1, run, Millis(1991)).expect("read"), None);
    }
}

#[test]
fn a_damaged_byte_is_named_by_file_and_offset_and_never_returned() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = store(dir.path());
    let info = write(&store, 1, 2, 5, 50);
    let path = dir.path().join("0000000001.settled");
    let whole = std::fs::read(&path).expect("read");
    for at in 0..whole.len() {
        // Twelve bytes of the header are reserved.
        let reserved = (20..32).contains(&at);
        let mut bytes = whole.clone();
        bytes[at] ^= 0x20;
        std::fs::write(&path, &bytes).expect("written");
        store.forget(1);
        match store.verify(1) {
            Err(Error::Damaged { path: named, offset, .. }) => {
                assert_eq!(named, path);
                assert!(offset <= at as u64, "byte {at}, said {offset}");
            }
            Err(other) => panic!("byte {at}: {other}"),
            Ok(_) => assert!(reserved, "byte {at}"),
        }
        for run in &info.runs {
            for batch in store.read(1, run, run.first, 10_000).into_iter().flatten() {
                assert_eq!(batch.bytes, payload((batch.first.0 - 100) / 10, 50));
            }
        }
    }
    for length in 0..whole.len() {
        std::fs::write(&path, &whole[..length]).expect("written");
        store.forget(1);
        assert!(matches!(store.info(1), Err(Error::Damaged { .. })), "length {length}");
    }
}

#[test]
fn an_unfinished_file_is_not_there() {
    let dir = tempfile::tempdir().expect("a folder");
    let store_1 = store(dir.path());
    let mut writer = store_1.create(1).expect("created");
    writer.begin_run(EntityId(1), 0);
    writer.batch(Offset(0), Offset(0), Millis(0), b"x").expect("written");
    assert!(store_1.files().expect("listed").is_empty());
    drop(writer);
    std::fs::write(dir.path().join("0000000002.writing"), b"half").expect("written");
    let store_2 = store(dir.path());
    assert!(store_2.files().expect("listed").is_empty());
    assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 0);
}

#[test]
fn a_power_cut_at_any_moment_leaves_no_file_or_a_whole_one() {
    for fail_in in 0..12 {
        for seed in 1..6 {
            let disk = TestDisk::default();
            let dir = Path::new("/settled");
            let store = Store::open(Arc::new(disk.clone()), dir).expect("opened");
            disk.fail_in(Some(fail_in));
            let mut writer = store.create(1).expect("created");
            writer.begin_run(EntityId(7), 0);
            let mut result = Ok(());
            for n in 0..40 {
                let batch = writer.batch(Offset(n), Offset(n), Millis(n), &payload(n, 150_000));
                result = result.and(batch);
            }
            let finished = result.is_ok() && writer.finish().is_ok();
            disk.crash(&mut Random(seed), Tear::Garbage);
            let store = Store::open(Arc::new(disk.clone()), dir).expect("opened");
            let files = store.files().expect("listed");
            assert!(!finished || files == [1], "a finished file is there");
            for id in files {
                assert_eq!(store.verify(id).expect("whole"), 40);
            }
        }
    }
}

#[test]
fn empty_runs_leave_no_trace_and_an_empty_file_is_whole() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = store(dir.path());
    let mut writer = store.create(1).expect("created");
    writer.begin_run(EntityId(1), 0);
    writer.begin_run(EntityId(2), 0);
    writer.batch(Offset(4), Offset(4), Millis(9), b"x").expect("written");
    writer.begin_run(EntityId(3), 0);
    let info = writer.finish().expect("finished");
    assert_eq!(info.runs.iter().map(|run| run.entity).collect::<Vec<_>>(), [EntityId(2)]);
    assert_eq!(store.info(1).expect("whole"), info);
    let empty = store.create(2).expect("created").finish().expect("finished");
    assert_eq!(store.info(2).expect("whole"), empty);
}

#[test]
fn a_batch_at_its_limit_is_kept_and_one_past_it_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = store(dir.path());
    let mut writer = store.create(1).expect("created");
    writer.begin_run(EntityId(1), 0);
    let mut bytes = vec![1; SETTLED_BATCH_BYTES_MAX];
    writer.batch(Offset(0), Offset(0), Millis(0), &bytes).expect("fits");
    bytes.push(1);
    let refused = writer.batch(Offset(1), Offset(1), Millis(0), &bytes);
    assert!(matches!(refused, Err(Error::BatchTooLarge { .. })));
    let info = writer.finish().expect("finished");
    let batches = store.read(1, &info.runs[0], Offset(0), 1).expect("read");
    assert_eq!(batches[0].bytes.len(), SETTLED_BATCH_BYTES_MAX);
}

#[test]
fn many_files_are_read_with_few_open() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = store(dir.path());
    let infos: Vec<_> = (0..OPEN_FILES_MAX as u32 + 10).map(|id| write(&store, id, 1, 2, 10)).collect();
    for _ in 0..2 {
        for info in &infos {
            assert_eq!(store.read(info.id, &info.runs[0], Offset(0), 1000).expect("read").len(), 2);
        }
    }
    assert_eq!(store.cache(|cache| cache.files.len()), OPEN_FILES_MAX);
}

#[test]
fn what_will_be_needed_is_what_is_then_read_and_each_stretch_is_told_once() {
    let disk = TestDisk::default();
    let store = Store::open(Arc::new(disk.clone()), Path::new("d")).expect("opened");
    for (id, bytes) in [(1, 100), (2, 5000), (3, 200_000)] {
        write(&store, id, 2, 200, bytes);
        let info = store.info(id).expect("opened");
        for run in &info.runs {
            for every in [1, 3, 40] {
                let offsets =
                    || (0..200).step_by(every).flat_map(|n| [100 + n * 10, 104 + n * 10]).map(Offset);
                disk.take_reads();
                store.will_need(id, run, offsets()).expect("told");
                let (reads, needs) = disk.take_reads();
                assert!(reads.is_empty() && needs.is_sorted_by(|a, b| a.end <= b.start), "{needs:?}");
                for offset in offsets() {
                    store.read(id, run, offset, 4096).expect("read");
                }
                let (reads, _) = disk.take_reads();
                // Of what is read along behind a batch no more than its beginning need have been told.
                let told = |read: &Range<u64>| needs.iter().any(|need| need.contains(&read.start));
                assert!(!reads.is_empty() && reads.iter().all(told), "{bytes} {every}");
            }
        }
    }
}
