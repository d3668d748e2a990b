//! How is a route told what to hand on, and how is that seen?

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use utoipa_axum::{router::OpenApiRouter, routes};
use waystation_base::{Message, Name, message::header};
use waystation_broker::{
    Kind as Thing,
    command::{Bind, Destination},
    spec::RouteSpec,
    view::{self, BindingFilter},
};
use waystation_routes::{Ending, Said, Verdict};

use super::{
    extract::{self, Named},
    json, kinds, ok,
    trials::{ShownMade, ShownOutput, ShownTrial, ShownTried, shown},
};
use crate::{
    api::{Binding, Bindings, Declaration, Declared, Problem, Removed},
    auth::{Caller, Permission},
    door::Door,
    failure::Failure,
};

/// Reads a binding and checks that its caller may make and remove it: he reads the route, and writes where it leads.
async fn binding(
    door: &Door,
    caller: &Caller,
    route: Name,
    headers: &HeaderMap,
    body: Body,
) -> Result<Bind, Failure> {
    let Binding { to, to_route, key, arguments } = extract::json(door, headers, body).await?;
    let to = match (&to, &to_route) {
        (Some(to), None) => Destination::Address(extract::name("to", to)?),
        (None, Some(route)) => Destination::Route(extract::name("to_route", route)?),
        _ => return Err(Failure::field("to", "give either 'to', a queue or topic, or 'to_route'")),
    };
    caller.require(Permission::Read, &route)?;
    caller.require(Permission::Write, to.name())?;
    Ok(Bind { route, to, key: key.into(), arguments })
}

/// Let a route hand on to a queue, topic or route.
#[utoipa::path(post, path = "/v1/routes/{name}/bind", tag = "routes", params(("name" = String, Path)),
    request_body = Binding, responses(
    (status = 201, description = "Bound", body = Declaration),
    (status = 200, description = "Bound already", body = Declaration),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn bind(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Named(name): Named,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let _permit = door.begin_request()?;
    let bind = binding(&door, &caller, name, &headers, body).await?;
    match caller.broker(&door.broker).bind(bind).await? {
        true => json(StatusCode::CREATED, &Declaration { declared: Declared::Created }),
        false => ok(&Declaration { declared: Declared::Unchanged }),
    }
}

/// Take a binding away.
#[utoipa::path(post, path = "/v1/routes/{name}/unbind", tag = "routes", params(("name" = String, Path)),
    request_body = Binding, responses(
    (status = 200, description = "Gone; `removed` is 0 if it was not there", body = Removed),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn unbind(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Named(name): Named,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let _permit = door.begin_request()?;
    let bind = binding(&door, &caller, name, &headers, body).await?;
    ok(&Removed { removed: caller.broker(&door.broker).unbind(bind).await?.into() })
}

/// Bindings by which a route hands on, in the order in which they were made.
#[utoipa::path(get, path = "/v1/routes/{name}/bindings", tag = "routes", params(("name" = String, Path)), responses(
    (status = 200, description = "All of them", body = Bindings),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn list(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Named(name): Named,
) -> Result<Response, Failure> {
    caller.require_sight(&name)?;
    let _permit = door.begin_request()?;
    kinds::require(&door, &name, Thing::Route).await?;
    let bindings = door.broker.bindings(BindingFilter::Of(name)).await?;
    let shown = bindings.into_iter().filter(|binding| caller.may_see(binding.to.name()));
    ok(&Bindings { items: shown.map(Binding::from).collect() })
}

/// Says of each binding whether it takes a message, and where that would go. Nothing is published.
pub(super) async fn test(door: &Door, name: &Name, messages: &[Message]) -> Result<Response, Failure> {
    let spec = door.broker.route(name.clone()).await?.spec;
    let bindings = door.broker.bindings(BindingFilter::Of(name.clone())).await?;
    let asked: Vec<_> = messages.iter().map(|message| ask(&spec, &bindings, message)).collect();
    let tried = messages.iter().zip(&asked).map(|(message, (trail, ends))| {
        let outputs = ends.iter().map(|end| ShownOutput { to: of(end), message: shown(end.name(), message) });
        let ending = if ends.is_empty() { Ending::Ended } else { Ending::Sent };
        let made = ShownMade { ending, error: None, step: None, outputs: outputs.collect(), trail };
        ShownTried { message: shown(name, message), made, differs: None, present: None }
    });
    ok(&ShownTrial { tried: tried.collect(), different: 0 })
}

/// What each binding says, and where those lead that take the message, each place once.
fn ask(spec: &RouteSpec, bindings: &[view::Binding], message: &Message) -> (Vec<Said>, Vec<Destination>) {
    let headers = &message.headers;
    let keys = [headers.text(header::ROUTING_KEY).unwrap_or_default().into()];
    let (mut trail, mut ends) = (Vec::new(), Vec::new());
    let mut say = |step: String, takes: bool, detail: String| {
        let verdict = if takes { Verdict::Matched } else { Verdict::NotMatched };
        trail.push(Said { step: step.into(), verdict, part: Vec::new(), detail: Some(detail) });
    };
    for (number, binding) in bindings.iter().enumerate() {
        let takes = binding.takes(spec.kind, &keys, headers);
        let arguments = serde_json::to_string(&binding.arguments).unwrap_or_default();
        let with = if binding.arguments.is_empty() { String::new() } else { format!(" with {arguments}") };
        say(
            format!("bindings[{number}]"),
            takes,
            format!("to {} by '{}'{with}", of(&binding.to), binding.key),
        );
        if takes && !ends.contains(&binding.to) {
            ends.push(binding.to.clone());
        }
    }
    if ends.is_empty() {
        let alternate = spec.alternate_name().map(Destination::Route);
        let what = alternate
            .as_ref()
            .map_or_else(|| "there is none: the message is counted, and gone".to_owned(), of);
        say("alternate".to_owned(), alternate.is_some(), what);
        ends.extend(alternate);
    }
    (trail, ends)
}

fn of(end: &Destination) -> String {
    match end {
        Destination::Address(name) => name.to_string(),
        Destination::Route(name) => format!("route {name}"),
    }
}

pub(super) fn routes() -> OpenApiRouter<Arc<Door>> {
    OpenApiRouter::new().routes(routes!(bind)).routes(routes!(unbind)).routes(routes!(list))
}
