//! Where is the Python with the packages that a stage has pinned? Made once, used until the pins change.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::tool;

/// A Python of our own at `scratch/name` with what `pins` and the files that it includes name. `options` go to pip.
pub fn environment(
    scratch: &Path,
    name: &str,
    pins: &[PathBuf],
    options: &[&str],
    log: &Path,
) -> Result<PathBuf, String> {
    let mut wanted = String::new();
    for file in pins {
        let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        wanted.push_str(&text);
    }
    let venv = scratch.join(name);
    let python = venv.join("bin/python");
    let installed = venv.join("installed.txt");
    if python.exists() && fs::read_to_string(&installed).is_ok_and(|there| there == wanted) {
        return Ok(python);
    }
    succeed(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv), log)?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(options);
    for file in pins {
        pip.arg("--requirement").arg(file);
    }
    succeed(&mut pip, log)?;
    fs::write(&installed, wanted).map_err(|error| error.to_string())?;
    Ok(python)
}

/// Runs a command that must end well; else gives the end of what it said.
pub fn succeed(command: &mut Command, log: &Path) -> Result<(), String> {
    let ran = tool::run_logged(command, log).map_err(|error| error.to_string())?;
    if ran.success { Ok(()) } else { Err(tool::tail(&ran.output, 30)) }
}
