//! Does what is written come back as it was, and is bent input told by its error?

use bytes::{Buf, BufMut, Bytes, BytesMut};
use proptest::prelude::*;
use smol_str::SmolStr;
use waystation_base::{Millis, value::Value};

use super::{
    limits::{
        COPIED_BODY_BYTES_MAX, FRAME_BYTES_DEFAULT, FRAME_BYTES_HANDSHAKE, FRAME_BYTES_MIN,
        FRAME_OVERHEAD_BYTES, SHORT_BYTES_MAX, TABLE_DEPTH_MAX, TABLE_VALUES_MAX,
    },
    methods::{basic, connection, queue},
    *,
};

const CHANNEL: ChannelId = ChannelId(1);

/// Values as a table can carry them unchanged.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i8>().prop_map(Value::I8),
        any::<u8>().prop_map(Value::U8),
        any::<i16>().prop_map(Value::I16),
        any::<u16>().prop_map(Value::U16),
        any::<i32>().prop_map(Value::I32),
        any::<u32>().prop_map(Value::U32),
        any::<i64>().prop_map(Value::I64),
        any::<f32>().prop_filter("a number", |v| !v.is_nan()).prop_map(Value::F32),
        any::<f64>().prop_filter("a number", |v| !v.is_nan()).prop_map(Value::F64),
        (any::<u8>(), any::<i32>()).prop_map(|(scale, unscaled)| Value::Decimal { scale, unscaled }),
        (0..u64::MAX / 1000).prop_map(|seconds| Value::Timestamp(Millis(seconds * 1000))),
        ".{0,40}".prop_map(Value::from),
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| Value::Bytes(bytes.into())),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::List),
            proptest::collection::vec(("[a-z]{0,8}".prop_map(SmolStr::new), inner), 0..6)
                .prop_map(Value::Map),
        ]
    })
}

fn any_table() -> impl Strategy<Value = Table> {
    proptest::collection::vec(("[a-zä-]{0,12}".prop_map(SmolStr::new), any_value()), 0..8).prop_map(Table)
}

fn any_text() -> impl Strategy<Value = Option<Text>> {
    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| Text::new(&bytes)))
}

prop_compose! {
    fn any_properties()(
        texts in proptest::array::uniform10(any_text()),
        headers in proptest::option::of(any_table()),
        delivery_mode: Option<u8>,
        priority: Option<u8>,
        timestamp: Option<u64>,
    ) -> Properties {
        let [content_type, content_encoding, correlation_id, reply_to, expiration, message_id, kind, user_id, app_id, cluster_id] = texts;
        Properties {
            content_type, content_encoding, headers, delivery_mode, priority, correlation_id, reply_to, expiration,
            message_id, timestamp, kind, user_id, app_id, cluster_id,
        }
    }
}

/// Everything that waits, in one piece.
fn bytes_of(mut output: Output) -> BytesMut {
    let mut bytes = BytesMut::new();
    while output.has_remaining() {
        let chunk = output.chunk();
        let count = chunk.len();
        bytes.put_slice(chunk);
        output.advance(count);
    }
    bytes
}

fn frames(bytes: impl Into<BytesMut>, frame_max: u32) -> Result<Vec<Frame>, Error> {
    let mut decoder = Decoder::default();
    decoder.set_frame_max(frame_max);
    let mut input = bytes.into();
    let mut frames = Vec::new();
    while let Some(frame) = decoder.decode(&mut input)? {
        frames.push(frame);
    }
    Ok(frames)
}

fn raw(bytes: &[u8]) -> Result<Vec<Frame>, Error> {
    frames(bytes, FRAME_BYTES_DEFAULT)
}

proptest! {
    #[test]
    fn each_table_comes_back_with_its_types(table in any_table()) {
        let mut bytes = BytesMut::new();
        table.write(&mut bytes);
        let mut reader = Reader::new(&bytes);
        prop_assert_eq!(Table::read(&mut reader), Ok(table));
        prop_assert!(reader.is_empty());
    }

    #[test]
    fn each_property_comes_back(properties in any_properties()) {
        let mut bytes = BytesMut::new();
        properties.write(&mut bytes);
        prop_assert_eq!(Properties::read(&bytes), Ok(properties));
    }

    #[test]
    fn a_message_comes_back_whole_however_it_is_cut(
        body in proptest::collection::vec(any::<u8>(), 0..20_000),
        properties in any_properties(),
        cuts in proptest::collection::vec(1usize..5000, 1..30),
    ) {
        let mut output = Output::default();
        let body = Bytes::from(body);
        output.put_deliver(CHANNEL, "tag", 7, true, ("exchange", "key"), |out| properties.write(out), &body);
        let whole = bytes_of(output);
        let mut decoder = Decoder::default();
        decoder.set_frame_max(FRAME_BYTES_DEFAULT);
        let mut assembler = Assembler::new(1 << 20);
        let (mut input, mut rest, mut found) = (BytesMut::new(), &whole[..], None);
        for cut in cuts.into_iter().cycle() {
            let (now, later) = rest.split_at(cut.min(rest.len()));
            input.put_slice(now);
            rest = later;
            while let Some(frame) = decoder.decode(&mut input).expect("frames") {
                found = assembler.take(frame).expect("in order").or(found);
            }
            if rest.is_empty() {
                break;
            }
        }
        let command = found.expect("a command");
        let content = command.content.expect("a content");
        prop_assert_eq!(content.body, body);
        prop_assert_eq!(Properties::read(&content.properties), Ok(properties));
        prop_assert_eq!(command.method.name(), "basic.deliver");
    }
}

#[test]
fn each_method_comes_back_from_its_payload() {
    let methods = Method::all();
    assert_eq!(methods.len(), 66);
    for method in methods {
        let mut bytes = BytesMut::new();
        method.write_payload(&mut bytes);
        assert_eq!(Method::read(&bytes), Ok(method.clone()));
        assert_eq!(Method::read(&bytes[..bytes.len() - 1]), Err(Error::Truncated), "{}", method.name());
        bytes.put_u8(0);
        assert_eq!(Method::read(&bytes), Err(Error::Trailing(1)), "{}", method.name());
    }
}

#[test]
fn neighbouring_bits_share_an_octet() {
    let declare = queue::Declare {
        queue: "q".into(),
        durable: true,
        auto_delete: true,
        arguments: Table(vec![("x-expires".into(), Value::I32(5))]),
        ..Default::default()
    };
    let mut bytes = BytesMut::new();
    declare.write_payload(&mut bytes);
    let expected = b"\x00\x32\x00\x0a\x00\x00\x01q\x0a\x00\x00\x00\x0f\x09x-expiresI\x00\x00\x00\x05";
    assert_eq!(&bytes[..], expected);
    assert_eq!(Method::read(&bytes), Ok(declare.into()));
}

#[test]
fn table_letters_are_those_of_rabbitmq() {
    let read = |bytes: &[u8]| Table::read(&mut Reader::new(bytes)).map(|table| table.0[0].1.clone());
    assert_eq!(read(b"\0\0\0\x0b\x01aL\xff\xff\xff\xff\xff\xff\xff\xfe"), Ok(Value::I64(-2)));
    assert_eq!(read(b"\0\0\0\x05\x01aU\xff\xfe"), Ok(Value::I16(-2)));
    assert_eq!(read(b"\0\0\0\x05\x01as\xff\xfe"), Ok(Value::I16(-2)));
    assert_eq!(read(b"\0\0\0\x08\x01aS\0\0\0\x01\xff"), Ok(Value::RawText(Bytes::from_static(b"\xff"))));
    assert_eq!(read(b"\0\0\0\x04\x01at\x07"), Ok(Value::Bool(true)));
    assert_eq!(read(b"\0\0\0\x03\x01a?"), Err(Error::FieldType(b'?')));
    assert_eq!(read(b"\0\0\0\x04\x01aI\0"), Err(Error::Truncated));
    assert_eq!(read(b"\0\0\0\x04\x01\xffV\0"), Err(Error::Utf8));
    let mut bytes = BytesMut::new();
    Table(vec![("n".into(), Value::U64(u64::MAX))]).write(&mut bytes);
    assert_eq!(read(&bytes), Ok(Value::from("18446744073709551615")));
}

#[test]
fn tables_are_bounded_at_table_depth_max_and_table_values_max() {
    let nested = |levels: usize| (1..levels).fold(Value::List(vec![]), |value, _| Value::List(vec![value]));
    let written = |value: Value| {
        let mut bytes = BytesMut::new();
        Table(vec![("a".into(), value)]).write(&mut bytes);
        Table::read(&mut Reader::new(&bytes)).map(|_| ())
    };
    // A list within TABLE_DEPTH_MAX others may hold nothing but plain values.
    assert_eq!(written(nested(TABLE_DEPTH_MAX + 1)), Ok(()));
    assert_eq!(written(nested(TABLE_DEPTH_MAX + 2)), Err(Error::TableDepth));
    assert_eq!(written(Value::List(vec![Value::Null; TABLE_VALUES_MAX - 1])), Ok(()));
    assert_eq!(written(Value::List(vec![Value::Null; TABLE_VALUES_MAX])), Err(Error::TableValues));
}

#[test]
fn bent_frames_are_told_by_their_error() {
    assert_eq!(raw(b"\x08\0\0\0\0\0\0\xce"), Ok(vec![Frame::Heartbeat]));
    assert_eq!(raw(b"\x08\0\0\0\0\0\0"), Ok(vec![]));
    assert_eq!(raw(b"\x04"), Err(Error::FrameType(4)));
    assert_eq!(raw(b"\x08\0\0\0\0\0\0\xcf"), Err(Error::FrameEnd(0xcf)));
    assert_eq!(raw(b"\x08\0\x01\0\0\0\0\xce"), Err(Error::Heartbeat { channel: 1, bytes: 0 }));
    assert_eq!(raw(b"\x03\0\0\0\0\0\0\xce"), Err(Error::ContentOnChannelZero));
    assert_eq!(raw(b"\x02\0\x01\0\0\0\x02\0\x3c\xce"), Err(Error::Truncated));
    assert_eq!(raw(b"\x01\0\0\0\0\0\x04\0\x3d\0\x0a\xce"), Err(Error::UnknownClass(61)));
    assert_eq!(raw(b"\x01\0\0\0\0\0\x04\0\x50\0\x0a\xce"), Err(Error::NotImplemented(80)));
    let unknown = Err(Error::UnknownMethod { class: 60, method: 9 });
    assert_eq!(raw(b"\x01\0\0\0\0\0\x04\0\x3c\0\x09\xce"), unknown);
    assert_eq!(Properties::read(b"\0\x01"), Err(Error::PropertyFlags(1)));
}

#[test]
fn a_frame_is_taken_at_the_agreed_size_and_refused_past_it_before_it_has_come() {
    for max in [FRAME_BYTES_MIN, FRAME_BYTES_DEFAULT] {
        let head = |size: u32| [&b"\x03\0\x01"[..], &size.to_be_bytes()].concat();
        let payload = max - FRAME_OVERHEAD_BYTES as u32;
        assert_eq!(frames(&head(payload)[..], max), Ok(vec![]));
        let too_large = Err(Error::FrameTooLarge { bytes: u64::from(max) + 1, max });
        assert_eq!(frames(&head(payload + 1)[..], max), too_large);
    }
    let decoder = Decoder::default();
    assert_eq!(decoder.missing(b""), 7);
    assert_eq!(decoder.missing(b"\x03\0\x01\0\0\0\x02"), 3);
    assert_eq!(decoder.missing(b"\x03\0\x01\xff\xff\xff\xff"), FRAME_BYTES_HANDSHAKE as usize + 1);
}

#[test]
fn bodies_are_split_at_the_agreed_frame_size() {
    for bytes in [0, 1, COPIED_BODY_BYTES_MAX, COPIED_BODY_BYTES_MAX + 1, 8_192, 20_000] {
        let mut output = Output::default();
        output.put_content(CHANNEL, |out| Properties::default().write(out), &vec![7; bytes].into());
        let bodies = frames(bytes_of(output), FRAME_BYTES_MIN).expect("frames").len() - 1;
        assert_eq!(bodies, bytes.div_ceil(FRAME_BYTES_MIN as usize - FRAME_OVERHEAD_BYTES), "{bytes}");
    }
}

#[test]
fn a_large_body_is_written_from_where_it_lies() {
    let mut output = Output::default();
    output.set_frame_max(FRAME_BYTES_DEFAULT);
    let body = Bytes::from(vec![7; 100_000]);
    output.put_content(CHANNEL, |out| Properties::default().write(out), &body);
    let mut slices = [std::io::IoSlice::new(&[]); 8];
    assert_eq!(output.chunks_vectored(&mut slices), 3);
    assert_eq!(slices[1].as_ptr(), body.as_ptr());
    assert_eq!(output.len(), output.remaining());
    output.advance(slices_len(&output) - 1);
    assert_eq!((output.len(), output.chunk()), (1, &[0xce][..]));
}

fn slices_len(output: &Output) -> usize {
    let mut slices = [std::io::IoSlice::new(&[]); 8];
    let count = output.chunks_vectored(&mut slices);
    slices[..count].iter().map(|slice| slice.len()).sum()
}

#[test]
fn short_strings_end_at_short_bytes_max_between_characters() {
    let long = "ä".repeat(SHORT_BYTES_MAX);
    let mut bytes = BytesMut::new();
    bytes.put_short_text(&long);
    assert_eq!(bytes.len(), 1 + SHORT_BYTES_MAX - 1);
    assert_eq!(Reader::new(&bytes).short_text(), Ok(&long[..SHORT_BYTES_MAX - 1]));
}

#[test]
fn frames_out_of_order_are_told_by_what_was_expected() {
    let publish = || Frame::Method(CHANNEL, basic::Publish::default().into());
    let header = |class, body_bytes| {
        Frame::Header(CHANNEL, ContentHeader { class, body_bytes, properties: Bytes::from_static(b"\0\0") })
    };
    let body = |bytes: &'static [u8]| Frame::Body(CHANNEL, Bytes::from_static(bytes));
    let check = |input: Vec<Frame>, expected| {
        let mut assembler = Assembler::new(100);
        let last = input.into_iter().map(|frame| assembler.take(frame)).last().expect("a frame");
        assert_eq!(last.map(|command| command.is_some()), expected);
    };
    check(vec![publish(), header(60, 0)], Ok(true));
    check(vec![publish(), header(60, 100)], Ok(false));
    check(vec![publish(), header(60, 101)], Err(Error::MessageTooLarge { bytes: 101, max: 100 }));
    check(vec![publish(), header(60, 2), body(b"1"), body(b"2")], Ok(true));
    check(vec![publish(), header(60, 2), body(b"1"), body(b"")], Ok(false));
    check(vec![publish(), header(60, 2), body(b"123")], Err(Error::BodyTooLong { expected: 2, found: 3 }));
    check(vec![publish(), header(60, 2), body(b"1"), publish()], Err(Error::ExpectedBody));
    check(vec![publish(), header(60, 2), header(60, 2)], Err(Error::ExpectedBody));
    check(vec![publish(), header(10, 2)], Err(Error::HeaderClass { expected: 60, found: 10 }));
    check(vec![publish(), body(b"1")], Err(Error::ExpectedHeader(60)));
    check(vec![publish(), publish()], Err(Error::ExpectedHeader(60)));
    check(vec![header(60, 0)], Err(Error::ExpectedMethod));
    check(vec![body(b"1")], Err(Error::ExpectedMethod));
    check(vec![Frame::Method(CHANNEL, connection::CloseOk {}.into())], Ok(true));
}

/// A message in frames of its own, as a client sends it.
fn sent(body: &[u8], properties: &Properties) -> BytesMut {
    let mut output = Output::default();
    let publish = basic::Publish { exchange: "x".into(), routing_key: "key".into(), ..Default::default() };
    output.put(CHANNEL, &publish);
    output.put_content(CHANNEL, |out| properties.write(out), &Bytes::copy_from_slice(body));
    BytesMut::from(&output.copy_to_bytes(output.remaining())[..])
}

#[test]
fn a_whole_message_is_what_its_frames_are_and_is_not_taken_before_all_of_it_is_there() {
    let properties = Properties { delivery_mode: Some(2), ..Properties::default() };
    let decoder = Decoder::default();
    for body in [&b"1"[..], &[7; 300]] {
        let whole = sent(body, &properties);
        for length in 0..whole.len() {
            let mut input = BytesMut::from(&whole[..length]);
            assert_eq!(decoder.decode_whole(&mut input), None);
            assert_eq!(input, whole[..length]);
        }
        let (mut at_once, mut one_by_one) = (whole.clone(), whole.clone());
        at_once.extend_from_slice(b"rest");
        let taken = decoder.decode_whole(&mut at_once).expect("whole");
        assert_eq!((&taken.content.body[..], taken.channel, &at_once[..]), (body, CHANNEL, &b"rest"[..]));
        for frame in taken.into_frames() {
            assert_eq!(decoder.decode(&mut one_by_one), Ok(Some(frame)));
        }
        assert!(one_by_one.is_empty());
    }
}

#[test]
fn what_is_no_whole_message_or_a_wrong_one_is_left_to_be_read_frame_by_frame() {
    let decoder = Decoder::default();
    let left = |input: BytesMut| {
        let mut taken = input.clone();
        assert_eq!(decoder.decode_whole(&mut taken), None, "{input:?}");
        assert_eq!(taken, input);
    };
    // No body frame; a body in two frames.
    left(sent(b"", &Properties::default()));
    let mut output = Output::default();
    output.set_frame_max(4096);
    output.put(CHANNEL, &basic::Publish::default());
    output.put_content(CHANNEL, |out| Properties::default().write(out), &Bytes::from(vec![7; 5000]));
    left(BytesMut::from(&output.copy_to_bytes(output.remaining())[..]));
    // A body frame that is empty: its header says that none follows.
    let mut empty = sent(b"b", &Properties::default());
    let body_at = empty.len() - 9;
    empty.truncate(body_at);
    empty[body_at - 11..body_at - 3].fill(0);
    empty.extend_from_slice(&[3, 0, 1, 0, 0, 0, 0, 0xce]);
    left(empty);
    // Each byte of what is right changed: its frames are taken only if they are what they are one by one.
    let whole = sent(b"body", &Properties::default());
    for at in 0..whole.len() {
        for flip in [1, 0x80, 0xff] {
            let mut wrong = whole.clone();
            wrong[at] ^= flip;
            let (mut at_once, mut one_by_one) = (wrong.clone(), wrong);
            let Some(taken) = decoder.decode_whole(&mut at_once) else { continue };
            for frame in taken.into_frames() {
                assert_eq!(decoder.decode(&mut one_by_one), Ok(Some(frame)));
            }
        }
    }
}
