//! A child process: started with nothing but its pipes, and questioned about its end.

use std::{io, os::unix::process::ExitStatusExt, process::Stdio, time::Duration};

use tokio::{
    io::AsyncReadExt,
    process::{Child, ChildStderr, ChildStdin, ChildStdout},
};

use super::Command;

/// How much of what a child said at its end is read.
const LAST_WORDS_BYTES: u64 = 1024;

/// Signals by which a process ends that had no memory or no stack left: SIGABRT, SIGBUS, SIGSEGV, and SIGKILL of the kernel.
const EXHAUSTED: &[i32] = &[6, 7, 11, 9];

/// The process.
#[derive(Debug)]
pub struct Process {
    child: Child,
    stderr: ChildStderr,
}

/// Why it ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// Out of memory or stack.
    Exhausted,
    /// Anything else, in words.
    Other(String),
}

/// Starts a child; gives it with its pipes.
pub fn spawn(command: &Command, memory_bytes: usize) -> io::Result<(Process, ChildStdin, ChildStdout)> {
    let mut child = tokio::process::Command::new(&command.program)
        .args(&command.arguments)
        .arg(memory_bytes.to_string())
        // Nothing of the server's environment can be read by a program, not even by a defect of the evaluator.
        .env_clear()
        // The server's allocator would take a gibibyte of addresses at its start, which the limit could not tell from what is used.
        .env("MIMALLOC_ARENA_RESERVE", "0")
        .current_dir("/")
        // A group of its own: what a terminal sends to the server is the server's to answer.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let missing = || io::Error::other("a pipe is missing");
    let stdin = child.stdin.take().ok_or_else(missing)?;
    let stdout = child.stdout.take().ok_or_else(missing)?;
    let stderr = child.stderr.take().ok_or_else(missing)?;
    Ok((Process { child, stderr }, stdin, stdout))
}

impl Process {
    /// Sends the signal to end; [`Process::end`] waits for it.
    pub fn kill(&mut self) {
        let _ = self.child.start_kill();
    }

    /// The processor time that it has used, if the system tells.
    pub fn processor_time(&self) -> Option<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()?)).ok()?;
        // The second field is a name in parentheses, which may hold blanks; user and system time are the 14th and 15th (proc(5)).
        let fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
        let ticks: u64 = fields.take(2).map(|field| field.parse::<u64>().ok()).sum::<Option<_>>()?;
        let per_second = rustix::param::clock_ticks_per_second().max(1);
        Some(Duration::from_millis(ticks * 1000 / per_second))
    }

    /// Waits for the end and says how it came.
    pub async fn end(mut self) -> End {
        let status = match self.child.wait().await {
            Ok(status) => status,
            Err(cause) => return End::Other(cause.to_string()),
        };
        if status.signal().is_some_and(|signal| EXHAUSTED.contains(&signal)) {
            return End::Exhausted;
        }
        let mut words = Vec::new();
        let _ = self.stderr.take(LAST_WORDS_BYTES).read_to_end(&mut words).await;
        let words = String::from_utf8_lossy(&words);
        End::Other(format!("it ended with {status}: {}", words.trim()))
    }
}
