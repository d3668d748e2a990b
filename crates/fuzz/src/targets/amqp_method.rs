//! AMQP methods: any payload gives a method or an error, and a method that was read is read again from its writing.

use bytes::BytesMut;
use waystation_amqp091::wire::Method;

use crate::Target;

pub const TARGET: Target = Target { name: "amqp-method", seeds, run };

fn seeds() -> Vec<Vec<u8>> {
    Method::all().iter().map(written).collect()
}

fn written(method: &Method) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    method.write_payload(&mut bytes);
    bytes.into()
}

fn run(data: &[u8]) -> bool {
    let Ok(method) = Method::read(data) else { return false };
    let again = Method::read(&written(&method)).expect("our own writing");
    assert_eq!(format!("{again:?}"), format!("{method:?}"));
    true
}
