//! How does a direct reply find the connection that waits for it? Kept in memory alone: it is gone with the connection.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use smol_str::{SmolStr, format_smolstr};
use tokio::sync::mpsc;
use waystation_base::os;

use crate::{
    session::{ChannelKey, Failure},
    wire::{Content, ReplyCode},
};

/// What every direct reply's routing key begins with.
pub(super) const PREFIX: &str = waystation_base::name::DIRECT_REPLY_PREFIX;

/// A reply on its way.
#[derive(Debug)]
pub(super) struct Reply {
    pub channel: ChannelKey,
    pub tag: SmolStr,
    pub exchange: SmolStr,
    pub key: SmolStr,
    pub content: Content,
}

#[derive(Debug)]
struct Waiting {
    channel: ChannelKey,
    tag: SmolStr,
    inbox: mpsc::Sender<Reply>,
}

/// Who waits for replies, by address.
#[derive(Debug, Default)]
pub(super) struct Replies(Mutex<HashMap<SmolStr, Waiting>>);

impl Replies {
    fn waiting(&self) -> MutexGuard<'_, HashMap<SmolStr, Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes an address that nobody can guess.
    pub fn open(
        &self,
        channel: ChannelKey,
        tag: SmolStr,
        inbox: mpsc::Sender<Reply>,
    ) -> Result<SmolStr, Failure> {
        let random = os::random()
            .map_err(|error| Failure::new(ReplyCode::InternalError, format!("no randomness: {error}")))?;
        let address = format_smolstr!("{PREFIX}{random:032x}");
        self.waiting().insert(address.clone(), Waiting { channel, tag, inbox });
        Ok(address)
    }

    /// Whether somebody waits there.
    pub fn has(&self, address: &str) -> bool {
        self.waiting().contains_key(address)
    }

    /// Takes an address away.
    pub fn close(&self, address: &str) {
        self.waiting().remove(address);
    }

    /// Hands a reply over; whether somebody takes it.
    pub fn send(&self, exchange: SmolStr, key: SmolStr, content: Content) -> bool {
        let waiting = self.waiting();
        let Some(Waiting { channel, tag, inbox }) = waiting.get(&key) else { return false };
        inbox.try_send(Reply { channel: *channel, tag: tag.clone(), exchange, key, content }).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::wire::ChannelId;

    #[test]
    fn a_reply_reaches_its_address_while_that_is_open_and_has_room() {
        let replies = Replies::default();
        let (inbox, mut replied) = mpsc::channel(1);
        let channel = ChannelKey { id: ChannelId(1), epoch: 1 };
        let address = replies.open(channel, "tag".into(), inbox).expect("randomness");
        let content = || Content { properties: Bytes::new(), body: Bytes::from_static(b"x") };
        let send = |key: &SmolStr| replies.send(SmolStr::default(), key.clone(), content());
        assert!(replies.has(&address) && send(&address));
        assert!(!send(&address), "no room");
        let reply = replied.try_recv().expect("a reply");
        assert_eq!((reply.channel, reply.tag.as_str(), &reply.key), (channel, "tag", &address));
        replies.close(&address);
        assert!(!replies.has(&address) && !send(&address));
    }
}
