//! What does a field table hold? Names with typed values (AMQP 0-9-1 §4.2.5.5, with the type letters as RabbitMQ uses them:
//! its errata list differs from the specification's grammar).
//!
//! ```text
//! table: size u32 | (name short string | value)*        array: size u32 | value*
//! value: t bool u8 | b i8 | B u8 | s i16 | u u16 | I i32 | i u32 | l i64 | f f32 | d f64 | D scale u8, unscaled u32 |
//!   S long string | x long string of bytes | T u64 seconds | A array | F table | V nothing
//! read besides: L i64 (RabbitMQ reads it so) | U i16 (the specification's letter for s)
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use smol_str::SmolStr;
use waystation_base::{Millis, value::Value};

use super::{
    Error, Put, Reader,
    limits::{TABLE_DEPTH_MAX, TABLE_VALUES_MAX},
};

/// Names with values, in the order in which they were sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table(pub Vec<(SmolStr, Value)>);

impl Table {
    /// The first value of that name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(have, _)| have == name).map(|(_, value)| value)
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes a table off the front.
    pub fn read(reader: &mut Reader<'_>) -> Result<Table, Error> {
        let mut entries = Vec::new();
        Table::read_entries(reader, |name, value| entries.push((SmolStr::new(name), value)))?;
        Ok(Table(entries))
    }

    /// Takes a table off the front and hands over each entry as it is read.
    pub(crate) fn read_entries<'a>(
        reader: &mut Reader<'a>,
        mut entry: impl FnMut(&'a str, Value),
    ) -> Result<(), Error> {
        let mut inner = Reader::new(reader.long_bytes()?);
        let mut budget = TABLE_VALUES_MAX;
        while !inner.is_empty() {
            let name = inner.short_text()?;
            entry(name, read_value(&mut inner, 0, &mut budget)?);
        }
        Ok(())
    }

    /// Writes it.
    pub fn write(&self, out: &mut BytesMut) {
        write_table(&self.0, out);
    }
}

impl FromIterator<(SmolStr, Value)> for Table {
    fn from_iter<T: IntoIterator<Item = (SmolStr, Value)>>(entries: T) -> Table {
        Table(entries.into_iter().collect())
    }
}

/// A time past this is held as the last that fits into milliseconds.
const SECONDS_MAX: u64 = u64::MAX / 1000;

fn read_value(reader: &mut Reader<'_>, depth: usize, budget: &mut usize) -> Result<Value, Error> {
    if depth > TABLE_DEPTH_MAX {
        return Err(Error::TableDepth);
    }
    *budget = budget.checked_sub(1).ok_or(Error::TableValues)?;
    Ok(match reader.u8()? {
        b'S' => text_or_bytes(reader.long_bytes()?),
        b'I' => Value::I32(reader.u32()? as i32),
        b't' => Value::Bool(reader.u8()? != 0),
        b'l' | b'L' => Value::I64(reader.u64()? as i64),
        b'T' => Value::Timestamp(Millis(reader.u64()?.min(SECONDS_MAX) * 1000)),
        b'b' => Value::I8(reader.u8()? as i8),
        b'B' => Value::U8(reader.u8()?),
        b's' | b'U' => Value::I16(reader.u16()? as i16),
        b'u' => Value::U16(reader.u16()?),
        b'i' => Value::U32(reader.u32()?),
        b'f' => Value::F32(f32::from_bits(reader.u32()?)),
        b'd' => Value::F64(f64::from_bits(reader.u64()?)),
        b'D' => Value::Decimal { scale: reader.u8()?, unscaled: reader.u32()? as i32 },
        b'x' => Value::Bytes(Bytes::copy_from_slice(reader.long_bytes()?)),
        b'V' => Value::Null,
        b'A' => read_array(&mut Reader::new(reader.long_bytes()?), depth + 1, budget)?,
        b'F' => read_map(&mut Reader::new(reader.long_bytes()?), depth + 1, budget)?,
        other => return Err(Error::FieldType(other)),
    })
}

fn read_array(inner: &mut Reader<'_>, depth: usize, budget: &mut usize) -> Result<Value, Error> {
    let mut values = Vec::new();
    while !inner.is_empty() {
        values.push(read_value(inner, depth, budget)?);
    }
    Ok(Value::List(values))
}

fn read_map(inner: &mut Reader<'_>, depth: usize, budget: &mut usize) -> Result<Value, Error> {
    let mut entries = Vec::new();
    while !inner.is_empty() {
        let name = SmolStr::new(inner.short_text()?);
        entries.push((name, read_value(inner, depth, budget)?));
    }
    Ok(Value::Map(entries))
}

/// A long string is meant to be text; where it is not, its bytes are kept, and that they came as `S`.
fn text_or_bytes(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::String(SmolStr::new(text)),
        Err(_) => Value::RawText(Bytes::copy_from_slice(bytes)),
    }
}

/// Leaves room for a size, lets `content` write, and fills the size in. With [`write_entry`] it writes a table.
pub(crate) fn sized(out: &mut BytesMut, content: impl FnOnce(&mut BytesMut)) {
    let at = out.len();
    out.put_u32(0);
    content(out);
    let size = u32::try_from(out.len() - at - 4).expect("a table below 4 GiB");
    out[at..at + 4].copy_from_slice(&size.to_be_bytes());
}

fn write_table(entries: &[(SmolStr, Value)], out: &mut BytesMut) {
    sized(out, |out| entries.iter().for_each(|(name, value)| write_entry(name, value, out)));
}

/// Writes one name with its value.
pub(crate) fn write_entry(name: &str, value: &Value, out: &mut BytesMut) {
    out.put_short_text(name);
    write_value(value, out);
}

fn write_value(value: &Value, out: &mut BytesMut) {
    fn letter(out: &mut BytesMut, letter: u8) -> &mut BytesMut {
        out.put_u8(letter);
        out
    }
    match value {
        Value::Null => out.put_u8(b'V'),
        Value::Bool(v) => letter(out, b't').put_u8(u8::from(*v)),
        Value::I8(v) => letter(out, b'b').put_i8(*v),
        Value::U8(v) => letter(out, b'B').put_u8(*v),
        Value::I16(v) => letter(out, b's').put_i16(*v),
        Value::U16(v) => letter(out, b'u').put_u16(*v),
        Value::I32(v) => letter(out, b'I').put_i32(*v),
        Value::U32(v) => letter(out, b'i').put_u32(*v),
        Value::I64(v) => letter(out, b'l').put_i64(*v),
        Value::U64(v) => match i64::try_from(*v) {
            Ok(v) => letter(out, b'l').put_i64(v),
            // No letter has room for it: its digits keep it whole.
            Err(_) => letter(out, b'S').put_long_bytes(v.to_string().as_bytes()),
        },
        Value::F32(v) => letter(out, b'f').put_f32(*v),
        Value::F64(v) => letter(out, b'd').put_f64(*v),
        Value::Decimal { scale, unscaled } => {
            letter(out, b'D').put_u8(*scale);
            out.put_i32(*unscaled);
        }
        Value::Timestamp(v) => letter(out, b'T').put_u64(v.0 / 1000),
        Value::String(v) => letter(out, b'S').put_long_bytes(v.as_bytes()),
        Value::RawText(v) => letter(out, b'S').put_long_bytes(v),
        Value::Bytes(v) => letter(out, b'x').put_long_bytes(v),
        Value::List(values) => {
            sized(letter(out, b'A'), |out| values.iter().for_each(|value| write_value(value, out)));
        }
        Value::Map(entries) => write_table(entries, letter(out, b'F')),
    }
}
