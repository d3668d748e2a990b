//! Heads of journal files: any bytes give a header or an error, and a header that was read is written as it was.

use waystation_base::Position;
use waystation_journal::{
    Epoch,
    layout::file_header::{FileHeader, HEADER_BYTES, header_bytes, offset_of, position_of},
};

use crate::Target;

pub const TARGET: Target = Target { name: "journal-file-header", seeds, run };

fn seeds() -> Vec<Vec<u8>> {
    let header = |base| FileHeader { base: Position(base), salt: 77, epoch: Epoch(2) }.encode().to_vec();
    vec![header(0), header(64), header(1 << 40)]
}

fn run(data: &[u8]) -> bool {
    let is_good = read(data);
    if data.len() >= HEADER_BYTES {
        let mut sealed = data.to_vec();
        sealed[..16].copy_from_slice(&seeds()[0][..16]);
        let crc = crc32c::crc32c(&sealed[..40]);
        sealed[40..44].copy_from_slice(&crc.to_le_bytes());
        read(&sealed);
    }
    is_good
}

fn read(data: &[u8]) -> bool {
    let Ok(header) = FileHeader::decode(data) else { return false };
    assert_eq!(FileHeader::decode(&header.encode()), Ok(header));
    let first = offset_of(header.base, header.base);
    assert_eq!(first, header_bytes(header.base));
    assert_eq!(position_of(header.base, first), header.base);
    true
}
