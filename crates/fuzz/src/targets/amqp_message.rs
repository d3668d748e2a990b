//! AMQP properties: any bytes give properties or an error; as a message, stored and delivered, they come back as they were.

use bytes::{Bytes, BytesMut};
use waystation_amqp091::{
    mapping::{Extras, Outgoing, read_message},
    wire::{Properties, Table},
};
use waystation_base::{
    Message, MessageId, Millis, Offset,
    batch::{Encoder, Record, Scratch},
    value::Value,
};

use crate::Target;

pub const TARGET: Target = Target { name: "amqp-message", seeds, run };

const NOW: Millis = Millis(1_700_000_000_000);

fn seeds() -> Vec<Vec<u8>> {
    let full = Properties {
        content_type: Some("text/plain".into()),
        content_encoding: Some("utf-8".into()),
        headers: Some(Table(vec![
            ("CC".into(), Value::List(vec![Value::from("key")])),
            ("ws-exchange".into(), Value::from("escaped")),
            ("n".into(), Value::U8(1)),
        ])),
        delivery_mode: Some(2),
        priority: Some(5),
        correlation_id: Some("c".into()),
        reply_to: Some("r".into()),
        expiration: Some("1000".into()),
        message_id: Some("m".into()),
        timestamp: Some(1_700_000_000),
        kind: Some("k".into()),
        user_id: Some("u".into()),
        app_id: Some("a".into()),
        cluster_id: Some("l".into()),
    };
    let small = Properties { delivery_mode: Some(2), ..Properties::default() };
    [Properties::default(), small, full].iter().map(written).collect()
}

fn written(properties: &Properties) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    properties.write(&mut bytes);
    bytes.into()
}

/// As it comes back from the journal.
fn stored(message: &Message) -> Message {
    let (mut bytes, mut scratch) = (Vec::new(), Scratch::default());
    let mut encoder = Encoder::new(&mut bytes, &mut scratch, Offset(0), message.timestamp);
    let at = encoder.push(Offset(0), message);
    encoder.finish();
    let batch = Bytes::from(bytes);
    Record::read(&batch, at).expect("a record").message(&batch).expect("a message")
}

fn run(data: &[u8]) -> bool {
    let properties = Properties::read(data);
    let incoming = read_message(data, "x".into(), "key".into(), Bytes::new(), MessageId::default(), NOW);
    let Ok(incoming) = incoming else { return false };
    let mut properties = properties.expect("what is a message has properties");
    if let Some(headers) = &mut properties.headers {
        headers.0.retain(|(name, _)| name != "BCC");
    }
    if incoming.message.check().is_err() {
        // Past what a message may have: refused when it is published.
        return false;
    }
    let message = stored(&incoming.message);
    let mut out = BytesMut::new();
    Outgoing::new(&message, "source", Extras::default()).write_properties(&mut out);
    let shown = Properties::read(&out).expect("our own writing");
    assert_eq!(format!("{shown:?}"), format!("{properties:?}"));
    true
}
