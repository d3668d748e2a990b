//! How are dead letters grouped and looked at, and redrives begun, followed, paused, aborted and undone?

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};
use waystation_base::{Name, Tag};
use waystation_host::Delivery;
use waystation_redrive::{
    Group, Groups, Letter, Origin, OriginKind, Redrive, Spec,
    groups::Asked,
    job::{self, Maker, Preview, Sample},
    which::Invalid,
};

use super::{
    extract::{self, Params, at_most},
    json, ok,
};
use crate::{
    api::{DeadLetterPage, List, Problem, Received, RedrivePreview},
    auth::{Caller, Permission},
    door::Door,
    failure::{Failure, Kind},
    limits::{PAGE_BYTES_MAX, PAGE_ENTITIES_MAX},
    wire::show::Shown,
};

pub(super) fn routes() -> OpenApiRouter<Arc<Door>> {
    OpenApiRouter::new()
        .routes(routes!(groups))
        .routes(routes!(members))
        .routes(routes!(list, begin))
        .routes(routes!(show))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(abort))
        .routes(routes!(undo))
        .routes(routes!(original))
}

impl From<job::Error> for Failure {
    fn from(error: job::Error) -> Failure {
        match error {
            job::Error::NotFound(_) => Failure::new(Kind::NotFound, error),
            job::Error::State { .. } => Failure::new(Kind::WrongState, error),
            job::Error::Invalid(invalid) => invalid.into(),
            job::Error::Busy => Failure::new(Kind::Limit, error),
            job::Error::Refused(refusal) => refusal.into(),
        }
    }
}

impl From<Invalid> for Failure {
    fn from(Invalid { field, reason }: Invalid) -> Failure {
        Failure::field(field, reason)
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct GroupParams {
    /// In this queue only.
    queue: Option<String>,
    /// Of this cause only.
    cause: Option<String>,
    /// That failed in this queue or subscription only.
    origin: Option<String>,
    /// That failed in a queue, or in a subscription: the two may have one name.
    origin_kind: Option<OriginKind>,
    /// Most groups: 1 to 1000 (default 100).
    limit: Option<usize>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct MemberParams {
    /// In this queue only.
    queue: Option<String>,
    /// That failed in this queue or subscription only.
    origin: Option<String>,
    /// That failed in a queue, or in a subscription: the two may have one name.
    origin_kind: Option<OriginKind>,
    /// `next` of the page before.
    after: Option<String>,
    /// Most messages: 1 to 1000 (default 100). A page also ends at 4 MiB.
    limit: Option<usize>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct BeginParams {
    /// Move nothing: count what would be moved, and show samples.
    #[serde(default)]
    dry_run: bool,
}

/// The queue that was named, or all that the caller may read.
async fn queues(door: &Door, caller: &Caller, named: Option<&str>) -> Result<Vec<Name>, Failure> {
    if let Some(named) = named {
        let queue = extract::name("queue", named)?;
        caller.require(Permission::Read, &queue)?;
        // One that is not there is told of, rather than to be empty.
        door.broker.queue(queue.clone()).await?;
        return Ok(vec![queue]);
    }
    let mut queues = door.redrives.letters().queues().await?;
    queues.retain(|queue| caller.require(Permission::Read, queue).is_ok());
    Ok(queues)
}

/// Dead letters in groups of one cause and one kind of error, the largest first.
///
/// Errors are of one kind if they differ in nothing but numbers, ids, quoted texts, addresses and times. Without `queue`, in all queues where
/// dead letters go and that the caller may consume.
#[utoipa::path(get, path = "/v1/dead-letters", tag = "dead letters", operation_id = "list_dead_letters", params(GroupParams),
    responses(
    (status = 200, description = "The groups", body = Groups),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn groups(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Params(params): Params<GroupParams>,
) -> Result<Response, Failure> {
    let _permit = door.begin_request()?;
    let limit = at_most("limit", params.limit.unwrap_or(100), 1, PAGE_ENTITIES_MAX)?;
    let queues = Some(queues(&door, &caller, params.queue.as_deref()).await?);
    let (cause, origin, origin_kind) = (params.cause, params.origin, params.origin_kind);
    let asked = Asked { queues, group: None, cause, origin, origin_kind };
    ok(&door.redrives.letters().groups(asked, limit).await?)
}

#[derive(Serialize)]
struct ShownLetter<'a> {
    queue: &'a str,
    letter: Letter,
    message: Shown<'a>,
}

#[derive(Serialize)]
struct ShownPage<'a> {
    items: Vec<ShownLetter<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Where a page begins: a queue, and a tag in it.
fn place(after: &str) -> Result<(Name, Tag), Failure> {
    let wrong = || Failure::field("after", "must be 'next' of a page before");
    let (tag, queue) = after.split_once('@').ok_or_else(wrong)?;
    Ok((extract::name("after", queue)?, Tag(tag.parse().map_err(|_| wrong())?)))
}

/// The messages of a group.
#[utoipa::path(get, path = "/v1/dead-letters/{group}", tag = "dead letters", operation_id = "show_dead_letters",
    params(("group" = String, Path), MemberParams), responses(
    (status = 200, description = "A page", body = DeadLetterPage),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn members(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Path(group): Path<String>,
    Params(params): Params<MemberParams>,
) -> Result<Response, Failure> {
    let _permit = door.begin_request()?;
    let limit = at_most("limit", params.limit.unwrap_or(100), 1, PAGE_ENTITIES_MAX)?;
    let after = params.after.as_deref().map(place).transpose()?;
    let queues = Some(queues(&door, &caller, params.queue.as_deref()).await?);
    let (group_of, origin, origin_kind) = (Some(group.clone()), params.origin, params.origin_kind);
    let asked = Asked { queues, group: group_of, cause: None, origin, origin_kind };
    let is_first = after.is_none();
    let page = door.redrives.letters().members(&asked, after, limit, PAGE_BYTES_MAX).await?;
    if is_first && page.messages.is_empty() {
        let detail = format!("no dead letter of the group '{group}' is there that may be seen");
        return Err(Failure::new(Kind::NotFound, detail));
    }
    let items = page.messages.iter().map(|delivery| ShownLetter {
        queue: delivery.address.as_str(),
        letter: Letter::of(&delivery.message),
        message: Shown(delivery),
    });
    let next = page.next.as_ref().map(|(queue, tag)| format!("{}@{queue}", tag.0));
    ok(&ShownPage { items: items.collect(), next })
}

/// Where the caller may publish, of all to which dead letters of these queues may go.
async fn may(
    door: &Door,
    caller: &Caller,
    spec: &Spec,
    queues: &[Name],
) -> Result<Option<Vec<String>>, Failure> {
    if let Some(to) = &spec.to {
        caller.require(Permission::Write, to)?;
        return Ok(None);
    }
    if caller.require_all(Permission::Write, "#").is_ok() {
        return Ok(None);
    }
    let asked = Asked { queues: Some(queues.to_vec()), ..Asked::default() };
    let groups = door.redrives.letters().groups(asked, PAGE_ENTITIES_MAX).await?.groups;
    let places: BTreeSet<Origin> =
        groups.into_iter().flat_map(|group: Group| group.places.into_keys().flatten()).collect();
    let mut allowed = BTreeSet::new();
    for Origin { name, kind } in places {
        let Ok(name) = Name::try_from(SmolStr::new(name)) else { continue };
        if kind != Some(OriginKind::Subscription) && caller.require(Permission::Write, &name).is_ok() {
            allowed.insert(name.to_string());
        }
        if kind != Some(OriginKind::Queue) && may_send_back(door, caller, &name).await? {
            allowed
                .insert(Origin { name: name.to_string(), kind: Some(OriginKind::Subscription) }.to_string());
        }
    }
    Ok(Some(allowed.into_iter().collect()))
}

/// Whether the caller may have a subscription handed a message: if he may publish to its topic.
async fn may_send_back(door: &Door, caller: &Caller, subscription: &Name) -> Result<bool, Failure> {
    match door.broker.subscription(subscription.clone()).await {
        Ok(info) => Ok(caller.require_all(Permission::Write, &info.spec.topic).is_ok()),
        Err(waystation_broker::Refusal::NotFound { .. }) => Ok(false),
        Err(refusal) => Err(refusal.into()),
    }
}

#[derive(Serialize)]
struct ShownPreview<'a> {
    #[serde(flatten)]
    preview: &'a Preview,
    samples: Vec<ShownSample<'a>>,
}

#[derive(Serialize)]
struct ShownSample<'a> {
    queue: &'a str,
    letter: Letter,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    left: Option<&'a str>,
    message: Shown<'a>,
    redriven: Shown<'a>,
}

fn preview_of(preview: &Preview, samples: &[Sample]) -> Result<Response, Failure> {
    let then: Vec<Delivery> = samples
        .iter()
        .map(|sample| Delivery { message: sample.then.clone(), ..sample.now.clone() })
        .collect();
    let shown = samples.iter().zip(&then).map(|(sample, then)| ShownSample {
        queue: sample.now.address.as_str(),
        letter: Letter::of(&sample.now.message),
        to: sample.to.as_ref().ok().map(String::as_str),
        left: sample.to.as_ref().err().map(String::as_str),
        message: Shown(&sample.now),
        redriven: Shown(then),
    });
    ok(&ShownPreview { preview, samples: shown.collect() })
}

/// Begin a redrive: bring dead letters back to where they failed, or elsewhere.
///
/// It takes the permission to consume the queues and to publish where the messages go. The answer comes when the redrive is durable: it goes on
/// by itself, through restarts, and each message leaves and arrives in one step. Only what is there at the beginning is moved.
#[utoipa::path(post, path = "/v1/redrives", tag = "dead letters", operation_id = "begin_redrive", params(BeginParams),
    request_body = Spec, responses(
    (status = 200, description = "What it would do, with `dry_run`", body = RedrivePreview),
    (status = 202, description = "Begun; `Location` tells where to follow it", body = Redrive),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn begin(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Params(params): Params<BeginParams>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let _permit = door.begin_request()?;
    let spec: Spec = extract::json(&door, &headers, body).await?;
    spec.check()?;
    let mut queues = door.redrives.queues(&spec).await?;
    match spec.from.is_empty() {
        true => queues.retain(|queue| caller.require(Permission::Read, queue).is_ok()),
        false => queues.iter().try_for_each(|queue| caller.require(Permission::Read, queue))?,
    }
    let may = may(&door, &caller, &spec, &queues).await?;
    let maker = Maker { name: caller.0.name().map(str::to_owned), may };
    if params.dry_run {
        let (preview, samples) = door.redrives.preview(&spec, &queues, &maker).await?;
        return preview_of(&preview, &samples);
    }
    let redrive = door.redrives.begin(spec, queues, maker).await?;
    let location = (header::LOCATION, format!("/v1/redrives/{}", redrive.id));
    Ok(([location], json(StatusCode::ACCEPTED, &redrive)?).into_response())
}

/// A redrive may be seen and told what to do by whoever may consume its queues.
fn find(door: &Door, caller: &Caller, id: &str) -> Result<Redrive, Failure> {
    let redrive = door.redrives.get(id)?;
    redrive.queues.iter().try_for_each(|queue| caller.require(Permission::Read, queue))?;
    Ok(redrive)
}

/// List redrives, the newest first.
#[utoipa::path(get, path = "/v1/redrives", tag = "dead letters", operation_id = "list_redrives", responses(
    (status = 200, description = "All that are kept: those under way, and the last 1000 that ended", body = List<Redrive>),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn list(State(door): State<Arc<Door>>, caller: Caller) -> Result<Response, Failure> {
    let _permit = door.begin_request()?;
    let mut items = door.redrives.list();
    items.retain(|one| one.queues.iter().all(|queue| caller.require(Permission::Read, queue).is_ok()));
    ok(&List { items, next: None })
}

/// Show a redrive as it stands.
#[utoipa::path(get, path = "/v1/redrives/{id}", tag = "dead letters", operation_id = "show_redrive",
    params(("id" = String, Path)), responses(
    (status = 200, description = "As it stands", body = Redrive),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn show(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let _permit = door.begin_request()?;
    ok(&find(&door, &caller, &id)?)
}

/// Let a redrive rest. When this is answered it moves nothing more; the rest outlives restarts.
#[utoipa::path(post, path = "/v1/redrives/{id}/pause", tag = "dead letters", operation_id = "pause_redrive",
    params(("id" = String, Path)), responses(
    (status = 200, description = "It rests", body = Redrive),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn pause(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let _permit = door.begin_request()?;
    find(&door, &caller, &id)?;
    ok(&door.redrives.pause(&id).await?)
}

/// Let a redrive go on that rests.
#[utoipa::path(post, path = "/v1/redrives/{id}/resume", tag = "dead letters", operation_id = "resume_redrive",
    params(("id" = String, Path)), responses(
    (status = 200, description = "It goes on", body = Redrive),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn resume(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let _permit = door.begin_request()?;
    find(&door, &caller, &id)?;
    ok(&door.redrives.resume(&id).await?)
}

/// End a redrive. What it has moved stays where it is; `undo` brings that back.
#[utoipa::path(post, path = "/v1/redrives/{id}/abort", tag = "dead letters", operation_id = "abort_redrive",
    params(("id" = String, Path)), responses(
    (status = 200, description = "It has ended", body = Redrive),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn abort(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let _permit = door.begin_request()?;
    find(&door, &caller, &id)?;
    ok(&door.redrives.abort(&id).await?)
}

/// Bring back what a redrive has moved and nobody was given yet: it lies where it lay before, as it was.
///
/// What somebody was given stays, and so does what went to a topic; what came back to a subscription is brought back.
#[utoipa::path(post, path = "/v1/redrives/{id}/undo", tag = "dead letters", operation_id = "undo_redrive",
    params(("id" = String, Path)), responses(
    (status = 200, description = "It is being undone", body = Redrive),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn undo(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let _permit = door.begin_request()?;
    find(&door, &caller, &id)?;
    ok(&door.redrives.undo(&id).await?)
}

/// Show a message as it was before a redrive edited it.
#[utoipa::path(get, path = "/v1/redrives/{id}/originals/{message}", tag = "dead letters", operation_id = "show_redrive_original",
    params(("id" = String, Path), ("message" = String, Path, description = "Waystation's id of the message: `uuid`")), responses(
    (status = 200, description = "As it was", body = Received),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn original(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Path((id, message)): Path<(String, String)>,
) -> Result<Response, Failure> {
    let _permit = door.begin_request()?;
    find(&door, &caller, &id)?;
    ok(&Shown(&door.redrives.original(&id, &message).await?))
}
