//! What a shard wants done in the world.

use smallvec::SmallVec;
use waystation_base::{Attempt, ConsumerId, Millis, Name, Offset, Tag};

use crate::{
    Kind,
    command::RequestId,
    place::{Load, Meta},
    refusal::Refusal,
};

/// An effect. Where it says so, it may be carried out only once the journal entry behind it is durable: that is, once everything
/// that was in the open commit group when the effect came out has been synced.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Answers a command. After durability; a refusal may go at once.
    Reply {
        /// Which.
        request: RequestId,
        /// The answer.
        result: Result<Reply, Refusal>,
    },
    /// Hands messages to a consumer. Once each message's own place in the journal is durable ([`Meta::place`]); the entry that
    /// notes the delivery need not be.
    Deliver {
        /// To whom.
        consumer: ConsumerId,
        /// What; never empty.
        messages: Vec<Handed>,
    },
    /// A consumer has ended other than by its own wish. A pull ends so with or without messages, after its `Deliver`.
    Closed {
        /// Which.
        consumer: ConsumerId,
        /// Why.
        reason: Closed,
    },
    /// Read these messages and give them back with [`crate::Command::Loaded`].
    Load(Load),
    /// Something that an operator should know.
    Notice(Notice),
}

/// One message on its way to a consumer.
#[derive(Clone, Copy, Debug)]
pub struct Handed {
    /// Its name towards this source.
    pub tag: Tag,
    /// How often it has been handed out, this time included.
    pub attempt: Attempt,
    /// Until when it is held; [`Millis::NEVER`] while the consumer is attached.
    pub held_until: Millis,
    /// Where it is stored.
    pub meta: Meta,
}

/// Why a consumer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// A pull has got what there was, or its time is over.
    PullEnded,
    /// The queue or subscription is gone.
    SourceDeleted,
    /// It was cancelled: it gets nothing more, and holds what it has until that is settled.
    Cancelled,
}

/// A positive answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Nothing to add.
    Done,
    /// A declaration: whether it made or changed something.
    Declared(Declared),
    /// A transaction: where its publishes went, one entry for each in order.
    Committed(Vec<Published>),
    /// Publishes that stood alone: what became of each, in order.
    PublishedEach(Vec<Result<Published, Refusal>>),
    /// A purge or deletion: messages that went.
    Removed(u64),
    /// An extension: the new end of the leases.
    Extended(Millis),
}

/// What a declaration did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declared {
    /// It is new.
    Created,
    /// It was there and is changed.
    Changed,
    /// It was there just so.
    Unchanged,
}

/// Where one publish went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// Of a publish to an address, stretches of messages: which log (partition or priority lane), the first one's offset, how
    /// many. A route may store in many places: it names none.
    pub stretches: SmallVec<[(u16, Offset, u32); 1]>,
    /// Messages not stored because one with their `message-id` was.
    pub duplicates: u32,
    /// Messages that nothing took: no binding matched, and there is no alternate route.
    pub unrouted: u32,
    /// Messages stored by way of a route, each copy counted.
    pub copies: u32,
}

/// Something that an operator should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A queue or subscription will go for want of use.
    IdleSoon {
        /// What.
        kind: Kind,
        /// By that name.
        name: Name,
        /// When.
        at: Millis,
    },
    /// It is gone.
    IdleGone {
        /// What.
        kind: Kind,
        /// By that name.
        name: Name,
    },
    /// A message cannot be dead-lettered now; it stays and is tried again.
    DeadLetterStuck {
        /// From where.
        name: Name,
        /// Why.
        reason: String,
    },
    /// Stored messages cannot be read; nothing behind them is handed out until that is mended, purged or passed by a seek.
    Damaged {
        /// Of what.
        kind: Kind,
        /// By that name.
        name: Name,
        /// Where, and what is wrong.
        detail: String,
    },
    /// Retention removed messages that a subscription had not read.
    Overrun {
        /// The subscription.
        subscription: Name,
        /// Messages it will never see.
        messages: u64,
    },
}
