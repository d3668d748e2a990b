//! What do all connections share?

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use waystation_base::Clock;
use waystation_host::{Alarms, Broker};
use waystation_net::{Drain, Permits};

use super::replies::Replies;
use crate::{Limits, Registry, directory::Directory, registry::Order};

/// What there is too little of, as far as the door knows.
#[derive(Debug, Default)]
pub(super) struct Low {
    disk: AtomicBool,
    memory: AtomicBool,
}

impl Low {
    pub fn get(&self) -> Alarms {
        Alarms { disk: self.disk.load(Ordering::Relaxed), memory: self.memory.load(Ordering::Relaxed) }
    }

    fn swap(&self, alarms: Alarms) -> Alarms {
        Alarms {
            disk: self.disk.swap(alarms.disk, Ordering::Relaxed),
            memory: self.memory.swap(alarms.memory, Ordering::Relaxed),
        }
    }
}

/// Why publishing is refused, as RabbitMQ's clients hear it: with both alarms on it joins them so.
fn reason(alarms: Alarms) -> Option<&'static str> {
    match (alarms.memory, alarms.disk) {
        (false, false) => None,
        (false, true) => Some("low on disk"),
        (true, false) => Some("low on memory"),
        (true, true) => Some("low on memory & disk"),
    }
}

/// The door's state.
pub(super) struct Door {
    pub broker: Broker,
    pub directory: Arc<dyn Directory>,
    pub registry: Arc<Registry>,
    pub limits: Limits,
    pub clock: Arc<dyn Clock>,
    pub drain: Drain,
    pub connections: Permits,
    pub replies: Replies,
    pub low: Low,
    /// Virtual hosts whose standing exchanges are there.
    pub vhosts: Mutex<Vec<String>>,
}

impl Door {
    /// Looks whether publishing is refused.
    pub async fn look_for_room(&self) {
        if let Ok(overview) = self.broker.overview().await {
            self.set_low(overview.alarms);
        }
    }

    /// Notes what there is too little of, and tells all connections when that changes.
    pub fn set_low(&self, alarms: Alarms) {
        if self.low.swap(alarms) != alarms {
            self.registry.order_all(&Order::Blocked(reason(alarms)));
        }
    }

    /// Why publishing is refused, if it is.
    pub fn blocked_by(&self) -> Option<&'static str> {
        reason(self.low.get())
    }

    pub fn is_blocked(&self) -> bool {
        self.low.get().any()
    }

    /// Whether the standing exchanges of a virtual host are known to be there.
    pub fn knows_vhost(&self, vhost: &str) -> bool {
        self.vhosts.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|known| known == vhost)
    }

    pub fn note_vhost(&self, vhost: &str) {
        let mut vhosts = self.vhosts.lock().unwrap_or_else(PoisonError::into_inner);
        if !vhosts.iter().any(|known| known == vhost) {
            vhosts.push(vhost.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_names_all_that_is_low() {
        let check = |memory, disk, expected| assert_eq!(reason(Alarms { memory, disk }), expected);
        check(false, false, None);
        check(false, true, Some("low on disk"));
        check(true, false, Some("low on memory"));
        check(true, true, Some("low on memory & disk"));
    }
}
