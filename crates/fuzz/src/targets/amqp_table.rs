//! AMQP field tables: any bytes give a table or an error within depth and count, and a table is read again from its writing.

use bytes::{Bytes, BytesMut};
use waystation_amqp091::{
    mapping::{from_json, to_json},
    wire::{Reader, Table},
};
use waystation_base::{Millis, limits::VALUE_DEPTH_MAX, value::Value};

use crate::Target;

pub const TARGET: Target = Target { name: "amqp-table", seeds, run };

fn seeds() -> Vec<Vec<u8>> {
    let values = [
        Value::Null,
        Value::Bool(true),
        Value::I8(-1),
        Value::U8(1),
        Value::I16(-1),
        Value::U16(1),
        Value::I32(-1),
        Value::U32(1),
        Value::I64(-1),
        Value::F32(0.5),
        Value::F64(0.1),
        Value::Decimal { scale: 2, unscaled: 125 },
        Value::Timestamp(Millis(1_700_000_000_000)),
        Value::from("text"),
        Value::Bytes(Bytes::from_static(&[0, 255])),
        Value::RawText(Bytes::from_static(&[0, 255])),
        Value::List(vec![Value::List(vec![Value::from("a")]), Value::Null]),
        Value::Map(vec![("name".into(), Value::Map(vec![]))]),
    ];
    let table = |value: Value| written(&Table(vec![("a".into(), value.clone()), ("b".into(), value)]));
    values.into_iter().map(table).collect()
}

fn written(table: &Table) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    table.write(&mut bytes);
    bytes.into()
}

fn run(data: &[u8]) -> bool {
    let Ok(table) = Table::read(&mut Reader::new(data)) else { return false };
    assert!(table.0.iter().all(|(_, value)| value.depth() <= VALUE_DEPTH_MAX + 1));
    let again = Table::read(&mut Reader::new(&written(&table))).expect("our own writing");
    assert_eq!(format!("{again:?}"), format!("{table:?}"));
    // Arguments are kept as JSON: that neither fails nor changes when it is done again.
    let json = to_json(&table);
    assert_eq!(to_json(&from_json(&json)), json);
    true
}
