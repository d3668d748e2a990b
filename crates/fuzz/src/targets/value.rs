//! Header values: any bytes give a value or an error, and a value that was read is read again from its encoding.

use waystation_base::{Millis, value::Value};

use crate::Target;

pub const TARGET: Target = Target { name: "value", seeds, run };

fn seeds() -> Vec<Vec<u8>> {
    let values = [
        Value::Null,
        Value::I8(-1),
        Value::F32(0.1),
        Value::Decimal { scale: 2, unscaled: 12345 },
        Value::Timestamp(Millis(1_500_000_000_000)),
        Value::Bytes(vec![0, 255].into()),
        Value::RawText(vec![0, 255].into()),
        Value::List(vec![Value::from("a"), Value::List(vec![Value::U64(u64::MAX)])]),
        Value::Map(vec![("name".into(), Value::from("text")), ("flag".into(), Value::Bool(true))]),
    ];
    values.iter().map(encoded).collect()
}

fn encoded(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    value.encode(&mut bytes);
    bytes
}

fn run(data: &[u8]) -> bool {
    let mut rest = data;
    let decoded = Value::decode(&mut rest);
    if let Ok(value) = &decoded {
        assert!(rest.len() < data.len(), "a value takes at least one byte");
        let again = Value::decode(&mut &encoded(value)[..]).expect("our own encoding");
        assert_eq!(format!("{again:?}"), format!("{value:?}"));
    }
    if let Some((&tag, plain)) = data.split_first()
        && let Ok(value) = Value::from_plain(tag, plain)
    {
        let mut text = Vec::new();
        value.put_plain(&mut text);
        let again = Value::from_plain(value.type_tag(), &text).expect("our own text");
        assert_eq!(format!("{again:?}"), format!("{value:?}"));
    }
    decoded.is_ok()
}
