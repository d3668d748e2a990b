//! The server as a whole: overview, its one node, its name, and whether it is well.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use waystation_base::{MessageId, os};
use waystation_broker::{
    Kind, SessionId, Source,
    command::{Counted, Delete, Settlement},
    spec::{QueueSpec, Spec},
};
use waystation_catalog::GlobalParameter;
use waystation_host::Alarms;

use super::{
    desk::{Desk, NODE, Object, Who},
    failure::Failure,
    gather::{self, Found},
    list::Ask,
    objects::exchange_types,
};

type Answer = Result<Json<Value>, Failure>;

/// The RabbitMQ whose clients and tools find here what they know. Tools read it to tell what they may ask for.
pub(super) const COMPATIBLE: &str = "3.13.7";
/// The global parameter that holds the cluster's name.
const CLUSTER_NAME: &str = "cluster_name";
/// The queue of the aliveness test.
const ALIVENESS: &str = "aliveness-test";

fn cluster_name(desk: &Desk) -> String {
    let kept = desk.catalog.global_parameters().into_iter().find(|it| it.name == CLUSTER_NAME);
    kept.and_then(|it| it.value.as_str().map(str::to_owned)).unwrap_or_else(|| NODE.to_owned())
}

fn listeners(desk: &Desk) -> Value {
    let show = |it: &super::Endpoint| {
        let (address, port) = (it.address.ip().to_string(), it.address.port());
        json!({"node": NODE, "protocol": it.protocol, "ip_address": address, "port": port, "socket_opts": {}})
    };
    desk.endpoints.iter().map(show).collect()
}

pub(super) async fn overview(State(desk): State<Arc<Desk>>, who: Who, ask: Ask) -> Answer {
    let (mut ready, mut held, mut queues) = (0, 0, 0);
    for found in gather::queues(&who.broker, None).await? {
        if !who.sees(&waystation_base::vhost::of(found.name().as_str())) {
            continue;
        }
        queues += 1;
        match found {
            Found::Queue(info) => (ready, held) = (ready + info.ready, held + info.in_flight),
            Found::Stream(info) => {
                ready += info.partitions.iter().map(|it| it.end_offset - it.start_offset).sum::<u64>();
            }
        }
    }
    let exchanges = gather::exchanges(&who.broker, None).await?;
    let seen = exchanges.iter().filter(|it| who.sees(&waystation_base::vhost::of(it.name.as_str()))).count();
    let hosts = desk.catalog.vhosts().iter().filter(|it| who.sees(&it.name)).count();
    let totals = desk.registry.totals();
    let counts = &totals.counts;
    let shown = json!({
        "management_version": COMPATIBLE,
        "rabbitmq_version": COMPATIBLE,
        "product_name": "Waystation",
        "product_version": desk.version,
        "cluster_name": cluster_name(&desk),
        "node": NODE,
        "erlang_version": "",
        "erlang_full_version": "",
        "rates_mode": "none",
        "disable_stats": false,
        "enable_queue_totals": false,
        "sample_retention_policies": {"global": [], "basic": [], "detailed": []},
        "statistics_db_event_queue": 0,
        "exchange_types": exchange_types(),
        "queue_totals": {"messages": ready + held, "messages_ready": ready, "messages_unacknowledged": held},
        "object_totals": {
            "connections": desk.registry.len(),
            "channels": desk.registry.channels().len(),
            "consumers": desk.registry.consumers().len(),
            "exchanges": seen + hosts,
            "queues": queues,
        },
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
        "churn_rates": {
            "connection_created": totals.connections_opened,
            "connection_closed": totals.connections_closed,
            "channel_created": totals.channels_opened,
            "channel_closed": totals.channels_closed,
        },
        "listeners": listeners(&desk),
        "contexts": [],
    });
    Ok(Json(ask.one(shown)))
}

async fn show_node(desk: &Desk, who: &Who) -> Result<Value, Failure> {
    let overview = who.broker.overview().await?;
    let mechanism = |name: &str| json!({"name": name, "description": "", "enabled": true});
    Ok(json!({
        "name": NODE,
        "type": "disc",
        "running": overview.stopped.is_none(),
        "being_drained": false,
        "partitions": [],
        "os_pid": std::process::id().to_string(),
        "uptime": desk.clock.now().since(desk.started),
        "processors": std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        "mem_used": overview.memory_used_bytes,
        "mem_limit": overview.memory_high_bytes,
        "mem_alarm": overview.alarms.memory,
        "disk_free": overview.disk_free_bytes,
        "disk_free_alarm": overview.alarms.disk,
        "rates_mode": "none",
        "exchange_types": exchange_types(),
        "auth_mechanisms": [mechanism("AMQPLAIN"), mechanism("EXTERNAL"), mechanism("PLAIN")],
        "applications": [{"name": "rabbit", "description": "Waystation", "version": COMPATIBLE}],
        "enabled_plugins": ["rabbitmq_management"],
        "contexts": [],
        "config_files": [],
        "log_files": [],
        "cluster_links": [],
        "sockets_used": desk.registry.len(),
    }))
}

pub(super) async fn nodes(State(desk): State<Arc<Desk>>, who: Who, ask: Ask) -> Answer {
    who.require_monitor()?;
    ask.apply(vec![show_node(&desk, &who).await?]).map(Json)
}

pub(super) async fn node(
    State(desk): State<Arc<Desk>>,
    who: Who,
    ask: Ask,
    Path(name): Path<String>,
) -> Answer {
    who.require_monitor()?;
    if name != NODE {
        return Err(Failure::not_found());
    }
    Ok(Json(ask.one(show_node(&desk, &who).await?)))
}

pub(super) async fn name(State(desk): State<Arc<Desk>>, _who: Who) -> Json<Value> {
    Json(json!({"name": cluster_name(&desk)}))
}

pub(super) async fn put_name(
    State(desk): State<Arc<Desk>>,
    who: Who,
    body: Object,
) -> Result<StatusCode, Failure> {
    who.require_administrator()?;
    body.require(&["name"])?;
    let value = body.text("name")?.unwrap_or_default().into();
    desk.catalog.put_global(&who.broker, GlobalParameter { name: CLUSTER_NAME.into(), value }).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn failed(body: Value) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
}

fn well() -> Response {
    Json(json!({"status": "ok"})).into_response()
}

/// Whether publishing is refused, or everything.
async fn alarms(who: &Who) -> Result<Response, Failure> {
    let overview = who.broker.overview().await?;
    let low = |resource: &str| json!({"resource": resource, "node": NODE});
    let alarms = match (overview.stopped, overview.alarms) {
        (Some(why), _) => vec![json!({"resource": "disk", "node": NODE, "reason": why})],
        (None, Alarms { memory, disk }) => {
            memory.then(|| low("memory")).into_iter().chain(disk.then(|| low("disk"))).collect()
        }
    };
    if alarms.is_empty() {
        return Ok(well());
    }
    let reason = "There are alarms in effect in the cluster";
    Ok(failed(json!({"status": "failed", "reason": reason, "alarms": alarms})))
}

pub(super) async fn healthy(who: Who) -> Result<Response, Failure> {
    alarms(&who).await
}

/// The checks without a parameter. There are no mirrors and no other nodes that could be in trouble.
pub(super) async fn check(
    State(desk): State<Arc<Desk>>,
    who: Who,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    match name.as_str() {
        "alarms" | "local-alarms" => alarms(&who).await,
        "virtual-hosts" => {
            who.broker.overview().await?;
            drop(desk);
            Ok(well())
        }
        "node-is-quorum-critical" | "node-is-mirror-sync-critical" => {
            Ok(Json(json!({"status": "ok", "reason": "single node cluster"})).into_response())
        }
        "ready-to-serve-clients" | "is-in-service" | "metadata-store/initialized" => Ok(well()),
        _ => Err(Failure::not_found()),
    }
}

pub(super) async fn port_listener(
    State(desk): State<Arc<Desk>>,
    _who: Who,
    Path(port): Path<String>,
) -> Result<Response, Failure> {
    let port: u16 = port.parse().map_err(|_| Failure::bad_request("invalid_port"))?;
    let ports: Vec<u16> = desk.endpoints.iter().map(|it| it.address.port()).collect();
    Ok(match ports.contains(&port) {
        true => Json(json!({"status": "ok", "port": port})).into_response(),
        false => {
            let reason = "No active listener";
            failed(json!({"status": "failed", "reason": reason, "missing": port, "ports": ports}))
        }
    })
}

pub(super) async fn protocol_listener(
    State(desk): State<Arc<Desk>>,
    _who: Who,
    Path(protocol): Path<String>,
) -> Result<Response, Failure> {
    let known = match protocol.as_str() {
        "amqp091" | "amqp0.9.1" | "amqp" => "amqp",
        "amqps" | "amqp/ssl" | "amqp091/ssl" => "amqp/ssl",
        other => other,
    };
    let protocols: Vec<&str> = desk.endpoints.iter().map(|it| it.protocol).collect();
    Ok(match protocols.contains(&known) {
        true => Json(json!({"status": "ok", "protocol": known})).into_response(),
        false => {
            let reason = "No active listener";
            failed(json!({"status": "failed", "reason": reason, "missing": protocol, "protocols": protocols}))
        }
    })
}

/// Publishes to a queue of its own and consumes from it.
pub(super) async fn aliveness(
    State(desk): State<Arc<Desk>>,
    who: Who,
    Path(host): Path<String>,
) -> Result<Response, Failure> {
    who.enter(&desk, &host)?;
    for action in waystation_access::Action::ALL {
        who.require(action, &host, ALIVENESS)?;
    }
    // A name of its own each time, so that two tests at once do not take each other's message.
    let id = MessageId::new(desk.clock.now(), os::random().map_err(Failure::internal)?);
    let queue = gather::address(&host, &format!("{ALIVENESS}-{id}"))?;
    let session = who.broker.session();
    let spec = QueueSpec { exclusive: true, durable: false, ..QueueSpec::default() };
    who.broker.declare(queue.clone(), Spec::Queue(spec), false, session).await?;
    let result = pass(&who, &queue, id, desk.clock.now(), session).await;
    let delete = Delete {
        kind: Kind::Queue,
        name: queue,
        if_unused: false,
        if_empty: false,
        counted: Counted::All,
        session,
    };
    let deleted = who.broker.delete(delete).await;
    who.broker.close_session(session).await?;
    deleted?;
    match result? {
        true => Ok(well()),
        false => Ok(failed(json!({"status": "failed", "reason": "the message did not come back"}))),
    }
}

async fn pass(
    who: &Who,
    queue: &waystation_base::Name,
    id: MessageId,
    now: waystation_base::Millis,
    session: SessionId,
) -> Result<bool, Failure> {
    let message = waystation_base::Message::new(id, now, bytes::Bytes::from_static(b"test_message"));
    who.broker.publish(queue.clone(), vec![message]).await?;
    let source = Source::Queue(queue.clone());
    let Some(delivery) = who.broker.get_once(source.clone(), session).await? else { return Ok(false) };
    let outcome = waystation_broker::command::Outcome::Accepted;
    let settlement = Settlement { tag: delivery.tag, attempt: delivery.attempt, outcome };
    who.broker.settle(source, vec![settlement]).await?;
    Ok(true)
}

/// How one logs in to the pages that are not here: by name and password.
pub(super) async fn auth() -> Json<Value> {
    Json(json!({"oauth_enabled": false, "enable_uaa": false, "uaa_client_id": "", "uaa_location": ""}))
}

/// A list that is empty here, and always.
pub(super) async fn nothing(_who: Who) -> Json<Value> {
    Json(json!([]))
}
