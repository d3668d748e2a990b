//! How are figures written: Prometheus' text format, and OpenMetrics 1.0 made of it?

use std::{
    collections::HashMap,
    fmt::{self, Display, Write as _},
};

/// What stands between a sample and its example.
pub const EXEMPLAR: &str = " # ";

/// Milliseconds, written as seconds.
pub struct Seconds(pub u64);

impl Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0 as f64 / 1000.0)
    }
}

/// Writes the text format.
#[derive(Default)]
pub struct Text(pub String);

impl Text {
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String does not fail.
        let _ = write!(self.0, "# HELP waystation_{name} {help}\n# TYPE waystation_{name} {kind}\n");
    }

    pub fn sample(&mut self, name: &str, label: Option<(&str, &str)>, value: impl Display) {
        // Names hold no character that a label value must escape (see `base::Name`); other texts are [`escaped`].
        let _ = match label {
            None => writeln!(self.0, "waystation_{name} {value}"),
            Some((label, text)) => writeln!(self.0, "waystation_{name}{{{label}=\"{text}\"}} {value}"),
        };
    }

    pub fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, None, value);
    }
}

/// Any text as a label's value: `\\`, `"` and a new line are written as two characters.
pub fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// The same in the form that OpenMetrics 1.0 asks for: counters are families without `_total`, examples are kept, and the
/// end is told. A counter that cannot be such a family, for want of `_total` or because a gauge has its name, is of an unknown type.
pub fn open_metrics(text: &str) -> String {
    let mut open = String::with_capacity(text.len());
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let types: HashMap<&str, &str> = types.collect();
    let is_counter = |name: &str| types.get(name) == Some(&"counter");
    let family = |name: &str| {
        name.strip_suffix("_total").filter(|family| !types.contains_key(family)).map(str::to_owned)
    };
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(what @ ("HELP" | "TYPE")), Some(name), Some(rest)) if is_counter(name) => {
                let _ = match family(name) {
                    Some(family) => writeln!(open, "# {what} {family} {rest}"),
                    None if what == "TYPE" => writeln!(open, "# TYPE {name} unknown"),
                    None => writeln!(open, "{line}"),
                };
            }
            _ => _ = writeln!(open, "{line}"),
        }
    }
    open + "# EOF\n"
}

/// The same for those who do not know examples.
pub fn without_exemplars(text: &str) -> String {
    // Only buckets have them; elsewhere a label's value may look like one.
    let is_bucket = |line: &str| line.split('{').next().is_some_and(|name| name.ends_with("_bucket"));
    let lines = text.lines().map(|line| match line.split_once(EXEMPLAR) {
        Some((sample, _)) if is_bucket(line) => sample,
        _ => line,
    });
    lines.flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_may_be_the_value_of_a_label() {
        let mut text = Text::default();
        text.sample("vhost_queues", Some(("vhost", &escaped("a\\ # {\"b\"}\nc"))), 1);
        let line = "waystation_vhost_queues{vhost=\"a\\\\ # {\\\"b\\\"}\\nc\"} 1\n";
        assert_eq!((text.0.as_str(), without_exemplars(&text.0).as_str()), (line, line));
        assert_eq!(open_metrics(&text.0), format!("{line}# EOF\n"));
    }
}
