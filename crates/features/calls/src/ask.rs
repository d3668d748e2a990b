//! What can be asked of the engine?

use bytes::Bytes;
use smol_str::SmolStr;
use tokio::sync::{oneshot, watch};
use waystation_base::{Millis, Name, Offset, Value};
use waystation_broker::effect::Declared;
use waystation_host::{Broker, Delivery};

use crate::{Answer, CallId, Error, Fault, Held, Key, Operation, Progress, ReplyTo, State};

/// A call to be started.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// Its id.
    pub id: CallId,
    /// When it came.
    pub now: Millis,
    /// Who calls.
    pub caller: Option<String>,
    /// The request's body.
    pub body: Bytes,
    /// The message headers that the worker is to see, besides what a call adds.
    pub headers: Vec<(SmolStr, Value)>,
    /// What orders and partitions go by.
    pub key: Option<Bytes>,
    /// 0 (least) to 255 (first).
    pub priority: u8,
    /// The idempotency key.
    pub idempotency: Option<Key>,
    /// Where the outcome goes, instead of where the operation says.
    pub callback: Option<String>,
    /// Milliseconds until it expires, instead of the operation's; no longer than that.
    pub timeout_ms: Option<u64>,
    /// The caller's own correlation id.
    pub correlation_id: Option<String>,
    /// Where the outcome goes as a message.
    pub reply: Option<ReplyTo>,
}

/// A call was started, or found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started {
    /// Its id.
    pub id: CallId,
    /// It was started by an earlier request with the same idempotency key.
    pub is_replay: bool,
}

/// A call as the engine has it in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Its id.
    pub id: CallId,
    /// What was called.
    pub operation: Name,
    /// Where it stands.
    pub state: State,
    /// How many steps it has taken.
    pub version: u32,
    /// How often a worker has begun.
    pub attempt: u32,
    /// When it expires, or when it is forgotten.
    pub due: Millis,
    /// What the present worker holds.
    pub held: Option<Held>,
    /// Calls of the operation that wait and were accepted before it, and itself; none if it does not wait, or past the bound.
    pub place: Option<u64>,
    /// Where its record is.
    pub offset: Offset,
    /// It was tried anew by another call.
    pub is_retried: bool,
}

/// Which calls to list.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this operation only.
    pub operation: Option<Name>,
    /// In this state only.
    pub state: Option<State>,
    /// With this correlation id of their callers' only.
    pub correlation_id: Option<String>,
    /// Only those that were tried anew by another call, or only those that were not.
    pub is_retried: Option<bool>,
    /// Older than this one.
    pub before: Option<CallId>,
    /// Most calls.
    pub max: usize,
}

/// A page of calls, newest first.
#[derive(Clone, Debug, Default)]
pub struct ListPage {
    /// The calls.
    pub calls: Vec<Seen>,
    /// Where to go on ([`Filter::before`]); none at the end. A page may be short and there still be more.
    pub next: Option<CallId>,
}

/// A step that a call is to take.
#[derive(Clone, Debug)]
pub enum Change {
    /// A worker has received it.
    Begin {
        /// The message that it holds.
        held: Held,
        /// From this queue.
        queue: Name,
    },
    /// A worker is so far.
    Progress {
        /// Under which attempt; none: whichever.
        attempt: Option<u32>,
        /// How far.
        progress: Progress,
    },
    /// A worker is done.
    Complete {
        /// Under which attempt; none: whichever.
        attempt: Option<u32>,
        /// With this.
        answer: Answer,
    },
    /// A worker has failed.
    Fail {
        /// Under which attempt; none: whichever.
        attempt: Option<u32>,
        /// Why, in its words.
        error: String,
        /// Whether trying again may help.
        retry: bool,
        /// Milliseconds to wait before.
        delay_ms: u64,
    },
    /// A worker of this server has made an attempt at it, whether or not it said that it began.
    Attempted {
        /// The message that it holds.
        held: Held,
        /// From this queue.
        queue: Name,
        /// What came of it.
        end: AttemptEnd,
    },
    /// Nobody wants it any more.
    Cancel,
    /// Its time is over.
    Expire,
    /// Its retention is over.
    Forget,
    /// A message came on the reply queue.
    Reply(Box<Delivery>),
    /// It ended badly and its request is to be tried anew, by a call of its own.
    Retry(RetryAs),
}

/// The call that tries another one's request anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryAs {
    /// The new call's id.
    pub id: CallId,
    /// When this was asked for.
    pub now: Millis,
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptEnd {
    /// A result.
    Answered(Answer),
    /// Nothing, and trying again may help.
    Again {
        /// Why.
        error: String,
        /// Milliseconds to wait before.
        delay_ms: u64,
    },
    /// Nothing, for good.
    Broken(Fault),
}

/// What a change did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Where the call stands now.
    pub state: State,
    /// Where it stood before.
    pub before: State,
    /// How often a worker has begun.
    pub attempt: u32,
    /// The call that tries its request anew, if that was asked for.
    pub retried_as: Option<Started>,
}

/// What a cancellation came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancelled {
    /// Whether this cancelled it.
    pub is_cancelled: bool,
    /// Where the call stands now.
    pub state: State,
    /// Where it stood before.
    pub before: State,
}

/// What became of a call that a worker received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Began {
    /// It is the worker's, under this attempt.
    Yours(u32),
    /// It has its outcome already; the message is gone.
    Closed,
}

pub(crate) type Answering<T> = oneshot::Sender<Result<T, Error>>;

/// What a handle sends to the engine.
pub(crate) enum Ask {
    TryDeclare {
        name: Name,
        operation: Box<Operation>,
        change: bool,
        reply: Answering<Declared>,
    },
    Declare {
        broker: Broker,
        name: Name,
        operation: Box<Operation>,
        change: bool,
        reply: Answering<Declared>,
    },
    Remove {
        broker: Broker,
        name: Name,
        reply: Answering<()>,
    },
    Start {
        operation: Name,
        start: Box<Start>,
        reply: Answering<Started>,
    },
    See {
        id: CallId,
        reply: Answering<Seen>,
    },
    Watch {
        id: CallId,
        reply: Answering<watch::Receiver<u32>>,
    },
    Attend {
        id: CallId,
        reply: Answering<(Seen, watch::Receiver<u32>)>,
    },
    List {
        filter: Filter,
        reply: Answering<ListPage>,
    },
    Change {
        id: CallId,
        change: Change,
        reply: Option<Answering<Changed>>,
    },
}
