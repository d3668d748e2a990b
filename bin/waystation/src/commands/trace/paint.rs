//! Colours where somebody looks, and times and spans in few characters.

use std::io::{self, IsTerminal};

use waystation_base::Millis;

use crate::units::{show_duration, show_time};

/// Whether to colour (ECMA-48 §8.3.117; no-color.org).
#[derive(Clone, Copy, Debug)]
pub struct Paint(pub bool);

impl Paint {
    /// As the terminal and the environment want it.
    pub fn of_terminal() -> Paint {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Paint(io::stdout().is_terminal() && !refused)
    }

    fn with(self, code: &str, text: &str) -> String {
        // What comes from clients must not steer the terminal.
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text }
    }

    pub fn plain(self, text: &str) -> String {
        Paint(false).with("", text)
    }

    pub fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    pub fn faint(self, text: &str) -> String {
        self.with("2", text)
    }

    pub fn bad(self, text: &str) -> String {
        self.with("1;31", text)
    }

    pub fn waiting(self, text: &str) -> String {
        self.with("33", text)
    }

    pub fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    /// By how a state is.
    pub fn state(self, state: &str) -> String {
        match state {
            "acknowledged" | "filtered" | "withdrawn" => self.good(state),
            "ready" | "held" | "delayed" | "behind_key" | "kept" | "passed" => self.waiting(state),
            _ => self.bad(state),
        }
    }
}

/// A moment as people read it.
pub fn moment(ms: u64) -> String {
    show_time(Millis(ms))
}

/// A span.
pub fn span(ms: u64) -> String {
    if ms < 1000 { format!("{ms} ms") } else { show_duration(ms) }
}
