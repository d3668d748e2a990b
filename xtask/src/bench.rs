//! How does `cargo xtask bench NAME` go: build in release, say what it runs on, run the program, show the peer.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use cargo_metadata::MetadataCommand;

use crate::{
    benches::{self, Bench},
    machine,
    tool::{self, Tool},
};

#[derive(clap::Args)]
pub struct Options {
    /// Which benchmark (`--list` shows them)
    #[arg(required_unless_present = "list")]
    name: Option<String>,
    /// List the benchmarks with their peers and goals, and stop
    #[arg(long)]
    list: bool,
    /// Where its data lives: the disk that is measured (default: below cargo's target folder)
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Everything after `--` goes to the benchmark's own program
    #[arg(last = true)]
    arguments: Vec<String>,
}

pub fn run(root: &Path, options: &Options) -> ExitCode {
    let Some(name) = options.name.as_deref().filter(|_| !options.list) else {
        benches::ALL.iter().for_each(list);
        return ExitCode::SUCCESS;
    };
    let Some(bench) = benches::ALL.iter().find(|bench| bench.name == name) else {
        eprintln!("no benchmark is called {name:?}; `cargo xtask bench --list` shows them");
        return ExitCode::from(2);
    };
    match measure(root, bench, options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(sentence) => {
            eprintln!("{sentence}");
            ExitCode::from(2)
        }
    }
}

fn list(bench: &Bench) {
    println!(
        "{:8} {}\n{:8} peer: {}\n{:8} goal: {}",
        bench.name, bench.about, "", bench.peer, "", bench.goal
    );
}

/// Whether the program was content with itself.
fn measure(root: &Path, bench: &Bench, options: &Options) -> Result<bool, String> {
    exists(root, bench)?;
    bench.needs.map_or(Ok(()), fetch)?;
    let dir = options.dir.clone().unwrap_or_else(|| tool::target_dir(root).join("bench").join(bench.name));
    fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let server = build(root, bench)?;
    println!("bench      {}: {}", bench.name, bench.about);
    println!("{}", machine::describe(root, &dir));
    println!("peer       {}\ngoal       {}\n", bench.peer, bench.goal);
    let mut command = tool::cargo(root);
    command.args([
        "run",
        "--release",
        "--quiet",
        "--package",
        bench.package,
        "--example",
        bench.example,
        "--",
    ]);
    command.arg("--dir").arg(&dir);
    if let Some(server) = server {
        command.arg("--server-binary").arg(server);
    }
    let status = command.args(&options.arguments).status().map_err(|error| error.to_string())?;
    Ok(status.success())
}

/// Says which file is awaited when the program has not been written.
fn exists(root: &Path, bench: &Bench) -> Result<(), String> {
    let metadata =
        MetadataCommand::new().current_dir(root).no_deps().exec().map_err(|error| error.to_string())?;
    let package = metadata.packages.iter().find(|package| package.name.as_str() == bench.package);
    let Some(package) = package else { return Err(format!("there is no package {}", bench.package)) };
    match package.targets.iter().any(|target| target.is_example() && target.name == bench.example) {
        true => Ok(()),
        false => Err(format!(
            "benchmark {:?} is not written yet: package {} has no example {}",
            bench.name, bench.package, bench.example
        )),
    }
}

/// Installs what is missing, where that is allowed; its service is not started (`RUNLEVEL=1` keeps Debian's scripts from it).
fn fetch(needed: Tool) -> Result<(), String> {
    if needed.is_there() {
        return Ok(());
    }
    println!("{} is not installed: {}", needed.name, needed.install);
    let mut words = needed.install.split(' ');
    let mut command = Command::new(words.next().unwrap_or_default());
    let installed =
        command.args(words).env("RUNLEVEL", "1").env("DEBIAN_FRONTEND", "noninteractive").status();
    match installed {
        Ok(status) if status.success() && needed.is_there() => Ok(()),
        _ => Err(format!("{} could not be installed; as root: {}", needed.name, needed.install)),
    }
}

/// Builds what is measured, the server too where the program drives it, and says where that is.
fn build(root: &Path, bench: &Bench) -> Result<Option<PathBuf>, String> {
    let mut command = tool::cargo(root);
    command.args(["build", "--release", "--package", bench.package, "--example", bench.example]);
    succeed(&mut command)?;
    if !bench.drives_server {
        return Ok(None);
    }
    succeed(tool::cargo(root).args(["build", "--release", "--package", "waystation"]))?;
    Ok(Some(tool::target_dir(root).join("release/waystation")))
}

fn succeed(command: &mut Command) -> Result<(), String> {
    let status = command.status().map_err(|error| format!("cargo does not start: {error}"))?;
    if status.success() { Ok(()) } else { Err("the build failed; what cargo said stands above".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_benchmark_belongs_to_a_package_that_exists() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace");
        for bench in benches::ALL {
            if let Err(sentence) = exists(root, bench) {
                assert!(sentence.contains("not written yet"), "{}: {sentence}", bench.name);
            }
        }
    }
}
