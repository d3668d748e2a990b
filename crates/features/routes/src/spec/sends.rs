//! Where can a route send, by its declaration alone?

use waystation_base::Name;

use super::{Branch, Destination, RouteSteps, Step, Steps, Targets};

/// All that is said of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sends {
    /// Where it can send by its declaration alone; what is no name is left out.
    pub targets: Vec<Destination>,
    /// Patterns of where it can send by what messages say.
    pub allowed: Vec<String>,
    /// What it reads besides its source, or stores in besides its targets.
    pub needs: Vec<Needs>,
}

/// A queue or topic that a step works with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Needs {
    /// A queue that it takes replies from.
    Replies(Name),
    /// A topic that it puts bodies on, and reads them from.
    Store(Name),
    /// A topic that it reads from.
    Reads(Name),
}

impl RouteSteps {
    /// Whether one of its steps holds messages.
    pub fn holds(&self) -> bool {
        let holds =
            |step: &Step| step.aggregate.is_some() || step.resequence.is_some() || step.gather.is_some();
        self.steps.iter().any(holds)
    }

    /// The queues that it takes replies from, each with the number of the step.
    pub fn replies(&self) -> impl Iterator<Item = (usize, Name)> {
        let gathers = self.steps.iter().enumerate();
        gathers.filter_map(|(at, step)| Some((at, Name::new(&step.gather.as_ref()?.replies).ok()?)))
    }

    /// Where it can send.
    pub fn sends(&self) -> Sends {
        let mut sends = Sends::default();
        sends.steps(&self.steps);
        sends.targets.sort();
        sends.targets.dedup();
        sends.needs.sort();
        sends.needs.dedup();
        sends
    }
}

impl Sends {
    fn steps(&mut self, steps: &[Step]) {
        steps.iter().for_each(|step| self.step(step));
    }

    fn step(&mut self, step: &Step) {
        for targets in [&step.to, &step.tap, &step.otherwise_to] {
            self.targets(targets.as_ref());
        }
        self.targets(step.gather.as_ref().map(|gather| &gather.to));
        let table = step.table.iter().flat_map(|table| table.allowed.iter().cloned());
        self.allowed.extend(table);
        let need = |name: &str, of: fn(Name) -> Needs| Name::new(name).ok().map(of);
        self.needs.extend(step.gather.as_ref().and_then(|it| need(&it.replies, Needs::Replies)));
        self.needs.extend(step.claim.as_ref().and_then(|it| need(&it.store, Needs::Store)));
        self.needs.extend(step.redeem.as_ref().and_then(|it| need(it, Needs::Reads)));
        self.needs.extend(step.table.as_ref().and_then(|it| need(&it.topic, Needs::Reads)));
        for case in step.choose.iter().flatten() {
            self.targets(case.to.as_ref());
            self.steps(case.steps.as_deref().unwrap_or_default());
        }
        match &step.otherwise {
            Some(Branch::To(targets)) => self.targets(Some(targets)),
            Some(Branch::Steps(Steps { steps })) => self.steps(steps),
            None => {}
        }
        self.allowed.extend(step.allowed.iter().flatten().cloned());
    }

    fn targets(&mut self, targets: Option<&Targets>) {
        let all = targets.iter().flat_map(|targets| &targets.0);
        self.targets.extend(all.filter_map(|target| target.check("to").ok()));
    }
}
