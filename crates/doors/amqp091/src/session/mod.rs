//! What does a connection do with each frame, and with each answer of the broker? Pure: frames and answers go in, actions
//! come out; no sockets, clock or broker calls.

mod channel;
pub mod confirms;
pub mod failure;
mod handshake;
mod state;
#[cfg(test)]
mod tests;
mod timed;
pub mod unacked;

use std::sync::Arc;

use smol_str::SmolStr;
use waystation_base::{Attempt, Millis, Tag};
use waystation_broker::Source;

use crate::{
    directory::Proof,
    wire::{ChannelId, Content, Method, Table, methods::basic},
};
pub use channel::REPLY_TO;
pub use confirms::{Confirm, Confirms, PublishSeq};
pub use failure::{Failure, Resource};
pub use handshake::peer_proof;
pub use state::Session;
use timed::Timed;
pub use unacked::{DeliveryTag, Unacked};

/// A channel from its opening to its end: numbers are used again, this is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChannelKey {
    /// Its number.
    pub id: ChannelId,
    /// Which channel of that number.
    pub epoch: u32,
}

/// A consumer within the door; given by whoever carries out [`Call::Consume`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConsumerKey(pub u64);

/// What a connection offers and allows.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Channels at a time.
    pub channel_max: u16,
    /// Bytes of a frame.
    pub frame_max: u32,
    /// Seconds between heartbeats that are proposed.
    pub heartbeat: u16,
    /// Bytes of a message's body.
    pub body_max: u64,
    /// Names of login mechanisms, blanks between.
    pub mechanisms: String,
    /// What the server says about itself.
    pub server_properties: Table,
    /// Name in the client's certificate, if TLS has checked one.
    pub certificate: Option<String>,
}

/// A delivered message, as the broker knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Where it is.
    pub source: Arc<Source>,
    /// Its name there.
    pub tag: Tag,
    /// The attempt under which it is held.
    pub attempt: Attempt,
    /// Who got it; none: it was got without a consumer.
    pub consumer: Option<ConsumerKey>,
    /// When it is to be settled.
    pub timeout: Option<Timeout>,
}

/// For how long a delivery may stay unsettled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout {
    /// Until then.
    pub at: Millis,
    /// That is so many milliseconds after it was delivered.
    pub after_ms: u64,
}

/// What a client says about deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Done with.
    Accepted,
    /// Never again.
    Rejected,
    /// Again.
    Requeued,
    /// Its channel is gone.
    Lost,
}

/// Whom to tell what became of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Its channel.
    pub channel: ChannelKey,
    /// Its number, if the channel confirms.
    pub seq: Option<PublishSeq>,
}

/// One message from a client.
#[derive(Clone, Debug, PartialEq)]
pub struct Publishing {
    /// Whom to tell.
    pub ticket: Ticket,
    /// The method.
    pub publish: basic::Publish,
    /// Properties and body.
    pub content: Content,
}

/// What a transaction carries out: all of it or nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transaction {
    /// What was published, in order.
    pub publishes: Vec<Publishing>,
    /// What was settled.
    pub settlements: Vec<(DeliveryTag, Held, Verdict)>,
    bytes: usize,
}

/// What the broker is to do before the channel goes on.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// A method of the classes exchange and queue, with the names that were left out filled in.
    Topology(Method),
    /// Begin to consume. An empty tag wants one made.
    Consume {
        /// As sent.
        consume: basic::Consume,
        /// Unacknowledged messages that it may hold; 0: no limit.
        prefetch: u16,
        /// The same for all of the channel.
        prefetch_global: u16,
    },
    /// Begin to consume direct replies.
    ConsumeReplies {
        /// The consumer's tag; empty: make one.
        tag: SmolStr,
    },
    /// End a consumer, or one of direct replies (no key).
    Cancel {
        /// Its tag.
        tag: SmolStr,
        /// Which.
        key: Option<ConsumerKey>,
    },
    /// One message.
    Get(basic::Get),
    /// Carry a transaction out.
    Commit(Transaction),
}

/// What became of a [`Call`].
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// It is done; this is sent if the client waits for it.
    Done(Method),
    /// A queue is there: later methods may leave its name out.
    Queue {
        /// By the client's name for it.
        name: SmolStr,
        /// Ready messages.
        messages: u32,
        /// Consumers.
        consumers: u32,
    },
    /// A consumer has begun.
    Consuming {
        /// Its tag.
        tag: SmolStr,
        /// Which.
        key: ConsumerKey,
    },
    /// A consumer of direct replies has begun.
    ConsumingReplies {
        /// Its tag.
        tag: SmolStr,
        /// What `reply-to` becomes.
        address: SmolStr,
    },
    /// A consumer has ended.
    Cancelled {
        /// Its tag.
        tag: SmolStr,
    },
    /// The answer has been sent already.
    Sent,
    /// It cannot be.
    Failed(Failure),
}

/// What is left of a channel that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Remains {
    /// Which.
    pub channel: ChannelKey,
    /// Its consumers.
    pub consumers: Vec<ConsumerKey>,
    /// What it held, oldest first.
    pub held: Vec<Held>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send a method.
    Send(ChannelId, Method),
    /// Somebody wants to log in; [`Session::logged_in`] goes on.
    Login {
        /// How.
        mechanism: SmolStr,
        /// With what.
        proof: Proof,
    },
    /// From now on these hold.
    Tune {
        /// Channels at a time.
        channel_max: u16,
        /// Bytes of a frame.
        frame_max: u32,
        /// Seconds between heartbeats; 0: none.
        heartbeat: u16,
    },
    /// Somebody wants to open a virtual host; [`Session::entered`] goes on.
    Enter(SmolStr),
    /// A channel is open.
    Opened(ChannelKey),
    /// A channel has ended.
    Ended(Remains),
    /// Store a message.
    Publish(Publishing),
    /// Settle messages.
    Settle(ChannelKey, Vec<Held>, Verdict),
    /// Have something done; [`Session::answered`] goes on.
    Call(ChannelKey, Call),
    /// How many unacknowledged messages a channel may hold has changed.
    Qos(ChannelKey),
    /// Whether publishes of a channel are confirmed or transactional has changed.
    Mode(ChannelKey),
    /// Everything that was sent goes out, then the connection is closed.
    Hangup,
}
