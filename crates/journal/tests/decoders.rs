//! Whether any bytes at all make a decoder panic, or pass for what they are not.

use proptest::prelude::*;
use waystation_base::{EntityId, Millis, Offset, Position};
use waystation_journal::{
    Epoch,
    layout::{
        file_header::FileHeader,
        frame::{Frame, FrameHeader},
    },
    settled::layout::{BatchHeader, Footer, IndexEntry, Run, Trailer, decode_header},
    snapshot,
};

/// A whole frame with these payloads.
fn frame(payloads: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![0; 64];
    for payload in payloads {
        bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        bytes.push(payload.len() as u8);
        bytes.extend_from_slice(payload);
    }
    let entry_bytes = bytes.len() as u32 - 64;
    bytes.resize(bytes.len().next_multiple_of(64), 0);
    seal(&mut bytes, payloads.len() as u32, entry_bytes);
    bytes
}

fn seal(bytes: &mut [u8], entries: u32, entry_bytes: u32) {
    let header = FrameHeader {
        void: false,
        length: bytes.len() as u32,
        entries,
        entry_bytes,
        start: Position(640),
        synced_through: Position(64),
        epoch: Epoch(3),
        salt: 9,
    };
    header.seal(bytes);
}

fn decode_all(bytes: &[u8]) {
    let _ = FileHeader::decode(bytes);
    if let Ok(frame) = Frame::decode(bytes) {
        frame.entries().for_each(drop);
    }
    let _ = snapshot::Header::decode(bytes);
    let _ = decode_header(bytes);
    let _ = BatchHeader::decode(bytes);
    let _ = Trailer::decode(bytes, bytes.len() as u64);
    let _ = Footer::decode(bytes, 1 << 40);
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        decode_all(&bytes);
    }

    #[test]
    fn payloads_come_back_from_a_frame(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20)) {
        let bytes = frame(&payloads);
        let frame = Frame::decode(&bytes).expect("whole");
        let mut position = 640 + 64;
        for (entry, payload) in frame.entries().zip(&payloads) {
            let entry = entry.expect("whole");
            prop_assert_eq!(entry.payload, payload.as_slice());
            prop_assert_eq!(entry.position, Position(position + 5));
            position += 5 + payload.len() as u64;
        }
        prop_assert_eq!(frame.entries().count(), payloads.len());
    }

    /// A writer with a mistake, or one who means ill, can make checksums fit.
    #[test]
    fn entries_that_lie_about_their_length_are_an_error(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 1..6),
        at in 64usize..200,
        value in any::<u8>(),
    ) {
        let mut bytes = frame(&payloads);
        let (entries, entry_bytes) = (payloads.len() as u32, payloads.iter().map(|p| p.len() as u32 + 5).sum());
        let at = at % bytes.len();
        bytes[at.max(64)] = value;
        seal(&mut bytes, entries, entry_bytes);
        let frame = Frame::decode(&bytes).expect("the checksums fit");
        let mut bytes_seen = 0;
        for entry in frame.entries() {
            let Ok(entry) = entry else { return Ok(()) };
            bytes_seen += entry.payload.len() + 5;
        }
        prop_assert_eq!(bytes_seen, entry_bytes as usize);
    }

    #[test]
    fn a_changed_bit_anywhere_in_a_frame_is_noticed(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 1..6),
        at in any::<prop::sample::Index>(),
        bit in 0u8..8,
    ) {
        let mut bytes = frame(&payloads);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(Frame::decode(&bytes).is_err());
    }

    #[test]
    fn a_changed_footer_never_points_outside_of_its_file(at in any::<prop::sample::Index>(), value in any::<u8>()) {
        let run = Run {
            entity: EntityId(1),
            log: 0,
            first: Offset(1),
            last: Offset(9),
            batches: 3,
            file_offset: 32,
            bytes: 4096,
            min_timestamp: Millis(1),
            max_timestamp: Millis(2),
            index_first: 0,
            index_entries: 1,
        };
        let entry = IndexEntry { first: Offset(5), file_offset: 2000, max_timestamp_before: Millis(1) };
        let mut bytes = Footer { runs: vec![run], index: vec![entry] }.encode();
        let at = at.index(bytes.len());
        bytes[at] = value;
        if let Ok(footer) = Footer::decode(&bytes, 8192) {
            for run in footer.runs {
                prop_assert!(run.file_offset + run.bytes <= 8192);
                prop_assert!((run.index_first + run.index_entries) as usize <= footer.index.len());
            }
        }
    }
}

#[test]
fn a_frame_whose_length_passes_the_limit_is_refused_before_it_is_read() {
    use waystation_journal::{layout::frame::FrameError, limits::GROUP_BYTES_MAX};
    for (length, fits) in [(GROUP_BYTES_MAX, true), (GROUP_BYTES_MAX + 64, false)] {
        let mut bytes = vec![0; length];
        seal(&mut bytes, 0, 0);
        match FrameHeader::decode(&bytes[..64]) {
            Ok(header) => assert!(fits && header.length as usize == length),
            Err(error) => assert!(!fits && matches!(error, FrameError::Length { .. }), "{error}"),
        }
    }
}
