//! Heads of snapshots: any bytes give a header within its limits or an error, and a header is written as it was read.

use waystation_base::Position;
use waystation_journal::{
    limits::SNAPSHOT_BYTES_MAX,
    snapshot::{HEADER_BYTES, Header},
};

use crate::Target;

pub const TARGET: Target = Target { name: "snapshot-header", seeds, run };

fn seeds() -> Vec<Vec<u8>> {
    let header = |bytes| Header { position: Position(1 << 30), bytes, crc: 7 }.encode().to_vec();
    vec![header(0), header(1000), header(SNAPSHOT_BYTES_MAX)]
}

fn run(data: &[u8]) -> bool {
    let is_good = read(data);
    // With the right magic and checksum in place the rest is reached too (drawn in `journal::snapshot`).
    if data.len() >= HEADER_BYTES {
        let mut sealed = data.to_vec();
        sealed[..12].copy_from_slice(&seeds()[0][..12]);
        let crc = crc32c::crc32c(&sealed[..32]);
        sealed[32..36].copy_from_slice(&crc.to_le_bytes());
        read(&sealed);
    }
    is_good
}

fn read(data: &[u8]) -> bool {
    let Ok(header) = Header::decode(data) else { return false };
    assert!(header.bytes <= SNAPSHOT_BYTES_MAX);
    assert_eq!(Header::decode(&header.encode()), Ok(header));
    true
}
