//! How are queues, streams and exchanges collected, a page at a time so that others get their turn between?

use waystation_base::{Name, vhost};
use waystation_broker::{
    Kind,
    view::{QueueInfo, RouteInfo, TopicInfo},
};
use waystation_host::{Broker, View};

use super::failure::Failure;

/// Names looked at in one go.
const PAGE: usize = 500;

/// A queue or a stream: both are queues to AMQP.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "it lives for one request, and most are queues")]
pub(super) enum Found {
    Queue(QueueInfo),
    Stream(TopicInfo),
}

impl Found {
    pub fn name(&self) -> &Name {
        match self {
            Found::Queue(info) => &info.name,
            Found::Stream(info) => &info.name,
        }
    }
}

/// Everything of a kind in one virtual host, or in all.
async fn collect<T: Send + 'static>(
    broker: &Broker,
    kind: Kind,
    host: Option<&str>,
    look: fn(&View<'_>, &Name) -> Option<T>,
) -> Result<Vec<T>, Failure> {
    let mut found = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let (host, from) = (host.map(str::to_owned), after.take());
        let (page, last) = broker
            .query(move |view| {
                let names = view.names(kind, from.as_deref(), PAGE);
                let last = (names.len() == PAGE).then(|| names.last().map(Name::to_string)).flatten();
                let wanted = |name: &&Name| {
                    !name.is_reserved() && host.as_deref().is_none_or(|host| vhost::of(name.as_str()) == host)
                };
                (names.iter().filter(wanted).filter_map(|name| look(view, name)).collect::<Vec<_>>(), last)
            })
            .await?;
        found.extend(page);
        match last {
            Some(last) => after = Some(last),
            None => return Ok(found),
        }
    }
}

/// Queues and streams, by virtual host and name.
pub(super) async fn queues(broker: &Broker, host: Option<&str>) -> Result<Vec<Found>, Failure> {
    let queues = collect(broker, Kind::Queue, host, |view, name| view.queue(name).map(Found::Queue)).await?;
    let streams =
        collect(broker, Kind::Topic, host, |view, name| view.topic(name).map(Found::Stream)).await?;
    let mut all: Vec<Found> = queues.into_iter().chain(streams).collect();
    all.sort_by_cached_key(|found| vhost::split(found.name().as_str()));
    Ok(all)
}

/// Exchanges but the default one, by virtual host and name.
pub(super) async fn exchanges(broker: &Broker, host: Option<&str>) -> Result<Vec<RouteInfo>, Failure> {
    let mut all = collect(broker, Kind::Route, host, |view, name| view.route(name)).await?;
    all.sort_by_cached_key(|info| vhost::split(info.name.as_str()));
    Ok(all)
}

/// One queue or stream by its AMQP name.
pub(super) async fn queue(broker: &Broker, host: &str, name: &str) -> Result<Found, Failure> {
    let name = address(host, name)?;
    let found = broker
        .query(move |view| {
            view.queue(&name).map(Found::Queue).or_else(|| view.topic(&name).map(Found::Stream))
        })
        .await?;
    found.ok_or_else(Failure::not_found)
}

/// One exchange by its AMQP name.
pub(super) async fn exchange(broker: &Broker, host: &str, name: &str) -> Result<RouteInfo, Failure> {
    let name = address(host, name)?;
    let found = broker.query(move |view| view.route(&name)).await?;
    found.ok_or_else(Failure::not_found)
}

/// Our name of an AMQP name. What cannot be a name is not there either.
pub(super) fn address(host: &str, name: &str) -> Result<Name, Failure> {
    crate::mapping::names::name(host, name).map_err(|_| Failure::not_found())
}
