//! How do queues, exchanges, bindings, connections, channels and consumers look as JSON? RabbitMQ's field names. Pure.
//!
//! Rates are not computed: the server says `rates_mode: none`, as a RabbitMQ does that is set so.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};
use waystation_base::vhost;
use waystation_broker::{
    command::Destination,
    spec::{Arguments, BEFORE, RouteSpec, Spec},
    view::{Binding, QueueInfo, RouteInfo, TopicInfo},
};
use waystation_catalog::{Catalog, Effective};

use super::desk::NODE;
use crate::{
    mapping::{QueueType, exchange_type, queue_type},
    registry::{ChannelInfo, ConnectionInfo, ConsumerInfo},
};

/// Arguments without those of our own.
pub(super) fn arguments(arguments: &Arguments) -> Map<String, Value> {
    arguments
        .iter()
        .filter(|(name, _)| *name != BEFORE)
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn merge(into: &mut Value, more: Value) {
    if let (Value::Object(into), Value::Object(more)) = (into, more) {
        into.extend(more);
    }
}

fn policies(effective: Effective) -> Value {
    json!({
        "policy": effective.policy,
        "operator_policy": effective.operator,
        "effective_policy_definition": effective.definition,
    })
}

/// A queue.
pub(super) fn queue(catalog: &Catalog, info: &QueueInfo, consumers: &[ConsumerInfo]) -> Value {
    let (host, name) = vhost::split(info.name.as_str());
    let spec = Spec::Queue(info.spec.clone());
    let kind = queue_type(&spec);
    let counters = &info.counters;
    let mine = || consumers.iter().filter(|it| it.vhost == host && it.queue == name);
    let exclusive = mine().find(|it| it.exclusive).map(|it| it.tag.clone());
    let active = info.active.and_then(|id| mine().find(|it| it.id == id)).map(|it| it.tag.clone());
    let messages = info.ready + info.in_flight + info.delayed;
    let mut shown = json!({
        "name": name,
        "vhost": host,
        "type": kind.as_str(),
        "durable": info.spec.durable,
        "auto_delete": info.spec.auto_delete,
        "exclusive": info.spec.exclusive,
        "arguments": arguments(&info.spec.arguments),
        "node": NODE,
        "state": "running",
        "consumers": info.consumers,
        "consumer_capacity": if info.consumers > 0 { 1 } else { 0 },
        "consumer_utilisation": if info.consumers > 0 { 1 } else { 0 },
        "exclusive_consumer_tag": exclusive,
        "single_active_consumer_tag": active,
        "messages": messages,
        "messages_ready": info.ready,
        "messages_unacknowledged": info.in_flight,
        "messages_delayed": info.delayed,
        "messages_persistent": messages,
        "messages_ram": 0,
        "message_bytes": info.bytes,
        "message_bytes_persistent": info.bytes,
        "message_bytes_ram": 0,
        "head_message_timestamp": info.oldest.filter(|_| info.ready > 0).map(|at| at.0 / 1000),
        "message_stats": {
            "publish": counters.published,
            "deliver_get": counters.delivered,
            "ack": counters.acknowledged,
            "redeliver": counters.redelivered,
        },
    });
    if kind == QueueType::Quorum {
        merge(&mut shown, json!({"leader": NODE, "members": [NODE], "online": [NODE]}));
    }
    merge(&mut shown, policies(catalog.effective(&host, &name, &spec)));
    shown
}

/// A topic, which is a stream.
pub(super) fn stream(catalog: &Catalog, info: &TopicInfo, consumers: &[ConsumerInfo]) -> Value {
    let (host, name) = vhost::split(info.name.as_str());
    let spec = Spec::Topic(info.spec.clone());
    let messages: u64 = info.partitions.iter().map(|it| it.end_offset - it.start_offset).sum();
    let readers = consumers.iter().filter(|it| it.vhost == host && it.queue == name).count();
    let mut arguments = arguments(&info.spec.arguments);
    arguments.entry("x-queue-type").or_insert_with(|| "stream".into());
    let mut shown = json!({
        "name": name,
        "vhost": host,
        "type": "stream",
        "durable": true,
        "auto_delete": false,
        "exclusive": false,
        "arguments": arguments,
        "node": NODE,
        "leader": NODE,
        "members": [NODE],
        "online": [NODE],
        "state": "running",
        "consumers": readers,
        "messages": messages,
        "messages_ready": messages,
        "messages_unacknowledged": 0,
        "message_bytes": info.partitions.iter().map(|it| it.bytes).sum::<u64>(),
        "message_stats": {"publish": info.counters.published},
    });
    merge(&mut shown, policies(catalog.effective(&host, &name, &spec)));
    shown
}

/// An exchange.
pub(super) fn exchange(catalog: &Catalog, info: &RouteInfo) -> Value {
    let (host, name) = vhost::split(info.name.as_str());
    let effective = catalog.effective(&host, &name, &Spec::Route(info.spec.clone()));
    let mut shown = plain_exchange(&host, &name, &info.spec);
    merge(
        &mut shown,
        json!({
            "policy": effective.policy,
            "message_stats": {
                "publish_in": info.published,
                "publish_out": info.published.saturating_sub(info.unrouted),
            },
        }),
    );
    shown
}

/// An exchange without figures.
pub(super) fn plain_exchange(host: &str, name: &str, spec: &RouteSpec) -> Value {
    json!({
        "name": name,
        "vhost": host,
        "type": exchange_type(spec),
        "durable": spec.durable,
        "auto_delete": spec.auto_delete,
        "internal": spec.internal,
        "arguments": arguments(&spec.arguments),
        "user_who_performed_action": "",
    })
}

/// The exchange that is there without being declared.
pub(super) fn default_exchange(host: &str) -> Value {
    plain_exchange(host, "", &RouteSpec::default())
}

/// What a binding is called in paths: its key, and where it has arguments a digest of them.
pub(super) fn properties_key(key: &str, arguments: &Arguments) -> String {
    let quoted = quote(key);
    if arguments.is_empty() {
        return if quoted.is_empty() { "~".to_owned() } else { quoted };
    }
    // The same arguments in another order are the same arguments.
    let mut pairs: Vec<_> = arguments.iter().collect();
    pairs.sort_by_key(|(name, _)| name.as_str());
    let text = serde_json::to_string(&pairs).unwrap_or_default();
    let digest = xxhash_rust::xxh3::xxh3_64(text.as_bytes()) as u32;
    format!("{quoted}~{}", URL_SAFE_NO_PAD.encode(digest.to_be_bytes()))
}

fn quote(key: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let quote = |byte: u8| match byte {
        b' ' => "+".to_owned(),
        byte if plain(byte) => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    key.bytes().map(quote).collect()
}

/// A binding.
pub(super) fn binding(binding: &Binding) -> Value {
    let (host, source) = vhost::split(binding.route.as_str());
    let (kind, name) = match &binding.to {
        Destination::Address(name) => ("queue", name),
        Destination::Route(name) => ("exchange", name),
    };
    json!({
        "source": source,
        "vhost": host,
        "destination": vhost::split(name.as_str()).1,
        "destination_type": kind,
        "routing_key": binding.key,
        "arguments": binding.arguments,
        "properties_key": properties_key(&binding.key, &binding.arguments),
    })
}

/// The binding of a queue to the default exchange, which is there without being made.
pub(super) fn default_binding(host: &str, queue: &str) -> Value {
    json!({
        "source": "",
        "vhost": host,
        "destination": queue,
        "destination_type": "queue",
        "routing_key": queue,
        "arguments": {},
        "properties_key": properties_key(queue, &Arguments::new()),
    })
}

/// A connection.
pub(super) fn connection(info: &ConnectionInfo) -> Value {
    json!({
        "name": info.name,
        "user_provided_name": info.client_name,
        "user": info.user,
        "user_who_performed_action": info.user,
        "vhost": info.vhost,
        "node": NODE,
        "type": "network",
        "protocol": "AMQP 0-9-1",
        "state": info.state,
        "held_up_by": info.held_up_by,
        "ssl": info.tls,
        "auth_mechanism": info.mechanism,
        "host": info.local.ip().to_canonical().to_string(),
        "port": info.local.port(),
        "peer_host": info.peer.ip().to_canonical().to_string(),
        "peer_port": info.peer.port(),
        "connected_at": info.connected_at.0,
        "client_properties": info.client_properties,
        "channel_max": info.channel_max,
        "frame_max": info.frame_max,
        "timeout": info.heartbeat,
        "channels": info.channels,
        "recv_oct": info.received_bytes,
        "send_oct": info.sent_bytes,
        "recv_cnt": info.received_frames,
        "send_cnt": info.writes,
    })
}

/// What a channel, and what is in it, says of its connection.
fn connection_details(name: &str) -> Value {
    let peer = name.split(" -> ").next().unwrap_or_default();
    let (host, port) = peer.rsplit_once(':').unwrap_or((peer, ""));
    json!({"name": name, "peer_host": host, "peer_port": port.parse::<u16>().ok()})
}

/// A channel.
pub(super) fn channel(info: &ChannelInfo) -> Value {
    let counts = &info.counts;
    json!({
        "name": format!("{} ({})", info.connection, info.number),
        "number": info.number,
        "user": info.user,
        "user_who_performed_action": info.user,
        "vhost": info.vhost,
        "node": NODE,
        "state": "running",
        "connection_details": connection_details(&info.connection),
        "confirm": info.confirm,
        "transactional": info.transactional,
        "prefetch_count": info.prefetch,
        "global_prefetch_count": info.prefetch_global,
        "consumer_count": info.consumers,
        "messages_unacknowledged": info.unacknowledged,
        "messages_unconfirmed": info.unconfirmed,
        "messages_uncommitted": 0,
        "acks_uncommitted": 0,
        "message_stats": {
            "publish": counts.published,
            "confirm": counts.confirmed,
            "return_unroutable": counts.returned,
            "deliver": counts.delivered,
            "deliver_no_ack": counts.delivered_no_ack,
            "get": counts.got,
            "get_no_ack": counts.got_no_ack,
            "get_empty": counts.got_empty,
            "deliver_get": counts.delivered + counts.delivered_no_ack + counts.got + counts.got_no_ack,
            "redeliver": counts.redelivered,
            "ack": counts.acknowledged,
        },
    })
}

/// A consumer.
pub(super) fn consumer(info: &ConsumerInfo) -> Value {
    let peer = connection_details(&info.connection);
    json!({
        "consumer_tag": info.tag,
        "queue": {"name": info.queue, "vhost": info.vhost},
        "ack_required": info.ack_required,
        "exclusive": info.exclusive,
        "prefetch_count": info.prefetch,
        "arguments": info.arguments,
        "active": true,
        "activity_status": "up",
        "channel_details": {
            "connection_name": info.connection,
            "name": format!("{} ({})", info.connection, info.channel),
            "number": info.channel,
            "node": NODE,
            "user": info.user,
            "peer_host": peer["peer_host"],
            "peer_port": peer["peer_port"],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(key: &str, arguments: Value, expected: &str) {
        let Value::Object(arguments) = arguments else { panic!("an object") };
        assert_eq!(properties_key(key, &arguments), expected);
    }

    #[test]
    fn a_binding_is_called_by_its_key_and_a_digest_of_its_arguments() {
        check("", json!({}), "~");
        check("q1", json!({}), "q1");
        check("a.*", json!({}), "a.%2A");
        check("a b~c", json!({}), "a+b%7Ec");
        let one = properties_key("a", json!({"x": 1, "y": 2}).as_object().expect("an object"));
        let two = properties_key("a", json!({"y": 2, "x": 1}).as_object().expect("an object"));
        assert_eq!(one, two);
        assert!(one.starts_with("a~") && one.len() == "a~".len() + 6, "{one}");
        check("", json!({"x": 1}), &properties_key("", json!({"x": 1}).as_object().expect("an object")));
    }

    #[test]
    fn a_channel_says_whose_it_is() {
        let details = connection_details("127.0.0.1:5000 -> 127.0.0.1:5672");
        assert_eq!(details["peer_host"], "127.0.0.1");
        assert_eq!(details["peer_port"], 5000);
    }
}
