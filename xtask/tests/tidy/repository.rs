//! Which files does the repository have? What the tidiness tests look at.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Folders that hold what is built, run or private, never sources.
const SKIPPED: &[&str] = &[".git", "target", "data", "__pycache__", "corpus", "artifacts"];

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace")
}

/// Every file that could be a source, as (path below the root, its text); files that are not text are left out.
pub fn texts() -> Vec<(String, String)> {
    let mut paths = Vec::new();
    collect(root(), &mut paths);
    paths.sort();
    let read = |path: PathBuf| {
        let name = path.strip_prefix(root()).ok()?.to_str()?.to_owned();
        Some((name, String::from_utf8(fs::read(&path).ok()?).ok()?))
    };
    paths.into_iter().filter_map(read).collect()
}

/// The texts whose names end in `suffix`.
pub fn texts_ending(suffix: &str) -> Vec<(String, String)> {
    texts().into_iter().filter(|(path, _)| path.ends_with(suffix)).collect()
}

fn collect(dir: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a folder of the repository").flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        // Cargo marks its target folders, wherever they are put.
        let is_cache = path.join("CACHEDIR.TAG").exists();
        if is_cache || SKIPPED.iter().any(|skipped| name == *skipped) {
            continue;
        } else if path.is_dir() {
            collect(&path, paths);
        } else {
            paths.push(path);
        }
    }
}

/// The code of a Rust file without comments and without what follows `#[cfg(test)]` at the margin, where our
/// files keep their tests.
pub fn code(text: &str) -> String {
    let shipped = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default();
    let lines = shipped.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// Fails with every offence on a line of its own.
pub fn assert_none(offences: &[String], rule: &str) {
    assert!(offences.is_empty(), "{rule}:\n  {}", offences.join("\n  "));
}

#[test]
fn code_leaves_out_comments_and_the_tests_at_the_end() {
    let text = "//! head\nfn a() {} // why\n#[cfg(test)]\nfn b() {}\n#[cfg(test)]\nmod tests { fn c() {} }\n";
    let code = code(text);
    assert!(code.contains("fn a") && code.contains("fn b"), "{code}");
    assert!(!code.contains("head") && !code.contains("why") && !code.contains("fn c"), "{code}");
}
