//! Does the gridlock show on a short day: a chain of three services with a slow one, called synchronously and through Waystation?

use std::process::Command;

use super::{Context, Outcome, Stage, scenarios};
use crate::tool::PYTHON;

/// Seconds for which the slow service is well, slow, and well again.
const DAY: [&str; 3] = ["2", "6", "4"];

pub const STAGE: Stage = Stage {
    name: "gridlock",
    about: "examples/gridlock on a short day: every order that Waystation accepted is done",
    slow: true,
    needs: &[PYTHON],
    optional: false,
    run,
};

fn run(context: &Context) -> Outcome {
    let server = match context.server() {
        Ok(server) => server,
        Err(outcome) => return outcome,
    };
    let mut command = Command::new("python3");
    command.arg(context.root.join("examples/gridlock/gridlock.py")).arg("--phases").args(DAY);
    command.arg("--server-binary").arg(server).arg("--data").arg(context.scratch().join("gridlock-data"));
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    scenarios::run_example(&mut command, &context.log("gridlock"))
}
