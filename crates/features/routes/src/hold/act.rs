//! What is to be done with held messages, and how is it cut when it is too much for one transaction?

use std::sync::Arc;

use super::{groups, sequence};
use crate::{Fault, run::Evaluation};

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Act<T> {
    Group(groups::Act<T>),
    Sequence(sequence::Act<T>),
}

impl<T> Act<T> {
    /// All that is settled by it.
    pub fn all(&self) -> Box<dyn Iterator<Item = &T> + '_> {
        match self {
            Act::Group(groups::Act::Complete { opener, members, .. }) => {
                Box::new(opener.iter().chain(members))
            }
            Act::Group(groups::Act::Late { members, .. }) => Box::new(members.iter()),
            Act::Sequence(sequence::Act::Release { items, marker, .. }) => {
                Box::new(items.iter().chain(marker))
            }
            Act::Sequence(sequence::Act::Late { item, .. }) => Box::new(std::iter::once(item)),
            Act::Group(groups::Act::Forget(marker)) | Act::Sequence(sequence::Act::Forget(marker)) => {
                Box::new(std::iter::once(marker))
            }
        }
    }

    /// Two acts that come to the same one after the other, the first of them first; or itself, if it cannot be cut. Each leaves the marker
    /// that is right after it. What tells that a group was complete (its opener, the marker that is left) goes with the second half.
    fn halves(self) -> Result<[Act<T>; 2], Act<T>> {
        match self {
            Act::Group(groups::Act::Complete { key, end, opener, mut members, remember_until })
                if members.len() > 1 =>
            {
                let rest = members.split_off(members.len() / 2);
                let half = |opener, members, remember_until| {
                    Act::Group(groups::Act::Complete {
                        key: key.clone(),
                        end,
                        opener,
                        members,
                        remember_until,
                    })
                };
                Ok([half(None, members, None), half(opener, rest, remember_until)])
            }
            Act::Group(groups::Act::Late { key, mut members }) if members.len() > 1 => {
                let rest = members.split_off(members.len() / 2);
                let half = |members| Act::Group(groups::Act::Late { key: key.clone(), members });
                Ok([half(members), half(rest)])
            }
            Act::Sequence(sequence::Act::Release { key, mut items, next, missed, marker })
                if items.len() > 1 =>
            {
                let rest = items.split_off(items.len() / 2);
                // The numbers of what leaves together follow each other.
                let between = next - rest.len() as u64;
                let half = |items, next, missed, marker| {
                    Act::Sequence(sequence::Act::Release { key: key.clone(), items, next, missed, marker })
                };
                Ok([half(items, between, missed, marker), half(rest, next, 0, None)])
            }
            whole => Err(whole),
        }
    }
}

/// An act with what came of it.
#[derive(Debug)]
pub struct Part<T> {
    pub act: Act<T>,
    /// One for each message that goes on.
    pub evaluations: Vec<Evaluation>,
}

impl<T> Part<T> {
    /// Whether nothing of it goes on.
    pub fn has_failed(&self) -> bool {
        self.evaluations.iter().all(|it| it.fault.is_some())
    }

    /// The same with nothing that goes on, for one reason.
    #[must_use]
    pub fn failed(self, at: &Arc<str>, fault: &Fault) -> Part<T> {
        let fail = |it| Evaluation { outputs: Vec::new(), fault: Some((at.clone(), fault.clone())), ..it };
        Part { evaluations: self.evaluations.into_iter().map(fail).collect(), ..self }
    }

    /// Two parts instead of it, or itself. What was combined is one thing: only its failure can be cut.
    pub fn halves(mut self) -> Result<[Part<T>; 2], Part<T>> {
        if matches!(self.act, Act::Group(groups::Act::Complete { .. })) && !self.has_failed() {
            return Err(self);
        }
        let is_each = matches!(self.act, Act::Sequence(sequence::Act::Release { .. }));
        match self.act.halves() {
            Err(act) => Err(Part { act, ..self }),
            Ok([first, second]) => {
                let rest = match &first {
                    Act::Sequence(sequence::Act::Release { items, .. }) if is_each => {
                        self.evaluations.split_off(items.len())
                    }
                    _ => self.evaluations.clone(),
                };
                Ok([
                    Part { act: first, evaluations: self.evaluations },
                    Part { act: second, evaluations: rest },
                ])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use waystation_base::Millis;

    use super::*;
    use crate::run;

    fn evaluation(fault: Option<&str>) -> Evaluation {
        let good = Evaluation { outputs: Vec::new(), trail: Vec::new(), fault: None };
        fault.map_or(good, |reason| run::failed("a".into(), Fault::invalid(reason)))
    }

    /// All that cannot be cut further, in the order in which it is done.
    fn pieces(part: Part<u32>) -> Vec<(Act<u32>, Vec<bool>)> {
        let (mut parts, mut pieces) = (vec![part], Vec::new());
        while let Some(part) = parts.pop() {
            match part.halves() {
                Ok([first, second]) => parts.extend([second, first]),
                Err(part) => {
                    let faults = part.evaluations.iter().map(|it| it.fault.is_some()).collect();
                    pieces.push((part.act, faults));
                }
            }
        }
        pieces
    }

    #[test]
    fn a_release_is_cut_into_messages_with_their_own_evaluations_and_markers() {
        let release = |items: &[u32], next, missed, marker| {
            let items = items.to_vec();
            Act::Sequence(sequence::Act::Release { key: "k".into(), items, next, missed, marker })
        };
        let evaluations = [None, Some("bad"), None].map(evaluation).to_vec();
        assert_eq!(
            pieces(Part { act: release(&[1, 2, 3], 8, 4, Some(9)), evaluations }),
            [
                (release(&[1], 6, 4, Some(9)), vec![false]),
                (release(&[2], 7, 0, None), vec![true]),
                (release(&[3], 8, 0, None), vec![false]),
            ]
        );
    }

    #[test]
    fn a_group_is_cut_only_when_it_failed_and_is_known_as_complete_with_its_last_piece() {
        let complete = |opener, members: &[u32], remember_until| {
            let (members, end) = (members.to_vec(), groups::End::Size);
            Act::Group(groups::Act::Complete { key: "k".into(), end, opener, members, remember_until })
        };
        let until = Some(Millis(7));
        let whole = || complete(Some(1), &[2, 3, 4], until);
        let good = Part { act: whole(), evaluations: vec![evaluation(None)] };
        assert!(!good.has_failed());
        assert_eq!(pieces(good), [(whole(), vec![false])]);
        let good = Part { act: whole(), evaluations: vec![evaluation(None)] };
        let failed = good.failed(&"a".into(), &Fault::invalid("too large"));
        assert!(failed.has_failed());
        assert_eq!(
            pieces(failed),
            [
                (complete(None, &[2], None), vec![true]),
                (complete(None, &[3], None), vec![true]),
                (complete(Some(1), &[4], until), vec![true]),
            ]
        );
    }

    #[test]
    fn late_ones_are_cut_and_what_is_of_one_message_is_not() {
        let late =
            |members: &[u32]| Act::Group(groups::Act::Late { key: "k".into(), members: members.to_vec() });
        assert_eq!(
            pieces(Part { act: late(&[1, 2]), evaluations: Vec::new() }),
            [(late(&[1]), Vec::new()), (late(&[2]), Vec::new())]
        );
        let forget = || Act::Sequence(sequence::Act::Forget(1));
        assert_eq!(pieces(Part { act: forget(), evaluations: Vec::new() }), [(forget(), Vec::new())]);
    }
}
