//! What is to be done with held messages, and how is it cut when it is too much for one transaction?

use std::sync::Arc;

use smol_str::SmolStr;

use super::{due::Tried, groups, sequence};
use crate::{Fault, run::Evaluation};

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Act<T> {
    Group(groups::Act<T>),
    Sequence(sequence::Act<T>),
    /// What was noted of this key while it was given up has done its service.
    Done {
        key: SmolStr,
        note: T,
    },
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
            Act::Done { note, .. } => Box::new(std::iter::once(note)),
        }
    }

    /// What it belongs to: what is to be done for one key is done in order. A marker that has done its service belongs to nothing.
    pub fn key(&self) -> SmolStr {
        match self {
            Act::Group(groups::Act::Complete { key, .. } | groups::Act::Late { key, .. })
            | Act::Sequence(sequence::Act::Release { key, .. } | sequence::Act::Late { key, .. })
            | Act::Done { key, .. } => key.clone(),
            Act::Group(groups::Act::Forget(_)) | Act::Sequence(sequence::Act::Forget(_)) => {
                SmolStr::default()
            }
        }
    }

    /// How many messages can be parted.
    fn parts(&self) -> usize {
        match self {
            Act::Group(groups::Act::Complete { opener, members, .. }) => {
                members.len() + usize::from(opener.is_some())
            }
            Act::Group(groups::Act::Late { members, .. }) => members.len(),
            Act::Sequence(sequence::Act::Release { items, .. }) => items.len(),
            _ => 1,
        }
    }

    /// Whether each of its messages goes on by itself.
    pub fn is_release(&self) -> bool {
        matches!(self, Act::Sequence(sequence::Act::Release { .. }))
    }

    /// Two acts that come to the same one after the other, so many messages in the first of them; or itself, if it cannot be cut there. Each
    /// leaves the marker that is right after it. What tells that a group was complete (its opener, the marker that is left) goes with the
    /// second.
    pub fn cut(self, at: usize) -> Result<[Act<T>; 2], Act<T>> {
        if at == 0 || at >= self.parts() {
            return Err(self);
        }
        match self {
            Act::Group(groups::Act::Complete { key, end, opener, mut members, remember_until }) => {
                let rest = members.split_off(at);
                let part = |opener, members, remember_until| {
                    let key = key.clone();
                    Act::Group(groups::Act::Complete { key, end, opener, members, remember_until })
                };
                Ok([part(None, members, None), part(opener, rest, remember_until)])
            }
            Act::Group(groups::Act::Late { key, mut members }) => {
                let rest = members.split_off(at);
                let part = |members| Act::Group(groups::Act::Late { key: key.clone(), members });
                Ok([part(members), part(rest)])
            }
            Act::Sequence(sequence::Act::Release { key, mut items, next, missed, marker }) => {
                let rest = items.split_off(at);
                // The numbers of what leaves together follow each other.
                let between = next - rest.len() as u64;
                let part = |items, next, missed, marker| {
                    Act::Sequence(sequence::Act::Release { key: key.clone(), items, next, missed, marker })
                };
                Ok([part(items, between, missed, marker), part(rest, next, 0, None)])
            }
            whole => Err(whole),
        }
    }

    /// So many of its messages, and the rest, as far as there are such.
    pub fn parted(self, at: usize) -> (Option<Act<T>>, Option<Act<T>>) {
        match self.cut(at) {
            Ok([first, rest]) => (Some(first), Some(rest)),
            Err(whole) if at == 0 => (None, Some(whole)),
            Err(whole) => (Some(whole), None),
        }
    }

    /// What was cut, as it was.
    pub fn join(self, second: Act<T>) -> Act<T> {
        use groups::Act::{Complete, Late};
        use sequence::Act::Release;
        match (self, second) {
            (
                Act::Group(Complete { key, end, opener: first, mut members, .. }),
                Act::Group(Complete { opener, members: rest, remember_until, .. }),
            ) => {
                members.extend(rest);
                Act::Group(Complete { key, end, opener: first.or(opener), members, remember_until })
            }
            (Act::Group(Late { key, mut members }), Act::Group(Late { members: rest, .. })) => {
                members.extend(rest);
                Act::Group(Late { key, members })
            }
            (
                Act::Sequence(Release { key, mut items, missed, marker, .. }),
                Act::Sequence(Release { items: rest, next, .. }),
            ) => {
                items.extend(rest);
                Act::Sequence(Release { key, items, next, missed, marker })
            }
            _ => unreachable!("only what was cut is joined"),
        }
    }
}

/// An act with what came of it.
#[derive(Debug)]
pub struct Part<T> {
    pub act: Act<T>,
    /// One for each message that goes on.
    pub evaluations: Vec<Evaluation>,
    /// How it was tried before.
    pub tried: Tried<T>,
}

impl<T> Part<T> {
    /// Whether nothing of it goes on.
    pub fn has_failed(&self) -> bool {
        self.evaluations.iter().all(|it| it.fault.is_some())
    }

    /// Why its first message does not go on, if that is so.
    pub fn fault(&self) -> Option<&(Arc<str>, Fault)> {
        self.evaluations.first().and_then(|it| it.fault.as_ref())
    }

    /// The same with nothing that goes on, for one reason.
    #[must_use]
    pub fn failed(self, at: &Arc<str>, fault: &Fault) -> Part<T> {
        let fail = |it| Evaluation { outputs: Vec::new(), fault: Some((at.clone(), fault.clone())), ..it };
        Part { evaluations: self.evaluations.into_iter().map(fail).collect(), ..self }
    }

    /// Two parts instead of it, or itself. What was combined is one thing: only its failure can be cut.
    pub fn halves(mut self) -> Result<[Part<T>; 2], Box<Part<T>>> {
        if matches!(self.act, Act::Group(groups::Act::Complete { .. })) && !self.has_failed() {
            return Err(Box::new(self));
        }
        let (at, is_release) = (self.act.parts() / 2, self.act.is_release());
        match self.act.cut(at) {
            Err(act) => Err(Box::new(Part { act, ..self })),
            Ok([first, second]) => {
                let rest = if is_release { self.evaluations.split_off(at) } else { self.evaluations.clone() };
                // Of a release, another message is the first of the second half.
                let tried = if is_release { Tried::default() } else { self.tried.of_rest() };
                Ok([Part { act: first, ..self }, Part { act: second, evaluations: rest, tried }])
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
            pieces(Part { act: release(&[1, 2, 3], 8, 4, Some(9)), evaluations, tried: Tried::default() }),
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
        let good = Part { act: whole(), evaluations: vec![evaluation(None)], tried: Tried::default() };
        assert!(!good.has_failed());
        assert_eq!(pieces(good), [(whole(), vec![false])]);
        let good = Part { act: whole(), evaluations: vec![evaluation(None)], tried: Tried::default() };
        let failed = good.failed(&"a".into(), &Fault::invalid("too large"));
        assert!(failed.has_failed());
        assert_eq!(
            pieces(failed),
            [
                (complete(None, &[2], None), vec![true]),
                (complete(None, &[3], None), vec![true]),
                (complete(None, &[4], None), vec![true]),
                (complete(Some(1), &[], until), vec![true]),
            ]
        );
    }

    #[test]
    fn what_was_cut_is_joined_to_what_it_was() {
        let until = Some(Millis(7));
        let (members, end, key) = (vec![2, 3, 4], groups::End::Size, SmolStr::from("k"));
        let whole = || {
            let (key, members) = (key.clone(), members.clone());
            Act::Group(groups::Act::Complete { key, end, opener: Some(1), members, remember_until: until })
        };
        let late = || Act::Group(groups::Act::Late { key: key.clone(), members: members.clone() });
        let release = || {
            let (key, items) = (key.clone(), members.clone());
            Act::Sequence(sequence::Act::Release { key, items, next: 9, missed: 2, marker: Some(1) })
        };
        for act in [&whole as &dyn Fn() -> Act<u32>, &late, &release] {
            for at in 1..act().parts() {
                let [first, second] = act().cut(at).expect("cut");
                assert_eq!(first.join(second), act());
            }
            let parts = act().parts();
            assert!(act().cut(0).is_err() && act().cut(parts).is_err());
        }
    }

    #[test]
    fn late_ones_are_cut_and_what_is_of_one_message_is_not() {
        let late =
            |members: &[u32]| Act::Group(groups::Act::Late { key: "k".into(), members: members.to_vec() });
        assert_eq!(
            pieces(Part { act: late(&[1, 2]), evaluations: Vec::new(), tried: Tried::default() }),
            [(late(&[1]), Vec::new()), (late(&[2]), Vec::new())]
        );
        let forget = || Act::Sequence(sequence::Act::Forget(1));
        assert_eq!(
            pieces(Part { act: forget(), evaluations: Vec::new(), tried: Tried::default() }),
            [(forget(), Vec::new())]
        );
    }
}
