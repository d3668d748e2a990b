//! Which programs did the one build make? Every test stage runs from it, so nothing is compiled twice.
//!
//! `cargo test -p X` would choose other features for the dependencies than `cargo test -p Y` does and build them
//! again. So the workspace is built once, all tests together, and each stage runs the programs that belong to it.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::tool;

/// One test program.
#[derive(Debug, Clone)]
pub struct TestProgram {
    pub package: String,
    /// The name of the library, binary or file under `tests/`.
    pub target: String,
    pub is_integration: bool,
    pub package_dir: PathBuf,
    pub executable: PathBuf,
}

/// What the build made.
#[derive(Debug, Default, Clone)]
pub struct Built {
    pub tests: Vec<TestProgram>,
    /// The `waystation` program itself.
    pub server: Option<PathBuf>,
}

/// The build itself; what it says goes to `log`.
pub fn build(root: &Path, log: &Path) -> Result<Built, String> {
    let mut built = Built::default();
    add(&mut built, root, log, &["test", "--workspace", "--lib", "--bins", "--tests", "--no-run"])?;
    if built.server.is_none() {
        // Cargo makes the program on the way only when its package has tests that start it.
        add(&mut built, root, log, &["build", "--workspace", "--bins"])?;
    }
    built.tests.sort_by(|a, b| (&a.package, &a.target).cmp(&(&b.package, &b.target)));
    Ok(built)
}

fn add(built: &mut Built, root: &Path, log: &Path, arguments: &[&str]) -> Result<(), String> {
    let mut command = tool::cargo(root);
    command.args(arguments).arg("--message-format=json-render-diagnostics");
    for line in messages(&mut command, log)?.lines() {
        let Ok(message) = serde_json::from_str::<Value>(line) else { continue };
        if message["reason"] == "compiler-artifact" {
            take(built, &message);
        }
    }
    Ok(())
}

/// Standard output of a cargo command whose standard error goes to the log.
fn messages(command: &mut Command, log: &Path) -> Result<String, String> {
    let stderr = std::fs::File::create(log).map_err(|error| format!("{}: {error}", log.display()))?;
    let output = command.stderr(stderr).output().map_err(|error| format!("cargo does not start: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(tool::tail(&std::fs::read_to_string(log).unwrap_or_default(), 60))
}

fn take(built: &mut Built, message: &Value) {
    let Some(executable) = message["executable"].as_str().map(PathBuf::from) else { return };
    let target = message["target"]["name"].as_str().unwrap_or_default().to_owned();
    if message["profile"]["test"] != true {
        if target == "waystation" {
            built.server = Some(executable);
        }
        return;
    }
    let manifest = PathBuf::from(message["manifest_path"].as_str().unwrap_or_default());
    let package_dir = manifest.parent().map(Path::to_path_buf).unwrap_or_default();
    let is_integration = message["target"]["kind"][0] == "test";
    let package = package_name(message["package_id"].as_str().unwrap_or_default());
    built.tests.push(TestProgram { package, target, is_integration, package_dir, executable });
}

/// The name in a package id: `path+file:///x/crates/base#waystation-base@0.1.0`, or `…/xtask#0.1.0` where the
/// folder is called as the package is.
fn package_name(id: &str) -> String {
    let (path, rest) = id.rsplit_once('#').unwrap_or(("", id));
    match rest.split_once('@') {
        Some((name, _)) => name.to_owned(),
        None => path.rsplit('/').next().unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_named_by_its_id_in_both_of_cargo_s_spellings() {
        assert_eq!(package_name("path+file:///x/crates/base#waystation-base@0.1.0"), "waystation-base");
        assert_eq!(package_name("path+file:///x/xtask#0.1.0"), "xtask");
    }

    #[test]
    fn a_test_program_is_told_from_the_server() {
        let mut built = Built::default();
        for (is_test, kind) in [(true, "test"), (true, "bin"), (false, "bin")] {
            let message = serde_json::json!({
                "executable": "/t/waystation", "manifest_path": "/r/bin/waystation/Cargo.toml",
                "package_id": "path+file:///r/bin/waystation#0.1.0", "profile": {"test": is_test},
                "target": {"name": "waystation", "kind": [kind]},
            });
            take(&mut built, &message);
        }
        assert_eq!(built.server.as_deref(), Some(Path::new("/t/waystation")));
        assert_eq!(built.tests.iter().map(|test| test.is_integration).collect::<Vec<_>>(), [true, false]);
    }
}
