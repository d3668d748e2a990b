//! Do journal files keep what was synced, cut a torn tail, and refuse damage?

use std::{path::Path, sync::Arc};

use waystation_base::os::OsDisk;

use super::*;

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
