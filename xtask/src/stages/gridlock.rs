//! Does the gridlock show on a short day: a chain of three services with a slow one, called synchronously and through Waystation?

use std::process::Command;

use super::{Context, Outcome, Stage};
use crate::tool::{self, PYTHON};

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
    let server = match context.built() {
        Ok(built) => built.server.clone(),
        Err(_) => None,
    };
    let Some(server) = server else { return Outcome::failure("no waystation binary was built", "") };
    let mut command = Command::new("python3");
    command.arg(context.root.join("examples/gridlock/gridlock.py")).arg("--phases").args(DAY);
    command.arg("--server-binary").arg(server).arg("--data").arg(context.scratch().join("gridlock-data"));
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    match tool::run_logged(&mut command, &context.log("gridlock")) {
        Ok(ran) => Outcome {
            note: ran.output.lines().last().unwrap_or_default().to_owned(),
            ..Outcome::check(ran.success, tool::tail(&ran.output, 60))
        },
        Err(error) => Outcome::failure("the example does not start", error.to_string()),
    }
}
