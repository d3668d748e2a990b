//! RabbitMQ's management interface over HTTP: what its tools ask and set, answered from Waystation's state.

mod bindings;
mod definitions;
mod desk;
mod failure;
mod gather;
mod hosts;
mod import;
mod limits;
mod list;
mod live;
mod messages;
mod objects;
mod office;
mod overview;
mod policies;
mod server;
mod show;
mod users;

use std::sync::Arc;

use axum::{
    Router,
    routing::{delete, get, post, put},
};

pub use desk::{BODY_BYTES_MAX, BUFFERED_BYTES_MAX, Endpoint};
pub use import::OBJECTS_MAX;
pub use list::PAGE_SIZE_MAX;
pub use messages::GET_COUNT_MAX;
pub use office::{Office, Unsaid};
pub use server::{Options, serve};

use desk::Desk;
use failure::Failure;

/// What can be asked about things.
fn objects() -> Router<Arc<Desk>> {
    Router::new()
        .route("/exchanges", get(objects::exchanges))
        .route("/exchanges/{vhost}", get(objects::exchanges_of))
        .route(
            "/exchanges/{vhost}/{name}",
            get(objects::exchange).put(objects::put_exchange).delete(objects::delete_exchange),
        )
        .route("/exchanges/{vhost}/{name}/bindings/{side}", get(bindings::of_exchange))
        .route("/exchanges/{vhost}/{name}/publish", post(messages::publish))
        .route("/queues", get(objects::queues))
        .route("/queues/{vhost}", get(objects::queues_of))
        .route(
            "/queues/{vhost}/{name}",
            get(objects::queue).put(objects::put_queue).delete(objects::delete_queue),
        )
        .route("/queues/{vhost}/{name}/bindings", get(bindings::of_queue))
        .route("/queues/{vhost}/{name}/contents", delete(objects::purge))
        .route("/queues/{vhost}/{name}/actions", post(objects::queue_action))
        .route("/queues/{vhost}/{name}/get", post(messages::get))
        .route("/bindings", get(bindings::bindings))
        .route("/bindings/{vhost}", get(bindings::bindings_of))
        .route("/bindings/{vhost}/e/{source}/{sort}/{name}", get(bindings::of_ends).post(bindings::make))
        .route(
            "/bindings/{vhost}/e/{source}/{sort}/{name}/{key}",
            get(bindings::one).delete(bindings::remove),
        )
        .route("/connections", get(live::connections))
        .route("/connections/username/{user}", get(live::connections_by).delete(live::close_by))
        .route("/connections/{name}", get(live::connection).delete(live::close))
        .route("/connections/{name}/channels", get(live::channels_of))
        .route("/channels", get(live::channels))
        .route("/channels/{name}", get(live::channel))
        .route("/consumers", get(live::consumers))
        .route("/consumers/{vhost}", get(live::consumers_in))
}

/// What can be asked about who may do what.
fn people() -> Router<Arc<Desk>> {
    Router::new()
        .route("/vhosts", get(hosts::vhosts))
        .route("/vhosts/{name}", get(hosts::vhost).put(hosts::put).delete(hosts::delete))
        .route("/vhosts/{name}/start/{node}", post(hosts::start))
        .route("/vhosts/{name}/permissions", get(users::permissions_of_host))
        .route("/vhosts/{name}/topic-permissions", get(users::topic_permissions_of_host))
        .route("/vhosts/{name}/connections", get(live::connections_in))
        .route("/vhosts/{name}/channels", get(live::channels_in))
        .route("/users", get(users::users))
        .route("/users/without-permissions", get(users::without_permissions))
        .route("/users/bulk-delete", post(users::bulk_delete))
        .route("/users/{name}", get(users::user).put(users::put).delete(users::delete))
        .route("/users/{name}/permissions", get(users::permissions_of_user))
        .route("/users/{name}/topic-permissions", get(users::topic_permissions_of_user))
        .route("/whoami", get(users::whoami))
        .route("/permissions", get(users::permissions))
        .route(
            "/permissions/{vhost}/{user}",
            get(users::permission).put(users::put_permission).delete(users::delete_permission),
        )
        .route("/topic-permissions", get(users::topic_permissions))
        .route(
            "/topic-permissions/{vhost}/{user}",
            get(users::topic_permissions_of)
                .put(users::put_topic_permission)
                .delete(users::delete_topic_permissions),
        )
        .route("/topic-permissions/{vhost}/{user}/{exchange}", delete(users::delete_topic_permission))
}

/// What can be asked about the server and its settings.
fn settings() -> Router<Arc<Desk>> {
    let policy = get(policies::policy).put(policies::put_policy).delete(policies::delete_policy);
    let operator = get(policies::operator_policy)
        .put(policies::put_operator_policy)
        .delete(policies::delete_operator_policy);
    let parameter = get(policies::parameter).put(policies::put_parameter).delete(policies::delete_parameter);
    Router::new()
        .route("/overview", get(overview::overview))
        .route("/nodes", get(overview::nodes))
        .route("/nodes/{name}", get(overview::node))
        .route("/cluster-name", get(overview::name).put(overview::put_name))
        .route("/policies", get(policies::policies))
        .route("/policies/{vhost}", get(policies::policies_of))
        .route("/policies/{vhost}/{name}", policy)
        .route("/operator-policies", get(policies::operator_policies))
        .route("/operator-policies/{vhost}", get(policies::operator_policies_of))
        .route("/operator-policies/{vhost}/{name}", operator)
        .route("/parameters", get(policies::parameters))
        .route("/parameters/{component}", get(policies::parameters_of))
        .route("/parameters/{component}/{vhost}", get(policies::parameters_in))
        .route("/parameters/{component}/{vhost}/{name}", parameter)
        .route("/global-parameters", get(policies::globals))
        .route(
            "/global-parameters/{name}",
            get(policies::global).put(policies::put_global).delete(policies::delete_global),
        )
        .route("/definitions", get(definitions::export).post(definitions::import_all))
        .route("/definitions/{vhost}", get(definitions::export_of).post(definitions::import_into))
        .route("/vhost-limits", get(limits::vhosts))
        .route("/vhost-limits/{vhost}", get(limits::vhost))
        .route("/vhost-limits/{vhost}/{name}", put(limits::put_vhost).delete(limits::delete_vhost))
        .route("/user-limits", get(limits::users))
        .route("/user-limits/{user}", get(limits::user))
        .route("/user-limits/{user}/{name}", put(limits::put_user).delete(limits::delete_user))
        .route("/extensions", get(overview::nothing))
        .route("/feature-flags", get(overview::nothing))
        .route("/auth", get(overview::auth))
        .route("/healthchecks/node", get(overview::healthy))
        .route("/healthchecks/node/{node}", get(overview::healthy))
        .route("/health/checks/{name}", get(overview::check))
        .route("/health/checks/port-listener/{port}", get(overview::port_listener))
        .route("/health/checks/protocol-listener/{protocol}", get(overview::protocol_listener))
        .route("/aliveness-test/{vhost}", get(overview::aliveness))
        // There is nothing to spread over nodes.
        .route("/rebalance/queues", post(|_: desk::Who| async { axum::http::StatusCode::NO_CONTENT }))
}

/// All that can be asked.
fn router(desk: Arc<Desk>) -> Router {
    let api = objects().merge(people()).merge(settings());
    Router::new().nest("/api", api).fallback(|| async { Failure::not_found() }).with_state(desk)
}
