//! What goes between the server and its jq children: any bytes are a frame or an error, and a frame is written again as itself.

use waystation_jq::fuzzing::{answer, request};

use crate::Target;

pub const TARGET: Target = Target { name: "jq-frame", seeds, run };

fn seeds() -> Vec<Vec<u8>> {
    let requests = [
        request::Request::Define { id: 7, variables: vec!["$key", "$now"], text: ".a" },
        request::Request::Run {
            id: 7,
            output_bytes: 9,
            outputs: 2,
            input: b"{}",
            variables: vec![b"1", b"null"],
        },
        request::Request::Forget,
    ];
    let mut seeds: Vec<_> =
        requests.iter().map(|request| framed(|out| request::encode(request, out))).collect();
    seeds.push(framed(|out| answer::encode(&answer::Answer::Ready, out)));
    // Two results.
    seeds.push(b"\x01\x02\0\0\0\x01\0\0\0\x03\0\0\x001\"\"".to_vec());
    seeds.push(b"\x02no such customer".to_vec());
    seeds
}

/// The payload of a frame.
fn framed(put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = Vec::new();
    put(&mut frame);
    frame.split_off(4)
}

fn run(data: &[u8]) -> bool {
    let request = request::decode(data);
    if let Ok(request) = &request {
        assert_eq!(framed(|out| request::encode(request, out)), data);
    }
    let answer = answer::decode(data);
    if let Ok(answer) = &answer {
        assert_eq!(framed(|out| answer::encode(answer, out)), data);
    }
    request.is_ok() || answer.is_ok()
}
