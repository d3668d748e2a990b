//! Names and patterns: any text is a name or an error; a name matches itself as a pattern, where it is none.

use waystation_base::{Name, name};

use crate::Target;

pub const TARGET: Target = Target { name: "name", seeds, run };

fn seeds() -> Vec<Vec<u8>> {
    let texts =
        ["orders.eu-west/late_ones:1", "orders.*.late", "#.late", "a.#.b.#.c", "*", "a.a.a.a.a.a.a.a"];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn run(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    // The first line as a pattern, the second as a name: both come from outside.
    let (pattern, candidate) = text.split_once('\n').unwrap_or((text, text));
    name::matches(pattern, candidate);
    let name = Name::new(candidate);
    if let Ok(name) = &name {
        assert_eq!(name.as_str(), candidate);
        assert!(name::is_pattern(candidate) || name::matches(candidate, candidate), "a name matches itself");
    }
    name.is_ok() || name::is_pattern(pattern)
}
