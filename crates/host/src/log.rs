//! Writes a shard's entries to the open commit group, and before them what they do not say themselves: when and by whom.
//!
//! A moment goes before the first entry of a group and wherever time, client or step are others than those told last; so each
//! group can be understood by itself, and a publish of many messages by one client costs one moment.

use std::sync::Arc;

use hashbrown::HashMap;
use waystation_base::{ClientId, Millis, Position};
use waystation_broker::{
    Append, Command,
    entry::{Client, Entry, Moment, Step},
};
use waystation_journal::Group;

use crate::audit::Origin;

/// Clients that are known by a number at a time; all are told anew when there are more.
const CLIENTS_MAX: usize = 16_384;

/// What the open group tells, and which clients the journal knows.
#[derive(Debug, Default)]
pub(crate) struct Noted {
    last: Option<Moment>,
    clients: HashMap<Arc<Origin>, ClientId>,
    /// The client that was named last: mostly the next one too.
    recent: Option<(Arc<Origin>, ClientId)>,
    /// Numbers given so far in this run.
    numbers: u32,
}

/// See the module.
pub(crate) struct Log<'a> {
    group: &'a mut Group,
    noted: &'a mut Noted,
    now: Moment,
}

impl<'a> Log<'a> {
    pub(crate) fn new(group: &'a mut Group, noted: &'a mut Noted, at: Millis) -> Log<'a> {
        if group.is_empty() {
            noted.last = None;
        }
        Log { group, noted, now: Moment { at, client: ClientId(0), step: Step::Request } }
    }

    /// What comes now is the doing of this command.
    pub(crate) fn begin(&mut self, command: &mut Command, origin: Option<&Arc<Origin>>) {
        self.now.client = origin.map_or(ClientId(0), |origin| self.client(origin));
        self.now.step = match command {
            Command::CloseSession(_) | Command::Detach(_) | Command::Strand(_) => Step::Gone,
            Command::Loaded(_) => Step::Dispatch,
            _ => Step::Request,
        };
        if let Command::Attach(attach) = command {
            attach.client = self.now.client;
        }
    }

    /// What comes now is nobody's doing.
    pub(crate) fn step(&mut self, step: Step) {
        self.now = Moment { step, client: ClientId(0), ..self.now };
    }

    /// The number of a client; one that has none is told to the journal.
    fn client(&mut self, origin: &Arc<Origin>) -> ClientId {
        if let Some((recent, id)) = &self.noted.recent
            && (Arc::ptr_eq(recent, origin) || recent == origin)
        {
            return *id;
        }
        let known = self.noted.clients.get(origin).copied();
        let id = known.unwrap_or_else(|| self.introduce(origin));
        self.noted.recent = Some((origin.clone(), id));
        id
    }

    fn introduce(&mut self, origin: &Arc<Origin>) -> ClientId {
        if self.noted.clients.len() == CLIENTS_MAX {
            self.noted.clients.clear();
        }
        self.noted.numbers = self.noted.numbers.wrapping_add(1).max(1);
        let id = ClientId(self.noted.numbers);
        self.noted.clients.insert(origin.clone(), id);
        let address = origin.client.map(|address| address.to_string()).unwrap_or_default();
        let client = Client {
            id,
            door: origin.door,
            address: &address,
            user: origin.who.as_deref().unwrap_or_default(),
            name: origin.name.as_deref().unwrap_or_default(),
        };
        Entry::Client(client).append(&mut Plain(self.group));
        id
    }
}

impl Append for Log<'_> {
    fn append(&mut self, kind: u8, write: &mut dyn FnMut(&mut Vec<u8>)) -> Position {
        if self.noted.last != Some(self.now) {
            self.noted.last = Some(self.now);
            Entry::Moment(self.now).append(&mut Plain(self.group));
        }
        self.group.push(kind, |bytes| write(bytes))
    }
}

/// The group as it is.
struct Plain<'a>(&'a mut Group);

impl Append for Plain<'_> {
    fn append(&mut self, kind: u8, write: &mut dyn FnMut(&mut Vec<u8>)) -> Position {
        self.0.push(kind, |bytes| write(bytes))
    }
}
