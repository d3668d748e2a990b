//! How do definitions become what they describe? All of it is read and checked before anything is done; what is there
//! already just so is left alone, so that the same definitions can be imported again.

use std::collections::HashSet;

use futures_util::{StreamExt, stream};
use serde_json::{Map, Value, json};
use waystation_access::{Permission, TopicPermission, UserChange};
use waystation_base::vhost;
use waystation_broker::{
    command::Destination,
    spec::Spec,
    view::{Binding, BindingFilter},
};
use waystation_catalog::{GlobalParameter, Parameter, Policy, Rank, Vhost};

use super::{
    bindings,
    desk::{Desk, Object, Who},
    failure::Failure,
    gather::{self, Found},
    hosts, limits, objects,
    policies::{OPERATOR_COMPONENT, policy_of},
    users,
};

/// Objects of one import.
pub const OBJECTS_MAX: usize = 200_000;
/// Objects that are made at the same time, so that they share a sync.
const AT_ONCE: usize = 64;
/// Mistakes that are told.
const MISTAKES_MAX: usize = 20;

/// One object of the definitions.
enum Thing {
    Vhost(Vhost),
    User(Box<UserChange>),
    Permission(Permission),
    Topic(TopicPermission),
    Parameter(Parameter),
    /// What RabbitMQ limits of a virtual host.
    Limits(String, Map<String, Value>),
    Global(GlobalParameter),
    Policy(Rank, Policy),
    Exchange(String, String, Object),
    Queue(String, String, Object),
    Binding(Edge),
}

/// A binding as definitions write it.
struct Edge {
    host: String,
    source: String,
    sort: &'static str,
    name: String,
    key: String,
    arguments: Map<String, Value>,
}

/// What is to be done about an object.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Act {
    Create,
    Change,
    /// It is there just so.
    Keep,
    /// It is there, otherwise, and stays as it is.
    Differs,
}

/// One object and what is to be done about it.
struct Step {
    thing: Thing,
    label: String,
    act: Act,
}

/// Everything that an import would do.
pub(super) struct Plan {
    steps: Vec<Step>,
}

/// An object that cannot be.
struct Mistake(String);

/// Reads definitions; with a `host` they are those of one virtual host and name none.
pub(super) async fn plan(desk: &Desk, who: &Who, body: &Object, host: Option<&str>) -> Result<Plan, Failure> {
    let mut reader = Reader { desk, host, mistakes: Vec::new(), things: Vec::new() };
    reader.read(body)?;
    reader.check_references();
    let Reader { mistakes, things, .. } = reader;
    refuse(&mistakes)?;
    let mut steps = Vec::with_capacity(things.len());
    for (label, thing) in things {
        let act = act_of(desk, who, &thing).await?;
        steps.push(Step { thing, label, act });
    }
    Ok(Plan { steps })
}

fn refuse(mistakes: &[Mistake]) -> Result<(), Failure> {
    if mistakes.is_empty() {
        return Ok(());
    }
    let told: Vec<&str> = mistakes.iter().take(MISTAKES_MAX).map(|Mistake(text)| text.as_str()).collect();
    let more = if mistakes.len() > MISTAKES_MAX { "; and more" } else { "" };
    let count = mistakes.len();
    Err(Failure::bad_request(format!(
        "nothing was imported, {count} of the objects cannot be: {}{more}",
        told.join("; ")
    )))
}

struct Reader<'a> {
    desk: &'a Desk,
    host: Option<&'a str>,
    mistakes: Vec<Mistake>,
    things: Vec<(String, Thing)>,
}

/// Sections in the order in which they are carried out, and what each holds.
type Read = fn(&Desk, &str, &Object) -> Result<Thing, Failure>;
const SECTIONS: &[(&str, &str, Read)] = &[
    ("vhosts", "vhost", |desk, _, it| Ok(Thing::Vhost(hosts::vhost_of(desk, name(it)?, it)?))),
    ("users", "user", |_, _, it| Ok(Thing::User(Box::new(users::change_of(name(it)?, it)?)))),
    ("permissions", "permission", |_, host, it| {
        Ok(Thing::Permission(users::permission_of(host, text(it, "user")?, it)?))
    }),
    ("topic_permissions", "topic permission", |_, host, it| {
        Ok(Thing::Topic(users::topic_of(host, text(it, "user")?, it)?))
    }),
    ("global_parameters", "global parameter", |_, _, it| {
        let value = it.0.get("value").cloned().unwrap_or_default();
        Ok(Thing::Global(GlobalParameter { name: name(it)?.to_owned(), value }))
    }),
    ("parameters", "parameter", parameter),
    ("policies", "policy", |_, host, it| {
        Ok(Thing::Policy(Rank::User, policy_of(Rank::User, host, name(it)?, it)?))
    }),
    ("exchanges", "exchange", |_, host, it| {
        objects::exchange_of(host, name(it)?, it)?;
        gather::address(host, name(it)?).map_err(|_| Failure::bad_request("its name is too long"))?;
        Ok(Thing::Exchange(host.to_owned(), name(it)?.to_owned(), it.clone()))
    }),
    ("queues", "queue", |_, host, it| {
        objects::queue_of(host, name(it)?, it)?;
        gather::address(host, name(it)?).map_err(|_| Failure::bad_request("its name is too long"))?;
        Ok(Thing::Queue(host.to_owned(), name(it)?.to_owned(), it.clone()))
    }),
    ("bindings", "binding", binding),
];

fn text<'a>(it: &'a Object, member: &str) -> Result<&'a str, Failure> {
    it.text(member)?.ok_or_else(|| Failure::bad_request(format!("[{{key_missing,{member}}}]")))
}

fn name(it: &Object) -> Result<&str, Failure> {
    text(it, "name")
}

fn parameter(_: &Desk, host: &str, it: &Object) -> Result<Thing, Failure> {
    let component = text(it, "component")?;
    if component == OPERATOR_COMPONENT {
        let policy = policy_of(Rank::Operator, host, name(it)?, &Object(it.object("value")?))?;
        return Ok(Thing::Policy(Rank::Operator, policy));
    }
    if component == limits::COMPONENT {
        let value = it.object("value")?;
        drop(limits::set_all_of_vhost(&value)?);
        return Ok(Thing::Limits(host.to_owned(), value));
    }
    let (vhost, component, name) = (host.to_owned(), component.to_owned(), name(it)?.to_owned());
    Ok(Thing::Parameter(Parameter {
        vhost,
        component,
        name,
        value: it.0.get("value").cloned().unwrap_or_default(),
    }))
}

fn binding(_: &Desk, host: &str, it: &Object) -> Result<Thing, Failure> {
    let sort = match text(it, "destination_type")? {
        "queue" => "q",
        "exchange" => "e",
        other => {
            return Err(Failure::bad_request(format!(
                "destination_type '{other}' is neither queue nor exchange"
            )));
        }
    };
    Ok(Thing::Binding(Edge {
        host: host.to_owned(),
        source: text(it, "source")?.to_owned(),
        sort,
        name: text(it, "destination")?.to_owned(),
        key: it.text("routing_key")?.unwrap_or_default().to_owned(),
        arguments: it.object("arguments")?,
    }))
}

/// What a failed check says, in one line.
fn words(failure: &Failure) -> String {
    let text = failure.reason.as_str().map_or_else(|| failure.reason.to_string(), str::to_owned);
    text.replace("\n\n", ": ").trim().to_owned()
}

impl Reader<'_> {
    fn read(&mut self, body: &Object) -> Result<(), Failure> {
        for (section, kind, read) in SECTIONS {
            let items = match body.0.get(*section) {
                None | Some(Value::Null) => continue,
                Some(Value::Array(items)) => items,
                Some(_) => return Err(Failure::bad_request(format!("{section} is no list"))),
            };
            for (at, item) in items.iter().enumerate() {
                self.read_one(section, kind, *read, at, item);
            }
            if self.things.len() > OBJECTS_MAX {
                return Err(Failure::bad_request(format!("an import may have {OBJECTS_MAX} objects")));
            }
        }
        Ok(())
    }

    fn read_one(&mut self, section: &str, kind: &str, read: Read, at: usize, item: &Value) {
        let Value::Object(map) = item else {
            return self.mistakes.push(Mistake(format!("{section}[{at}] is no object")));
        };
        let object = Object(map.clone());
        let of = |member: &str| map.get(member).and_then(Value::as_str);
        let host = self.host.or(of("vhost")).unwrap_or(vhost::DEFAULT).to_owned();
        let called = of("name").or(of("user")).map(str::to_owned);
        let called = called.unwrap_or_else(|| {
            let part = |member: &str| of(member).unwrap_or_default();
            format!("{} -> {} by '{}'", part("source"), part("destination"), part("routing_key"))
        });
        let place = if of("vhost").is_some() || self.host.is_some() {
            format!(" in vhost '{host}'")
        } else {
            String::new()
        };
        let label = format!("{kind} '{called}'{place}");
        match read(self.desk, &host, &object) {
            // These are there in every virtual host, and so is what binds queues to the default exchange.
            Ok(Thing::Exchange(_, name, _)) if name.is_empty() || name.starts_with("amq.") => {}
            Ok(Thing::Binding(edge)) if edge.source.is_empty() => {}
            Ok(thing) => self.things.push((label, thing)),
            Err(failure) => self.mistakes.push(Mistake(format!("{label}: {}", words(&failure)))),
        }
    }

    /// Refuses what names a virtual host or user that is neither there nor among the definitions.
    fn check_references(&mut self) {
        let mut hosts: HashSet<String> = self.desk.catalog.vhosts().into_iter().map(|it| it.name).collect();
        let mut users: HashSet<String> = self.desk.access().users().into_iter().map(|it| it.name).collect();
        for (_, thing) in &self.things {
            match thing {
                Thing::Vhost(it) => drop(hosts.insert(it.name.clone())),
                Thing::User(it) => drop(users.insert(it.name.clone())),
                _ => {}
            }
        }
        for (label, thing) in &self.things {
            let (host, user) = match thing {
                Thing::Vhost(_) | Thing::User(_) | Thing::Global(_) => (None, None),
                Thing::Permission(it) => (Some(&it.vhost), Some(&it.user)),
                Thing::Topic(it) => (Some(&it.vhost), Some(&it.user)),
                Thing::Parameter(it) => (Some(&it.vhost), None),
                Thing::Policy(_, it) => (Some(&it.vhost), None),
                Thing::Exchange(host, ..) | Thing::Queue(host, ..) | Thing::Limits(host, _) => {
                    (Some(host), None)
                }
                Thing::Binding(edge) => (Some(&edge.host), None),
            };
            if let Some(host) = host.filter(|host| !hosts.contains(*host)) {
                self.mistakes.push(Mistake(format!("{label}: vhost '{host}' does not exist")));
            }
            if let Some(user) = user.filter(|user| !users.contains(*user)) {
                self.mistakes.push(Mistake(format!("{label}: user '{user}' does not exist")));
            }
        }
    }
}

/// Compares what is to be with what is there.
fn compare<T: PartialEq>(there: Option<T>, wanted: &T) -> Act {
    match there {
        None => Act::Create,
        Some(there) if there == *wanted => Act::Keep,
        Some(_) => Act::Change,
    }
}

async fn act_of(desk: &Desk, who: &Who, thing: &Thing) -> Result<Act, Failure> {
    let (catalog, access) = (&desk.catalog, desk.access());
    Ok(match thing {
        Thing::Vhost(it) => compare(catalog.vhost(&it.name), it),
        Thing::User(it) if access.user(&it.name).is_none() => Act::Create,
        Thing::User(it) => match access.difference(it).await? {
            None => Act::Keep,
            Some(_) => Act::Change,
        },
        Thing::Permission(it) => {
            let there =
                access.permissions().into_iter().find(|old| old.vhost == it.vhost && old.user == it.user);
            compare(there, it)
        }
        Thing::Topic(it) => {
            let is_it = |old: &TopicPermission| {
                old.vhost == it.vhost && old.user == it.user && old.exchange == it.exchange
            };
            compare(access.topic_permissions().into_iter().find(is_it), it)
        }
        Thing::Parameter(it) => {
            let is_it = |old: &Parameter| {
                old.vhost == it.vhost && old.component == it.component && old.name == it.name
            };
            compare(catalog.parameters().into_iter().find(is_it), it)
        }
        Thing::Limits(host, value) => match catalog.vhost(host) {
            None => Act::Create,
            Some(there) => {
                let mut wanted = there.limits.clone();
                limits::set_all_of_vhost(value)?(&mut wanted);
                compare(Some(there.limits), &wanted)
            }
        },
        Thing::Global(it) => {
            compare(catalog.global_parameters().into_iter().find(|old| old.name == it.name), it)
        }
        Thing::Policy(rank, it) => {
            let there =
                catalog.policies(*rank).into_iter().find(|old| old.vhost == it.vhost && old.name == it.name);
            compare(there, it)
        }
        Thing::Exchange(host, name, body) => match gather::exchange(&who.broker, host, name).await {
            Err(_) => Act::Create,
            Ok(info) => same_or_not(objects::check_exchange(host, name, body, &info.spec)),
        },
        Thing::Queue(host, name, body) => match gather::queue(&who.broker, host, name).await {
            Err(_) => Act::Create,
            Ok(Found::Queue(info)) => {
                same_or_not(objects::check_queue(host, name, body, &Spec::Queue(info.spec)))
            }
            Ok(Found::Stream(info)) => {
                same_or_not(objects::check_queue(host, name, body, &Spec::Topic(info.spec)))
            }
        },
        Thing::Binding(edge) => act_of_binding(who, edge).await?,
    })
}

fn same_or_not(checked: Result<(), Failure>) -> Act {
    if checked.is_ok() { Act::Keep } else { Act::Differs }
}

async fn act_of_binding(who: &Who, edge: &Edge) -> Result<Act, Failure> {
    let Ok(route) = gather::address(&edge.host, &edge.source) else { return Ok(Act::Create) };
    let Ok(name) = gather::address(&edge.host, &edge.name) else { return Ok(Act::Create) };
    let to = if edge.sort == "q" { Destination::Address(name) } else { Destination::Route(name) };
    let made = who.broker.bindings(BindingFilter::To(to)).await?;
    let is_it = |it: &Binding| it.route == route && it.key == edge.key && it.arguments == edge.arguments;
    Ok(if made.iter().any(is_it) { Act::Keep } else { Act::Create })
}

impl Plan {
    /// As JSON: one object for each, and how many of each kind of step.
    pub fn show(&self) -> Value {
        let word = |act: Act| match act {
            Act::Create => "create",
            Act::Change => "change",
            Act::Keep => "keep",
            Act::Differs => "differs",
        };
        let steps: Vec<Value> =
            self.steps.iter().map(|step| json!({"what": step.label, "step": word(step.act)})).collect();
        let count = |act: Act| self.steps.iter().filter(|step| step.act == act).count();
        json!({
            "steps": steps,
            "create": count(Act::Create),
            "change": count(Act::Change),
            "keep": count(Act::Keep),
            "differs": count(Act::Differs),
        })
    }

    /// Does it: in the order of the sections, exchanges, queues and bindings many at a time.
    pub async fn carry_out(self, desk: &Desk, who: &Who) -> Result<(), Failure> {
        let mut mistakes = Vec::new();
        let steps: Vec<Step> =
            self.steps.into_iter().filter(|step| matches!(step.act, Act::Create | Act::Change)).collect();
        let (edges, others): (Vec<_>, Vec<_>) =
            steps.into_iter().partition(|step| matches!(step.thing, Thing::Binding(_)));
        let (things, records): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|step| matches!(step.thing, Thing::Exchange(..) | Thing::Queue(..)));
        for step in records {
            note(&mut mistakes, carry_out(desk, who, step).await);
        }
        for together in [things, edges] {
            let mut done =
                stream::iter(together).map(|step| carry_out(desk, who, step)).buffer_unordered(AT_ONCE);
            while let Some(result) = done.next().await {
                note(&mut mistakes, result);
            }
        }
        if mistakes.is_empty() {
            return Ok(());
        }
        let (told, failures): (Vec<String>, Vec<Failure>) = mistakes.into_iter().unzip();
        let count = told.len();
        let told: Vec<String> = told.into_iter().take(MISTAKES_MAX).collect();
        let reason = format!(
            "{} objects were not imported; import again when that is mended: {}",
            count,
            told.join("; ")
        );
        Err(Failure::of_several(reason, &failures))
    }
}

/// Which object was not imported, in words, and why.
type Unmade = (String, Failure);

fn note(mistakes: &mut Vec<Unmade>, result: Result<(), Unmade>) {
    mistakes.extend(result.err());
}

async fn carry_out(desk: &Desk, who: &Who, step: Step) -> Result<(), Unmade> {
    let Step { thing, label, .. } = step;
    import(desk, who, thing).await.map_err(|failure| (format!("{label}: {}", words(&failure)), failure))
}

async fn import(desk: &Desk, who: &Who, thing: Thing) -> Result<(), Failure> {
    let (catalog, access, broker) = (&desk.catalog, desk.access(), &who.broker);
    match thing {
        Thing::Vhost(it) => {
            catalog.put_vhost(broker, it, Some(who.name())).await?;
        }
        Thing::User(it) => {
            access.put_user_as(broker, &who.caller, *it).await?;
        }
        Thing::Permission(it) => {
            access.put_permission(broker, it).await?;
        }
        Thing::Topic(it) => {
            access.put_topic_permission(broker, it).await?;
        }
        Thing::Parameter(it) => {
            catalog.put_parameter(broker, it).await?;
        }
        Thing::Limits(host, value) => {
            catalog.change_limits(broker, &host, limits::set_all_of_vhost(&value)?).await?;
        }
        Thing::Global(it) => {
            catalog.put_global(broker, it).await?;
        }
        Thing::Policy(rank, it) => {
            catalog.put_policy(broker, rank, it).await?;
        }
        Thing::Exchange(host, name, body) => {
            objects::declare_exchange(who, &host, &name, &body).await?;
        }
        Thing::Queue(host, name, body) => {
            objects::declare_queue(who, &host, &name, &body).await?;
        }
        Thing::Binding(Edge { host, source, sort, name, key, arguments }) => {
            bindings::bind(who, &host, &source, (sort, &name), &key, arguments).await?;
        }
    }
    Ok(())
}
