//! How is another program run: its output kept in a log file, its absence told with the way to install it?

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A program that a stage needs and that may be missing.
#[derive(Debug, Clone, Copy)]
pub struct Tool {
    /// What it is called in a sentence.
    pub name: &'static str,
    /// A command that succeeds when it is there.
    pub probe: &'static [&'static str],
    /// How to get it on Debian, in one line.
    pub install: &'static str,
}

pub const RUSTFMT: Tool = Tool {
    name: "rustfmt",
    probe: &["cargo", "fmt", "--version"],
    install: "rustup component add rustfmt   (or: apt-get install rustfmt)",
};
pub const CLIPPY: Tool = Tool {
    name: "clippy",
    probe: &["cargo", "clippy", "--version"],
    install: "rustup component add clippy   (or: apt-get install rust-clippy)",
};
pub const C_COMPILER: Tool = Tool {
    name: "a C compiler (for the crates ring and mimalloc)",
    probe: &["cc", "--version"],
    install: "apt-get install build-essential",
};
pub const PYTHON: Tool = Tool {
    name: "Python 3 with venv",
    probe: &["python3", "-c", "import venv, ensurepip"],
    install: "apt-get install python3 python3-venv",
};
pub const RABBITMQ: Tool = Tool {
    name: "RabbitMQ",
    probe: &["test", "-x", "/usr/lib/rabbitmq/bin/rabbitmq-server"],
    install: "apt-get install --yes --no-install-recommends rabbitmq-server",
};
pub const CURL: Tool = Tool { name: "curl", probe: &["curl", "--version"], install: "apt-get install curl" };
pub const NODE: Tool = Tool {
    name: "Node 18 or later",
    probe: &["node", "-e", "process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)"],
    install: "apt-get install nodejs",
};
pub const NPM: Tool = Tool { name: "npm", probe: &["npm", "--version"], install: "apt-get install npm" };
pub const CARGO_DENY: Tool = Tool {
    name: "cargo-deny",
    probe: &["cargo", "deny", "--version"],
    install: "cargo install --locked cargo-deny",
};

impl Tool {
    /// Whether the probe succeeds.
    pub fn is_there(&self) -> bool {
        let [program, arguments @ ..] = self.probe else { return true };
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }
}

/// What a command left behind.
#[derive(Debug)]
pub struct Ran {
    pub success: bool,
    /// Standard output and standard error, as they came.
    pub output: String,
}

/// Runs `command` to its end with both outputs appended to `log`, and returns what it added.
pub fn run_logged(command: &mut Command, log: &Path) -> io::Result<Ran> {
    let before = log.metadata().map_or(0, |metadata| metadata.len());
    let file = File::options().create(true).append(true).open(log)?;
    let status = command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).status()?;
    let written = std::fs::read(log)?;
    let added = written.get(before as usize..).unwrap_or_default();
    Ok(Ran { success: status.success(), output: String::from_utf8_lossy(added).into_owned() })
}

/// The cargo that runs us, so that a toolchain chosen with `+name` stays chosen.
pub fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    // These describe xtask itself and would be taken for settings of the command that is run.
    command.env_remove("CARGO_MANIFEST_DIR").env_remove("CARGO_PKG_NAME");
    command
}

/// Where cargo builds.
pub fn target_dir(root: &Path) -> PathBuf {
    let chosen = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    root.join(chosen)
}

/// The last `count` lines of `text`.
pub fn tail(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
