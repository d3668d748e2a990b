//! Is there room in each virtual host for what a file makes in it?

use std::collections::BTreeMap;

use waystation_admin as admin;
use waystation_base::{Name, vhost};
use waystation_broker::Kind;

use super::{
    file::File,
    plan::Note,
    subjects::{Changes, Subject, Target},
};

/// Queues and topics of a virtual host.
#[derive(Clone, Copy, Default)]
struct Count {
    there: usize,
    made: usize,
    gone: usize,
}

fn is_counted(kind: Kind) -> bool {
    matches!(kind, Kind::Queue | Kind::Topic)
}

fn counts(plan: &admin::Plan, current: &File) -> BTreeMap<String, Count> {
    let mut counts: BTreeMap<String, Count> = BTreeMap::new();
    let mut add = |name: &Name, change: fn(&mut Count)| {
        change(counts.entry(vhost::of(name.as_str())).or_default());
    };
    let names = current.topology.queues.keys().chain(current.topology.topics.keys());
    names.filter(|name| !name.is_reserved()).for_each(|name| add(name, |count| count.there += 1));
    for step in plan.steps.iter().filter(|step| is_counted(step.target.kind)) {
        match step.action {
            admin::Action::Create { .. } => add(&step.target.name, |count| count.made += 1),
            admin::Action::Delete => add(&step.target.name, |count| count.gone += 1),
            _ => {}
        }
    }
    counts
}

/// Virtual hosts that would come to have more than they may. What is there already stays, however much it is.
pub fn lacking(plan: &admin::Plan, changes: &Changes, current: &File, wanted: &File) -> Vec<Note<Target>> {
    let most = |file: &File, host: &String| {
        file.subjects
            .vhosts
            .get(host)
            .map(|spec| spec.limits.max_queues.map_or(usize::MAX, |most| most as usize))
    };
    let note = |(host, count): (String, Count)| {
        let Count { there, made, gone } = count;
        let before = most(current, &host).unwrap_or(usize::MAX);
        let after = most(wanted, &host).unwrap_or(before);
        // A lower limit comes when what is to go has gone.
        let is_lowered = changes.steps.iter().any(|it| it.target.name == host && it.lowers_queues());
        let during = if is_lowered { before } else { after };
        let is_past = made > 0 && (there + made > during || there + made - gone > after);
        let text = format!(
            "it may have {after} queues and topics: with {made} more there would be {}",
            there + made
        );
        is_past.then_some(Note { target: Target { kind: Subject::Vhost, name: host }, text })
    };
    counts(plan, current).into_iter().filter_map(note).collect()
}
