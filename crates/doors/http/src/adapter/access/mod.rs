//! Who may do what, where, and under which policies: users, permissions, virtual hosts, policies and definitions. What is
//! done is done by `waystation_access` and `waystation_catalog`, as for RabbitMQ's management interface.

mod definitions;
mod permissions;
mod policies;
mod users;
mod vhosts;

use std::sync::Arc;

use axum::response::Response;
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use waystation_catalog as catalog;

use super::{
    extract,
    params::{PageParams, PutParams},
};
use crate::{
    api::{Declared, List},
    door::Door,
    failure::{Failure, Kind},
};

pub(super) fn routes() -> OpenApiRouter<Arc<Door>> {
    OpenApiRouter::new()
        .merge(users::routes())
        .merge(permissions::routes())
        .merge(vhosts::routes())
        .merge(policies::routes())
        .merge(definitions::routes())
}

/// A page of things that have names and are in their order.
fn page<T>(
    all: impl IntoIterator<Item = T>,
    name: impl Fn(&T) -> &str,
    params: &PageParams,
) -> Result<List<T>, Failure> {
    let max = crate::limits::PAGE_ENTITIES_MAX;
    let limit = extract::at_most("limit", params.limit.unwrap_or(100), 1, max)?;
    let after = params.after.as_deref();
    let rest = all.into_iter().filter(|item| after.is_none_or(|after| name(item) > after));
    let items: Vec<T> = rest.take(limit).collect();
    let next = items.last().filter(|_| items.len() == limit).map(|item| name(item).to_owned());
    Ok(List { items, next })
}

/// What a declaration would do to what is there: nothing, which says so, or a change that must be asked for.
fn may_change(what: &str, differs: Option<&str>, change: bool) -> Result<bool, Failure> {
    match differs {
        None => Ok(false),
        Some(_) if change => Ok(true),
        Some(field) => {
            let detail = format!("{what} exists and differs in '{field}'; change it explicitly");
            Err(Failure::new(Kind::Exists, detail).with(|problem| problem.field = Some(field.to_owned())))
        }
    }
}

/// The first member in which two things differ.
fn difference<T: Serialize>(have: &T, want: &T) -> Option<String> {
    let fields = |it: &T| serde_json::to_value(it).unwrap_or_default();
    let (have, want) = (fields(have), fields(want));
    let members = want.as_object().into_iter().chain(have.as_object()).flat_map(|map| map.keys());
    members.into_iter().find(|name| have.get(*name) != want.get(*name)).cloned()
}

fn declared(declared: Declared) -> Result<Response, Failure> {
    super::declared::declared(declared, false)
}

fn absent(what: &str, name: &str) -> Failure {
    Failure::new(Kind::NotFound, format!("{what} '{name}' does not exist"))
}

impl From<waystation_access::Error> for Failure {
    fn from(error: waystation_access::Error) -> Failure {
        use waystation_access::Error;
        match error {
            Error::Name(_) | Error::Document(_) => Failure::field("name", error),
            Error::Password => Failure::field("password", error),
            Error::Hash { .. } => Failure::field("password_hash", error),
            Error::Expression { field, reason } => Failure::field(field, reason),
            Error::Unknown(name) => absent("user", &name),
            Error::LastAdministrator => Failure::new(Kind::InUse, error),
            Error::Full => Failure::new(Kind::Limit, error),
            Error::Busy => Failure::new(Kind::Busy, error),
            Error::Refused(refusal) => refusal.into(),
        }
    }
}

impl From<catalog::Error> for Failure {
    fn from(error: catalog::Error) -> Failure {
        use catalog::Error;
        match error {
            Error::NoVhost(name) => absent("virtual host", &name),
            Error::DefaultVhost => Failure::new(Kind::InUse, error),
            Error::Full => Failure::new(Kind::Limit, error),
            Error::Name(_) | Error::Document(_) => Failure::field("name", error),
            Error::Policy(reason) => Failure::field("definition", reason),
            Error::Access(error) => error.into(),
            Error::Refused(refusal) => refusal.into(),
        }
    }
}
