//! Footers of record files: any bytes give blocks and pages that lie inside of the file and in order, or an error; what was read is
//! written as it was.

use waystation_journal::record::layout::{BlockRef, Footer, HEADER_BYTES, INDEX_ENTRY_BYTES, PageRef};

use crate::Target;

pub const TARGET: Target = Target { name: "record-footer", seeds, run };

/// Where blocks and pages end.
const END: u64 = 10_000;

fn seeds() -> Vec<Vec<u8>> {
    let block = |first, offset| BlockRef { first, offset, bytes: 3000, crc: 7 };
    let page = |first, offset| PageRef { first, offset, entries: 100, crc: 9 };
    let two = Footer {
        blocks: vec![block(1 << 80, 32), block(2 << 80, 3032)],
        pages: vec![page(5, 6032), page(1 << 60, 7232)],
    };
    vec![Footer::default().encode(), two.encode()]
}

fn run(data: &[u8]) -> bool {
    let Ok(footer) = Footer::decode(data, END) else { return false };
    for block in &footer.blocks {
        assert!(block.offset >= HEADER_BYTES as u64 && block.offset + u64::from(block.bytes) <= END);
    }
    for page in &footer.pages {
        let bytes = u64::from(page.entries) * INDEX_ENTRY_BYTES as u64;
        assert!(page.offset >= HEADER_BYTES as u64 && page.offset + bytes <= END);
    }
    assert!(footer.blocks.is_sorted_by_key(|block| block.first));
    assert_eq!(Footer::decode(&footer.encode(), END), Ok(footer));
    true
}
