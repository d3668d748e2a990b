//! Commit groups: any bytes give a frame or an error, and its entries lie inside of it, one behind the other.

use waystation_base::Position;
use waystation_journal::{
    Epoch,
    layout::frame::{Frame, FrameHeader, HEADER_BYTES},
};

use crate::Target;

pub const TARGET: Target = Target { name: "journal-frame", seeds, run };

fn seeds() -> Vec<Vec<u8>> {
    vec![frame(&[]), frame(&[(1, b"hello")]), frame(&[(7, b""), (9, &[0xAB; 100]), (1, b"x")])]
}

fn frame(entries: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    for (kind, payload) in entries {
        bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        bytes.push(*kind);
        bytes.extend_from_slice(payload);
    }
    let entry_bytes = (bytes.len() - HEADER_BYTES) as u32;
    bytes.resize(bytes.len().next_multiple_of(64), 0);
    let header = FrameHeader {
        void: entries.is_empty(),
        length: bytes.len() as u32,
        entries: entries.len() as u32,
        entry_bytes,
        start: Position(4096),
        synced_through: Position(4096),
        epoch: Epoch(3),
        salt: 0x1122_3344_5566_7788,
    };
    header.seal(&mut bytes);
    bytes
}

fn run(data: &[u8]) -> bool {
    let is_good = read(data);
    // Checksums stop nearly every mutation: with the right ones in place the rest is reached too.
    if let Some(sealed) = sealed(data) {
        read(&sealed);
    }
    is_good
}

/// The same bytes with magic, version and both checksums as they should be (drawn in `layout::frame`).
fn sealed(data: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = data.to_vec();
    bytes.get_mut(..10)?.copy_from_slice(&frame(&[])[..10]);
    let header_crc = crc32c::crc32c(bytes.get(..56)?);
    bytes.get_mut(56..60)?.copy_from_slice(&header_crc.to_le_bytes());
    let length = FrameHeader::decode(&bytes).ok()?.length as usize;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..60]), bytes.get(HEADER_BYTES..length)?);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    Some(bytes)
}

fn read(data: &[u8]) -> bool {
    let Ok(frame) = Frame::decode(data) else { return false };
    let header = frame.header;
    assert!(header.length as usize <= data.len(), "a frame is longer than its bytes");
    assert!(header.end() > header.start);
    let mut end = header.start.0 + HEADER_BYTES as u64;
    let mut count = 0;
    for entry in frame.entries().map_while(Result::ok) {
        assert!(entry.position.0 > end, "an entry begins inside of the one before");
        end = entry.position.0 + entry.payload.len() as u64;
        count += 1;
    }
    assert!(end <= header.end().0, "an entry reaches out of its frame");
    assert!(count <= header.entries);
    count == header.entries
}
