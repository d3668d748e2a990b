//! AMQP frames: any bytes give frames, a wish for more, or an error; nothing is read twice, and what was read is written again.

use bytes::{Buf, Bytes, BytesMut};
use waystation_amqp091::wire::{
    Assembler, ChannelId, Decoder, Error, Frame, Method, Output, Properties, limits::FRAME_BYTES_MIN,
    methods::basic,
};

use crate::Target;

pub const TARGET: Target = Target { name: "amqp-frame", seeds, run };

/// Small, so that the bound is met often.
const BODY_BYTES_MAX: u64 = 10_000;

fn seeds() -> Vec<Vec<u8>> {
    let message = |body: usize| {
        let mut output = Output::default();
        let publish =
            basic::Publish { exchange: "x".into(), routing_key: "key".into(), ..Default::default() };
        output.put(ChannelId(1), &publish);
        let properties = Properties { delivery_mode: Some(2), ..Properties::default() };
        output.put_content(ChannelId(1), |out| properties.write(out), &vec![7; body].into());
        output.put_heartbeat();
        bytes_of(output)
    };
    let methods = Method::all().into_iter().map(|method| {
        let mut output = Output::default();
        output.put_method(ChannelId(0), &method);
        bytes_of(output)
    });
    methods.chain([0, 1, 6_000].map(message)).collect()
}

fn bytes_of(mut output: Output) -> Vec<u8> {
    output.copy_to_bytes(output.remaining()).into()
}

fn run(data: &[u8]) -> bool {
    let mut decoder = Decoder::default();
    decoder.set_frame_max(FRAME_BYTES_MIN);
    let mut input = BytesMut::from(data);
    let mut assembler = Assembler::new(BODY_BYTES_MAX);
    loop {
        let before = input.len();
        check_whole(&decoder, &input);
        match decoder.decode(&mut input) {
            Ok(Some(frame)) => {
                assert!(input.len() < before, "a frame takes bytes");
                check_written(&decoder, &frame);
                if let Err(error) = assembler.take(frame) {
                    check_error(&error);
                    return false;
                }
            }
            Ok(None) => {
                assert_eq!(input.len(), before);
                assert!(input.is_empty() || decoder.missing(&input) > 0, "what is whole is read");
                return input.is_empty();
            }
            Err(error) => {
                check_error(&error);
                return false;
            }
        }
    }
}

/// A message that is read at one go is what its frames are one after the other.
fn check_whole(decoder: &Decoder, input: &BytesMut) {
    let mut at_once = input.clone();
    let Some(whole) = decoder.decode_whole(&mut at_once) else { return assert_eq!(at_once, *input) };
    let mut one_by_one = input.clone();
    for frame in whole.into_frames() {
        assert_eq!(decoder.decode(&mut one_by_one), Ok(Some(frame)));
    }
    assert_eq!(at_once, one_by_one);
}

fn check_error(error: &Error) {
    assert!(error.reply_text().starts_with(error.code().name()));
}

/// Methods and heartbeats are written as they can be read again.
fn check_written(decoder: &Decoder, frame: &Frame) {
    let mut output = Output::default();
    match frame {
        Frame::Method(channel, method) => output.put_method(*channel, method),
        Frame::Heartbeat => output.put_heartbeat(),
        Frame::Body(_, body) => return assert!(body.len() < FRAME_BYTES_MIN as usize),
        Frame::Header(..) => return,
    }
    let mut written = BytesMut::from(Bytes::from(bytes_of(output)));
    // A table may grow by some bytes where a letter is not the usual one, and so beyond the frame.
    if written.len() <= FRAME_BYTES_MIN as usize {
        let again = decoder.clone().decode(&mut written).expect("our own writing").expect("whole");
        assert_eq!(format!("{again:?}"), format!("{frame:?}"));
    }
}
