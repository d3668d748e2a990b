//! Declarations of routes with steps: any bytes give one or an error; one that was read is written so that it reads the same, and
//! its check and the list of its targets are safe whatever it says.

use waystation_base::Name;
use waystation_routes::RouteSteps;

use crate::Target;

pub const TARGET: Target = Target { name: "route", seeds, run };

fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        r#"{"from":{"queue":"in"},"steps":[{"filter":".a","else":"x"},{"to":["out",{"route":"r","key":"k"}]}],"order":"key"}"#,
        r#"{"kind":"steps","from":{"pattern":"a.#","start":{"offset":7}},"steps":[{"choose":[{"when":{"any":[{"selector":"a = 1"},{"not":{"address":"b"}}]},"steps":[{"tap":"t"}]}],"otherwise":{"steps":[]}},{"split":".[]"},{"to":[]}],"limits":{"hops":3}}"#,
        r#"{"from":{"subscription":"s"},"steps":[{"validate":{"filter":{"exact":{"type":"t"}}}},{"transform":{"body":"{a}","headers":"{b: 1}","content_type":"text/csv"}},{"recipients":".to","allowed":["t.*"]}],"retry":{"attempts_max":2},"record":false}"#,
        r#"{"from":{"queue":"q"},"steps":[{"aggregate":{"key":".k","size":3,"count":".n","when":".last","timeout_ms":5,"late":"drop","body":"."}},{"resequence":{"number":".n","late":"own"}},{"claim":{"store":"t","keep":"{a}"}},{"redeem":"t"},{"to":"out"}]}"#,
        r#"{"from":{"topic":"t"},"steps":[{"gather":{"to":["a","b"],"replies":"r","size":1}},{"enrich":{"url":".u","merge":".","accept":[404],"cache":{"ttl_ms":9}}},{"table":{"topic":"t","key":".k","allowed":["x.*"]},"else":"rest"}]}"#,
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn run(data: &[u8]) -> bool {
    let Ok(spec) = serde_json::from_slice::<RouteSteps>(data) else { return false };
    let written = serde_json::to_vec(&spec).expect("texts and numbers are JSON");
    let again: RouteSteps = serde_json::from_slice(&written).expect("what was written reads back");
    assert_eq!(again, spec);
    let name = Name::new("r").expect("a name");
    if let Err(invalid) = spec.check(&name) {
        assert!(!invalid.reason.is_empty());
    }
    assert!(spec.sends().targets.is_sorted());
    true
}
