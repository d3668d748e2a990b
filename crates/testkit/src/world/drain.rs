//! The end of a simulation: everything is worked off, and what does not come out is missed.

use waystation_base::{ConsumerId, Millis};
use waystation_broker::{
    Command, PoolId, SessionId, Source,
    command::{Declare, Outcome, Settle, Settlement, Transaction},
    spec::{QueueSpec, Spec},
};

use super::World;
use crate::{
    disk::Faults,
    model::{Rules, State},
};

/// All that drain may hold no more than so many together: room must get around.
const POOL: (PoolId, u32) = (PoolId { session: DRAINERS, number: 0 }, 40);
/// Whom they belong to.
const DRAINERS: SessionId = SessionId(9);
/// Rounds in which everything must have come out: some queue may let go of one message in four of them.
const ROUNDS_MAX: usize = 8000;

impl World {
    /// Works off all that is there.
    pub(super) fn drain(&mut self) {
        self.disk.set_faults(Faults::default());
        let attached: Vec<ConsumerId> = self.ledger.consumers.keys().copied().collect();
        for consumer in attached {
            if self.ledger.is_attached(consumer) {
                self.command(Command::Detach(consumer));
            }
        }
        (1..4).for_each(|session| self.command(Command::CloseSession(SessionId(session))));
        self.clients.holdings.clear();
        if self.random.one_in(3) {
            self.command(Command::Pool(POOL.0, Some(POOL.1)));
        }
        let limits = super::clients::limit_vhost(&mut self.random);
        self.command(limits);
        for round in 0..ROUNDS_MAX {
            self.mend_addresses();
            self.attach_everywhere();
            self.answer(100);
            self.flush();
            self.node.append().expect("the disk is good again");
            self.node.sync().expect("the disk is good again");
            self.release();
            self.accept_all();
            self.check();
            if self.is_drained() {
                self.check_each();
                self.check_journal();
                self.report.stored =
                    self.ledger.outlets.values().map(|outlet| outlet.counters.published).sum();
                return;
            }
            // Time goes on when nothing else does.
            let ms = if round % 4 == 3 { 100 + round as u64 * 5 } else { 0 };
            self.now = self.now.plus(ms);
            self.tick();
        }
        let left = self.ledger.outlets.values().flat_map(|outlet| {
            outlet
                .items
                .iter()
                .filter(|(_, item)| !item.loose)
                .map(move |item| (&outlet.name, &outlet.rules, item))
        });
        let left: Vec<_> = left.take(5).collect();
        panic!("these never came out, it is {}: {left:#?}; loads {:?}", self.now, self.node.loads);
    }

    /// Dead-letter addresses that are missing are made, so that nothing is stuck for want of them.
    fn mend_addresses(&mut self) {
        let wanted = self.ledger.outlets.values().filter_map(|outlet| match &outlet.rules {
            Rules::Queue(spec) => spec.dead_letter.clone(),
            Rules::Subscription(spec) => spec.dead_letter.clone(),
        });
        let missing: Vec<String> =
            wanted.filter(|address| !self.ledger.addresses.contains_key(address.as_str())).collect();
        for address in missing {
            let name = super::specs::name(&address);
            let spec = Spec::Queue(QueueSpec::default());
            self.command(Command::Declare(Declare { name, spec, change: false, session: SessionId(0) }));
        }
    }

    fn attach_everywhere(&mut self) {
        let consumed: Vec<_> = self.ledger.consumers.values().map(|consumer| consumer.entity).collect();
        let free = self.ledger.outlets.iter().filter(|(id, _)| !consumed.contains(id));
        let sources: Vec<(Source, Option<SessionId>)> = free
            .map(|(id, outlet)| {
                let owner = self.ledger.owners.get(id).copied();
                match outlet.queue() {
                    Some(_) => (Source::Queue(outlet.name.clone()), owner),
                    None => (Source::Subscription(outlet.name.clone()), owner),
                }
            })
            .collect();
        for (source, owner) in sources {
            let mut attach = self.clients.attach(&mut self.random, self.now, Some(source));
            attach.session = owner.unwrap_or(DRAINERS);
            attach.pool = owner.is_none().then_some(POOL.0);
            self.command(Command::Attach(attach));
        }
    }

    fn accept_all(&mut self) {
        for holding in std::mem::take(&mut self.clients.holdings) {
            let outcome = Outcome::Accepted;
            let settlement = Settlement { tag: holding.tag, attempt: holding.attempt, outcome };
            let settlements = vec![Settle { source: holding.source, settlements: vec![settlement] }];
            self.command(Command::Transact(Transaction { publishes: Vec::new(), settlements }));
        }
    }

    fn is_drained(&self) -> bool {
        let busy = |state| matches!(state, State::Held { until, .. } if until != Millis::NEVER);
        let outlets = &mut self.ledger.outlets.values();
        outlets.all(|outlet| outlet.items.values().all(|item| item.loose && !busy(item.state)))
            && self.node.loads.is_empty()
            && self.node.answers.is_empty()
    }
}
