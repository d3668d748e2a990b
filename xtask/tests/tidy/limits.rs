//! Is each named limit tested? Its name must appear in some test.

use crate::repository::{assert_none, root, texts_ending};

/// The names of the constants in a Rust file.
fn constants(text: &str) -> Vec<String> {
    let name = |line: &str| Some(line.trim().strip_prefix("pub const ")?.split(':').next()?.to_owned());
    text.lines().filter_map(name).collect()
}

/// What of a Rust file is test: all of it below `tests/` or in `…tests.rs`, else what follows the first `#[cfg(test)]`.
fn tests_of(path: &str, text: &str) -> String {
    if path.contains("/tests/") || path.ends_with("tests.rs") {
        return text.to_owned();
    }
    text.split_once("#[cfg(test)]").map_or_else(String::new, |(_, tests)| tests.to_owned())
}

#[test]
fn every_limit_is_named_by_a_test() {
    let limits = std::fs::read_to_string(root().join("crates/base/src/limits.rs")).expect("the limits");
    let tests: Vec<_> = texts_ending(".rs").iter().map(|(path, text)| tests_of(path, text)).collect();
    let tested = |name: &String| tests.iter().any(|text| text.contains(name.as_str()));
    let offences: Vec<_> = constants(&limits).into_iter().filter(|name| !tested(name)).collect();
    assert_none(&offences, "no test names this limit: test at it and one past it");
}

#[test]
fn a_limit_is_found_by_its_name() {
    assert_eq!(constants("/// x\npub const A_MAX: usize = 1;\nconst B: u8 = 2;\n"), ["A_MAX"]);
}
