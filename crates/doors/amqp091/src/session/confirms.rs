//! Which publishes of a channel in confirm mode are answered, and with how few frames can that be told?

use std::collections::VecDeque;

/// A publish's number on its channel, from 1 (the publisher counts too).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublishSeq(pub u64);

/// One confirmation to send: `multiple` speaks for all before it that are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirm {
    /// Up to which publish.
    pub seq: PublishSeq,
    /// Whether it speaks for more than one.
    pub multiple: bool,
    /// For how many.
    pub count: u64,
    /// Stored, or refused.
    pub is_ack: bool,
}

/// Open publishes in order. Answers may come in any order; they are told in the order of the publishes, so that one frame
/// can speak for a run of them.
#[derive(Clone, Debug, Default)]
pub struct Confirms {
    last: u64,
    /// The answer of publish `last - open.len() + 1` and of those after it.
    open: VecDeque<Option<bool>>,
}

impl Confirms {
    /// Numbers a publish.
    pub fn begin(&mut self) -> PublishSeq {
        self.last += 1;
        self.open.push_back(None);
        PublishSeq(self.last)
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Notes an answer; a second one for the same publish changes nothing.
    pub fn answer(&mut self, seq: PublishSeq, is_ack: bool) {
        let first = self.last + 1 - self.open.len() as u64;
        let slot = seq.0.checked_sub(first).and_then(|at| self.open.get_mut(usize::try_from(at).ok()?));
        if let Some(slot @ None) = slot {
            *slot = Some(is_ack);
        }
    }

    /// Takes what can be told now: one confirmation for each run of equal answers.
    pub fn take(&mut self) -> impl Iterator<Item = Confirm> {
        let mut runs: Vec<Confirm> = Vec::new();
        while let Some(Some(is_ack)) = self.open.front().copied() {
            let seq = PublishSeq(self.last + 1 - self.open.len() as u64);
            self.open.pop_front();
            match runs.last_mut() {
                Some(run) if run.is_ack == is_ack => {
                    (run.seq, run.multiple) = (seq, true);
                    run.count += 1;
                }
                _ => runs.push(Confirm { seq, multiple: false, count: 1, is_ack }),
            }
        }
        runs.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn confirm(seq: u64, count: u64, is_ack: bool) -> Confirm {
        Confirm { seq: PublishSeq(seq), multiple: count > 1, count, is_ack }
    }

    #[test]
    fn runs_of_equal_answers_take_one_frame() {
        let mut confirms = Confirms::default();
        let seqs: Vec<PublishSeq> = (0..6).map(|_| confirms.begin()).collect();
        for (at, is_ack) in [(0, true), (1, true), (2, false), (4, true)] {
            confirms.answer(seqs[at], is_ack);
        }
        assert_eq!(confirms.take().collect::<Vec<_>>(), [confirm(2, 2, true), confirm(3, 1, false)]);
        confirms.answer(seqs[3], true);
        assert_eq!(confirms.take().collect::<Vec<_>>(), [confirm(5, 2, true)]);
        assert_eq!(confirms.len(), 1);
        confirms.answer(seqs[0], false);
        assert_eq!(confirms.take().count(), 0);
    }

    /// What a client believes after these confirmations.
    fn believed(published: usize, told: &[Confirm]) -> Vec<Option<bool>> {
        let mut answers = vec![None; published];
        for confirm in told {
            let seq = confirm.seq.0 as usize;
            let from = if confirm.multiple { 0 } else { seq - 1 };
            answers[from..seq]
                .iter_mut()
                .filter(|answer| answer.is_none())
                .for_each(|answer| *answer = Some(confirm.is_ack));
        }
        answers
    }

    proptest! {
        #[test]
        fn the_client_learns_each_answer_as_it_was_given(answers in proptest::collection::vec(any::<bool>(), 0..60), order: u64, takes in 1..9usize) {
            let mut confirms = Confirms::default();
            let mut waiting: Vec<(PublishSeq, bool)> = answers.iter().map(|answer| (confirms.begin(), *answer)).collect();
            let mut told = Vec::new();
            let mut random = order;
            while !waiting.is_empty() {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let (seq, answer) = waiting.swap_remove((random >> 33) as usize % waiting.len());
                confirms.answer(seq, answer);
                if waiting.len().is_multiple_of(takes) {
                    told.extend(confirms.take());
                }
            }
            told.extend(confirms.take());
            let expected: Vec<Option<bool>> = answers.iter().copied().map(Some).collect();
            prop_assert_eq!(believed(answers.len(), &told), expected);
            prop_assert_eq!(confirms.len(), 0);
        }
    }
}
