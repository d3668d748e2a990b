//! Which of jq's functions a program may call: all that look at nothing but their input.

use jaq_core::{data::JustLut, load::parse::Def};
use jaq_json::Val;

/// What programs work on.
pub type Data = JustLut<Val>;

/// Functions of jq that look or act outside: the environment, other inputs, the process, its streams. Left out, so that a program
/// which calls one is refused when it is declared, with this as the reason.
pub const OUTSIDE: &[&str] = &[
    "env",
    "input",
    "inputs",
    "input_filename",
    "input_line_number",
    "halt",
    "halt_error",
    "debug",
    "stderr",
    "debug_empty",
    "stderr_empty",
    "get_search_list",
    "modulemeta",
];

fn inside(name: &str) -> bool {
    !OUTSIDE.contains(&name)
}

/// What is defined in jq itself.
pub fn definitions() -> impl Iterator<Item = Def<&'static str>> {
    let all = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
    all.filter(|def| inside(def.name))
}

/// What is defined in Rust.
pub fn functions() -> impl Iterator<Item = jaq_core::native::Fun<Data>> {
    let all = jaq_core::funs::<Data>().chain(jaq_std::funs::<Data>()).chain(jaq_json::funs::<Data>());
    all.filter(|(name, _, _)| inside(name))
}
