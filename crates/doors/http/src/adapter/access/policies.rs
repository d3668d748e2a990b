//! How are policies and operators' policies set, listed, shown and taken away?

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Path, State},
    http::HeaderMap,
    response::Response,
};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};
use waystation_catalog::{ApplyTo, Policy as Kept, Rank};

use super::{PutParams, absent, declared, difference, may_change};
use crate::{
    adapter::{
        extract::{self, Params},
        ok,
    },
    api::{APPLY_TO, Declaration, Declared, List, Policy, PolicySpec, Problem, Removed},
    auth::Caller,
    door::Door,
    failure::{Failure, Kind},
};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct InParams {
    /// Only those of this virtual host.
    vhost: Option<String>,
}

fn show(it: Kept) -> Policy {
    let Kept { vhost, name, pattern, apply_to, definition, priority } = it;
    Policy { vhost, name, pattern, apply_to: apply_to.as_str().to_owned(), definition, priority }
}

/// Operators' policies are for administrators to set; others for policymakers, where they may work.
fn check(caller: &Caller, rank: Rank, vhost: &str) -> Result<(), Failure> {
    match rank {
        Rank::Operator => caller.require_administrator()?,
        Rank::User => caller.require_policymaker()?,
    }
    if caller.0.may_enter(vhost) {
        return Ok(());
    }
    let detail = format!("{} may do nothing in virtual host '{vhost}'", caller.0.describe());
    Err(Failure::new(Kind::Forbidden, detail))
}

fn all(door: &Door, caller: &Caller, rank: Rank, vhost: Option<&str>) -> Vec<Kept> {
    let sees = |host: &str| caller.0.tags().may_monitor() || caller.0.may_enter(host);
    let is_meant = |it: &Kept| vhost.is_none_or(|vhost| it.vhost == vhost) && sees(&it.vhost);
    door.catalog.policies(rank).into_iter().filter(is_meant).collect()
}

fn find(door: &Door, caller: &Caller, rank: Rank, vhost: &str, name: &str) -> Option<Kept> {
    all(door, caller, rank, Some(vhost)).into_iter().find(|it| it.name == name)
}

async fn set(
    door: &Door,
    caller: &Caller,
    rank: Rank,
    (vhost, name): (String, String),
    change: bool,
    spec: PolicySpec,
) -> Result<Response, Failure> {
    check(caller, rank, &vhost)?;
    let PolicySpec { pattern, apply_to, definition, priority } = spec;
    let unknown = || Failure::field("apply_to", format_args!("must be one of {}", APPLY_TO.join(", ")));
    let apply_to = ApplyTo::named(&apply_to).ok_or_else(unknown)?;
    let wanted = Kept { vhost, name, pattern, apply_to, definition, priority };
    waystation_catalog::check_policy(rank, &wanted)?;
    if let Some(have) = find(door, caller, rank, &wanted.vhost, &wanted.name) {
        let differs = difference(&have, &wanted);
        if !may_change(&format!("policy '{}'", wanted.name), differs.as_deref(), change)? {
            return declared(Declared::Unchanged);
        }
    }
    let is_new = door.catalog.put_policy(&caller.broker(&door.broker), rank, wanted).await?;
    declared(if is_new { Declared::Created } else { Declared::Changed })
}

async fn clear(
    door: &Door,
    caller: &Caller,
    rank: Rank,
    (vhost, name): (String, String),
) -> Result<Response, Failure> {
    check(caller, rank, &vhost)?;
    match door.catalog.delete_policy(&caller.broker(&door.broker), rank, &vhost, &name).await? {
        true => ok(&Removed { removed: 1 }),
        false => Err(absent("policy", &name)),
    }
}

/// The routes of one rank, with their descriptions.
macro_rules! policies {
    ($module:ident, $rank:expr, $tag:literal, $one:literal, $all:literal) => {
        mod $module {
            use super::*;

            /// List them, by virtual host and name.
            #[utoipa::path(get, path = $all, tag = "access", operation_id = concat!("list_", $tag), params(InParams),
                responses(
                (status = 200, description = "All of them", body = List<Policy>),
                (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
            ))]
            pub async fn list(
                State(door): State<Arc<Door>>,
                caller: Caller,
                Params(params): Params<InParams>,
            ) -> Result<Response, Failure> {
                let seen = all(&door, &caller, $rank, params.vhost.as_deref());
                ok(&List { items: seen.into_iter().map(show).collect(), next: None })
            }

            /// Show one.
            #[utoipa::path(get, path = $one, tag = "access", operation_id = concat!("show_", $tag),
                params(("vhost" = String, Path), ("name" = String, Path)), responses(
                (status = 200, description = "As it is now", body = Policy),
                (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
            ))]
            pub async fn get(
                State(door): State<Arc<Door>>,
                caller: Caller,
                Path((vhost, name)): Path<(String, String)>,
            ) -> Result<Response, Failure> {
                let found = find(&door, &caller, $rank, &vhost, &name);
                ok(&show(found.ok_or_else(|| absent("policy", &name))?))
            }

            /// Set one, and apply it at once to all that is there and will be; or find that it is set just so.
            #[utoipa::path(put, path = $one, tag = "access", operation_id = concat!("declare_", $tag),
                params(("vhost" = String, Path), ("name" = String, Path), PutParams), request_body = PolicySpec,
                responses(
                (status = 201, description = "Set", body = Declaration),
                (status = 200, description = "Set already, or changed", body = Declaration),
                (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
            ))]
            pub async fn put(
                State(door): State<Arc<Door>>,
                caller: Caller,
                Path(which): Path<(String, String)>,
                Params(params): Params<PutParams>,
                headers: HeaderMap,
                request: Body,
            ) -> Result<Response, Failure> {
                caller.require_policymaker()?;
                let _permit = door.begin_request()?;
                let spec = extract::json_or_defaults(&door, &headers, request).await?;
                set(&door, &caller, $rank, which, params.change, spec).await
            }

            /// Take one away, and what it did.
            #[utoipa::path(delete, path = $one, tag = "access", operation_id = concat!("delete_", $tag),
                params(("vhost" = String, Path), ("name" = String, Path)), responses(
                (status = 200, description = "Gone", body = Removed),
                (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
            ))]
            pub async fn delete(
                State(door): State<Arc<Door>>,
                caller: Caller,
                Path(which): Path<(String, String)>,
            ) -> Result<Response, Failure> {
                let _permit = door.begin_request()?;
                clear(&door, &caller, $rank, which).await
            }
        }
    };
}

policies!(users, Rank::User, "policies", "/v1/policies/{vhost}/{name}", "/v1/policies");
policies!(
    operators,
    Rank::Operator,
    "operator_policies",
    "/v1/operator-policies/{vhost}/{name}",
    "/v1/operator-policies"
);

pub(super) fn routes() -> OpenApiRouter<Arc<Door>> {
    OpenApiRouter::new()
        .routes(routes!(users::list))
        .routes(routes!(users::get, users::put, users::delete))
        .routes(routes!(operators::list))
        .routes(routes!(operators::get, operators::put, operators::delete))
}
