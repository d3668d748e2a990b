//! Message selectors as JMS defines them: a condition in the manner of SQL-92 over a message's headers and properties.
//!
//! Jakarta Messaging 2.0 / JMS 2.0 §3.8: `region = 'eu' AND total BETWEEN 10 AND 100 AND note IS NOT NULL`. A selector is parsed once;
//! an error says at which column. What a name stands for is asked of whoever holds the message.
//!
//! This crate refuses to know messages, and where a selector was declared.

mod eval;
mod headers;
mod lexer;
mod number;
mod parser;
mod pattern;
mod tree;
mod value;

use tree::Expression;

pub use headers::Header;
pub use value::Value;

/// The longest selector.
pub const SELECTOR_BYTES_MAX: usize = 16 << 10;
/// How deep a selector may be nested: parentheses, NOT, signs, and each operator of a chain.
pub const SELECTOR_DEPTH_MAX: usize = 256;

/// Why a text is no selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {message}")]
pub struct Error {
    /// The character, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

/// A parsed selector.
#[derive(Clone, Debug, PartialEq)]
pub struct Selector {
    text: String,
    expression: Expression,
}

impl Selector {
    /// Parses it.
    pub fn parse(text: &str) -> Result<Selector, Error> {
        let expression = parser::parse(text)?;
        Ok(Selector { text: text.to_owned(), expression })
    }

    /// Whether a message matches, whose header or property `lookup` tells by name (as it was written in the selector; `None` for one that
    /// the message has not). Unknown is not a match (JMS 2.0 §3.8.1.2).
    pub fn matches<'m>(&self, lookup: &dyn Fn(&str) -> Option<Value<'m>>) -> bool {
        eval::truth(&self.expression, lookup) == Some(true)
    }

    /// The same, with "unknown" told apart from "false".
    pub fn evaluate<'m>(&self, lookup: &dyn Fn(&str) -> Option<Value<'m>>) -> Option<bool> {
        eval::truth(&self.expression, lookup)
    }

    /// Its text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The names that it asks for, each once, in the order in which they first stand in it.
    pub fn names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        self.expression.visit_names(&mut |name| {
            if !names.contains(&name) {
                names.push(name);
            }
        });
        names
    }
}

#[cfg(test)]
mod tests;
