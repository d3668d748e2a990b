//! Does a token's pattern cover what is asked for, be it a name or itself a pattern?

use waystation_base::name;

/// Whether every name that `asked` stands for is one that `granted` stands for. It may say no where a longer look would
/// say yes, never the other way round.
pub(crate) fn covers(granted: &str, asked: &str) -> bool {
    fn words(granted: &[&str], asked: &[&str]) -> bool {
        match (granted, asked) {
            ([], asked) => asked.is_empty(),
            (["#", rest @ ..], asked) => {
                rest.is_empty() || (0..=asked.len()).any(|taken| words(rest, &asked[taken..]))
            }
            ([_, ..], []) => false,
            ([granted, rest @ ..], [asked, tail @ ..]) => {
                (*asked != "#" && (*granted == "*" || granted == asked)) && words(rest, tail)
            }
        }
    }
    // Without wildcards in what is asked, the matcher that everybody uses decides.
    if !name::is_pattern(asked) {
        return name::matches(granted, asked);
    }
    // A token's pattern with many '#' could make the search long; such a one grants plain names only.
    let granted: Vec<_> = granted.split('.').collect();
    let asked: Vec<_> = asked.split('.').collect();
    granted.iter().filter(|word| **word == "#").count() <= 2 && words(&granted, &asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_covers_no_more_than_it_grants() {
        for (granted, asked, expected) in [
            ("#", "orders.#", true),
            ("orders.#", "orders.*", true),
            ("orders.#", "orders.#", true),
            ("orders.*", "orders.*", true),
            ("orders.*", "orders.#", false),
            ("orders.*", "orders.eu", true),
            ("orders.eu", "orders.*", false),
            ("#.late", "*.late", true),
            ("#.late", "#", false),
            ("*.#", "#", false),
            ("orders", "orders", true),
            ("orders", "order", false),
        ] {
            assert_eq!(covers(granted, asked), expected, "{granted} over {asked}");
        }
    }
}
