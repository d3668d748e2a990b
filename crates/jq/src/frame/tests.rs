//! Do frames come back as they were written, and are bent ones refused?

use proptest::prelude::*;

use super::{
    Error, FRAME_BYTES_MAX,
    answer::{self, Answer},
    length,
    request::{self, Request},
    whole,
};
use crate::eval::Verdict;

fn any_verdict() -> impl Strategy<Value = Verdict> {
    let results = proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), 0..9);
    prop_oneof![
        results.prop_map(|results| {
            let (mut bytes, mut ends) = (Vec::new(), Vec::new());
            for result in results {
                bytes.extend(result);
                ends.push(bytes.len() as u32);
            }
            Verdict::Results { bytes, ends }
        }),
        ".{0,20}".prop_map(Verdict::Error),
        Just(Verdict::Size),
        Just(Verdict::Outputs),
    ]
}

proptest! {
    #[test]
    fn an_answer_comes_back(verdict in any_verdict()) {
        let mut bytes = Vec::new();
        answer::encode(&Answer::Verdict(verdict.clone()), &mut bytes);
        let (payload, length) = whole(&bytes).unwrap().unwrap();
        prop_assert_eq!(length, bytes.len());
        prop_assert_eq!(answer::decode(payload), Ok(Answer::Verdict(verdict)));
    }

    #[test]
    fn a_request_comes_back(
        id: u64, output_bytes: u32, outputs: u32, input: Vec<u8>, values: [Vec<u8>; 3], name in "[a-z]{1,9}", text in ".{0,40}"
    ) {
        let variables = values.iter().map(Vec::as_slice).collect();
        for request in [
            Request::Run { id, output_bytes, outputs, input: &input, variables },
            Request::Define { id, variables: vec![&name], text: &text },
            Request::Forget,
        ] {
            let mut bytes = Vec::new();
            request::encode(&request, &mut bytes);
            let (payload, length) = whole(&bytes).unwrap().unwrap();
            prop_assert_eq!(length, bytes.len());
            prop_assert_eq!(request::decode(payload), Ok(request));
            for cut in 0..bytes.len() {
                prop_assert_eq!(whole(&bytes[..cut]), Ok(None));
            }
        }
    }

    #[test]
    fn any_bytes_are_a_frame_or_an_error(bytes: Vec<u8>) {
        let _ = request::decode(&bytes);
        if let Ok(Answer::Verdict(Verdict::Results { bytes, ends })) = answer::decode(&bytes) {
            prop_assert!(ends.iter().all(|end| *end as usize <= bytes.len()));
        }
    }
}

#[test]
fn a_frame_is_bounded_at_frame_bytes_max() {
    let prefix = |bytes: usize| length(&(bytes as u32).to_le_bytes());
    assert_eq!(prefix(FRAME_BYTES_MAX), Ok(Some(FRAME_BYTES_MAX + 4)));
    assert_eq!(prefix(FRAME_BYTES_MAX + 1), Err(Error::Length));
}

#[test]
fn ends_that_fall_or_point_outside_are_refused() {
    let payload = |ends: &[u32], bytes: &[u8]| {
        let mut payload = vec![1];
        payload.extend((ends.len() as u32).to_le_bytes());
        ends.iter().for_each(|end| payload.extend(end.to_le_bytes()));
        payload.extend(bytes);
        answer::decode(&payload)
    };
    assert!(payload(&[1, 2], b"12").is_ok());
    assert_eq!(payload(&[2, 1], b"12"), Err(Error::Length));
    assert_eq!(payload(&[1, 3], b"12"), Err(Error::Length));
    assert_eq!(payload(&[1], b"12"), Err(Error::Length), "bytes of no result");
}
