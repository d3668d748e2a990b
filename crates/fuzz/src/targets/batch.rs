//! Record batches: any bytes give records or an error, and a message that was read is read again from what it is stored as.

use bytes::Bytes;
use waystation_base::{
    Message, MessageId, Millis, Offset,
    batch::{self, Encoder, Header, Record, Scratch},
    message::Headers,
    value::Value,
};

use crate::Target;

pub const TARGET: Target = Target { name: "batch", seeds, run };

/// Where the checksum is and what it covers (the layout is drawn in `base::batch`).
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;

fn seeds() -> Vec<Vec<u8>> {
    let plain = Message { key: Some(Bytes::from_static(b"N14228")), ..message(b"{\"delay\":11}") };
    let mut typed = message(b"");
    typed.priority = 9;
    typed.expires_at = Some(Millis(1_700_000_000_000));
    typed.deliver_at = Some(Millis(1_600_000_000_000));
    typed.headers = Headers(vec![
        ("content-type".into(), Value::from("text/plain")),
        ("count".into(), Value::I64(-5)),
        ("list".into(), Value::List(vec![Value::Bool(true), Value::Null, Value::F64(1.5)])),
    ]);
    vec![encode(std::slice::from_ref(&plain)), encode(std::slice::from_ref(&typed)), encode(&[plain, typed])]
}

fn message(body: &'static [u8]) -> Message {
    Message::new(
        MessageId::new(Millis(1_500_000_000_000), 77),
        Millis(1_500_000_000_000),
        Bytes::from_static(body),
    )
}

fn encode(messages: &[Message]) -> Vec<u8> {
    let (mut out, mut scratch) = (Vec::new(), Scratch::default());
    let first = messages.first().map_or(Millis(0), |message| message.timestamp);
    let mut encoder = Encoder::new(&mut out, &mut scratch, Offset(5), first);
    for (message, offset) in messages.iter().zip(5..) {
        encoder.push(Offset(offset), message);
    }
    encoder.finish();
    out
}

fn run(data: &[u8]) -> bool {
    let is_good = read(data);
    // A checksum stops nearly every mutation: with the right one in place the rest of the decoder is reached too.
    if data.len() >= ATTRIBUTES_AT {
        let mut sealed = data.to_vec();
        let crc = crc32c::crc32c(&sealed[ATTRIBUTES_AT..]);
        sealed[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
        read(&sealed);
    }
    is_good
}

fn read(data: &[u8]) -> bool {
    let Ok(header) = Header::read(data) else { return false };
    assert!(header.bytes <= data.len(), "a header promises more than is there");
    let whole = &data[..header.bytes];
    let shared = Bytes::copy_from_slice(whole);
    if batch::check_crc(whole).is_err() {
        return false;
    }
    let Ok(records) = batch::records(&shared) else { return false };
    let mut count = 0;
    for record in records.map_while(Result::ok) {
        let by_place =
            Record::read(&shared, record.at).expect("a record that was walked over is read at its place");
        assert_eq!(by_place.offset, record.offset);
        assert!(record.offset <= header.last_offset(), "a record lies outside of its batch");
        if let Ok(message) = record.message(&shared) {
            comes_back(&message);
            count += 1;
        }
    }
    count == header.count
}

/// What we would store for a message reads as that message.
fn comes_back(message: &Message) {
    let stored = Bytes::from(encode(std::slice::from_ref(message)));
    let mut records = batch::records(&stored).expect("our own batch");
    let again = records
        .next()
        .expect("one record")
        .expect("our own record")
        .message(&stored)
        .expect("our own message");
    // By their text: a NaN is equal to none, itself included.
    assert_eq!(format!("{again:?}"), format!("{message:?}"));
}
