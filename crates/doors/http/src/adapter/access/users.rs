//! How are users made, listed, shown, changed and removed?

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Path, State},
    http::HeaderMap,
    response::Response,
};
use utoipa_axum::{router::OpenApiRouter, routes};
use waystation_access::{
    Algorithm, Credential, LimitsChange, Tags, User as Kept, UserChange as Change, UserLimits as Limits,
};

use super::{PageParams, PutParams, absent, declared, may_change, page};
use crate::{
    adapter::{
        extract::{self, Params},
        ok,
    },
    api::{
        Declaration, Declared, List, Problem, Removed, User, UserChange, UserLimits, UserLimitsChange,
        UserSpec,
    },
    auth::Caller,
    door::Door,
    failure::Failure,
};

fn show(user: &Kept) -> User {
    User {
        name: user.name.clone(),
        tags: user.tags.0.clone(),
        has_password: !user.password_hash.is_empty() || user.name == waystation_access::GUEST,
        limits: user.limits.into(),
    }
}

impl From<Limits> for UserLimits {
    fn from(Limits { max_connections, max_channels }: Limits) -> UserLimits {
        UserLimits { max_connections, max_channels }
    }
}

impl From<UserLimitsChange> for LimitsChange {
    fn from(UserLimitsChange { max_connections, max_channels }: UserLimitsChange) -> LimitsChange {
        LimitsChange { max_connections, max_channels }
    }
}

/// What a password or a hash of one becomes; `none` is what neither means.
fn credential(
    password: Option<Option<String>>,
    hash: Option<String>,
    algorithm: Option<&str>,
    none: Credential,
) -> Result<Credential, Failure> {
    let named = |name| {
        let unknown = || Failure::field("hashing_algorithm", format_args!("'{name}' is not known"));
        Algorithm::named(name).ok_or_else(unknown)
    };
    match (password, hash) {
        (Some(_), Some(_)) => Err(Failure::field("password_hash", "is given besides password")),
        (Some(Some(password)), None) => Ok(Credential::Password(password)),
        (Some(None), None) => Ok(Credential::Nothing),
        (None, Some(hash)) => {
            Ok(Credential::Hash(algorithm.map(named).transpose()?.unwrap_or_default(), hash))
        }
        (None, None) => Ok(none),
    }
}

/// List users, in order of names.
#[utoipa::path(get, path = "/v1/users", tag = "access", operation_id = "list_users", params(PageParams), responses(
    (status = 200, description = "A page", body = List<User>),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn list(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Params(params): Params<PageParams>,
) -> Result<Response, Failure> {
    caller.require_administrator()?;
    let all = door.access().users();
    ok(&page(all.iter().map(show), |user| &user.name, &params)?)
}

/// Show a user.
#[utoipa::path(get, path = "/v1/users/{name}", tag = "access", operation_id = "show_user",
    params(("name" = String, Path)), responses(
    (status = 200, description = "As it is now", body = User),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn get(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    caller.require_administrator()?;
    ok(&show(&door.access().user(&name).ok_or_else(|| absent("user", &name))?))
}

/// Make a user, or find that it is there just so.
#[utoipa::path(put, path = "/v1/users/{name}", tag = "access", operation_id = "declare_user",
    params(("name" = String, Path), PutParams), request_body = UserSpec, responses(
    (status = 201, description = "Created", body = Declaration),
    (status = 200, description = "There already, or changed", body = Declaration),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn put(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Path(name): Path<String>,
    Params(params): Params<PutParams>,
    headers: HeaderMap,
    request: Body,
) -> Result<Response, Failure> {
    caller.require_administrator()?;
    let _permit = door.begin_request()?;
    let spec: UserSpec = extract::json_or_defaults(&door, &headers, request).await?;
    let UserSpec { password, password_hash, hashing_algorithm, tags, limits } = spec;
    let credential =
        credential(password.map(Some), password_hash, hashing_algorithm.as_deref(), Credential::Nothing)?;
    let limits = limits.map(UserLimitsChange::from).map(LimitsChange::from).unwrap_or_default();
    let change = Change { name, credential, tags: Some(Tags(tags)), limits };
    change.check()?;
    if door.access().user(&change.name).is_some() {
        let differs = door.access().difference(&change).await?;
        if !may_change(&format!("user '{}'", change.name), differs, params.change)? {
            return declared(Declared::Unchanged);
        }
    }
    let is_new = door.access().put_user_as(&caller.broker(&door.broker), &caller.0, change).await?;
    declared(if is_new { Declared::Created } else { Declared::Changed })
}

/// Change what is given of a user.
#[utoipa::path(patch, path = "/v1/users/{name}", tag = "access", operation_id = "change_user",
    params(("name" = String, Path)), request_body = UserChange, responses(
    (status = 200, description = "Changed", body = Declaration),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn patch(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Path(name): Path<String>,
    headers: HeaderMap,
    request: Body,
) -> Result<Response, Failure> {
    caller.require_administrator()?;
    let _permit = door.begin_request()?;
    let change: UserChange = extract::json_or_defaults(&door, &headers, request).await?;
    door.access().user(&name).ok_or_else(|| absent("user", &name))?;
    let UserChange { password, password_hash, hashing_algorithm, tags, limits } = change;
    let credential = credential(password, password_hash, hashing_algorithm.as_deref(), Credential::Keep)?;
    let limits = limits.map(LimitsChange::from).unwrap_or_default();
    let change = Change { name, credential, tags: tags.map(Tags), limits };
    if door.access().difference(&change).await?.is_none() {
        return declared(Declared::Unchanged);
    }
    door.access().put_user_as(&caller.broker(&door.broker), &caller.0, change).await?;
    declared(Declared::Changed)
}

/// Delete a user with its permissions; its connections end.
#[utoipa::path(delete, path = "/v1/users/{name}", tag = "access", operation_id = "delete_user",
    params(("name" = String, Path)), responses(
    (status = 200, description = "Deleted", body = Removed),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn delete(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    caller.require_administrator()?;
    let _permit = door.begin_request()?;
    door.access().delete_users(&caller.broker(&door.broker), &[&name]).await?;
    ok(&Removed { removed: 1 })
}

pub(super) fn routes() -> OpenApiRouter<Arc<Door>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get, put, patch, delete))
}
