//! What does a step know? One kind of state for each kind of step, behind the same few questions.

use smol_str::SmolStr;
use waystation_base::Millis;

use super::{
    act::Act,
    draft::Held,
    groups::{self, Groups},
    plan::Rules,
    says::{Role, Says},
    sequence::{self, Sequences},
};

/// What the step knows.
pub enum State {
    Groups(Groups<Held>),
    Sequences(Sequences<Held>),
}

impl State {
    /// Nothing yet.
    pub fn new(rules: Rules) -> State {
        match rules {
            Rules::Groups(rules) => State::Groups(Groups::new(rules)),
            Rules::Sequences(rules) => State::Sequences(Sequences::new(rules)),
        }
    }

    /// Takes a message that was stored at this time.
    pub fn put(&mut self, says: Says, at: Millis, held: Held) {
        let Says { key, role, number: said } = says;
        let number = said.unwrap_or_default();
        match self {
            State::Groups(groups) => {
                let role = match role {
                    Role::Marker => groups::Role::Marker { until: Millis(number) },
                    Role::Opener => groups::Role::Opener { size: number },
                    // They were looked at before they came here.
                    Role::GivenUp | Role::Tried => return,
                    role => groups::Role::Member { size: said, last: role == Role::Last },
                };
                groups.put(groups::Facts { key, at, role }, held);
            }
            State::Sequences(sequences) => {
                let marker = role == Role::Marker;
                sequences.put(sequence::Facts { key, at, number, marker }, held);
            }
        }
    }

    /// A group of these messages, whatever else is known of it.
    pub fn completed(
        &mut self,
        key: &SmolStr,
        messages: Vec<(Held, Option<Says>)>,
        now: Millis,
    ) -> Option<Act<Held>> {
        let State::Groups(groups) = self else { return None };
        let is_opener = |says: &Option<Says>| says.as_ref().is_some_and(|says| says.role == Role::Opener);
        let (openers, members): (Vec<_>, Vec<_>) =
            messages.into_iter().partition(|(_, says)| is_opener(says));
        let (opener, members) = (openers.into_iter().next(), members.into_iter().map(|(held, _)| held));
        let (opener, members) = (opener.map(|(held, _)| held), members.collect::<Vec<_>>());
        if opener.is_none() && members.is_empty() {
            return None;
        }
        let (key, end, remember_until) = (key.clone(), groups::End::Full, groups.was_complete(key, now));
        Some(Act::Group(groups::Act::Complete { key, end, opener, members, remember_until }))
    }

    /// There is no room for what is held: the oldest goes.
    pub fn relieve(&mut self, now: Millis) {
        match self {
            State::Groups(groups) => groups.relieve(),
            State::Sequences(sequences) => sequences.relieve(now),
        }
    }

    /// Takes note of the time.
    pub fn tick(&mut self, now: Millis) {
        match self {
            State::Groups(groups) => groups.tick(now),
            State::Sequences(sequences) => sequences.tick(now),
        }
    }

    /// The next thing to do.
    pub fn next(&mut self, now: Millis) -> Option<Act<Held>> {
        match self {
            State::Groups(groups) => groups.next(now).map(Act::Group),
            State::Sequences(sequences) => sequences.next().map(Act::Sequence),
        }
    }

    /// When the time is to be told next.
    pub fn at(&self) -> Option<Millis> {
        match self {
            State::Groups(groups) => groups.due(),
            State::Sequences(sequences) => sequences.due(),
        }
    }
}

/// What belongs to nothing that the step holds.
pub fn stray(held: Held) -> Act<Held> {
    Act::Group(groups::Act::Late { key: SmolStr::default(), members: vec![held] })
}
