//! Does a plan lead to what is wanted, whatever was there; and is any text either a topology or a precise error?

use std::collections::BTreeMap;

use proptest::{collection::btree_map, option, prelude::*};
use waystation_admin::{
    Action, Topology,
    bindings::{Binding, Route},
    document::Format,
    export, plan,
    plan::Plan,
};
use waystation_base::{Name, filter::Filter};
use waystation_broker::{
    Kind,
    command::Destination,
    spec::{
        Mode, Order, Overflow, QueueSpec, RouteKind, RouteSpec, Spec, Start, SubscriptionSpec, TopicSpec,
    },
};

/// Few names, so that topologies meet in them. Queues and topics share theirs only across topologies.
fn name(words: &'static [&'static str]) -> impl Strategy<Value = Name> {
    prop::sample::select(words).prop_map(|word| Name::new(word).expect("a good name"))
}

fn address() -> impl Strategy<Value = String> {
    prop::sample::select(&["a", "b.dead", "c", "t", "u/1"]).prop_map(str::to_owned)
}

fn queue() -> impl Strategy<Value = QueueSpec> {
    let limits = (option::of(1u64..1 << 60), option::of(1u64..9), option::of(1u32..9), 1u64..100_000);
    let rest = (option::of(address()), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (limits, rest).prop_map(
        |((max_messages, ttl_ms, max_attempts, lease_ms), (dead_letter, drop, key, one, auto))| QueueSpec {
            overflow: if drop && max_messages.is_some() {
                Overflow::DropHead
            } else {
                Overflow::RejectPublish
            },
            max_messages,
            ttl_ms,
            max_attempts,
            lease_ms,
            dead_letter,
            order: if key { Order::Key } else { Order::Fifo },
            single_active_consumer: one,
            auto_delete: auto,
            ..QueueSpec::default()
        },
    )
}

fn topic() -> impl Strategy<Value = TopicSpec> {
    (1u32..9, option::of(1u64..1000), any::<bool>()).prop_map(|(partitions, retention_ms, compact)| {
        TopicSpec { partitions, retention_ms, compact, ..TopicSpec::default() }
    })
}

fn start() -> impl Strategy<Value = Start> {
    prop_oneof![
        Just(Start::Latest),
        Just(Start::Earliest),
        (0u64..1 << 60).prop_map(Start::Offset),
        (0u64..1 << 60).prop_map(Start::Time),
    ]
}

fn filter() -> impl Strategy<Value = Filter> {
    let texts = || btree_map("[a-z]{1,4}", ".{0,4}", 1..3);
    let leaf = prop_oneof![texts().prop_map(Filter::Exact), texts().prop_map(Filter::Prefix)];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..3).prop_map(Filter::All),
            inner.prop_map(|part| Filter::Not(Box::new(part))),
        ]
    })
}

fn subscription() -> impl Strategy<Value = SubscriptionSpec> {
    let topics = prop_oneof![address(), Just("orders.*.#".to_owned())];
    (topics, start(), option::of(filter()), option::of(address()), any::<bool>(), any::<bool>()).prop_map(
        |(topic, start, filter, dead_letter, ordered, temporary)| SubscriptionSpec {
            start,
            filter,
            dead_letter,
            mode: if ordered { Mode::Ordered } else { Mode::Competing },
            temporary,
            ..SubscriptionSpec::new(topic)
        },
    )
}

fn binding() -> impl Strategy<Value = Binding> {
    let to = prop_oneof![
        name(&["a", "b.dead", "t"]).prop_map(Destination::Address),
        name(&["a", "r", "amq.topic"]).prop_map(Destination::Route),
    ];
    let arguments = prop_oneof![Just("{}"), Just(r#"{"x-match": "any", "n": 1}"#)];
    (to, "[a-b.#]{0,3}", arguments).prop_map(|(to, key, arguments)| Binding {
        to,
        key,
        arguments: serde_json::from_str(arguments).expect("JSON"),
    })
}

fn route() -> impl Strategy<Value = Route> {
    let bindings = prop::collection::vec(binding(), 0..4);
    (bindings, any::<bool>(), any::<bool>(), option::of(address())).prop_map(
        |(mut bindings, fanout, auto_delete, alternate)| {
            let mut seen = Vec::new();
            bindings.retain(|binding| {
                !seen.contains(binding) && {
                    seen.push(binding.clone());
                    true
                }
            });
            let kind = if fanout { RouteKind::Fanout } else { RouteKind::Topic };
            Route { spec: RouteSpec { auto_delete, alternate, ..RouteSpec::new(kind) }, bindings }
        },
    )
}

fn topology() -> impl Strategy<Value = Topology> {
    let queues = btree_map(name(&["a", "b.dead", "c", "x"]), queue(), 0..4);
    let topics = btree_map(name(&["t", "u/1", "x"]), topic(), 0..3);
    let subscriptions = btree_map(name(&["a", "s", "v"]), subscription(), 0..3);
    let routes = btree_map(name(&["a", "r", "amq.topic"]), route(), 0..3);
    (queues, topics, subscriptions, routes).prop_map(|(queues, mut topics, subscriptions, routes)| {
        topics.retain(|name, _: &mut TopicSpec| !queues.contains_key(name));
        let mut topology = Topology { queues, topics, subscriptions, routes };
        let known = topology.clone();
        let leads_somewhere = |binding: &Binding| match &binding.to {
            Destination::Address(name) => known.address(name.as_str()).is_some(),
            Destination::Route(name) => known.routes.contains_key(name),
        };
        topology.routes.values_mut().for_each(|route| route.bindings.retain(leads_somewhere));
        topology
    })
}

/// Carries a plan out on a copy, as a server would.
fn applied(mut topology: Topology, plan: &Plan) -> Topology {
    for step in &plan.steps {
        match &step.action {
            Action::Create { spec } | Action::Change { spec, .. } => {
                topology.insert(step.target.name.clone(), spec.clone());
            }
            Action::Delete => {
                topology.remove(step.target.kind, &step.target.name);
                let gone = &step.target;
                for route in topology.routes.values_mut().filter(|_| gone.kind != Kind::Subscription) {
                    route.bindings.retain(|binding| {
                        let to_route = matches!(binding.to, Destination::Route(_));
                        *binding.to.name() != gone.name || to_route != (gone.kind == Kind::Route)
                    });
                }
            }
            Action::Bind { binding } => {
                let route =
                    topology.routes.get_mut(&step.target.name).expect("it is there before it is bound");
                assert!(!route.bindings.contains(binding));
                route.bindings.push(binding.clone());
            }
            Action::Unbind { binding } => {
                let route = topology.routes.get_mut(&step.target.name).expect("a route");
                route.bindings.retain(|have| have != binding);
            }
        }
    }
    topology
}

/// The declarations that a plan is answerable for: those in conflict are left as they are.
fn answerable(specs: BTreeMap<(Kind, Name), Spec>, plan: &Plan) -> BTreeMap<(Kind, Name), Spec> {
    let stuck = |kind: Kind, name: &Name| {
        plan.conflicts.iter().any(|note| note.target.kind == kind && note.target.name == *name)
    };
    specs.into_iter().filter(|((kind, name), _)| !stuck(*kind, name)).collect()
}

proptest! {
    #[test]
    fn a_plan_that_is_carried_out_gives_what_is_wanted(current in topology(), wanted in topology()) {
        let plan = plan(&current, &wanted, false);
        let after = applied(current.clone(), &plan).specs();
        for (key, spec) in answerable(wanted.specs(), &plan) {
            prop_assert_eq!(after.get(&key), Some(&spec));
        }
        for (key, spec) in current.specs() {
            prop_assert!(wanted.specs().contains_key(&key) || after.get(&key) == Some(&spec));
        }
    }

    #[test]
    fn pruning_leaves_nothing_else_but_what_belongs_to_sessions(current in topology(), wanted in topology()) {
        let plan = plan(&current, &wanted, true);
        let after = export::governed(&applied(current, &plan)).specs();
        let known = wanted.specs();
        for key in after.keys() {
            prop_assert!(known.contains_key(key), "{:?} is left", key);
        }
    }

    #[test]
    fn a_second_plan_has_nothing_to_do(current in topology(), wanted in topology(), prune: bool) {
        let first = plan(&current, &wanted, prune);
        let second = plan(&applied(current, &first), &wanted, prune);
        // Pruning may have made room for what was in the way.
        prop_assert!(first.conflicts.len() >= second.conflicts.len());
        if first.conflicts.is_empty() {
            prop_assert!(second.is_empty(), "{:?}", second);
        }
    }

    #[test]
    fn what_is_named_comes_before_what_names_it(wanted in topology()) {
        let plan = plan(&Topology::default(), &wanted, false);
        let place = |name: &str| plan.steps.iter().position(|step| {
            matches!(step.target.kind, Kind::Queue | Kind::Topic) && step.target.name.as_str() == name
        });
        for (at, step) in plan.steps.iter().enumerate() {
            let Action::Create { spec: Spec::Subscription(spec) } = &step.action else { continue };
            // Nothing depends on a subscription, so there is no circle to break.
            for named in spec.dead_letter.iter().chain([&spec.topic]) {
                prop_assert!(place(named).is_none_or(|before| before < at));
            }
        }
    }

    #[test]
    fn an_export_reads_back_the_same(topology in topology(), json: bool) {
        let format = if json { Format::Json } else { Format::Toml };
        let text = export::write(&topology, format).expect("written");
        prop_assert_eq!(Topology::read(text.as_bytes()), Ok(topology), "{}", text);
    }

    #[test]
    fn any_bytes_are_a_topology_or_an_error_with_a_place(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Err(error) = Topology::read(&bytes) {
            prop_assert!(error.line >= 1 && error.column >= 1 && !error.message.is_empty());
        }
    }

    #[test]
    fn a_broken_export_is_a_topology_or_an_error_with_a_place(
        topology in topology(), json: bool, at: prop::sample::Index, byte: u8,
    ) {
        let format = if json { Format::Json } else { Format::Toml };
        let mut bytes = export::write(&topology, format).expect("written").into_bytes();
        prop_assume!(!bytes.is_empty());
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Err(error) = Topology::read(&bytes) {
            let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
            prop_assert!((1..=lines + 1).contains(&error.line), "{}", error);
        }
    }
}
