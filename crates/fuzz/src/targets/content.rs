//! Forms of bodies: any bytes give JSON or an error; what is written from JSON is read again.

use waystation_content::{from_json, to_json};

use crate::Target;

pub const TARGET: Target = Target { name: "content", seeds, run };

/// The first byte says which.
const TYPES: &[&str] = &[
    "text/csv",
    "text/csv; header=absent; charset=iso-8859-1",
    "text/tab-separated-values",
    "application/xml",
    "application/x-www-form-urlencoded",
    "text/plain; charset=utf-16",
    "application/json",
];

fn seeds() -> Vec<Vec<u8>> {
    let bodies: &[(u8, &[u8])] = &[
        (0, b"sku,n\r\na,1\r\n\"b,\"\"c\"\"\",2\r\n"),
        (1, b"a,\xe4\n1,2\n"),
        (2, b"a\tb\n1\t2\n"),
        (3, b"<?xml version='1.0'?><o id=\"7\"><l>1</l><l>&lt;&#228;</l><!-- c --><![CDATA[x]]></o>"),
        (4, b"a=1&b=x+y%C3%A4&a=2&c"),
        (5, b"\xff\xfex\x00"),
        (6, b"{\"a\":[1.50,null,\"x\"]}"),
    ];
    bodies.iter().map(|(kind, body)| [&[*kind][..], body].concat()).collect()
}

fn run(data: &[u8]) -> bool {
    let Some((kind, body)) = data.split_first() else { return false };
    let content_type = Some(TYPES[usize::from(*kind) % TYPES.len()]);
    let _ = from_json(content_type, body);
    let Ok(json) = to_json(content_type, body) else { return false };
    serde_json::from_slice::<serde::de::IgnoredAny>(&json).expect("JSON");
    if let Ok(written) = from_json(content_type, &json) {
        let _ = to_json(content_type, &written);
    }
    true
}
