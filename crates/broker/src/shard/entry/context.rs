//! What tells when, by whom and in which step other entries came about. The state does not depend on it; the record does.

use waystation_base::{
    ClientId, Millis,
    varint::{self, put, put_prefixed, take, take_bytes, take_prefixed},
};

use super::Error;

/// What the entries behind it in the same group have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// When.
    pub at: Millis,
    /// On whose behalf; 0: nobody's.
    pub client: ClientId,
    /// In which step.
    pub step: Step,
}

/// What made the shard act. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    /// Somebody asked.
    Request = 0,
    /// A time was over.
    Timer = 1,
    /// A session or a consumer ended.
    Gone = 2,
    /// The server started.
    Start = 3,
    /// The broker went on by itself: messages were handed out, or moved to the dead letters.
    Dispatch = 4,
}

impl Step {
    /// From its stored number.
    pub fn from_stored(number: u8) -> Option<Step> {
        use Step::*;
        [Request, Timer, Gone, Start, Dispatch].into_iter().find(|step| *step as u8 == number)
    }
}

/// A client that later entries name by its number: the latest such entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client<'a> {
    /// The number.
    pub id: ClientId,
    /// By which door it came.
    pub door: &'a str,
    /// From where; empty: not known.
    pub address: &'a str,
    /// As whom; empty: somebody who needed no proof.
    pub user: &'a str,
    /// What it calls itself; may be empty.
    pub name: &'a str,
}

impl Moment {
    pub(super) fn put(self, out: &mut Vec<u8>) {
        put(out, self.at.0);
        put(out, self.client.0.into());
        out.push(self.step as u8);
    }

    pub(super) fn take(input: &mut &[u8]) -> Result<Moment, Error> {
        let at = Millis(take(input)?);
        let client = client(input)?;
        let step = Step::from_stored(take_bytes(input, 1)?[0]).ok_or(Error::Unknown("step"))?;
        Ok(Moment { at, client, step })
    }
}

impl<'a> Client<'a> {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        put(out, self.id.0.into());
        [self.door, self.address, self.user, self.name]
            .into_iter()
            .for_each(|text| put_prefixed(out, text.as_bytes()));
    }

    pub(super) fn take(input: &mut &'a [u8]) -> Result<Client<'a>, Error> {
        let id = client(input)?;
        let mut text = || super::text(take_prefixed(input)?);
        Ok(Client { id, door: text()?, address: text()?, user: text()?, name: text()? })
    }
}

fn client(input: &mut &[u8]) -> Result<ClientId, Error> {
    Ok(ClientId(u32::try_from(take(input)?).map_err(|_| varint::Error::Overflow)?))
}
