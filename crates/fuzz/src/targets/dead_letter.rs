//! Dead letters and redrives: any error text has a pattern within its bound and a group of its own, whatever it is made of; any JSON is a redrive
//! or an error, and one that passes its check is written and read again as itself.

use waystation_redrive::{Spec, fingerprint, limits::ERROR_CHARS_MAX};

use crate::Target;

pub const TARGET: Target = Target { name: "dead-letter", seeds, run };

/// A number may become a word of this length.
const WORD_CHARS_MAX: usize = "<address>".len();

fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        r#"{"from":["orders.dead"],"which":{"group":"6f25178fad6c","after":1},"rate":100,"max":5}"#,
        r#"{"which":{"all":true},"to":"mended","edit":{"set":{"a":1},"remove":["b"],"jq":".x = $error"}}"#,
        r#"{"which":{"error":"card '4711' declined: HTTP 503 after 1500ms at 10.0.0.7:5432, https://a.example/x?y=1"}}"#,
        r#"{"which":{"error":"0xdeadbeef, [fe80::1]:80, 2026-11-27T18:00:00Z, joe@example.com, N14228"}}"#,
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn run(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let pattern = fingerprint::normalised(text);
    assert!(pattern.chars().count() <= ERROR_CHARS_MAX * WORD_CHARS_MAX);
    assert_eq!(fingerprint::group("rejected", &pattern).len(), 12);
    let Ok(spec) = serde_json::from_str::<Spec>(text) else { return false };
    if spec.check().is_err() {
        return false;
    }
    let written = serde_json::to_vec(&spec).expect("a redrive is JSON");
    assert_eq!(serde_json::from_slice::<Spec>(&written).expect("our own text"), spec);
    true
}
