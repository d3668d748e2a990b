//! Whether the simulated disk keeps what it must keep, and loses what it may lose.

use std::{collections::BTreeSet, io, path::Path};

use proptest::prelude::*;
use waystation_base::disk::{Disk, File};

use super::*;

fn dir() -> &'static Path {
    Path::new("/data")
}

fn path(name: &str) -> PathBuf {
    dir().join(name)
}

fn bytes(disk: &SimDisk, name: &str) -> Option<Vec<u8>> {
    let file = disk.open(&path(name), false).ok()?;
    let mut bytes = vec![0; file.len().expect("a length") as usize];
    file.read_exact_at(&mut bytes, 0).expect("read");
    Some(bytes)
}

fn file(disk: &SimDisk, name: &str, content: &[u8]) -> Arc<dyn File> {
    let file = disk.open(&path(name), true).expect("opened");
    file.write_all_at(content, 0).expect("written");
    file
}

#[test]
fn a_killed_process_loses_nothing_that_it_wrote() {
    let disk = SimDisk::new(1);
    file(&disk, "a", b"written");
    disk.crash(Crash::Kill);
    assert_eq!(bytes(&disk, "a").as_deref(), Some(&b"written"[..]));
}

#[test]
fn a_write_that_was_not_synced_is_there_after_a_power_cut_or_not_or_in_part() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let disk = SimDisk::new(seed);
        let old = file(&disk, "a", &[1; 4 * SECTOR_BYTES]);
        old.sync_data().expect("synced");
        disk.sync_dir(dir()).expect("synced");
        old.write_all_at(&[2; 4 * SECTOR_BYTES], 0).expect("written");
        disk.crash(Crash::Power);
        let found = bytes(&disk, "a").expect("its name was synced");
        assert!(found.chunks(SECTOR_BYTES).all(|sector| sector.iter().all(|byte| *byte == sector[0])));
        seen.insert(found.chunks(SECTOR_BYTES).map(|sector| sector[0]).collect::<Vec<_>>());
    }
    assert!(
        seen.contains([1; 4].as_slice()) && seen.contains([2; 4].as_slice()) && seen.len() > 4,
        "{seen:?}"
    );
}

#[test]
fn a_name_that_was_not_synced_is_there_after_a_power_cut_or_not() {
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        let disk = SimDisk::new(seed);
        file(&disk, "old", b"x").sync_data().expect("synced");
        disk.sync_dir(dir()).expect("synced");
        disk.rename(&path("old"), &path("new")).expect("renamed");
        file(&disk, "other", b"y").sync_data().expect("synced");
        disk.crash(Crash::Power);
        let is_there = |name| bytes(&disk, name).is_some();
        assert_ne!(is_there("old"), is_there("new"), "a rename is whole");
        seen.insert((is_there("new"), is_there("other")));
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
}

#[test]
fn it_writes_short_fails_and_fills_up_as_told() {
    let disk = SimDisk::new(3);
    let a = file(&disk, "a", b"");
    disk.set_faults(Faults { short_write_one_in: 1, ..Faults::default() });
    assert!(a.write_at(&[7; 100], 0).expect("written") < 100);
    disk.set_faults(Faults { write_error_one_in: 1, ..Faults::default() });
    assert!(a.write_at(&[7; 100], 0).is_err());
    disk.set_faults(Faults { sync_error_one_in: 1, ..Faults::default() });
    assert!(a.sync_data().is_err() && disk.sync_dir(dir()).is_err());
    disk.set_faults(Faults { capacity_bytes: Some(100), ..Faults::default() });
    assert_eq!(disk.free_bytes(dir()).expect("free"), 100 - disk.used_bytes());
    a.write_all_at(&[8; 100], 0).expect("there is room");
    assert_eq!(a.write_at(&[8], 100).expect_err("full").kind(), io::ErrorKind::StorageFull);
    a.write_all_at(&[9; 100], 0).expect("in place");
    assert!(disk.failures() >= 4);
}

#[test]
fn after_a_failed_sync_the_next_one_does_not_make_good_what_was_lost() {
    let lost = (0..50).any(|seed| {
        let disk = SimDisk::new(seed);
        let a = file(&disk, "a", &[0; SECTOR_BYTES]);
        a.sync_data().expect("synced");
        disk.sync_dir(dir()).expect("synced");
        a.write_all_at(&[1; SECTOR_BYTES], 0).expect("written");
        disk.set_faults(Faults { sync_error_one_in: 1, ..Faults::default() });
        assert!(a.sync_data().is_err());
        disk.set_faults(Faults::default());
        a.sync_data().expect("synced");
        disk.crash(Crash::Power);
        bytes(&disk, "a").expect("there")[0] == 0
    });
    assert!(lost);
}

proptest! {
    #[test]
    fn what_was_synced_is_always_kept(
        seed: u64,
        writes in proptest::collection::vec((0usize..3000, 1usize..2000, any::<u8>(), any::<bool>()), 1..20),
    ) {
        let disk = SimDisk::new(seed);
        let a = file(&disk, "a", b"");
        disk.sync_dir(dir()).expect("synced");
        disk.set_faults(Faults { short_write_one_in: 3, ..Faults::default() });
        let (mut model, mut synced) = (Vec::new(), Vec::new());
        let mut touched: BTreeSet<usize> = BTreeSet::new();
        for (at, length, byte, sync) in writes {
            a.write_all_at(&vec![byte; length], at as u64).expect("written");
            if model.len() < at + length {
                model.resize(at + length, 0);
            }
            model[at..at + length].fill(byte);
            touched.extend(at / SECTOR_BYTES..(at + length).div_ceil(SECTOR_BYTES));
            if sync {
                a.sync_data().expect("synced");
                synced = model.clone();
                touched.clear();
            }
        }
        prop_assert_eq!(bytes(&disk, "a").expect("there"), model.clone());
        disk.crash(Crash::Power);
        let found = bytes(&disk, "a").expect("its name was synced");
        prop_assert!(found.len() >= synced.len());
        for (sector, kept) in synced.chunks(SECTOR_BYTES).enumerate() {
            if !touched.contains(&sector) {
                prop_assert_eq!(&found[sector * SECTOR_BYTES..][..kept.len()], kept);
            }
        }
    }
}
