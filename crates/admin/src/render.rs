//! How does a plan read?

use std::fmt::{self, Write};

use serde_json::Value;

use waystation_broker::command::Destination;

use crate::{
    bindings::Binding,
    plan::{Action, Plan, Step, Target, said},
};

/// The plan as lines of text: `+` to create or bind, `~` to change, `-` to delete or unbind, `!` what stands against it.
pub fn plan(plan: &Plan) -> String {
    steps(&plan.steps) + &notes(plan) + &Counts::of(plan).to_string() + "\n"
}

/// Steps as lines of text.
pub fn steps<'a>(steps: impl IntoIterator<Item = &'a Step>) -> String {
    let mut text = String::new();
    for each in steps {
        step(&mut text, each);
    }
    text
}

/// What stands against a plan, and what will probably not work as meant.
pub fn notes(plan: &Plan) -> String {
    let mut text = String::new();
    for note in &plan.conflicts {
        line(&mut text, format_args!("! {}: {}", target(&note.target), note.text));
    }
    for note in &plan.warnings {
        line(&mut text, format_args!("? {}: {}", target(&note.target), note.text));
    }
    text
}

/// A plan in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// What is made.
    pub create: usize,
    /// What is made anew.
    pub change: usize,
    /// What goes.
    pub delete: usize,
    /// What is as wanted.
    pub unchanged: usize,
    /// What routes come to hand on to.
    pub bind: usize,
    /// What they no longer do.
    pub unbind: usize,
    /// What is there and not in the file.
    pub left: usize,
    /// What cannot be.
    pub conflicts: usize,
}

impl Counts {
    /// Those of a plan.
    pub fn of(plan: &Plan) -> Counts {
        let (unchanged, left, conflicts) = (plan.unchanged.len(), plan.left.len(), plan.conflicts.len());
        let mut counts = Counts { unchanged, left, conflicts, ..Counts::default() };
        for step in &plan.steps {
            *match step.action {
                Action::Create { .. } => &mut counts.create,
                Action::Change { .. } => &mut counts.change,
                Action::Delete => &mut counts.delete,
                Action::Bind { .. } => &mut counts.bind,
                Action::Unbind { .. } => &mut counts.unbind,
            } += 1;
        }
        counts
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { create, change, delete, unchanged, .. } = self;
        write!(f, "{create} to create, {change} to change, {delete} to delete, {unchanged} unchanged")?;
        for (count, what) in [(self.bind, "bind"), (self.unbind, "unbind")] {
            if count > 0 {
                write!(f, ", {count} to {what}")?;
            }
        }
        if self.left > 0 {
            write!(f, ", {} not in the file (kept; --prune deletes)", self.left)?;
        }
        if self.conflicts > 0 {
            write!(f, ", {} that cannot be", self.conflicts)?;
        }
        Ok(())
    }
}

/// A thing by kind and name.
pub fn target(target: &Target) -> String {
    format!("{} {}", target.kind, target.name)
}

/// A field's value as it would stand in the file.
pub fn value(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn step(text: &mut String, step: &Step) {
    match &step.action {
        Action::Create { spec } => {
            line(text, format_args!("+ {}", target(&step.target)));
            for (field, to) in said(spec) {
                line(text, format_args!("    {field}: {}", value(&to)));
            }
        }
        Action::Change { differences, .. } => {
            line(text, format_args!("~ {}", target(&step.target)));
            for change in differences {
                let (from, to) = (value(&change.from), value(&change.to));
                line(text, format_args!("    {}: {from} -> {to}", change.field));
            }
        }
        Action::Bind { binding: of } => {
            line(text, format_args!("+ binding of {} to {}", target(&step.target), binding(of)))
        }
        Action::Unbind { binding: of } => {
            line(text, format_args!("- binding of {} to {}", target(&step.target), binding(of)))
        }
        Action::Delete => line(text, format_args!("- {} (with what it holds)", target(&step.target))),
    }
}

/// What a binding leads to, and by which key.
pub fn binding(binding: &Binding) -> String {
    let route = if let Destination::Route(_) = binding.to { "route " } else { "" };
    let mut text = format!("{route}{} by '{}'", binding.to.name(), binding.key);
    if !binding.arguments.is_empty() {
        let _ = write!(text, " with {}", Value::Object(binding.arguments.clone()));
    }
    text
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    let _ = writeln!(text, "{content}");
}

#[cfg(test)]
mod tests {
    use crate::Topology;

    #[test]
    fn a_plan_reads_as_signs_fields_and_a_summary() {
        let read = |text: &str| Topology::read(text.as_bytes()).expect("a good file");
        let current = read("[topics.flights]\npartitions = 4\n[topics.small]\npartitions=2\n[queues.old]\n");
        let wanted = read(
            "[queues.orders]\ndead_letter = 'orders.dead'\nmax_attempts = 5\n[queues.'orders.dead']\n\
             [topics.flights]\npartitions = 8\n[topics.small]\n[queues.x]\ndead_letter='nowhere'\n\
             [subscriptions.s]\ntopic='nowhere'\n",
        );
        let text = super::plan(&crate::plan(&current, &wanted, true));
        let expected = "+ queue orders.dead\n\
            + queue orders\n    dead_letter: orders.dead\n    max_attempts: 5\n\
            + queue x\n    dead_letter: nowhere\n\
            ~ topic flights\n    partitions: 4 -> 8\n\
            - queue old (with what it holds)\n\
            ! subscription s: its topic 'nowhere' is neither declared here nor there\n\
            ! topic small: partitions may grow and not shrink: there are 2, wanted are 1\n\
            ? queue x: its dead_letter 'nowhere' is neither declared here nor there\n\
            3 to create, 1 to change, 1 to delete, 0 unchanged, 2 that cannot be\n";
        assert_eq!(text, expected);
    }
}
