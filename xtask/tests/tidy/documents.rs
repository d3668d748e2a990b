//! Do the documents hold together: links lead somewhere, the changelog takes new lines, the map names each crate?

use std::path::{Component, Path, PathBuf};

use crate::repository::{assert_none, root, texts_ending};

/// The targets of `[text](target)` in a document, code blocks left out.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut in_code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for (at, _) in line.match_indices("](") {
            let rest = &line[at + 2..];
            found.extend(rest.split([')', ' ']).next().map(str::to_owned));
        }
    }
    found
}

/// `path` without its `.` and `..`, so that a link out of the repository is seen too.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(normal.pop()),
            Component::CurDir => {}
            other => normal.push(other),
        }
    }
    normal
}

#[test]
fn every_link_to_a_file_leads_to_one() {
    let mut offences = Vec::new();
    for (path, text) in texts_ending(".md") {
        let folder = root().join(&path).parent().expect("a file lies in a folder").to_path_buf();
        for link in links(&text) {
            let file = link.split('#').next().unwrap_or_default();
            let is_elsewhere = link.contains("://") || link.starts_with("mailto:") || file.is_empty();
            if !is_elsewhere && !normal(&folder.join(file)).exists() {
                offences.push(format!("{path}: {link}"));
            }
        }
    }
    assert_none(&offences, "a link leads nowhere");
}

#[test]
fn links_are_found_outside_of_code_only() {
    let text = "see [a](b.md) and [c](d/e.md#f)\n```\n[x](y)\n```\n";
    assert_eq!(links(text), ["b.md", "d/e.md#f"]);
}

#[test]
fn the_changelog_has_a_place_for_what_is_not_released() {
    let text = std::fs::read_to_string(root().join("CHANGELOG.md")).expect("CHANGELOG.md");
    assert!(text.lines().any(|line| line.trim() == "## Unreleased"), "CHANGELOG.md needs `## Unreleased`");
}

#[test]
fn the_map_names_every_crate() {
    let map = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let missing: Vec<_> = texts_ending("Cargo.toml")
        .into_iter()
        .filter_map(|(path, _)| path.strip_suffix("/Cargo.toml").map(str::to_owned))
        .filter(|folder| !map.contains(folder.as_str()))
        .collect();
    assert_none(&missing, "ARCHITECTURE.md does not name a crate's folder");
}

/// The decisions, without the page about them.
fn decisions() -> Vec<(String, String)> {
    let is_decision = |path: &str| path.starts_with("docs/decisions/") && !path.ends_with("README.md");
    texts_ending(".md").into_iter().filter(|(path, _)| is_decision(path)).collect()
}

#[test]
fn every_decision_follows_the_template() {
    let parts = ["## Seen", "## Decided", "## Rejected"];
    let mut offences = Vec::new();
    for (path, text) in decisions() {
        let missing = parts.iter().find(|part| !text.lines().any(|line| line.trim_end() == **part));
        offences.extend(missing.map(|part| format!("{path}: {part}")));
    }
    assert_none(&offences, "a decision lacks a part of the template in docs/decisions/README.md");
}

#[test]
fn every_decision_is_listed_and_no_number_is_given_twice() {
    let list =
        std::fs::read_to_string(root().join("docs/decisions/README.md")).expect("the list of decisions");
    let names: Vec<_> =
        decisions().into_iter().filter_map(|(path, _)| Some(path.rsplit_once('/')?.1.to_owned())).collect();
    let mut offences: Vec<_> = names.iter().filter(|name| !list.contains(name.as_str())).cloned().collect();
    for pair in names.windows(2).filter(|pair| pair[0].get(..4) == pair[1].get(..4)) {
        offences.push(format!("{} and {}", pair[0], pair[1]));
    }
    assert_none(&offences, "a decision is not listed in docs/decisions/README.md, or two have one number");
}
