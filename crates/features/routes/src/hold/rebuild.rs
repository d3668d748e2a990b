//! What does a step know when it begins? What its queue holds, read whole before anything is decided.

use std::sync::Arc;

use tokio::time::{self, Instant};
use waystation_host::Event;

use super::{
    act::Act,
    draft::{Held, OWN},
    due::{Tried, Weight},
    says::{GivenUp, Role, Says},
    turn::{BACK, Turn},
};
use crate::Fault;

impl Turn<'_> {
    /// Takes what was held before, all of it before anything is decided: a marker may stand behind what it speaks of.
    pub async fn rebuild(&mut self) -> Result<(), String> {
        let mut held: Vec<(Held, Option<Says>)> = Vec::new();
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
        let rest = self.give_up(held);
        let is_marker = |says: &Option<Says>| says.as_ref().is_some_and(|says| says.role == Role::Marker);
        let (markers, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(|(_, says)| is_marker(says));
        markers.into_iter().chain(others).for_each(|(held, says)| self.put(held, says));
        self.patience = Instant::now() + BACK;
        Ok(())
    }

    /// What is left of groups that were given up when the server died goes on being given up; gives the rest.
    fn give_up(&mut self, held: Vec<(Held, Option<Says>)>) -> Vec<(Held, Option<Says>)> {
        let (notes, mut rest): (Vec<_>, Vec<_>) = held.into_iter().partition(|(_, says)| is_note(says));
        for (note, says) in notes {
            let Some(says) = says else { continue };
            let GivenUp { key, last, step, error } = GivenUp::read(&says, &note.delivery.message.headers);
            let of_it = |held: &Held, says: &Option<Says>| {
                says.as_ref().is_some_and(|it| it.key == key && it.role != Role::Marker)
                    && held.delivery.tag.offset().0 <= last
            };
            let (doomed, others): (Vec<_>, Vec<_>) =
                rest.into_iter().partition(|(held, says)| of_it(held, says));
            rest = others;
            let step: Arc<str> = step.into();
            let given_up = Some(Arc::new((step, Fault::invalid(error))));
            let tried = Tried { times: 1, given_up, is_noted: true, ..Tried::default() };
            if let Some(act) = self.state.completed(&key, doomed, self.now()) {
                act.all().for_each(|held| self.held.add(held.weight()));
                self.due.push(act);
                self.due.tried(&key, tried);
            }
            self.held.add(note.weight());
            self.due.push(Act::Done { key, note });
        }
        rest
    }
}

fn is_note(says: &Option<Says>) -> bool {
    says.as_ref().is_some_and(|says| says.role == Role::GivenUp)
}
