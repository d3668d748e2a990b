//! Record files give back what was written, and notice every changed byte.

use std::{fs, sync::Arc};

use tempfile::TempDir;
use waystation_base::os::OsDisk;

use super::{layout::*, *};
use crate::limits::{RECORD_BLOCK_BYTES_MAX, RECORD_META_BYTES_MAX};

fn store() -> (TempDir, Arc<Store>) {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(Arc::new(OsDisk), dir.path()).expect("a store");
    (dir, store)
}

/// A file of ten blocks whose things have the keys 0, 10, 20 …, and hashes that each lead to two blocks.
fn filled(store: &Arc<Store>, id: u32, hashes: u64) -> u64 {
    let mut writer = store.create(id).expect("a writer");
    for block in 0..10 {
        writer.block(block * 10, format!("block {block}").as_bytes()).expect("a block");
    }
    let mut index: Vec<_> = (0..hashes).flat_map(|n| [(n * 7, (n % 10) as u32), (n * 7, 9)]).collect();
    index.reverse();
    writer.finish(&mut index, b"meta").expect("finished")
}

#[test]
fn blocks_are_found_by_key_and_by_hash() {
    let (_dir, store) = store();
    let bytes = filled(&store, 3, 1000);
    assert_eq!((store.files().expect("files"), store.length(3).expect("a length")), (vec![3], bytes));
    let table = store.table(3).expect("a table");
    assert_eq!((table.meta.as_ref(), table.blocks()), (b"meta".as_slice(), 10));
    assert_eq!(table.block(4).expect("a block"), (40, Bytes::from_static(b"block 4")));
    assert_eq!(table.blocks_of(45, 45), 4..5);
    assert_eq!(table.blocks_of(40, 40), 3..5, "the block before may end with that key");
    assert_eq!(table.blocks_of(0, u128::MAX), 0..10);
    assert_eq!(table.blocks_of(95, 99), 9..10);
    for n in [0, 1, 170, 171, 999] {
        let expected = if n % 10 == 9 { vec![9] } else { vec![(n % 10) as u32, 9] };
        assert_eq!(table.find(n * 7, 9).expect("found"), expected, "{n}");
    }
    assert_eq!(table.find(8, 9).expect("looked"), Vec::<u32>::new());
    assert_eq!(table.find(7, 1).expect("found").len(), 1);
    assert_eq!(store.verify(3).expect("good"), 10);
    store.remove(3).expect("removed");
    assert!(store.table(3).is_err_and(|error| error.is_gone()));
}

#[test]
fn an_empty_file_holds_nothing_and_is_good() {
    let (_dir, store) = store();
    store.create(1).expect("a writer").finish(&mut Vec::new(), b"").expect("finished");
    let table = store.table(1).expect("a table");
    assert_eq!((table.blocks_of(0, 9), table.find(1, 9).expect("looked")), (0..0, Vec::new()));
}

#[test]
fn every_changed_byte_of_a_file_is_noticed() {
    let (dir, store) = store();
    filled(&store, 1, 20);
    let path = store.path_of(1);
    let whole = fs::read(&path).expect("a file");
    for at in (0..whole.len()).filter(|at| !(20..HEADER_BYTES).contains(at)) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&path, bytes).expect("written");
        let error = store.verify(1).expect_err("noticed");
        assert!(matches!(error, Error::Damaged { .. }), "byte {at}: {error}");
    }
    for length in [0, HEADER_BYTES, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..length]).expect("written");
        assert!(store.verify(1).is_err(), "cut to {length}");
    }
    drop(dir);
}

#[test]
fn what_was_not_finished_is_removed_at_the_next_start() {
    let (dir, store) = store();
    let mut writer = store.create(5).expect("a writer");
    writer.block(1, b"x").expect("a block");
    std::mem::drop(writer);
    fs::write(dir.path().join("0000000007.writing"), b"half").expect("written");
    let store = Store::open(Arc::new(OsDisk), dir.path()).expect("a store");
    assert_eq!(store.files().expect("files"), Vec::<u32>::new());
    assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 0);
}

#[test]
fn limits_hold_at_the_bound_and_past_it() {
    let (_dir, store) = store();
    let mut writer = store.create(1).expect("a writer");
    writer.block(0, &vec![0; RECORD_BLOCK_BYTES_MAX]).expect("at the bound");
    assert!(writer.block(0, &vec![0; RECORD_BLOCK_BYTES_MAX + 1]).is_err());
    assert!(writer.finish(&mut Vec::new(), &vec![0; RECORD_META_BYTES_MAX + 1]).is_err());
    let writer = store.create(1).expect("a writer");
    writer.finish(&mut Vec::new(), &vec![0; RECORD_META_BYTES_MAX]).expect("at the bound");
}

#[test]
fn a_later_version_and_a_footer_that_points_outside_are_refused() {
    let mut header = encode_header(7);
    assert_eq!(decode_header(&header), Ok(7));
    header[8] = 9;
    let crc = crc32c::crc32c(&header[..16]);
    header[16..20].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(decode_header(&header), Err(LayoutError::Version { found: 9, read: VERSION }));
    let block = BlockRef { first: 1, offset: 32, bytes: 68, crc: 0 };
    let page = PageRef { first: 1, offset: 88, entries: 1, crc: 0 };
    let footer = Footer { blocks: vec![block], pages: vec![page] };
    assert_eq!(Footer::decode(&footer.encode(), 100), Ok(footer.clone()));
    assert_eq!(Footer::decode(&footer.encode(), 99), Err(LayoutError::Contradiction));
    let encoded = footer.encode();
    for length in 0..encoded.len() {
        assert!(Footer::decode(&encoded[..length], 100).is_err());
    }
    let pages = vec![page, PageRef { first: 0, ..page }];
    let unsorted = Footer { pages, ..footer };
    assert_eq!(Footer::decode(&unsorted.encode(), 100), Err(LayoutError::Contradiction));
}
