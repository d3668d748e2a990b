//! Do batches keep what was put into them, and refuse what they are not?

use proptest::prelude::*;

use super::*;
use crate::value::tests::any_value;

fn any_message() -> impl Strategy<Value = Message> {
    (
        (any::<u128>(), 0u64..1 << 42, proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20))),
        (proptest::collection::vec(any::<u8>(), 0..300), any::<u8>()),
        proptest::option::of(any::<u64>()),
        proptest::option::of(any::<u64>()),
        proptest::collection::vec(("[a-z-]{1,12}".prop_map(SmolStr::new), any_value()), 0..5),
    )
        .prop_map(|((id, at, key), (body, priority), expires, deliver, headers)| Message {
            id: MessageId::from_bytes(id.to_be_bytes()),
            timestamp: Millis(at),
            key: key.map(Bytes::from),
            body: body.into(),
            priority,
            expires_at: expires.map(Millis),
            deliver_at: deliver.map(Millis),
            headers: Headers(headers),
        })
}

fn encode(base: Offset, messages: &[Message]) -> (Bytes, Vec<u32>) {
    let (mut out, mut scratch) = (vec![9; 3], Scratch::default());
    let mut encoder = Encoder::new(&mut out, &mut scratch, base, messages[0].timestamp);
    let places = messages.iter().zip(base.0..).map(|(m, offset)| encoder.push(Offset(offset), m)).collect();
    encoder.finish();
    (Bytes::from(out).slice(3..), places)
}

proptest! {
    #[test]
    fn messages_come_back_from_their_batch_and_from_their_place(
        messages in proptest::collection::vec(any_message(), 1..8), base in 0u64..1 << 40,
    ) {
        let (batch, places) = encode(Offset(base), &messages);
        prop_assert_eq!(check_crc(&batch), Ok(()));
        let header = Header::read(&batch).expect("a header");
        prop_assert_eq!((header.base_offset, header.count as usize, header.bytes), (Offset(base), messages.len(), batch.len()));
        for ((record, message), place) in records(&batch).expect("records").zip(&messages).zip(places) {
            let record = record.expect("a record");
            prop_assert_eq!(record.at, place);
            prop_assert_eq!(&record.message(&batch).expect("a message"), message);
            let again = Record::read(&batch, place).expect("a record");
            prop_assert_eq!(&again.message(&batch).expect("a message"), message);
        }
    }

    #[test]
    fn records_copied_to_another_batch_stay_the_same(messages in proptest::collection::vec(any_message(), 1..8)) {
        let (batch, _) = encode(Offset(7), &messages);
        let (mut out, mut scratch) = (Vec::new(), Scratch::default());
        let mut encoder = Encoder::new(&mut out, &mut scratch, Offset(5), Millis(3));
        for record in records(&batch).expect("records").step_by(2) {
            encoder.push_record(&record.expect("a record"));
        }
        encoder.finish();
        let copy = Bytes::from(out);
        prop_assert_eq!(check_crc(&copy), Ok(()));
        for (index, record) in records(&copy).expect("records").enumerate() {
            let record = record.expect("a record");
            prop_assert_eq!(record.offset, Offset(7 + 2 * index as u64));
            prop_assert_eq!(&record.message(&copy).expect("a message"), &messages[2 * index]);
        }
    }

    #[test]
    fn a_flipped_bit_behind_the_length_is_found(messages in proptest::collection::vec(any_message(), 1..4), at: usize, bit in 0u8..8) {
        let (batch, _) = encode(Offset(0), &messages);
        let mut bytes = batch.to_vec();
        let at = CRC_AT + at % (bytes.len() - CRC_AT);
        bytes[at] ^= 1 << bit;
        prop_assert!(check_crc(&bytes).is_err());
    }

    #[test]
    fn any_bytes_give_records_or_an_error(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), length in 0i32..400) {
        if bytes.len() > 22 {
            bytes[LENGTH_AT..EPOCH_AT].copy_from_slice(&length.to_be_bytes());
            bytes[16] = 2;
            bytes[ATTRIBUTES_AT..ATTRIBUTES_AT + 2].fill(0);
            bytes[0] = 0;
        }
        let bytes = Bytes::from(bytes);
        if let Ok(records) = records(&bytes) {
            for record in records.flatten() {
                let _ = record.message(&bytes);
            }
        }
    }
}

#[test]
fn a_batch_at_its_limit_is_read_and_one_past_it_is_not() {
    let header = |length: usize| {
        let mut bytes = vec![0; BATCH_BYTES_MAX + 1];
        bytes[LENGTH_AT..EPOCH_AT].copy_from_slice(&((length - LENGTH_EXCLUDES) as i32).to_be_bytes());
        bytes[16] = 2;
        Header::read(&bytes)
    };
    assert!(header(BATCH_BYTES_MAX).is_ok());
    assert!(matches!(header(BATCH_BYTES_MAX + 1), Err(Error::Length(_))));
    assert!(matches!(header(HEADER_BYTES - 1), Err(Error::Length(_))));
}

#[test]
fn a_time_that_no_batch_can_store_is_held_at_the_nearest() {
    let whole = |base: u64, delta: i64| {
        let (batch, _) = encode(Offset(0), &[Message::new(MessageId::default(), Millis(0), "")]);
        let mut bytes = batch[..HEADER_BYTES].to_vec();
        let mut record = vec![0];
        [delta, 0, -1, -1, 0].iter().for_each(|number| varint::put_signed(&mut record, *number));
        varint::put_signed(&mut bytes, record.len() as i64);
        bytes.extend_from_slice(&record);
        let length = (bytes.len() - LENGTH_EXCLUDES) as i32;
        bytes[LENGTH_AT..EPOCH_AT].copy_from_slice(&length.to_be_bytes());
        bytes[27..35].copy_from_slice(&base.to_be_bytes());
        bytes
    };
    let time = |base, delta| Record::read(&whole(base, delta), HEADER_BYTES as u32).unwrap().timestamp;
    assert_eq!(time(5, -5), Millis(0));
    assert_eq!(time(5, -6), Millis(0));
    assert_eq!(time(i64::MAX as u64 - 1, 1), Millis(i64::MAX as u64));
    assert_eq!(time(i64::MAX as u64 - 1, 2), Millis(i64::MAX as u64));
}
