//! What do the steps behind make of what a step lets go? Up to the first message that cannot be worked on now.

use std::{collections::VecDeque, sync::Arc};

use smol_str::SmolStr;

use super::{
    Holder,
    act::{Act, Part},
    combine::{Whole, combine, unheld},
    draft::Held,
    due::{Task, Tried},
    groups,
    says::MISSED,
    sequence,
};
use crate::{
    Fault,
    limits::BATCH_BYTES_MAX,
    packet::Packet,
    run::{self, Evaluation, Say},
    spec::Late,
};

/// What came of a task.
pub struct Evaluated {
    /// Whose.
    pub key: SmolStr,
    /// What can be stored.
    pub parts: Vec<Part<Held>>,
    /// What is left.
    pub left: VecDeque<Act<Held>>,
    /// How the first of that was tried before.
    pub tried: Tried<Held>,
    /// What keeps it from going on, if anything is left.
    pub fault: Option<(Arc<str>, Fault)>,
}

impl Holder {
    /// Evaluates acts one after the other.
    pub(super) async fn evaluate(&self, task: Task<Held>) -> Evaluated {
        let Task { key, acts: mut left, mut tried } = task;
        let (mut parts, mut bytes) = (Vec::new(), 0);
        while let Some(act) = left.pop_front() {
            if let Some(given_up) = &tried.given_up {
                let (at, fault) = (**given_up).clone();
                // Of a release it is the first message that fails.
                let act = match if act.is_release() { act.cut(1) } else { Err(act) } {
                    Ok([first, rest]) => {
                        left.push_front(rest);
                        first
                    }
                    Err(whole) => whole,
                };
                let evaluations = vec![run::failed(at, fault)];
                parts.push(Part { act, evaluations, tried: std::mem::take(&mut tried) });
                continue;
            }
            let (evaluations, fault) = self.evaluate_act(&act).await;
            bytes += evaluations.iter().map(Evaluation::size).sum::<usize>();
            let (done, rest) = match (act.is_release(), &fault) {
                (false, None) => (Some(act), None),
                (false, Some(_)) => (None, Some(act)),
                (true, _) => act.parted(evaluations.len()),
            };
            parts.extend(done.map(|act| Part { act, evaluations, tried: std::mem::take(&mut tried) }));
            let is_whole = rest.is_none();
            rest.into_iter().for_each(|rest| left.push_front(rest));
            if fault.is_some() || !is_whole || bytes > BATCH_BYTES_MAX {
                return Evaluated { key, parts, left, tried, fault };
            }
        }
        Evaluated { key, parts, left, tried, fault: None }
    }

    /// One evaluation for each message that goes on, up to one that cannot be worked on now, or to what one transaction is to carry.
    async fn evaluate_act(&self, act: &Act<Held>) -> (Vec<Evaluation>, Option<(Arc<str>, Fault)>) {
        let mut evaluations = Vec::new();
        match act {
            Act::Group(groups::Act::Complete { key, end, opener, members, .. }) => {
                let opener = opener.as_ref().map(|held| &held.delivery);
                let members = members.iter().map(|held| &held.delivery).collect();
                let whole = Whole { key, end: *end, opener, members };
                evaluations.push(self.whole(&whole).await);
            }
            Act::Sequence(sequence::Act::Release { items, missed, .. }) => {
                for (index, held) in items.iter().enumerate() {
                    let mut message = unheld(&held.delivery);
                    if index == 0 && *missed > 0 {
                        message.headers.set(MISSED, *missed as i64);
                    }
                    evaluations.push(self.rest(Packet::new(self.plan.queue.clone(), message)).await);
                    let bytes: usize = evaluations.iter().map(Evaluation::size).sum();
                    if passing(&evaluations).is_some() || bytes > BATCH_BYTES_MAX {
                        break;
                    }
                }
            }
            Act::Sequence(sequence::Act::Late { item, .. }) if self.plan.late == Late::Own => {
                let message = unheld(&item.delivery);
                evaluations.push(self.rest(Packet::new(self.plan.queue.clone(), message)).await);
            }
            _ => {}
        }
        let fault = passing(&evaluations).cloned();
        if fault.is_some() {
            evaluations.pop();
        }
        (evaluations, fault)
    }

    async fn whole(&self, whole: &Whole<'_>) -> Evaluation {
        let body = self.plan.body.as_ref();
        match combine(&self.program, &self.tools, body, &self.plan.queue, whole).await {
            Ok(packet) => self.rest(packet).await,
            Err(fault) => run::failed(self.plan.at.clone(), fault),
        }
    }

    async fn rest(&self, packet: Packet) -> Evaluation {
        let steps = &self.program.steps[self.plan.step + 1..];
        run::evaluate_steps(&self.program, &self.tools, steps, packet, Say::why(self.record)).await
    }
}

/// What is not the fault of the message that was evaluated last.
fn passing(evaluations: &[Evaluation]) -> Option<&(Arc<str>, Fault)> {
    evaluations.last().and_then(|it| it.fault.as_ref()).filter(|(_, fault)| fault.passes())
}
