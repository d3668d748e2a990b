//! What does a step know when it begins? What its queue holds, read whole before anything is decided.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use smol_str::SmolStr;
use tokio::time::{self, Instant};
use waystation_base::Tag;
use waystation_host::Event;

use super::{
    act::Act,
    draft::{Held, OWN, REPLIES},
    due::{Recalled, Tried, Weight},
    says::{GivenUp, Role, Says, Tries},
    turn::{BACK, Turn},
};
use crate::Fault;

impl Turn<'_> {
    /// Takes what was held before, all of it before anything is decided: a marker may stand behind what it speaks of.
    pub async fn rebuild(&mut self) -> Result<(), String> {
        let mut held: Vec<Kept> = Vec::new();
        while (held.len() as u64) < self.back[OWN] {
            match time::timeout(BACK, self.own.next()).await {
                Ok(Some(Event::Messages(messages))) => {
                    held.extend(messages.into_iter().map(|delivery| {
                        let says = Says::read(&delivery.message.headers);
                        (Held { source: OWN, delivery }, says)
                    }));
                }
                Ok(Some(Event::Unreadable(why))) => return Err(why),
                Ok(Some(Event::Closed(_)) | None) => return Err("its queue is gone".to_owned()),
                // Somebody took it away.
                Err(_) => break,
            }
        }
        let mut own = Weight::default();
        held.iter().for_each(|(held, _)| own.add(held.weight()));
        self.holder.plan.room.set(own);
        let rest = self.recall(held);
        let rest = self.find_doomed(rest);
        let is_marker = |says: &Option<Says>| is_role(says, Role::Marker);
        let (markers, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(|(_, says)| is_marker(says));
        markers.into_iter().chain(others).for_each(|(held, says)| self.put(held, says));
        self.patience = Instant::now() + BACK;
        Ok(())
    }

    /// What was noted of tries is known again; gives the rest.
    fn recall(&mut self, held: Vec<Kept>) -> Vec<Kept> {
        let (notes, rest): (Vec<_>, Vec<_>) =
            held.into_iter().partition(|(_, says)| is_role(says, Role::Tried));
        let there: BTreeSet<u64> = rest.iter().map(|(held, _)| held.delivery.tag.offset().0).collect();
        let mut newest: BTreeMap<SmolStr, (Tries, Vec<Held>)> = BTreeMap::new();
        for (note, says) in notes {
            self.held.add(note.weight());
            let tries = says.as_ref().and_then(|says| Tries::read(says, &note.delivery.message.headers));
            match tries.filter(|tries| there.contains(&tries.of)) {
                Some(tries) => {
                    let known =
                        newest.entry(tries.key.clone()).or_insert_with(|| (tries.clone(), Vec::new()));
                    // They come back in the order in which they were written.
                    known.0 = tries;
                    known.1.push(note);
                }
                // What it speaks of is done.
                None => self.due.push(Act::Done { key: says.map(|says| says.key).unwrap_or_default(), note }),
            }
        }
        for (key, (tries, notes)) in newest {
            let Tries { times, since, next, of, .. } = tries;
            let tried = Tried { times, since: Some(since), notes, ..Tried::default() };
            self.due.recall(key, Recalled { tried, at: next, of });
        }
        rest
    }

    /// What is left of groups that were given up when the server died goes on being given up, with their replies; gives the rest.
    fn find_doomed(&mut self, held: Vec<Kept>) -> Vec<Kept> {
        let (notes, mut rest): (Vec<_>, Vec<_>) =
            held.into_iter().partition(|(_, says)| is_role(says, Role::GivenUp));
        for (note, says) in notes {
            let Some(says) = says else { continue };
            let GivenUp { key, last, replies, step, error } =
                GivenUp::read(&says, &note.delivery.message.headers);
            let of_it = |held: &Held, says: &Option<Says>| {
                says.as_ref().is_some_and(|it| it.key == key && it.role != Role::Marker)
                    && held.delivery.tag.offset().0 <= last
            };
            let given_up = Arc::new((step.into(), Fault::invalid(error)));
            let (messages, others): (Vec<_>, Vec<_>) =
                rest.into_iter().partition(|(held, says)| of_it(held, says));
            rest = others;
            messages.iter().for_each(|(held, _)| self.held.add(held.weight()));
            self.held.add(note.weight());
            self.doomed.push(Doomed { key, messages, replies, given_up, note });
        }
        rest
    }

    /// Whether it is a reply to a group that is given up.
    pub(super) fn is_doomed(&self, held: &Held, says: &Says) -> bool {
        held.source == REPLIES && self.doomed.iter().any(|doomed| doomed.has(held, says))
    }

    /// Takes such a reply.
    pub(super) fn doom(&mut self, held: Held, says: Says) {
        if let Some(doomed) = self.doomed.iter_mut().find(|doomed| doomed.has(&held, &says)) {
            doomed.messages.push((held, Some(says)));
        }
    }

    /// Gives up what was given up when the server died: all of it that came back is there.
    pub(super) fn give_up_doomed(&mut self) {
        for Doomed { key, messages, given_up, note, .. } in std::mem::take(&mut self.doomed) {
            let tried = Tried { times: 1, given_up: Some(given_up), is_noted: true, ..Tried::default() };
            if let Some(act) = self.state.completed(&key, messages, self.now()) {
                self.due.push(act);
                self.due.tried(&key, tried);
            }
            self.due.push(Act::Done { key, note });
        }
    }
}

/// A message as it came back, and what it says of itself.
type Kept = (Held, Option<Says>);

/// A group that was given up, and not all of it stored.
pub(super) struct Doomed {
    key: SmolStr,
    messages: Vec<Kept>,
    /// Its last replies.
    replies: Vec<Tag>,
    given_up: Arc<(Arc<str>, Fault)>,
    /// What says so.
    note: Held,
}

impl Doomed {
    fn has(&self, reply: &Held, says: &Says) -> bool {
        self.key == says.key && GivenUp::had(&self.replies, reply.delivery.tag)
    }
}

fn is_role(says: &Option<Says>, role: Role) -> bool {
    says.as_ref().is_some_and(|says| says.role == role)
}
