//! Are the frames of real clients and of RabbitMQ read as an independent decoder reads them, and written as they were?
//!
//! The recordings lie in `golden/`; their first line names client and version, `golden/record.py` makes new ones.

use std::{fs, path::Path};

use bytes::{Buf, Bytes, BytesMut};
use waystation_amqp091::{
    mapping::{Extras, Outgoing, read_message},
    wire::{Decoder, Frame, Greeting, Output, Properties, limits::FRAME_BYTES_DEFAULT, methods::BASIC_CLASS},
};
use waystation_base::{MessageId, Millis};

/// One line of a recording.
struct Line {
    name: String,
    bytes: Vec<u8>,
}

fn hex(text: &str) -> Vec<u8> {
    let digit = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal digits");
    (0..text.len()).step_by(2).map(digit).collect()
}

fn recording(client: &str) -> Vec<Line> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(client).with_extension("txt");
    let text = fs::read_to_string(&path).expect("a recording");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let read = |line: &str| match line.split(' ').collect::<Vec<_>>()[..] {
        [">" | "<", name, bytes] => Line { name: name.to_owned(), bytes: hex(bytes) },
        _ => panic!("{}: {line:?} is no line of a recording", path.display()),
    };
    lines.map(read).collect()
}

fn decode(bytes: &[u8]) -> Frame {
    let mut decoder = Decoder::default();
    decoder.set_frame_max(FRAME_BYTES_DEFAULT);
    let mut input = BytesMut::from(bytes);
    let frame = decoder.decode(&mut input).expect("well-formed").expect("whole");
    assert!(input.is_empty());
    frame
}

fn name(frame: &Frame) -> &'static str {
    match frame {
        Frame::Method(_, method) => method.name(),
        Frame::Header(..) => "header",
        Frame::Body(..) => "body",
        Frame::Heartbeat => "heartbeat",
    }
}

/// Writes a frame anew. A header and a body cannot be written alone: of those the properties, and the body, are compared.
fn encode(frame: &Frame) -> Vec<u8> {
    let mut output = Output::default();
    match frame {
        Frame::Method(channel, method) => output.put_method(*channel, method),
        Frame::Header(channel, header) => {
            assert_eq!(header.class, BASIC_CLASS);
            let properties = Properties::read(&header.properties).expect("well-formed");
            check_mapping(&properties, &header.properties);
            output.put_content(*channel, |out| properties.write(out), &Bytes::new());
        }
        Frame::Body(..) => {}
        Frame::Heartbeat => output.put_heartbeat(),
    }
    output.chunk().to_vec()
}

/// py-amqp writes 64-bit numbers with the specification's letter `L`, which RabbitMQ reads and answers as `l`.
fn with_rabbitmq_letters(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if let Some(at) = bytes.windows(7).position(|window| window == b"\x05largeL") {
        bytes[at + 6] = b'l';
    }
    bytes
}

/// A message shows the properties that its publisher gave it, byte for byte.
fn check_mapping(properties: &Properties, sent: &[u8]) {
    let now = Millis(1_700_000_000_000);
    let incoming = read_message(sent, "x".into(), "k".into(), Bytes::new(), MessageId::default(), now);
    let message = incoming.expect("a message").message;
    let mut out = BytesMut::new();
    Outgoing::new(&message, "q", Extras::default()).write_properties(&mut out);
    assert_eq!(&Properties::read(&out).expect("well-formed"), properties);
    assert_eq!(&out[..], with_rabbitmq_letters(sent));
}

fn check(client: &str, methods: &[&str]) {
    let lines = recording(client);
    for line in &lines {
        if line.name == "greeting" {
            assert_eq!(Greeting::read(&line.bytes), Some(Greeting::Amqp091));
            continue;
        }
        let frame = decode(&line.bytes);
        assert_eq!(name(&frame), line.name, "{client}");
        let written = encode(&frame);
        match &frame {
            Frame::Body(_, body) => assert_eq!(body[..], line.bytes[7..line.bytes.len() - 1]),
            Frame::Header(_, header) => {
                let mut expected = with_rabbitmq_letters(&line.bytes);
                // The size of the body, which was not written along.
                expected[11..19].fill(0);
                assert_eq!(written, expected, "{client}: {header:?}");
            }
            _ => assert_eq!(written, line.bytes, "{client}: {frame:?}"),
        }
    }
    for method in methods {
        assert!(lines.iter().any(|line| line.name == *method), "{client} never said {method}");
    }
}

#[test]
fn pika_is_read_and_written_byte_for_byte() {
    check(
        "pika",
        &["basic.publish", "basic.return", "basic.nack", "basic.deliver", "channel.close", "tx.commit"],
    );
}

#[test]
fn aio_pika_is_read_and_written_byte_for_byte() {
    check("aio-pika", &["queue.declare", "basic.qos", "basic.consume", "basic.ack", "connection.close-ok"]);
}

#[test]
fn py_amqp_is_read_and_written_byte_for_byte() {
    check("py-amqp", &["basic.reject", "basic.recover", "basic.cancel", "channel.flow", "confirm.select-ok"]);
}

#[test]
fn amqplib_is_read_and_written_byte_for_byte() {
    check(
        "amqplib",
        &["exchange.bind", "exchange.unbind-ok", "basic.get", "basic.deliver", "queue.delete-ok"],
    );
}

#[test]
fn lapin_is_read_and_written_byte_for_byte() {
    check("lapin", &["connection.start-ok", "basic.publish", "basic.get-ok"]);
}
