//! Why did a transaction of a route come to nothing?

use waystation_broker::Refusal;

use crate::{
    engine::{Meaning, meaning},
    hold::{Full, NoRoom},
};

/// Why a transaction came to nothing.
pub(crate) enum Unstored {
    /// The broker refused it.
    Refused(Refusal),
    /// A step that holds messages has no room for what would come to it.
    NoRoom(NoRoom),
}

impl From<Refusal> for Unstored {
    fn from(refusal: Refusal) -> Unstored {
        Unstored::Refused(refusal)
    }
}

impl From<NoRoom> for Unstored {
    fn from(no_room: NoRoom) -> Unstored {
        Unstored::NoRoom(no_room)
    }
}

impl Unstored {
    /// What that means.
    pub fn meaning(&self) -> Meaning {
        match self {
            Unstored::Refused(refusal) => meaning(refusal),
            Unstored::NoRoom(NoRoom { full: Full::Ever(_), .. }) => Meaning::Never,
            Unstored::NoRoom(_) => Meaning::Later,
        }
    }

    /// In words.
    pub fn why(&self) -> String {
        match self {
            Unstored::Refused(refusal) => refusal.to_string(),
            Unstored::NoRoom(NoRoom { at, full: Full::Ever(why) | Full::Now(why), .. }) => {
                format!("{at}: {why}")
            }
        }
    }
}
