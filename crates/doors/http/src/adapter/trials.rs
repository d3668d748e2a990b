//! What would a route do, and why did a message go where it went?

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Path, State},
    http::HeaderMap,
    response::Response,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};
use waystation_base::{Attempt, Message, Millis, Name, Offset, Tag, message::header};
use waystation_host::Delivery;
use waystation_routes::{
    Ending, Explanation, Record, RouteSteps, Said, Tried, limits::TRIAL_MESSAGES_MAX, run::Evaluation,
};

use super::{
    bindings,
    extract::{self, Named, at_most},
    ok, publish,
    routes::check,
};
use crate::{
    api::{Problem, Trial, TrialRequest},
    auth::{Caller, Permission},
    door::Door,
    failure::Failure,
    incoming,
    limits::TRANSACTION_BYTES_MAX,
    wire::{self, json::Object, line::Parsed, show::Shown},
};

/// [`TrialRequest`], borrowed from the input.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked<'a> {
    #[serde(default)]
    spec: Option<RouteSteps>,
    #[serde(borrow, default)]
    messages: Vec<Object<Parsed<'a>>>,
    #[serde(default)]
    address: Option<String>,
    #[serde(default)]
    routing_key: Option<String>,
    #[serde(default)]
    last: usize,
}

/// [`Trial`], as it is written.
#[derive(Serialize)]
pub(super) struct ShownTrial<'a> {
    pub(super) tried: Vec<ShownTried<'a>>,
    pub(super) different: usize,
}

#[derive(Serialize)]
pub(super) struct ShownTried<'a> {
    pub(super) message: AsShown,
    #[serde(flatten)]
    pub(super) made: ShownMade<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) differs: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) present: Option<ShownMade<'a>>,
}

#[derive(Serialize)]
pub(super) struct ShownMade<'a> {
    pub(super) ending: Ending,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) step: Option<&'a str>,
    pub(super) outputs: Vec<ShownOutput>,
    pub(super) trail: &'a [Said],
}

#[derive(Serialize)]
pub(super) struct ShownOutput {
    pub(super) to: String,
    pub(super) message: AsShown,
}

/// A message as it is shown everywhere.
pub(super) struct AsShown(Delivery);

impl Serialize for AsShown {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        Shown(&self.0).serialize(to)
    }
}

pub(super) fn shown(address: &Name, message: &Message) -> AsShown {
    AsShown(Delivery {
        tag: Tag(0),
        attempt: Attempt(0),
        held_until: Millis::NEVER,
        address: address.clone(),
        partition: 0,
        offset: Offset(0),
        message: message.clone(),
    })
}

fn made(evaluation: &Evaluation) -> ShownMade<'_> {
    let outputs = evaluation.outputs.iter().map(|output| ShownOutput {
        to: output.to.to_string(),
        message: shown(output.to.name(), &output.message),
    });
    let (step, error) = match &evaluation.fault {
        Some((step, fault)) => (Some(&**step), Some(fault.reason.as_str())),
        None => (None, None),
    };
    let ending = match (&evaluation.fault, evaluation.outputs.is_empty()) {
        (Some(_), _) => Ending::DeadLettered,
        (None, true) => Ending::Ended,
        (None, false) => Ending::Sent,
    };
    ShownMade { ending, error, step, outputs: outputs.collect(), trail: &evaluation.trail }
}

fn tried(it: &Tried) -> ShownTried<'_> {
    let differs = it.present.as_ref().map(|_| it.differs());
    let present = it.present.as_ref().filter(|_| differs == Some(true));
    ShownTried {
        message: shown(&it.address, &it.message),
        made: made(&it.evaluation),
        differs,
        present: present.map(made),
    }
}

/// Run a route on given or (with steps) stored messages, without any effect: what would come of them, and why. With another
/// declaration, say where that differs from the present one. Of a route with bindings: which of them take a message, and which do not.
#[utoipa::path(post, path = "/v1/routes/{name}/test", tag = "routes", operation_id = "test_routes",
    params(("name" = String, Path)), request_body = TrialRequest, responses(
    (status = 200, description = "What would come of each message", body = Trial),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn test(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Named(name): Named,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    caller.require_sight(&name)?;
    // It may take as long as its programs may.
    let _permit = door.begin_wait()?;
    extract::require_json(&headers)?;
    let whole = incoming::whole(&door, &headers, body, "the body", TRANSACTION_BYTES_MAX).await?;
    let asked: Asked<'_> = wire::json::parse(&whole.bytes)?;
    at_most("last", asked.last, 0, TRIAL_MESSAGES_MAX)?;
    at_most("messages", asked.messages.len(), 0, TRIAL_MESSAGES_MAX)?;
    let mut messages = given(&door, asked.messages, &whole.bytes)?;
    if let Some(key) = &asked.routing_key {
        messages.iter_mut().for_each(|message| message.headers.set(header::ROUTING_KEY, key.as_str()));
    }
    if asked.spec.is_none() && !door.routes.has(&name).await {
        return bindings::test(&door, &name, &messages).await;
    }
    let spec = match &asked.spec {
        Some(spec) => spec.clone(),
        None => door.routes.spec(&name).await?,
    };
    check(&caller, &name, &spec)?;
    let address = address(&name, &spec, asked.address.as_deref(), !messages.is_empty())?;
    caller.require(Permission::Read, &address)?;
    let messages = messages.into_iter().map(|message| (address.clone(), message)).collect();
    let trial = waystation_routes::Trial { spec: asked.spec, messages, last: asked.last };
    let all = door.routes.try_messages(&name, trial).await?;
    let different = all.iter().filter(|it| it.differs()).count();
    ok(&ShownTrial { tried: all.iter().map(tried).collect(), different })
}

/// The messages of a request.
fn given(door: &Door, lines: Vec<Object<Parsed<'_>>>, whole: &Bytes) -> Result<Vec<Message>, Failure> {
    let mut stamp = door.stamp()?;
    let read = |(index, Object(line)): (usize, Object<Parsed<'_>>)| {
        line.into_message(whole, &mut stamp).map_err(|error| publish::at_index((index, error)))
    };
    lines.into_iter().enumerate().map(read).collect()
}

/// The address that given messages are from.
fn address(route: &Name, spec: &RouteSteps, said: Option<&str>, is_needed: bool) -> Result<Name, Failure> {
    if let Some(said) = said {
        return extract::name("address", said);
    }
    let from = &spec.from;
    match from.queue.as_ref().or(from.topic.as_ref()) {
        Some(one) => extract::name("from", one),
        None if is_needed => Err(Failure::field(
            "address",
            "name the topic that the messages are from: the source may be several",
        )),
        None => Ok(route.clone()),
    }
}

/// Say why a message went where it went, by its id: what routes took it and made of it, step by step, and what did not match.
#[utoipa::path(get, path = "/v1/explanations/{message}", tag = "routes", operation_id = "explain_routes",
    params(("message" = String, Path, description = "Waystation's id of the message, a UUID")), responses(
    (status = 200, description = "What is on record", body = Explanation),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn explain(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Path(message): Path<String>,
) -> Result<Response, Failure> {
    let _permit = door.begin_request()?;
    let mut explanation = door.routes.explain(&message).await?;
    let may_see =
        |record: &Record| Name::new(record.route.as_str()).is_ok_and(|route| caller.may_see(&route));
    explanation.taken_by.retain(may_see);
    explanation.made_by = explanation.made_by.filter(may_see);
    ok(&explanation)
}

pub(super) fn routes() -> OpenApiRouter<Arc<Door>> {
    OpenApiRouter::new().routes(routes!(test)).routes(routes!(explain))
}
