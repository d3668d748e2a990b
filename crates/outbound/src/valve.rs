//! How many messages may a pusher hold now: all that it was given room for, none while its endpoint is left alone, one to try it?

use waystation_base::Millis;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Valve {
    full: u32,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Shut(Millis),
    Trying,
}

impl Valve {
    /// An open one.
    pub fn new(full: u32) -> Valve {
        Valve { full, state: State::Open }
    }

    /// Messages that may be held.
    pub fn credit(self) -> u32 {
        match self.state {
            State::Open => self.full,
            State::Shut(_) => 0,
            State::Trying => 1,
        }
    }

    /// Lets nothing through before this.
    pub fn shut(&mut self, until: Millis) {
        self.state = match self.state {
            State::Shut(later) => State::Shut(later.max(until)),
            _ => State::Shut(until),
        };
    }

    /// Something arrived.
    pub fn arrived(&mut self) {
        if self.state == State::Trying {
            self.state = State::Open;
        }
    }

    /// Until when it is shut.
    pub fn shut_until(self) -> Option<Millis> {
        if let State::Shut(until) = self.state { Some(until) } else { None }
    }

    /// Its time is over: one message may try.
    pub fn try_one(&mut self) {
        self.state = State::Trying;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_shuts_tries_one_and_opens_when_that_arrives() {
        let mut valve = Valve::new(8);
        assert_eq!(valve.credit(), 8);
        valve.shut(Millis(5));
        valve.shut(Millis(3));
        assert_eq!((valve.credit(), valve.shut_until()), (0, Some(Millis(5))));
        // What was sent before it was shut says nothing about now.
        valve.arrived();
        assert_eq!(valve.credit(), 0);
        valve.try_one();
        assert_eq!((valve.credit(), valve.shut_until()), (1, None));
        valve.arrived();
        assert_eq!(valve.credit(), 8);
    }
}
