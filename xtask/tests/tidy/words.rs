//! Are there words in the repository that mean something on one machine only, or that nobody should read?

use crate::repository::{assert_none, texts};

/// Folders of a particular machine, and names of the place where the work is done. Put together here so that
/// this file does not hold them.
const FOREIGN: &[&str] =
    &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("farm", "-bench")];

/// Files that may hold such a word, with the reason.
const EXCUSED: &[(&str, &str)] = &[];

#[test]
fn no_file_names_a_place_of_one_machine() {
    let mut offences = Vec::new();
    for (path, text) in texts() {
        for (number, line) in text.lines().enumerate() {
            let found = FOREIGN.iter().find(|word| line.contains(**word));
            let excused = EXCUSED.iter().any(|(name, _)| *name == path);
            offences.extend(found.filter(|_| !excused).map(|word| format!("{path}:{}: {word}", number + 1)));
        }
    }
    assert_none(&offences, "a path or name of one machine");
}
