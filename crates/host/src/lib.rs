//! The driver: owns the shard, feeds it commands and time, gives its entries to the journal and carries out its effects once
//! they may be; keeps the tail cache, loads cold messages, settles old journal files and takes snapshots.
//!
//! This crate refuses to know protocols and their sockets.

mod handle;

pub(crate) use handle::Request;
pub use handle::{Broker, Browse, Consumer, Delivery, Event, Overview, Page, Target};

use waystation_base::Name;
use waystation_broker::{
    Kind,
    view::{QueueInfo, SubscriptionInfo, TopicInfo},
};

/// What can be read off between two commands.
pub struct View<'a> {
    _shard: std::marker::PhantomData<&'a ()>,
}

impl View<'_> {
    /// A queue.
    pub fn queue(&self, _name: &Name) -> Option<QueueInfo> {
        None
    }

    /// A topic.
    pub fn topic(&self, _name: &Name) -> Option<TopicInfo> {
        None
    }

    /// A subscription.
    pub fn subscription(&self, _name: &Name) -> Option<SubscriptionInfo> {
        None
    }

    /// Names of a kind after `after`, in order, at most `max`.
    pub fn names(&self, _kind: Kind, _after: Option<&str>, _max: usize) -> Vec<Name> {
        Vec::new()
    }

    /// The whole.
    pub fn overview(&self) -> Overview {
        Overview::default()
    }
}
