//! How a text is kept within a bound.

/// The text's beginning, at most `bytes_max` bytes of it, with no character cut in two.
pub fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = bytes_max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        for (bytes_max, expected) in [(0, ""), (1, "a"), (2, "a"), (3, "aä"), (4, "aäb"), (9, "aäb")] {
            assert_eq!(cut("aäb", bytes_max), expected);
        }
    }
}
