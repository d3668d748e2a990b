//! Headers, batch headers and trailers of settled files: any bytes give what fits the file, or an error.

use waystation_base::{EntityId, Millis, Offset};
use waystation_journal::settled::layout::{self, BatchHeader, Owner, TRAILER_BYTES, Trailer};

use crate::Target;

pub const TARGET: Target = Target { name: "settled-batch", seeds, run };

const OWNER: Owner = Owner { file: 3, entity: EntityId(9), log: 1 };
const FILE_BYTES: u64 = 4096;
const PAYLOAD: &[u8] = b"payload";

fn seeds() -> Vec<Vec<u8>> {
    let batch = BatchHeader::of(OWNER, Offset(5), Offset(8), Millis(1_500_000_000_000), PAYLOAD).encode();
    let footer_bytes = 64;
    let footer_offset = FILE_BYTES - TRAILER_BYTES as u64 - u64::from(footer_bytes);
    let trailer = Trailer { footer_offset, footer_bytes, footer_crc: 1, file: 3 }.encode();
    vec![[&batch[..], PAYLOAD].concat(), trailer.to_vec(), layout::encode_header(3).to_vec()]
}

fn run(data: &[u8]) -> bool {
    let trailer = Trailer::decode(data, FILE_BYTES);
    if let Ok(trailer) = &trailer {
        assert!(trailer.footer_offset + u64::from(trailer.footer_bytes) <= FILE_BYTES - TRAILER_BYTES as u64);
        assert_eq!(Trailer::decode(&trailer.encode(), FILE_BYTES).as_ref(), Ok(trailer));
    }
    let header = layout::decode_header(data);
    if let Ok(file) = header {
        assert_eq!(layout::decode_header(&layout::encode_header(file)), Ok(file));
    }
    let batch = BatchHeader::decode(data);
    if let Ok(batch) = &batch {
        assert_eq!(BatchHeader::decode(&batch.encode()).as_ref(), Ok(batch));
        let payload = &data[layout::BATCH_HEADER_BYTES..];
        if batch.check(OWNER, payload).is_ok() {
            let other = Owner { log: 2, ..OWNER };
            assert!(batch.check(other, payload).is_err(), "a batch is taken for another log's");
        }
    }
    trailer.is_ok() || header.is_ok() || batch.is_ok()
}
