//! Is a name a queue or a topic? Asked before a publish, so that a queue's path does not reach a topic.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use waystation_base::Name;
use waystation_broker::{Kind as Thing, Refusal};

use crate::{door::Door, failure::Failure};

/// Names that are remembered.
const REMEMBERED_MAX: usize = 10_000;

/// What names were found to be. A memory that is out of date errs on the side of asking again: it is only trusted where it
/// agrees with the path.
#[derive(Debug, Default)]
pub(crate) struct Kinds(Mutex<HashMap<Name, Thing>>);

impl Kinds {
    fn knows(&self, name: &Name, thing: Thing) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name) == Some(&thing)
    }

    fn learn(&self, name: &Name, thing: Thing) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED_MAX {
            known.clear();
        }
        known.insert(name.clone(), thing);
    }

    /// Forgets a name that is gone.
    pub fn forget(&self, name: &Name) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

/// Refuses a name that is not of this kind.
pub(crate) async fn require(door: &Door, name: &Name, thing: Thing) -> Result<(), Failure> {
    if door.kinds.knows(name, thing) {
        return Ok(());
    }
    let asked = name.clone();
    let is_there = door.broker.query(move |view| match thing {
        Thing::Queue => view.queue(&asked).is_some(),
        Thing::Topic => view.topic(&asked).is_some(),
        Thing::Subscription => view.subscription(&asked).is_some(),
        Thing::Route => view.route(&asked).is_some(),
    });
    if !is_there.await? {
        return Err(Refusal::NotFound { kind: thing, name: name.to_string() }.into());
    }
    door.kinds.learn(name, thing);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_remembered_max_names_are_kept() {
        let kinds = Kinds::default();
        let name = |n: usize| Name::new(format!("q{n}")).expect("a name");
        for n in 0..=REMEMBERED_MAX {
            kinds.learn(&name(n), Thing::Queue);
        }
        assert!(kinds.0.lock().expect("whole").len() <= REMEMBERED_MAX);
        let last = name(REMEMBERED_MAX);
        assert!(kinds.knows(&last, Thing::Queue) && !kinds.knows(&last, Thing::Topic));
        kinds.forget(&last);
        assert!(!kinds.knows(&last, Thing::Queue));
    }
}
