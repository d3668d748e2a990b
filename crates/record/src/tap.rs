//! Who else hears of facts, as the recorder takes them in.

use waystation_base::Name;

use crate::{
    fact::{Fact, Place},
    meta::Client,
};

/// A fact with the names behind its numbers.
pub struct Told<'a> {
    /// Where the message is.
    pub place: Place,
    /// What that queue or topic is called, if that is known.
    pub address: Option<&'a Name>,
    /// What the subscription is called whose copy is meant.
    pub subscription: Option<&'a Name>,
    /// On whose behalf it was done.
    pub client: Option<&'a Client>,
    /// What happened.
    pub fact: &'a Fact,
}

/// Hears facts on the recorder's thread, in order, each once; must not wait for anything. What a sample leaves out is not told.
pub trait Tap: Send {
    /// Takes in one fact.
    fn tell(&mut self, told: &Told<'_>);
}
