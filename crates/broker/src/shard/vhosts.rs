//! What a virtual host may have, and how fast and how much of it is handed out at once: over all its queues and subscriptions together.
//!
//! The limits live in memory alone: whoever keeps virtual hosts says them again after a restart. A virtual host without limits is not
//! known here, and what is in it costs nothing. What is handed out goes through one of the [`super::pools`].

use std::collections::BTreeSet;

use waystation_base::{EntityId, Millis, Name, vhost};

use super::{
    Ctx, HashMap, Shard,
    outlet::Outlet,
    pools::{Full, Key},
};
use crate::{
    Kind, Refusal,
    spec::{Spec, VhostLimits},
    view::{HeldBack, VhostInfo},
};

/// A virtual host that has limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VhostId(pub u32);

/// Those that have limits.
#[derive(Debug, Default)]
pub struct Vhosts {
    by_name: HashMap<String, Vhost>,
    /// Ids given so far.
    ids: u32,
}

#[derive(Debug)]
struct Vhost {
    id: VhostId,
    limits: VhostLimits,
    /// Queues and topics in it.
    queues: u64,
}

/// A queue's or subscription's part in its virtual host.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    id: VhostId,
    /// How many messages of it are counted as held.
    counted: u64,
    /// Why the last round of handing out was cut short.
    shut: Option<Full>,
}

impl Vhosts {
    fn of(&self, name: &Name) -> Option<&Vhost> {
        if self.by_name.is_empty() || name.is_reserved() {
            return None;
        }
        self.by_name.get(&vhost::of(name.as_str()))
    }

    fn of_mut(&mut self, name: &Name) -> Option<&mut Vhost> {
        if self.by_name.is_empty() || name.is_reserved() {
            return None;
        }
        self.by_name.get_mut(&vhost::of(name.as_str()))
    }
}

impl Shard {
    /// Sets what a virtual host may have, or that nothing limits it.
    pub(super) fn limit_vhost(
        &mut self,
        host: String,
        limits: VhostLimits,
        ctx: &mut Ctx<'_>,
    ) -> Result<(), Refusal> {
        limits.check()?;
        if limits == VhostLimits::default() {
            self.forget_vhost(&host);
        } else {
            self.set_vhost(host, limits, ctx.now);
        }
        self.follow_pools(ctx);
        Ok(())
    }

    fn set_vhost(&mut self, host: String, limits: VhostLimits, now: Millis) {
        let (id, is_new) = match self.vhosts.by_name.get_mut(&host) {
            Some(known) => {
                known.limits = limits.clone();
                (known.id, false)
            }
            None => {
                self.vhosts.ids += 1;
                let id = VhostId(self.vhosts.ids);
                let queues = self.addresses.keys().filter(|name| is_in(name, &host)).count() as u64;
                self.vhosts.by_name.insert(host.clone(), Vhost { id, limits: limits.clone(), queues });
                (id, true)
            }
        };
        let mut held = 0;
        if is_new {
            let streams = self.subscriptions.iter().filter(|(_, it)| it.outlet.name.is_reserved());
            let streams: BTreeSet<EntityId> = streams
                .filter(|(_, it)| is_in(&home(&it.outlet.name, &it.spec.topic), &host))
                .map(|(id, _)| *id)
                .collect();
            self.each_outlet(|outlet| {
                if is_in(&outlet.name, &host) || streams.contains(&outlet.id) {
                    let counted = outlet.in_hands();
                    held += counted;
                    outlet.member = Some(Member { id, counted, shut: None });
                }
            });
        }
        self.pools.limit(id, (limits.concurrency, limits.rate), held, now);
    }

    fn forget_vhost(&mut self, host: &str) {
        let Some(Vhost { id, .. }) = self.vhosts.by_name.remove(host) else { return };
        self.pools.forget(id);
        self.each_outlet(|outlet| outlet.member = outlet.member.filter(|member| member.id != id));
    }

    fn each_outlet(&mut self, mut change: impl FnMut(&mut Outlet)) {
        self.queues.values_mut().for_each(|queue| change(&mut queue.outlet));
        self.subscriptions.values_mut().for_each(|subscription| change(&mut subscription.outlet));
    }

    /// Whether there is room for something new in its virtual host.
    pub(super) fn check_vhost(&self, name: &Name, spec: &Spec) -> Result<(), Refusal> {
        if !matches!(spec, Spec::Queue(_) | Spec::Topic(_)) {
            return Ok(());
        }
        let Some(Vhost { limits, queues, .. }) = self.vhosts.of(name) else { return Ok(()) };
        match limits.max_queues.filter(|most| *queues >= u64::from(*most)) {
            Some(limit) => Err(Refusal::VhostFull { vhost: vhost::of(name.as_str()), limit }),
            None => Ok(()),
        }
    }

    /// Something new is in its virtual host.
    pub(super) fn join_vhost(&mut self, id: EntityId, name: &Name, kind: Kind) {
        let home = self.subscriptions.get(&id).map_or_else(|| name.clone(), |it| home(name, &it.spec.topic));
        let Some(vhost) = self.vhosts.of_mut(&home) else { return };
        vhost.queues += u64::from(matches!(kind, Kind::Queue | Kind::Topic));
        let member = Member { id: vhost.id, counted: 0, shut: None };
        if let Some(outlet) = self.outlet_mut(id) {
            outlet.member = Some(member);
        }
    }

    /// Something goes from its virtual host, with what is held of it.
    pub(super) fn leave_vhost(&mut self, id: EntityId, now: Millis) {
        if let Some(Member { id, counted, .. }) = self.outlet_mut(id).and_then(|outlet| outlet.member) {
            self.pools.recount(id, counted, 0, now);
        }
        let queue = self.queues.get(&id).map(|queue| &queue.outlet.name);
        let name = queue.or_else(|| self.topics.get(&id).map(|topic| &topic.name)).cloned();
        if let Some(vhost) = name.and_then(|name| self.vhosts.of_mut(&name)) {
            vhost.queues = vhost.queues.saturating_sub(1);
        }
    }

    /// Virtual hosts that have limits as they are now, by name.
    pub fn vhosts(&self, now: Millis) -> Vec<VhostInfo> {
        let each = self.vhosts.by_name.iter().map(|(name, vhost)| {
            let (held, full) = self.pools.look(vhost.id, now);
            VhostInfo {
                name: name.clone(),
                limits: vhost.limits.clone(),
                queues: vhost.queues,
                held,
                held_back: full.map(HeldBack::from),
            }
        });
        let mut all: Vec<VhostInfo> = each.collect();
        all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        all
    }
}

/// Where a subscription belongs: one of ours reads a topic for somebody of the topic's virtual host.
fn home(name: &Name, topic: &str) -> Name {
    let topic = || Name::new(topic).ok();
    name.is_reserved().then(topic).flatten().unwrap_or_else(|| name.clone())
}

fn is_in(name: &Name, host: &str) -> bool {
    !name.is_reserved() && vhost::of(name.as_str()) == host
}

impl From<Full> for HeldBack {
    fn from(full: Full) -> HeldBack {
        match full {
            Full::Held => HeldBack::VhostConcurrency,
            Full::Rate(_) => HeldBack::VhostRate,
        }
    }
}

impl Outlet {
    /// Messages in consumers' hands.
    pub fn in_hands(&self) -> u64 {
        self.in_flight().saturating_sub(self.dying as u64)
    }

    /// A round of handing out begins: what was let go since the last one makes room in the virtual host.
    pub fn begin_in_vhost(&mut self, ctx: &mut Ctx<'_>) {
        let Some(member) = self.member else { return };
        let counted = self.in_hands();
        ctx.pools.recount(member.id, member.counted, counted, ctx.now);
        self.member = Some(Member { counted, shut: None, ..member });
    }

    /// Whether the virtual host lets one more message go; if not, its turn comes.
    pub fn is_admitted(&mut self, ctx: &mut Ctx<'_>) -> bool {
        let place = (self.kind, self.id);
        let Some(member) = &mut self.member else { return true };
        let admitted = ctx.pools.admits(Some(member.id), place, ctx.now);
        member.shut = admitted.err();
        admitted.is_ok()
    }

    /// Notes in the virtual host that a message is handed out; `holds`: it will be held.
    pub fn note_in_vhost(&mut self, holds: bool, ctx: &mut Ctx<'_>) {
        let place = (self.kind, self.id);
        if let Some(member) = &mut self.member {
            member.counted += u64::from(holds);
            ctx.pools.take(Key::from(member.id), place, holds, ctx.now);
        }
    }

    /// Whether there may be a turn of its virtual host to wait for.
    pub fn takes_turns(&self) -> bool {
        self.member.is_some()
    }

    /// Why the virtual host holds messages back, if it does.
    pub fn shut_by_vhost(&self) -> Option<HeldBack> {
        self.member?.shut.map(HeldBack::from)
    }
}
