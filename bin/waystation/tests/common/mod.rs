//! How is the real program run in a test: started on a free port with its own folder, talked to, killed, looked at?

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take before a test gives up: far longer than it should take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The program, with nothing of this environment that could mislead it.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waystation"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("WAYSTATION_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command that needs no server to its end.
pub fn run<S: AsRef<OsStr>>(arguments: &[S]) -> Ran {
    ran(program().args(arguments).stdin(Stdio::null()).output().expect("the program runs"))
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

fn ran(output: Output) -> Ran {
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Ran {
    /// It ended well; gives what it said.
    #[track_caller]
    pub fn good(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }

    /// It ended with this code and said this on standard error.
    #[track_caller]
    pub fn bad(self, code: i32, said: &str) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.stderr.contains(said), "{self:?}\n  should say: {said}");
        self.stderr
    }

    /// It ended with this code and said this on standard output.
    #[track_caller]
    pub fn bad_said(self, code: i32, said: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.stdout.contains(said), "{self:?}\n  should say: {said}");
    }

    /// Its one line of JSON.
    #[track_caller]
    pub fn json(self) -> Value {
        let text = self.good();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

/// A running server. Dropping it kills it.
pub struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    log: PathBuf,
    pub url: String,
}

/// What is needed to start a server.
pub struct Setup {
    pub dir: TempDir,
    pub arguments: Vec<String>,
}

impl Setup {
    /// A folder of its own, and a free port.
    pub fn new() -> Setup {
        let dir = TempDir::new().expect("a folder");
        Setup { dir, arguments: vec!["--http".into(), "127.0.0.1:0".into()] }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// Writes a file into the folder and gives its path.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        fs::write(self.path(name), content).expect("a file");
        self.path(name).display().to_string()
    }

    /// `serve` with this setup.
    pub fn command(&self) -> Command {
        let mut command = program();
        command.arg("serve").arg("--data").arg(self.data()).args(&self.arguments);
        command
    }

    /// Starts a server that is expected to become ready.
    #[track_caller]
    pub fn start(&self) -> Server {
        self.start_command(self.command())
    }

    /// The same by another command.
    #[track_caller]
    pub fn start_command(&self, command: Command) -> Server {
        let log = self.path("server.log");
        self.start_logging(command, File::options().create(true).append(true).open(&log).expect("a log file"))
    }

    /// The same with another place for its log.
    #[track_caller]
    pub fn start_logging(&self, mut command: Command, errors: File) -> Server {
        let log = self.path("server.log");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
        let mut child = command.spawn().expect("the server starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("it says something");
        let url = line.split_whitespace().find(|word| word.starts_with("http"));
        let Some(url) = url.map(str::to_owned) else {
            // Not ready: it has ended, or is about to.
            let status = child.wait().expect("it ends");
            let log = fs::read_to_string(&log).unwrap_or_default();
            panic!("the server ended with {status}: {line}{log}");
        };
        Server { child, stdout, log, url }
    }

    /// Starts a server that is expected to refuse.
    pub fn refused(&self) -> Ran {
        ran(self.command().stdin(Stdio::null()).output().expect("it runs"))
    }
}

impl Server {
    /// Runs a client command against this server.
    pub fn cli<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Ran {
        self.cli_with(arguments, b"")
    }

    /// The same with something on standard input.
    pub fn cli_with<S: AsRef<OsStr>>(&self, arguments: &[S], input: &[u8]) -> Ran {
        let mut command = program();
        command.env("WAYSTATION_SERVER", &self.url).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program runs");
        let mut stdin = child.stdin.take().expect("it is piped");
        let input = input.to_vec();
        let writer = std::thread::spawn(move || {
            // A command that does not read its input is no failure.
            let _ = stdin.write_all(&input);
        });
        let output = child.wait_with_output().expect("it ends");
        writer.join().expect("the writer ends");
        ran(output)
    }

    /// A client command whose words are parted by blanks, which ends well.
    #[track_caller]
    pub fn ok(&self, words: &str) -> String {
        self.cli(&words.split_whitespace().collect::<Vec<_>>()).good()
    }

    /// The same with `--json`.
    #[track_caller]
    pub fn json(&self, words: &str) -> Value {
        let mut arguments: Vec<_> = words.split_whitespace().collect();
        arguments.push("--json");
        self.cli(&arguments).json()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL: no handler runs, nothing is flushed.
    pub fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }

    /// SIGTERM; gives how it ended and what it said.
    pub fn terminate(self) -> (ExitStatus, String) {
        self.signal("TERM");
        self.end()
    }

    /// Waits for its end.
    pub fn end(mut self) -> (ExitStatus, String) {
        let status = wait(&mut self.child);
        (status, fs::read_to_string(&self.log).unwrap_or_default())
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn memory(&self) -> Memory {
        Memory::of(self.pid())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let mut rest = String::new();
        let _ = self.stdout.read_to_string(&mut rest);
    }
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    pub resident: u64,
    pub resident_most: u64,
}

impl Memory {
    /// What the kernel says of a process.
    pub fn of(pid: u32) -> Memory {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let value = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().nth(1)).and_then(|kib| kib.parse::<u64>().ok())
        };
        Memory {
            resident: value("VmRSS").unwrap_or_default() << 10,
            resident_most: value("VmHWM").unwrap_or_default() << 10,
        }
    }
}

/// Waits for a process, but not forever.
pub fn wait(child: &mut Child) -> ExitStatus {
    let mut status = None;
    until("the process ends", || {
        status = child.try_wait().expect("it is ours");
        status.is_some()
    });
    status.expect("it has ended")
}

/// Waits until something holds, but not forever.
#[track_caller]
#[allow(clippy::disallowed_methods, reason = "real processes are waited for in real time")]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The journal files of a data directory that hold something, in order.
pub fn journal_files(data: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data.join("journal")).expect("a journal");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut files: Vec<PathBuf> =
        paths.filter(|path| path.extension() == Some(OsStr::new("journal"))).collect();
    files.sort();
    files
}
