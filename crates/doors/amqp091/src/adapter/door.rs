//! What do all connections share?

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use waystation_base::Clock;
use waystation_host::Broker;
use waystation_net::{Drain, Permits};

use super::replies::Replies;
use crate::{Limits, Registry, directory::Directory, registry::Order};

/// Why publishing is held up, as RabbitMQ's clients hear it.
pub(super) const LOW_ON_DISK: &str = "low on disk";

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
    pub is_blocked: AtomicBool,
    /// Virtual hosts whose standing exchanges are there.
    pub vhosts: Mutex<Vec<String>>,
}

impl Door {
    /// Looks whether publishing is refused for want of disk space.
    pub async fn look_at_disk(&self) {
        if let Ok(overview) = self.broker.overview().await {
            self.set_blocked(overview.disk_low);
        }
    }

    /// Notes whether publishing is refused, and tells all connections when that changes.
    pub fn set_blocked(&self, is_blocked: bool) {
        if self.is_blocked.swap(is_blocked, Ordering::Relaxed) != is_blocked {
            let reason = is_blocked.then(|| LOW_ON_DISK.to_owned());
            self.registry.order_all(&Order::Blocked(reason));
        }
    }

    pub fn is_blocked(&self) -> bool {
        self.is_blocked.load(Ordering::Relaxed)
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
