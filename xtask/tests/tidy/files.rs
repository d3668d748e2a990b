//! Does each file say what it is for, and is it of a comfortable size?

use crate::repository::{assert_none, texts_ending};

/// Past this a file probably answers two questions.
const LINES_MAX: usize = 600;

/// Files that are longer, each with the reason why it is still one question.
const LONGER: &[(&str, &str)] = &[];

#[test]
fn every_rust_file_begins_by_saying_what_it_answers() {
    let said = |text: &str| text.starts_with("//! ") || text.starts_with("// @generated");
    let silent = texts_ending(".rs").into_iter().filter(|(_, text)| !said(text));
    let offences: Vec<_> = silent.map(|(path, _)| path).collect();
    assert_none(&offences, "the first line must be a `//! ` line");
}

#[test]
fn no_rust_file_is_longer_than_one_question_needs() {
    let mut offences = Vec::new();
    for (path, text) in texts_ending(".rs") {
        let lines = text.lines().count();
        let excused = LONGER.iter().any(|(name, _)| *name == path);
        if lines > LINES_MAX && !excused && !text.starts_with("// @generated") {
            offences.push(format!("{path}: {lines} lines (split it, or give a reason in LONGER)"));
        }
    }
    assert_none(&offences, &format!("longer than {LINES_MAX} lines"));
}

#[test]
fn every_excuse_for_length_is_still_needed_and_has_a_reason() {
    let texts = texts_ending(".rs");
    for (path, reason) in LONGER {
        let text = texts.iter().find(|(name, _)| name == path).map(|(_, text)| text);
        let lines = text.unwrap_or_else(|| panic!("{path} is excused and does not exist")).lines().count();
        assert!(lines > LINES_MAX, "{path} has {lines} lines: it needs no excuse");
        assert!(reason.len() > 20, "{path}: give the reason");
    }
}

#[test]
fn no_line_ends_in_blanks_and_every_file_ends_in_a_newline() {
    let mut offences = Vec::new();
    for suffix in [".rs", ".toml", ".md", ".py"] {
        for (path, text) in texts_ending(suffix) {
            let blank = text.lines().position(|line| line.ends_with([' ', '\t']));
            offences.extend(blank.map(|line| format!("{path}:{}: blanks at the end", line + 1)));
            if !text.is_empty() && !text.ends_with('\n') {
                offences.push(format!("{path}: no newline at the end"));
            }
        }
    }
    assert_none(&offences, "untidy white space");
}
