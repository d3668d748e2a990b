//! Do instrumented services and the server between them show as one connected trace?

use std::process::Command;

use super::{Context, Outcome, Stage, scenarios};
use crate::{python, tool::PYTHON};

pub const STAGE: Stage = Stage {
    name: "telemetry",
    about: "three services with OpenTelemetry's SDK, the server's own spans, and a receiver of OTLP",
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
    let (folder, log) = (context.root.join("conformance/telemetry/python"), context.log("telemetry"));
    let pins = folder.join("requirements.txt");
    let python = match python::environment(context.scratch(), "telemetry-venv", &[pins], &[], &log) {
        Ok(python) => python,
        Err(said) => {
            return Outcome::failure(
                "needs OpenTelemetry's SDK from PyPI: is there a network for pip?",
                said,
            );
        }
    };
    let mut command = Command::new(python);
    command.arg(folder.join("run_traces.py")).env("PYTHONDONTWRITEBYTECODE", "1");
    command.arg("--server-binary").arg(server).arg("--data").arg(context.scratch().join("telemetry-data"));
    scenarios::run(&mut command, &log)
}
