//! Is the server alive, is it ready, and how is it?

use std::{sync::Arc, time::Duration};

use axum::{extract::State, response::Response};
use tokio::time::timeout;
use waystation_broker::Refusal;
use waystation_host::Overview;

use super::ok;
use crate::{
    api::{Problem, Status},
    door::Door,
    failure::{Failure, Kind},
};

/// For how long the broker may be silent and still count as ready.
const SILENCE: Duration = Duration::from_secs(5);

/// The process answers.
#[utoipa::path(get, path = "/livez", tag = "server", responses((status = 200, description = "Alive", body = String)))]
pub(super) async fn live() -> &'static str {
    "ok\n"
}

/// The server accepts work.
#[utoipa::path(get, path = "/readyz", tag = "server", responses(
    (status = 200, description = "Ready", body = String),
    (status = 503, description = "Not ready; the problem says why", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn ready(State(door): State<Arc<Door>>) -> Result<String, Failure> {
    if door.drain.has_begun() {
        return Err(Refusal::Draining.into());
    }
    let overview = overview(&door).await?;
    match overview.stopped {
        Some(reason) => Err(Refusal::Stopped(reason).into()),
        // Publishing is refused, but consuming goes on, and consuming is what makes room: traffic must still come.
        None => Ok(match overview.alarms.told() {
            Some(told) => format!("ok, but {told}\n"),
            None => "ok\n".to_owned(),
        }),
    }
}

async fn overview(door: &Door) -> Result<Overview, Failure> {
    let silent =
        |_| Failure::new(Kind::Overloaded, format!("the broker is silent for {} s", SILENCE.as_secs()));
    Ok(timeout(SILENCE, door.broker.overview()).await.map_err(silent)??)
}

/// The server as it is now.
#[utoipa::path(get, path = "/v1/status", tag = "server", responses(
    (status = 200, description = "As it is now", body = Status),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn status(State(door): State<Arc<Door>>) -> Result<Response, Failure> {
    let overview = overview(&door).await?;
    ok(&Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        stopped: overview.stopped,
        draining: door.drain.has_begun(),
        disk_low: overview.alarms.disk,
        memory_low: overview.alarms.memory,
        uptime_s: door.clock.now().since(door.started) / 1000,
        entities: overview.entities,
        connections: door.connections.held() as u64,
        journal_end: overview.journal_end.0,
        journal_durable: overview.journal_durable.0,
        journal_start: overview.journal_start.0,
        settled_bytes: overview.settled_bytes,
        settled_files: overview.settled_files,
        cache_bytes: overview.cache_bytes,
        groups: overview.groups,
        disk_free_bytes: overview.disk_free_bytes,
        memory_used_bytes: overview.memory_used_bytes,
        memory_high_bytes: overview.memory_high_bytes,
    })
}
