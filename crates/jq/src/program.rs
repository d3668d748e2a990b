//! A jq program: compiled when it is declared, so that an error points at its line and column.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use jaq_core::{
    Compiler, Filter,
    compile::Undefined,
    load::{self, Arena, File, Loader},
};

use tokio::sync::Semaphore;

use crate::library::{Data, OUTSIDE, definitions, functions};
use crate::pool::WAITING_MAX;

/// The longest program.
pub const PROGRAM_BYTES_MAX: usize = 64 << 10;
/// The most variables that a program may be given.
pub const VARIABLES_MAX: usize = 32;
/// Address space for the thread that compiles. The parser recurses once for each level of nesting, and the shortest level is
/// one byte: this holds [`PROGRAM_BYTES_MAX`] of them. Pages that are not touched cost nothing.
const COMPILER_STACK_BYTES: usize = 1 << 30;

/// Why a text is not a program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct Error {
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

/// A program that compiles. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Program {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    /// Unlike that of any other program of this process.
    pub(crate) id: u64,
    pub(crate) text: String,
    /// With their dollar signs.
    pub(crate) variables: Vec<String>,
    /// Until when it runs apart from others, since it overran: milliseconds of the pool's clock.
    pub(crate) apart_until: AtomicU64,
    /// How long a document of it takes on the average of late, in nanoseconds.
    took: AtomicU64,
    /// For how many more documents of it the pool has room.
    pub(crate) room: Arc<Semaphore>,
}

/// How long the first document of a program is taken to need.
const UNKNOWN: Duration = Duration::from_millis(1);

impl Inner {
    /// How long a document is likely to take.
    pub(crate) fn expected(&self) -> Duration {
        Duration::from_nanos(self.took.load(Ordering::Relaxed))
    }

    /// Notes how long one took.
    pub(crate) fn took(&self, time: Duration) {
        let (before, now) = (self.took.load(Ordering::Relaxed), time.as_nanos() as u64);
        // Two at once may lose one of them, which does no harm.
        self.took.store(before - before / 8 + now / 8, Ordering::Relaxed);
    }
}

impl Program {
    /// Compiles `text`, which may use the named variables (without dollar signs).
    pub fn compile(text: &str, variables: &[&str]) -> Result<Program, Error> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let variables: Vec<_> = variables.iter().map(|name| format!("${name}")).collect();
        check(text, &variables)?;
        let inner = Inner {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            text: text.to_owned(),
            variables,
            apart_until: AtomicU64::new(0),
            took: AtomicU64::new(UNKNOWN.as_nanos() as u64),
            room: Arc::new(Semaphore::new(WAITING_MAX)),
        };
        Ok(Program { inner: Arc::new(inner) })
    }

    /// Its text.
    pub fn text(&self) -> &str {
        &self.inner.text
    }
}

fn check(text: &str, variables: &[String]) -> Result<(), Error> {
    let at_start = |message: String| Error { line: 1, column: 1, message };
    if text.len() > PROGRAM_BYTES_MAX {
        return Err(at_start(format!("longer than {PROGRAM_BYTES_MAX} bytes")));
    }
    if variables.len() > VARIABLES_MAX {
        return Err(at_start(format!("more than {VARIABLES_MAX} variables")));
    }
    let compiled = thread::scope(|scope| {
        let compiler = thread::Builder::new().name("jq-compiler".into()).stack_size(COMPILER_STACK_BYTES);
        let compile = || compile(text, variables).map(drop);
        compiler.spawn_scoped(scope, compile).map(|thread| thread.join())
    });
    match compiled {
        Ok(Ok(result)) => result,
        // A defect of the compiler is no reason to fall.
        Ok(Err(_)) => Err(at_start("the compiler gave up".into())),
        Err(cause) => Err(at_start(format!("cannot start the compiler: {cause}"))),
    }
}

/// Compiles on this thread, whose stack must suffice.
pub(crate) fn compile(text: &str, variables: &[String]) -> Result<Filter<Data>, Error> {
    let arena = Arena::default();
    let modules = Loader::new(definitions())
        .load(&arena, File { code: text, path: () })
        .map_err(|errors| first(errors.into_iter().flat_map(|(_, error)| explain_load(text, error))))?;
    load::import(&modules, |_| Err("no files can be read here".into()))
        .map_err(|errors| first(errors.into_iter().flat_map(|(_, error)| explain_load(text, error))))?;
    Compiler::default()
        .with_funs(functions())
        .with_global_vars(variables.iter().map(String::as_str))
        .compile(modules)
        .map_err(|errors| {
            let undefined = errors.into_iter().flat_map(|(_, errors)| errors);
            first(undefined.map(|(part, kind)| explain_undefined(text, part, &kind, variables)))
        })
}

/// The error that stands first in the text.
fn first(errors: impl Iterator<Item = Error>) -> Error {
    let first = errors.min_by_key(|error| (error.line, error.column));
    first.unwrap_or_else(|| Error { line: 1, column: 1, message: "not a program".into() })
}

fn explain_load(text: &str, error: load::Error<&str>) -> Vec<Error> {
    match error {
        load::Error::Io(errors) => errors
            .into_iter()
            .map(|(path, _)| at(text, path, "no modules or files can be read here".into()))
            .collect(),
        load::Error::Lex(errors) => errors
            .into_iter()
            .map(|(expected, found)| at(text, found, format!("expected {}", expected.as_str())))
            .collect(),
        load::Error::Parse(errors) => errors
            .into_iter()
            .map(|(expected, found)| at(text, found, expectation(expected.as_str(), found)))
            .collect(),
    }
}

fn expectation(expected: &str, found: &str) -> String {
    let shown: String = found.chars().take(20).collect();
    let found = if shown.is_empty() { "the end".into() } else { format!("{shown:?}") };
    match expected {
        "nothing" => format!("did not expect {found}"),
        _ => format!("expected {expected}, found {found}"),
    }
}

fn explain_undefined(text: &str, part: &str, kind: &Undefined, variables: &[String]) -> Error {
    let message = match kind {
        Undefined::Filter(_) if OUTSIDE.contains(&part) => {
            format!("{part} is not available: a program sees its input and its variables, and nothing else")
        }
        Undefined::Filter(arity) => format!("there is no function {part}/{arity}"),
        Undefined::Var if part == "$ENV" => "the environment is not available".into(),
        Undefined::Var => format!("there is no variable {part} (there are: {})", variables.join(", ")),
        other => format!("there is no {} {part}", other.as_str()),
    };
    at(text, part, message)
}

/// Where `part`, a slice of `text`, stands.
fn at(text: &str, part: &str, message: String) -> Error {
    let offset = (part.as_ptr() as usize).wrapping_sub(text.as_ptr() as usize);
    let before = text.get(..offset).unwrap_or("");
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = before.matches('\n').count() + 1;
    Error { line, column: before[line_start..].chars().count() + 1, message }
}

#[cfg(test)]
#[path = "program_tests.rs"]
mod tests;
