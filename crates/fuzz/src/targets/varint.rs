//! Varints: any bytes give a number or an error, and a number that was read is read again from its shortest form.

use waystation_base::varint;

use crate::Target;

pub const TARGET: Target = Target { name: "varint", seeds, run };

fn seeds() -> Vec<Vec<u8>> {
    [0, 127, 128, u64::MAX].iter().map(|number| encoded(*number)).collect()
}

fn encoded(number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    varint::put(&mut bytes, number);
    bytes
}

fn run(data: &[u8]) -> bool {
    let mut rest = data;
    while let Ok(number) = varint::take(&mut rest) {
        assert_eq!(varint::take(&mut &encoded(number)[..]), Ok(number));
    }
    let mut rest = data;
    while let Ok(number) = varint::take_signed(&mut rest) {
        let mut bytes = Vec::new();
        varint::put_signed(&mut bytes, number);
        assert_eq!(bytes.len(), varint::signed_len(number), "the length is foretold");
        assert_eq!(varint::take_signed(&mut &bytes[..]), Ok(number));
    }
    let mut rest = data;
    while let Ok(bytes) = varint::take_prefixed(&mut rest) {
        assert!(bytes.len() < data.len());
    }
    varint::take(&mut &data[..]).is_ok()
}
