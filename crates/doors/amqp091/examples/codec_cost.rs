//! What does one message cost in the codec and the mapping alone? Nanoseconds for 1 KiB in and out, on one thread.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark measures real time and prints it"
)]

use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use waystation_amqp091::{
    mapping::{Extras, Outgoing, read_message},
    wire::{
        Assembler, ChannelId, Decoder, Method, Output, Properties, limits::FRAME_BYTES_DEFAULT,
        methods::basic,
    },
};
use waystation_base::{Message, MessageId, Millis};

/// Messages in one read buffer.
const BATCH: usize = 100;
const ROUNDS: usize = 20_000;
const NOW: Millis = Millis(1_700_000_000_000);

fn frames(properties: &Properties) -> BytesMut {
    let mut output = Output::default();
    output.set_frame_max(FRAME_BYTES_DEFAULT);
    for _ in 0..BATCH {
        output.put(ChannelId(1), &basic::Publish { routing_key: "bench.0".into(), ..Default::default() });
        output.put_content(ChannelId(1), |out| properties.write(out), &vec![7; 1024].into());
    }
    output.copy_to_bytes(output.remaining()).into()
}

/// Decodes a buffer of publishes; hands over each message.
fn read(input: &mut BytesMut, mut each: impl FnMut(Message)) {
    let mut decoder = Decoder::default();
    decoder.set_frame_max(FRAME_BYTES_DEFAULT);
    let mut assembler = Assembler::new(1 << 20);
    while let Some(frame) = decoder.decode(input).expect("well-formed") {
        let Some(command) = assembler.take(frame).expect("in order") else { continue };
        let (Method::BasicPublish(publish), Some(content)) = (command.method, command.content) else {
            continue;
        };
        let id = MessageId::default();
        let read = read_message(&content.properties, "".into(), publish.routing_key, content.body, id, NOW);
        each(read.expect("a message").message);
    }
}

fn measure(name: &str, properties: &Properties) {
    let encoded = Bytes::from(frames(properties));
    let copy = |_| BytesMut::from(&encoded[..]);
    let begun = Instant::now();
    (0..ROUNDS).map(copy).for_each(|input| drop(std::hint::black_box(input)));
    let copying = begun.elapsed();
    let begun = Instant::now();
    (0..ROUNDS)
        .map(copy)
        .for_each(|mut input| read(&mut input, |message| drop(std::hint::black_box(message))));
    let reading = begun.elapsed().saturating_sub(copying);
    let mut messages = Vec::new();
    read(&mut copy(0), |message| messages.push(message));
    let mut output = Output::default();
    output.set_frame_max(FRAME_BYTES_DEFAULT);
    let begun = Instant::now();
    for _ in 0..ROUNDS {
        for (tag, message) in messages.iter().enumerate() {
            let outgoing = Outgoing::new(message, "bench.0", Extras::default());
            let names = (&*outgoing.exchange(), &*outgoing.routing_key());
            let write = |out: &mut BytesMut| outgoing.write_properties(out);
            output.put_deliver(ChannelId(1), "tag", tag as u64, false, names, write, &message.body);
        }
        output.advance(output.remaining());
    }
    let writing = begun.elapsed();
    let each = |time: std::time::Duration| time.as_nanos() as f64 / (ROUNDS * BATCH) as f64;
    println!("{name:24} in {:.0} ns, out {:.0} ns", each(reading), each(writing));
}

fn main() {
    measure("delivery mode only", &Properties { delivery_mode: Some(2), ..Properties::default() });
    let headers = [("order".into(), "4711".into()), ("retry".into(), 3i64.into())].into_iter().collect();
    let usual = Properties {
        content_type: Some("application/json".into()),
        headers: Some(headers),
        delivery_mode: Some(2),
        message_id: Some("5b0e7b5c-6f0a-4a2e-9a53-3b1d0a0c9f11".into()),
        timestamp: Some(1_700_000_000),
        ..Properties::default()
    };
    measure("five properties", &usual);
}
