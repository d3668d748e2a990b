//! What do all requests share?

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use waystation_access::Access;
use waystation_alerts::Alerts;
use waystation_base::{Clock, Millis};
use waystation_calls::Calls;
use waystation_catalog::Catalog;
use waystation_host::Broker;
use waystation_net::{Drain, Permit, Permits};
use waystation_redrive::Redrives;
use waystation_routes::Routes;
use waystation_webhooks::{Pushes, push::Callbacks};

use crate::{
    Definitions,
    adapter::{kinds::Kinds, tails::Tails},
    failure::{Failure, Kind},
    limits::Limits,
    serve::{Figures, Opened},
    wire::stamp::Stamp,
};

/// Unit in which buffered bytes are counted.
pub(crate) const BUFFER_UNIT: usize = 1024;

/// The door's state. Handlers have it behind an [`Arc`].
pub(crate) struct Door {
    pub broker: Broker,
    pub calls: Calls,
    pub catalog: Catalog,
    pub definitions: Option<Arc<dyn Definitions>>,
    pub limits: Limits,
    pub drain: Drain,
    pub clock: Arc<dyn Clock>,
    pub started: Millis,
    pub connections: Permits,
    pub requests: Permits,
    pub waits: Permits,
    pub buffered: Permits,
    pub counts: Counts,
    pub kinds: Kinds,
    pub tails: Arc<Tails>,
    pub figures: Vec<Figures>,
    pub open: Opened,
    pub pushes: Pushes,
    pub callbacks: Callbacks,
    pub redrives: Redrives,
    pub routes: Routes,
    pub alerts: Alerts,
}

/// What the door counts since it was opened.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Connections accepted.
    pub connections: AtomicU64,
    /// Connections turned away at the bound.
    pub turned_away: AtomicU64,
    /// Requests by class of status: 1xx to 5xx.
    pub answered: [AtomicU64; 5],
    /// Messages stored.
    pub published: AtomicU64,
    /// Messages handed out.
    pub delivered: AtomicU64,
    /// Messages settled.
    pub settled: AtomicU64,
    /// Bytes of request bodies.
    pub received_bytes: AtomicU64,
}

impl Counts {
    pub fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

impl Door {
    pub fn new(
        broker: Broker,
        calls: Calls,
        catalog: Catalog,
        definitions: Option<Arc<dyn Definitions>>,
        limits: Limits,
        drain: Drain,
        clock: Arc<dyn Clock>,
        figures: Vec<Figures>,
        open: Opened,
        pushes: Pushes,
        callbacks: Callbacks,
        redrives: Redrives,
        routes: Routes,
        alerts: Alerts,
    ) -> Door {
        Door {
            started: clock.now(),
            connections: Permits::new(limits.connections_max),
            requests: Permits::new(limits.requests_max),
            waits: Permits::new(limits.waits_max),
            buffered: Permits::new(limits.buffered_bytes_max / BUFFER_UNIT),
            counts: Counts::default(),
            kinds: Kinds::default(),
            tails: Arc::default(),
            broker,
            calls,
            catalog,
            definitions,
            limits,
            drain,
            clock,
            figures,
            open,
            pushes,
            callbacks,
            redrives,
            routes,
            alerts,
        }
    }

    /// Tokens and users.
    pub fn access(&self) -> &Access {
        self.catalog.access()
    }

    /// Stamps the messages of one request.
    pub fn stamp(&self) -> Result<Stamp, Failure> {
        Stamp::new(self.clock.now()).map_err(|error| Failure::internal(format!("no randomness: {error}")))
    }

    /// Room for a request that is over soon.
    pub fn begin_request(&self) -> Result<Permit, Failure> {
        let detail = format!("{} requests are being worked on", self.requests.max());
        self.requests.take().ok_or_else(|| Failure::new(Kind::Busy, detail))
    }

    /// Room for a request that may take as long as it likes. None while the server shuts down.
    pub fn begin_wait(&self) -> Result<Permit, Failure> {
        if self.drain.has_begun() {
            return Err(Failure::new(Kind::Draining, "the server is shutting down"));
        }
        let detail = format!("{} long polls and followers are open", self.waits.max());
        self.waits.take().ok_or_else(|| Failure::new(Kind::Busy, detail))
    }

    /// How long the next part of a body may take.
    pub fn body_time(&self) -> Duration {
        Duration::from_millis(self.limits.body_ms)
    }
}
