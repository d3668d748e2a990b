//! Do clients that know HTTP, and nothing of ours, follow calls to their end? Does the server do what its description says, and is each
//! call answered once though it is killed?

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::{Context, Outcome, Stage, scenarios};
use crate::{
    clients, python,
    server::Server,
    tool::{CURL, NODE, NPM, PYTHON},
};

pub const STAGE: Stage = Stage {
    name: "calls",
    about: "curl, EventSource and schemathesis against the real binary; calls, callbacks and kills",
    slow: true,
    needs: &[PYTHON, CURL, NODE, NPM],
    optional: false,
    run,
};

fn run(context: &Context) -> Outcome {
    let binary = match context.server() {
        Ok(binary) => binary,
        Err(outcome) => return outcome,
    };
    let log = context.log("calls");
    let programs = match Programs::prepare(context, &log) {
        Ok(programs) => programs,
        Err(said) => {
            return Outcome::failure(
                "needs the pinned libraries from PyPI and npm: is there a network?",
                said,
            );
        }
    };
    let mut sum = Outcome::default();
    for script in ["run_follow.py", "run_metrics.py", "run_openapi.py"] {
        sum.add(script, with_server(context, &binary, programs.python(script), &log));
    }
    let (mut node, mut crash) = (programs.node(), programs.python("run_crash.py"));
    for (name, command) in [("EventSource", &mut node), ("kills", &mut crash)] {
        command.arg("--server-binary").arg(&binary).arg("--data").arg(context.scratch().join("calls-data"));
        sum.add(name, scenarios::run(command, &log));
    }
    sum
}

/// One program with a server of its own.
fn with_server(context: &Context, binary: &Path, mut command: Command, log: &Path) -> Outcome {
    let scratch = context.scratch();
    let (data, server_log) = (scratch.join("calls-data"), scratch.join("calls-server.log"));
    match Server::start(binary, &context.root, &data, &server_log) {
        Ok(server) => scenarios::run(command.args(server.arguments()), log),
        Err(said) => Outcome::failure("the server does not start", said),
    }
}

/// The programs of `conformance/calls`, with what they need installed.
struct Programs {
    folder: PathBuf,
    python: PathBuf,
    node_modules: PathBuf,
}

impl Programs {
    fn prepare(context: &Context, log: &Path) -> Result<Programs, String> {
        let folder = context.root.join("conformance/calls");
        let python = environment(context, log)?;
        let node_modules =
            clients::node_modules(&folder.join("node"), &context.scratch().join("calls-node"), log)?;
        Ok(Programs { folder, python, node_modules })
    }

    fn python(&self, script: &str) -> Command {
        let mut command = Command::new(&self.python);
        command.arg(self.folder.join("python").join(script)).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }

    fn node(&self) -> Command {
        let mut command = Command::new("node");
        command.arg(self.folder.join("node/scenarios.js")).env("NODE_PATH", &self.node_modules);
        command
    }
}

/// The Python with what `conformance/calls` has pinned.
pub fn environment(context: &Context, log: &Path) -> Result<PathBuf, String> {
    let pins = context.root.join("conformance/calls/python/requirements.txt");
    python::environment(context.scratch(), "calls-venv", &[pins], &[], log)
}
