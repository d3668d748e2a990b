//! What does a declaration become when it is compiled? Programs, selectors and patterns are read once, and each error says where
//! it is: the path of the field, and the column within it.

use std::sync::Arc;

use waystation_base::Name;

use crate::{
    Invalid,
    hold::Plan,
    limits::{NESTING_MAX, PROGRAM_BYTES_MAX, STEPS_MAX},
    spec::{Limits, RouteSteps, Step as Declared},
    steps::Step,
    tools::VARIABLES,
};

/// A route that can be run.
#[derive(Debug)]
pub struct Program {
    /// Its name.
    pub name: Name,
    /// Its steps.
    pub(crate) steps: Vec<Step>,
    /// How far a message may go.
    pub limits: Limits,
    /// What runs beside it, for steps that hold messages.
    pub(crate) holds: Vec<Plan>,
}

/// What compiling collects on its way.
pub(crate) struct Compiler {
    steps: usize,
    /// How deep the steps stand that are compiled now; 1: the route's own.
    pub depth: usize,
    /// The number of the route's own step that is compiled now.
    pub step: usize,
    pub route: Name,
    /// Bytes that each step may hold.
    pub held_bytes: usize,
    pub holds: Vec<Plan>,
}

/// Compiled steps, and whether a message may come out at their end.
pub(crate) struct Compiled {
    pub steps: Vec<Step>,
    pub goes_on: bool,
}

impl Program {
    /// Compiles a declaration.
    pub fn compile(name: &Name, spec: &RouteSteps) -> Result<Program, Invalid> {
        spec.check(name)?;
        let (route, held_bytes, holds) = (name.clone(), spec.limits.held_bytes, Vec::new());
        let mut compiler = Compiler { steps: 0, depth: 0, step: 0, route, held_bytes, holds };
        let Compiled { steps, goes_on } = compiler.steps("steps", &spec.steps)?;
        if goes_on {
            let reason = "the last step lets messages go on, and there is nothing behind it: end with 'to', which may be an empty list";
            return Err(invalid("steps", reason));
        }
        Ok(Program { name: name.clone(), steps, limits: spec.limits, holds: compiler.holds })
    }
}

pub(crate) fn invalid(field: impl Into<String>, reason: impl ToString) -> Invalid {
    Invalid { field: field.into(), reason: reason.to_string() }
}

impl Compiler {
    /// Compiles the steps of a list.
    pub fn steps(&mut self, field: &str, declared: &[Declared]) -> Result<Compiled, Invalid> {
        self.steps += declared.len();
        if self.steps > STEPS_MAX {
            return Err(invalid(field, format!("a route may have {STEPS_MAX} steps")));
        }
        if self.depth == NESTING_MAX {
            return Err(invalid(field, format!("steps may be nested {NESTING_MAX} deep")));
        }
        self.depth += 1;
        let mut compiled = Compiled { steps: Vec::with_capacity(declared.len()), goes_on: true };
        for (index, step) in declared.iter().enumerate() {
            let field = format!("{field}[{index}]");
            if !compiled.goes_on {
                return Err(invalid(field, "no message comes here: the step before ends them all"));
            }
            if self.depth == 1 {
                self.step = index;
            }
            let (step, goes_on) = Step::compile(self, &field, step)?;
            compiled.steps.push(step);
            compiled.goes_on = goes_on;
        }
        self.depth -= 1;
        Ok(compiled)
    }
}

/// Compiles a jq program.
pub(crate) fn jq(field: &str, text: &str) -> Result<waystation_jq::Program, Invalid> {
    jq_with(field, text, &[])
}

/// Compiles a jq program that has more variables than the usual.
pub(crate) fn jq_with(field: &str, text: &str, more: &[&str]) -> Result<waystation_jq::Program, Invalid> {
    check_length(field, text)?;
    waystation_jq::Program::compile(text, &[VARIABLES, more].concat()).map_err(|error| {
        let place = match error.line {
            1 => format!("column {}", error.column),
            line => format!("line {line}, column {}", error.column),
        };
        invalid(field, format!("{place}: {}", error.message))
    })
}

pub(crate) fn check_length(field: &str, text: &str) -> Result<(), Invalid> {
    match text.len() {
        0..=PROGRAM_BYTES_MAX => Ok(()),
        bytes => Err(invalid(field, format!("may have {PROGRAM_BYTES_MAX} bytes, has {bytes}"))),
    }
}

/// A step's place, to be named often.
pub(crate) fn place(field: &str) -> Arc<str> {
    Arc::from(field)
}
