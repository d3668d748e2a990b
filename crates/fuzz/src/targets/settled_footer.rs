//! Footers of settled files: any bytes give runs that lie inside of the file, or an error; what was read is written as it was.

use waystation_base::{EntityId, Millis, Offset};
use waystation_journal::settled::layout::{Footer, HEADER_BYTES, IndexEntry, Run};

use crate::Target;

pub const TARGET: Target = Target { name: "settled-footer", seeds, run };

/// Where the footer begins: so many bytes may the runs fill, the file's header included.
const FOOTER_OFFSET: u64 = 10_000;

fn seeds() -> Vec<Vec<u8>> {
    let run = |entity, file_offset, index_first| Run {
        entity: EntityId(entity),
        log: 1,
        first: Offset(10),
        last: Offset(90),
        batches: 3,
        file_offset,
        bytes: 3000,
        min_timestamp: Millis(1_500_000_000_000),
        max_timestamp: Millis(1_500_000_090_000),
        index_first,
        index_entries: 1,
    };
    let entry = |file_offset| IndexEntry {
        first: Offset(10),
        file_offset,
        max_timestamp_before: Millis(1_500_000_000_000),
    };
    let two = Footer { runs: vec![run(7, 32, 0), run(8, 3032, 1)], index: vec![entry(32), entry(3032)] };
    vec![Footer::default().encode(), two.encode()]
}

fn run(data: &[u8]) -> bool {
    let Ok(footer) = Footer::decode(data, FOOTER_OFFSET) else { return false };
    for run in &footer.runs {
        assert!(run.file_offset >= HEADER_BYTES as u64 && run.file_offset + run.bytes <= FOOTER_OFFSET);
        assert!(run.first <= run.last);
        let entries = run.index_first as usize..(run.index_first + run.index_entries) as usize;
        assert!(footer.index.get(entries).is_some(), "a run names index entries that are not there");
    }
    assert_eq!(Footer::decode(&footer.encode(), FOOTER_OFFSET), Ok(footer));
    true
}
