//! How is each pinned AMQP client made ready and run: Python's in an environment of their own, Node's, lapin's?

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{python, tool};

/// The clients by name, in the order in which they run.
pub const ALL: &[(&str, Kind)] = &[
    ("raw bytes", Kind::Python("run_raw.py")),
    ("pika", Kind::Python("run_pika.py")),
    ("amqpstorm and rabbitmqadmin", Kind::Python("run_management.py")),
    ("aio-pika", Kind::Python("run_aio_pika.py")),
    ("Celery on kombu", Kind::Python("run_celery.py")),
    ("amqplib", Kind::Node),
    ("lapin", Kind::Lapin),
    ("pressure", Kind::Own("run_pressure.py", "amqp-pressure")),
    ("crash", Kind::Own("run_crash.py", "amqp-crash")),
];

#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A script in `conformance/amqp091/python`.
    Python(&'static str),
    Node,
    Lapin,
    /// A script that starts and ends servers of its own, with a folder for their data.
    Own(&'static str, &'static str),
}

/// The clients made ready.
pub struct Clients {
    folder: PathBuf,
    python: PathBuf,
    node_modules: PathBuf,
    lapin: PathBuf,
}

impl Clients {
    /// Installs what is pinned, where that has not been done; an error says what could not be had.
    pub fn prepare(root: &Path, scratch: &Path, log: &Path) -> Result<Clients, String> {
        let folder = root.join("conformance/amqp091");
        let pins = folder.join("python/requirements.txt");
        let python = python::environment(scratch, "amqp-venv", &[pins], &[], log).map_err(|said| {
            format!("needs the pinned clients from PyPI: is there a network for pip?\n{said}")
        })?;
        let node_modules = node_modules(&folder.join("node"), &scratch.join("amqp-node"), log)
            .map_err(|said| format!("needs amqplib from npm: is there a network for npm?\n{said}"))?;
        let lapin = built(root, &folder.join("lapin"), "waystation-conformance-lapin", log)
            .map_err(|said| format!("the lapin client does not build\n{said}"))?;
        Ok(Clients { folder, python, node_modules, lapin })
    }

    /// The command that runs one client against a server; `arguments` tell where it is, `binary` is the server's.
    pub fn command(&self, kind: Kind, arguments: &[String], binary: &Path, scratch: &Path) -> Command {
        let mut command = match kind {
            Kind::Python(script) => self.script(script),
            Kind::Own(script, data) => {
                let mut command = self.script(script);
                command.arg("--server-binary").arg(binary).arg("--data").arg(scratch.join(data));
                return command;
            }
            Kind::Node => {
                let mut command = Command::new("node");
                command.arg(self.folder.join("node/scenarios.js")).env("NODE_PATH", &self.node_modules);
                command
            }
            Kind::Lapin => Command::new(&self.lapin),
        };
        command.args(arguments);
        command
    }

    fn script(&self, name: &str) -> Command {
        let mut command = Command::new(&self.python);
        command.arg(self.folder.join("python").join(name)).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }
}

/// Installs what package-lock.json names into a folder of our own, once; gives its node_modules.
pub fn node_modules(from: &Path, to: &Path, log: &Path) -> Result<PathBuf, String> {
    let said = |error: std::io::Error| error.to_string();
    let (lock, installed) = (from.join("package-lock.json"), to.join("installed.json"));
    let wanted = fs::read_to_string(&lock).map_err(said)?;
    let modules = to.join("node_modules");
    if modules.exists() && fs::read_to_string(&installed).is_ok_and(|there| there == wanted) {
        return Ok(modules);
    }
    fs::create_dir_all(to).map_err(said)?;
    for name in ["package.json", "package-lock.json"] {
        fs::copy(from.join(name), to.join(name)).map_err(said)?;
    }
    let mut npm = Command::new("npm");
    python::succeed(npm.args(["ci", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(to), log)?;
    fs::write(installed, wanted).map_err(said)?;
    Ok(modules)
}

/// Builds a program that is a workspace of its own, beside everything else that is built; gives where it is.
pub fn built(root: &Path, folder: &Path, name: &str, log: &Path) -> Result<PathBuf, String> {
    let mut build = tool::cargo(root);
    build.args(["build", "--quiet", "--locked", "--manifest-path"]).arg(folder.join("Cargo.toml"));
    let target = tool::target_dir(root);
    python::succeed(build.arg("--target-dir").arg(&target), log)?;
    Ok(target.join("debug").join(name))
}
