//! How does a result reach the terminal, a pipe or a machine?

use std::io::{self, IsTerminal, Write};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use crate::exit::Failure;

/// Where results go. Errors and progress go to standard error, never here.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// JSON for machines instead of tables for people.
    pub json: bool,
}

impl Output {
    /// One line of JSON, or what `human` says.
    pub fn say(&self, value: &impl Serialize, human: impl FnOnce() -> String) -> Result<(), Failure> {
        if self.json { self.json(value) } else { text(&human()) }
    }

    /// One line of JSON.
    pub fn json(&self, value: &impl Serialize) -> Result<(), Failure> {
        let mut line = serde_json::to_vec(value).map_err(io::Error::from)?;
        line.push(b'\n');
        Ok(io::stdout().lock().write_all(&line)?)
    }
}

/// Text with an end of line.
pub fn text(text: &str) -> Result<(), Failure> {
    Ok(writeln!(io::stdout().lock(), "{}", text.trim_end_matches('\n'))?)
}

/// Whether somebody looks at standard error.
pub fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// A table without frames, which is readable and can be cut and searched. Columns whose name begins with `>` are numbers.
pub fn table(columns: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let width =
        if io::stdout().is_terminal() { ContentArrangement::Dynamic } else { ContentArrangement::Disabled };
    table.set_content_arrangement(width);
    table.set_header(columns.iter().map(|name| name.trim_start_matches('>').to_uppercase()));
    for row in rows {
        table.add_row(row);
    }
    for (at, name) in columns.iter().enumerate() {
        if let Some(column) = table.column_mut(at) {
            column.set_padding((0, 2));
            column.set_cell_alignment(if name.starts_with('>') {
                CellAlignment::Right
            } else {
                CellAlignment::Left
            });
        }
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_table_has_a_head_and_aligned_numbers() {
        let rows = vec![vec!["orders".into(), "5".into()], vec!["x".into(), "1,000".into()]];
        let text = super::table(&["name", ">ready"], rows);
        assert_eq!(text, "NAME    READY\norders      5\nx       1,000");
    }
}
