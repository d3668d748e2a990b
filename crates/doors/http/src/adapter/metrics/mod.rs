//! What does Prometheus see? Names and meanings stand in `docs/metrics.md`.

mod limits;
mod parts;
mod tables;
mod text;

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};

use self::{
    limits::{of_users, of_vhosts},
    parts::{of_pushes, of_routes, of_the_door, of_the_server},
    tables::{NAMED_MAX, QUEUES, SUBSCRIPTIONS, TOPICS, rows},
    text::{Text, open_metrics, without_exemplars},
};
pub use limits::Open;

use crate::{api::Problem, auth::Caller, door::Door, failure::Failure};

const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether a scraper takes OpenMetrics; Prometheus names it first.
fn takes_open_metrics(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .any(|accept| accept.to_str().is_ok_and(|accept| accept.contains("application/openmetrics-text")))
}

/// Figures in Prometheus' text format, or as OpenMetrics with examples of traces if that is asked for.
#[utoipa::path(get, path = "/metrics", tag = "server", responses(
    (status = 200, description = "Figures", body = String, content_type = "text/plain"),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn metrics(
    State(door): State<Arc<Door>>,
    headers: HeaderMap,
    _caller: Caller,
) -> Result<Response, Failure> {
    let mut text = Text::default();
    of_the_door(&mut text, &door);
    of_the_server(&mut text, &door, &door.broker.overview().await?);
    for table in [QUEUES, TOPICS, SUBSCRIPTIONS] {
        let rows = rows(&door, &table).await?;
        text.table(&table, &rows);
    }
    let open = (door.open)();
    of_vhosts(&mut text, door.broker.query(|view| view.vhosts()).await?, &open);
    of_users(&mut text, door.access().users(), &open);
    of_pushes(&mut text, &door.pushes.figures(NAMED_MAX).await);
    of_routes(&mut text, &door.routes.figures(NAMED_MAX).await);
    door.figures.iter().for_each(|figures| text.0 += &figures());
    let (format, text) = match takes_open_metrics(&headers) {
        true => (OPEN_FORMAT, open_metrics(&text.0)),
        false => (FORMAT, without_exemplars(&text.0)),
    };
    Ok(([(header::CONTENT_TYPE, format)], text).into_response())
}

#[cfg(test)]
mod tests {
    use super::{
        limits::{USERS, VHOSTS},
        parts::{PUSHES, ROUTES},
        tables::COUNTERS,
        *,
    };

    #[test]
    fn every_figure_is_documented() {
        let documented = include_str!("../../../../../../docs/metrics.md");
        for table in [QUEUES, TOPICS, SUBSCRIPTIONS] {
            for (name, _, _) in table.columns {
                let name = format!("`waystation_{}_{name}`", table.label);
                assert!(documented.contains(&name), "{name}");
            }
        }
        for kind in ["queue", "subscription"] {
            assert!(documented.contains(&format!("`waystation_{kind}_wait_seconds`")), "{kind}");
        }
        for (name, ..) in PUSHES {
            assert!(documented.contains(&format!("`waystation_{name}`")), "{name}");
        }
        for (name, ..) in ROUTES {
            assert!(documented.contains(&format!("`waystation_{name}`")), "{name}");
        }
        for name in VHOSTS.map(|(name, ..)| name).into_iter().chain(USERS.map(|(name, ..)| name)) {
            assert!(documented.contains(&format!("`waystation_{name}`")), "{name}");
        }
        for (name, _) in COUNTERS {
            assert!(documented.contains(&format!("`{name}`")), "{name}");
        }
    }
}
