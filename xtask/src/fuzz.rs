//! How does `cargo xtask fuzz` go: each decoder for a while, by coverage where cargo-fuzz is there, else at random.

use std::{
    fs,
    path::Path,
    process::{Command, ExitCode},
    time::{SystemTime, UNIX_EPOCH},
};

use crate::tool::{self, Tool};

const CARGO_FUZZ: Tool = Tool {
    name: "cargo-fuzz with a nightly compiler",
    probe: &["cargo", "+nightly", "fuzz", "--version"],
    install: "rustup toolchain install nightly && cargo install --locked cargo-fuzz",
};

#[derive(clap::Args)]
pub struct Options {
    /// Which decoder (default: all, one after the other; `--list` shows them)
    target: Option<String>,
    /// List the decoders and stop
    #[arg(long)]
    list: bool,
    /// How long for each
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// Where a random search begins (default: another one each time)
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

pub fn run(root: &Path, options: &Options) -> ExitCode {
    let targets = targets(root);
    if options.list {
        targets.iter().for_each(|target| println!("{target}"));
        return ExitCode::SUCCESS;
    }
    let chosen: Vec<_> = match &options.target {
        None => targets,
        Some(name) => targets.into_iter().filter(|target| target == name).collect(),
    };
    if chosen.is_empty() {
        eprintln!("no such decoder; `cargo xtask fuzz --list` shows them");
        return ExitCode::from(2);
    }
    let by_coverage = CARGO_FUZZ.is_there();
    if !by_coverage {
        println!("{} is not there: looking at random instead ({})", CARGO_FUZZ.name, CARGO_FUZZ.install);
    }
    for target in chosen {
        let mut command =
            if by_coverage { guided(root, &target, options) } else { random(root, &target, options) };
        match command.status() {
            Ok(status) if status.success() => {}
            Ok(_) => return ExitCode::FAILURE,
            Err(error) => {
                eprintln!("cargo does not start: {error}");
                return ExitCode::from(2);
            }
        }
    }
    ExitCode::SUCCESS
}

/// The names of the programs in `fuzz/fuzz_targets`, which a test holds equal to the decoders' own table.
fn targets(root: &Path) -> Vec<String> {
    let files = fs::read_dir(root.join("fuzz/fuzz_targets")).into_iter().flatten().flatten();
    let name = |file: fs::DirEntry| Some(file.path().file_stem()?.to_str()?.to_owned());
    let mut names: Vec<_> = files.filter_map(name).collect();
    names.sort();
    names
}

fn guided(root: &Path, target: &str, options: &Options) -> Command {
    // Not the cargo that runs us: `+nightly` is understood by rustup's front only.
    let mut command = Command::new("cargo");
    command
        .current_dir(root)
        .env_remove("CARGO")
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("CARGO_TARGET_DIR");
    command.args(["+nightly", "fuzz", "run", target, "--", &format!("-max_total_time={}", options.seconds)]);
    if let Some(seed) = options.seed {
        command.arg(format!("-seed={seed}"));
    }
    command
}

fn random(root: &Path, target: &str, options: &Options) -> Command {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs());
    let seed = options.seed.unwrap_or(now);
    let mut command = tool::cargo(root);
    command.args(["run", "--quiet", "--package", "waystation-fuzz", "--example", "hunt", "--"]);
    command.args([target, &options.seconds.to_string(), &seed.to_string()]);
    command
}
