//! The child: it limits itself, then evaluates what comes by its standard input and answers by its standard output.

use std::{
    collections::HashMap,
    io::{self, Read, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc::sync_channel,
    thread,
};

use jaq_core::Filter;
use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Resource, Rlimit, nice, setrlimit},
};

use crate::{
    eval::{Verdict, evaluate},
    frame::{self, answer, answer::Answer, request, request::Request},
    library::Data,
    program,
};

/// What the evaluating thread may recurse into; part of the child's memory.
const STACK_BYTES: usize = 64 << 20;
/// What the thread that waits for the end needs.
const WATCH_STACK_BYTES: usize = 64 << 10;
/// How much more often than the server's threads others may run: jq is the last to get the processor.
const NICE: i32 = 5;
/// What is read at once.
const READ_BYTES: usize = 64 << 10;

/// What was defined, by number: each compiled, or why it cannot be.
pub(crate) type Programs = HashMap<u64, Result<Filter<Data>, String>>;

/// Is the whole life of a child: limits itself to `memory_bytes` beyond what it has at its start, and serves until its standard input
/// ends, which it does also when the server dies.
pub fn serve(memory_bytes: usize) -> io::Result<()> {
    confine(memory_bytes)?;
    // Whichever ends first ends the process: the evaluator may be in a program without end when the server goes.
    let (ended, end) = sync_channel(2);
    let other = ended.clone();
    thread::Builder::new().name("jq".into()).stack_size(STACK_BYTES).spawn(move || {
        let _ = ended.send(answer_all(&mut io::stdin().lock(), &mut io::stdout().lock()));
    })?;
    thread::Builder::new().name("watch".into()).stack_size(WATCH_STACK_BYTES).spawn(move || {
        let _ = other.send(wait_for_end());
    })?;
    end.recv().unwrap_or(Ok(()))
}

/// No more memory than given, no files, no core dumps.
fn confine(memory_bytes: usize) -> io::Result<()> {
    let limit = |resource, most: u64| {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) }).map_err(io::Error::from)
    };
    limit(Resource::As, (address_space_bytes()? + STACK_BYTES + memory_bytes) as u64)?;
    limit(Resource::Core, 0)?;
    limit(Resource::Fsize, 0)?;
    // Standard streams are open; nothing else can be opened.
    limit(Resource::Nofile, 3)?;
    let _ = nice(NICE);
    Ok(())
}

/// What the process has mapped by now: its program and libraries.
fn address_space_bytes() -> io::Result<usize> {
    let pages = std::fs::read_to_string("/proc/self/statm")?;
    let pages = pages.split_whitespace().next().and_then(|pages| pages.parse::<usize>().ok());
    let pages = pages.ok_or_else(|| io::Error::other("cannot read /proc/self/statm"))?;
    Ok(pages * rustix::param::page_size())
}

/// Returns when nobody holds the other end of standard input any more.
fn wait_for_end() -> io::Result<()> {
    // The handle itself is locked by the evaluator for good.
    let stdin = rustix::stdio::stdin();
    loop {
        // Asked for nothing, poll still tells of a hang-up (POSIX poll, POLLHUP).
        let mut ends = [PollFd::from_borrowed_fd(stdin, PollFlags::empty())];
        match poll(&mut ends, None) {
            Ok(_) if ends[0].revents().intersects(PollFlags::HUP | PollFlags::ERR) => return Ok(()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Answers each document before the next is begun, so that the server knows which one a child died of.
fn answer_all(input: &mut impl Read, output: &mut impl Write) -> io::Result<()> {
    let mut programs = Programs::new();
    let (mut buffer, mut answers) = (Vec::new(), Vec::new());
    answer::encode(&Answer::Ready, &mut answers);
    loop {
        output.write_all(&answers)?;
        output.flush()?;
        answers.clear();
        let Some(length) = next_frame(input, &mut buffer)? else { return Ok(()) };
        let invalid = |error: frame::Error| io::Error::new(io::ErrorKind::InvalidData, error);
        let request = request::decode(&buffer[4..length]).map_err(invalid)?;
        if let Some(verdict) = obey(&mut programs, &request) {
            answer::encode(&Answer::Verdict(verdict), &mut answers);
        }
        buffer.drain(..length);
    }
}

/// Reads until a whole frame stands at the front of `buffer`, and says how long it is; `None` at the end.
fn next_frame(input: &mut impl Read, buffer: &mut Vec<u8>) -> io::Result<Option<usize>> {
    loop {
        let invalid = |error: frame::Error| io::Error::new(io::ErrorKind::InvalidData, error);
        let length = frame::length(buffer).map_err(invalid)?;
        match length {
            Some(length) if length <= buffer.len() => return Ok(Some(length)),
            _ => {}
        }
        let (held, room) = (buffer.len(), length.unwrap_or(0).saturating_sub(buffer.len()).max(READ_BYTES));
        buffer.resize(held + room, 0);
        let read = input.read(&mut buffer[held..])?;
        buffer.truncate(held + read);
        if read == 0 {
            return Ok(None);
        }
    }
}

/// Does what is asked; gives what came of a document.
pub(crate) fn obey(programs: &mut Programs, request: &Request<'_>) -> Option<Verdict> {
    match request {
        Request::Forget => programs.clear(),
        Request::Define { id, variables, text } => {
            let variables: Vec<_> = variables.iter().map(|name| (*name).to_owned()).collect();
            let compiled = program::compile(text, &variables).map_err(|error| error.to_string());
            programs.insert(*id, compiled);
        }
        Request::Run { id, output_bytes, outputs, input, variables } => {
            return Some(match programs.get(id) {
                Some(Ok(filter)) => {
                    let run =
                        || evaluate(filter, input, variables, *output_bytes as usize, *outputs as usize);
                    // A defect of the evaluator is an error of this document alone.
                    let failed = |_| Verdict::Error("the evaluator failed on this input".into());
                    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(failed)
                }
                Some(Err(message)) => Verdict::Error(message.clone()),
                None => Verdict::Error("the program is not known to the worker".into()),
            });
        }
    }
    None
}
