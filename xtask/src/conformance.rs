//! How do other people's client test suites fare against the server? Fetched when it is run, never kept here. And the crash tests, whole.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use crate::{
    python,
    server::Server,
    stages::{self, Context},
    tool::{self, PYTHON},
};

#[derive(clap::Args)]
pub struct Options {
    /// Which door's suites; `calls` has the crash test only
    #[arg(value_name = "DOOR", value_parser = ["amqp091", "calls"])]
    door: String,
    /// Run only these suites (may be given several times)
    #[arg(long, value_name = "SUITE")]
    only: Vec<String>,
    /// Write docs/conformance/amqp091.md from the run
    #[arg(long)]
    write: bool,
    /// Use this binary instead of building one
    #[arg(long, value_name = "FILE")]
    server_binary: Option<PathBuf>,
    /// Run the crash test whole (20 kills) instead of the suites
    #[arg(long)]
    crash: bool,
}

pub fn run(root: &Path, options: &Options) -> ExitCode {
    match attend(root, options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(said) => {
            eprintln!("{said}");
            ExitCode::from(2)
        }
    }
}

fn attend(root: &Path, options: &Options) -> Result<bool, String> {
    if options.door == "calls" && !options.crash {
        return Err(
            "nobody's suites are run for calls: `cargo xtask test --only calls` has the clients, `--crash` the kills"
                .to_owned(),
        );
    }
    if !PYTHON.is_there() {
        return Err(format!("needs {}: {}", PYTHON.name, PYTHON.install));
    }
    let context = Context::new(root).map_err(|error| error.to_string())?;
    let (scratch, log) = (context.scratch(), context.log("conformance"));
    let binary = match &options.server_binary {
        Some(binary) => binary.clone(),
        None => built(root, &log)?,
    };
    if options.door == "calls" {
        return calls(&context, &binary, &log);
    }
    let folder = root.join("conformance").join(&options.door);
    let pins = [folder.join("python/requirements.txt"), folder.join("upstream/requirements.txt")];
    let python = python::environment(scratch, "amqp-upstream-venv", &pins, &[], &log)?;
    if options.crash {
        let mut command = Command::new(python);
        command
            .arg(folder.join("python/run_crash.py"))
            .args(["--kills", "20", "--server-binary"])
            .arg(&binary);
        command.arg("--data").arg(scratch.join("amqp-crash"));
        return command.status().map(|status| status.success()).map_err(|error| error.to_string());
    }
    let logs = scratch.join("conformance-server.log");
    let server = Server::start(&binary, root, &scratch.join("conformance-data"), &logs)?;
    let mut command = Command::new(python);
    command.arg(folder.join("upstream/suites.py")).arg("--work").arg(scratch.join("amqp-upstream"));
    let ports = [("--port", "amqp"), ("--tls-port", "amqps"), ("--management-port", "management")];
    for (option, scheme) in ports {
        command.arg(option).arg(server.port(scheme).unwrap_or_default().to_string());
    }
    for suite in &options.only {
        command.args(["--only", suite]);
    }
    if options.write {
        command.arg("--page").arg(root.join("docs/conformance").join(format!("{}.md", options.door)));
    }
    command.status().map(|status| status.success()).map_err(|error| error.to_string())
}

/// Ten thousand calls through twenty kills.
fn calls(context: &Context, binary: &Path, log: &Path) -> Result<bool, String> {
    let mut command = Command::new(stages::calls::environment(context, log)?);
    command.arg(context.root.join("conformance/calls/python/run_crash.py")).args(["--calls", "10000"]);
    command.args(["--kills", "20", "--server-binary"]).arg(binary);
    command.arg("--data").arg(context.scratch().join("calls-crash"));
    command.status().map(|status| status.success()).map_err(|error| error.to_string())
}

/// The release binary: a client's own tests have time limits that were set for a fast server.
fn built(root: &Path, log: &Path) -> Result<PathBuf, String> {
    let mut build = tool::cargo(root);
    python::succeed(build.args(["build", "--release", "--quiet", "--bin", "waystation"]), log)?;
    Ok(tool::target_dir(root).join("release/waystation"))
}
