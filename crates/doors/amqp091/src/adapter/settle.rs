//! How do acknowledgements reach the broker: those of one turn together, those of one queue as one?

use std::{
    collections::{HashMap, VecDeque},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use waystation_broker::{
    Command, Refusal, Source,
    command::{Failure, Outcome, Settle, Settlement, Transaction},
};
use waystation_host::Pending;

use super::connection::Connection;
use crate::session::{Held, Verdict};

/// Settlements gathered, and those on their way.
#[derive(Debug, Default)]
pub(super) struct Settles {
    gathered: Vec<Settle>,
    /// Where in `gathered` a source is, by where its name lies in memory.
    places: HashMap<usize, usize>,
    last: Option<(Arc<Source>, usize)>,
    sent: VecDeque<(Pending, Vec<Settle>)>,
}

/// What a verdict means at a source: a stream is read, not worked on.
fn outcome(source: &Source, verdict: Verdict) -> Outcome {
    match (source, verdict) {
        (Source::Subscription(_), _) | (_, Verdict::Accepted) => Outcome::Accepted,
        (_, Verdict::Rejected) => Outcome::Rejected { error: None, class: None },
        (_, Verdict::Requeued) => Outcome::Failed(Failure::default()),
        (_, Verdict::Lost) => Outcome::Lost,
    }
}

fn settlement(held: &Held, verdict: Verdict) -> Settlement {
    Settlement { tag: held.tag, attempt: held.attempt, outcome: outcome(&held.source, verdict) }
}

/// All of these, one source after the other, each in order.
pub(super) fn by_source(held: impl IntoIterator<Item = (Held, Verdict)>) -> Vec<Settle> {
    let mut settles = Settles::default();
    for (held, verdict) in held {
        settles.add(&held, settlement(&held, verdict));
    }
    settles.gathered
}

/// Commands that give back what somebody held who is gone.
pub(super) fn lost(held: impl IntoIterator<Item = Held>) -> Vec<Command> {
    let settles = by_source(held.into_iter().map(|held| (held, Verdict::Lost)));
    settles.into_iter().map(one_by_itself).collect()
}

fn one_by_itself(settle: Settle) -> Command {
    Command::Transact(Transaction { publishes: Vec::new(), settlements: vec![settle] })
}

impl Settles {
    fn add(&mut self, held: &Held, settlement: Settlement) {
        let at = match &self.last {
            Some((source, at)) if Arc::ptr_eq(source, &held.source) => *at,
            _ => {
                let next = self.gathered.len();
                let at = *self.places.entry(Arc::as_ptr(&held.source) as usize).or_insert(next);
                if at == next {
                    let source = (*held.source).clone();
                    self.gathered.push(Settle { source, settlements: Vec::new() });
                }
                self.last = Some((held.source.clone(), at));
                at
            }
        };
        self.gathered[at].settlements.push(settlement);
    }

    /// Takes what a client has settled.
    pub fn gather(&mut self, held: Vec<Held>, verdict: Verdict) {
        for held in held {
            self.add(&held, settlement(&held, verdict));
        }
    }

    /// Takes one that the client never saw: it was not tried.
    pub fn release(&mut self, held: &Held) {
        let outcome = match *held.source {
            Source::Queue(_) => Outcome::Released,
            Source::Subscription(_) => Outcome::Accepted,
        };
        self.add(held, Settlement { tag: held.tag, attempt: held.attempt, outcome });
    }

    /// Batches on their way.
    pub fn open(&self) -> usize {
        self.sent.len()
    }
}

impl Connection {
    /// Hands over what was gathered as one command.
    pub async fn send_settles(&mut self) {
        let gathered = std::mem::take(&mut self.settles.gathered);
        self.settles.places.clear();
        self.settles.last = None;
        if gathered.is_empty() {
            return;
        }
        // One that is not held any more refuses them all: then each is tried by itself.
        let again = if gathered.len() > 1 || gathered[0].settlements.len() > 1 {
            gathered.clone()
        } else {
            Vec::new()
        };
        let all = Transaction { publishes: Vec::new(), settlements: gathered };
        if let Ok(pending) = self.broker().begin(Command::Transact(all)).await {
            self.settles.sent.push_back((pending, again));
        }
    }

    /// Hears what became of settlements.
    pub fn poll_settled(&mut self, context: &mut Context<'_>) -> bool {
        let mut any = false;
        while let Some((pending, _)) = self.settles.sent.front_mut() {
            let Poll::Ready(result) = Pin::new(pending).poll(context) else { break };
            any = true;
            let again = self.settles.sent.pop_front().map(|(_, again)| again).unwrap_or_default();
            if let Err(Refusal::NotHeld { .. } | Refusal::NotFound { .. }) = result {
                self.commands.extend(singly(again));
            }
        }
        any
    }
}

use std::future::Future as _;

fn singly(settles: Vec<Settle>) -> impl Iterator<Item = Command> {
    settles.into_iter().flat_map(|Settle { source, settlements }| {
        settlements.into_iter().map(move |settlement| {
            one_by_itself(Settle { source: source.clone(), settlements: vec![settlement] })
        })
    })
}

#[cfg(test)]
mod tests {
    use waystation_base::{Attempt, Name, Offset, Tag};

    use super::*;

    fn held(source: &Arc<Source>, offset: u64) -> Held {
        Held {
            source: source.clone(),
            tag: Tag::new(0, Offset(offset)),
            attempt: Attempt(1),
            consumer: None,
            timeout: None,
        }
    }

    #[test]
    fn settlements_of_a_turn_are_gathered_by_source_in_order() {
        let name = |text| Name::new(text).expect("a name");
        let (a, b) = (Arc::new(Source::Queue(name("a"))), Arc::new(Source::Queue(name("b"))));
        let stream = Arc::new(Source::Subscription(name("s")));
        let mut settles = Settles::default();
        settles.gather(vec![held(&a, 1), held(&b, 2), held(&a, 3)], Verdict::Accepted);
        settles.gather(vec![held(&b, 4)], Verdict::Rejected);
        settles.gather(vec![held(&stream, 5)], Verdict::Requeued);
        settles.release(&held(&a, 6));
        let seen: Vec<_> = settles
            .gathered
            .iter()
            .map(|settle| {
                let each = settle.settlements.iter().map(|it| (it.tag.offset().0, it.outcome.clone()));
                (settle.source.name().as_str(), each.collect::<Vec<_>>())
            })
            .collect();
        let expected = vec![
            ("a", vec![(1, Outcome::Accepted), (3, Outcome::Accepted), (6, Outcome::Released)]),
            ("b", vec![(2, Outcome::Accepted), (4, Outcome::Rejected { error: None, class: None })]),
            ("s", vec![(5, Outcome::Accepted)]),
        ];
        assert_eq!(seen, expected);
    }
}
