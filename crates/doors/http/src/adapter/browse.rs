//! How are messages looked at without being taken?

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, HeaderName, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;
use waystation_base::{Name, Tag};
use waystation_host::{Browse, Page, Target};

use super::{
    extract::{self, Named, Params, at_most},
    ok, receive,
};
use crate::{
    api::{MessagePage, Problem, TagText, media},
    auth::{Caller, Permission},
    door::Door,
    failure::Failure,
    limits::{PAGE_BYTES_MAX, PAGE_MESSAGES_MAX},
    wire::{show::Shown, time},
};

/// Where the next page begins, for answers whose body has no place for it.
const NEXT: HeaderName = HeaderName::from_static("ws-next");

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct BrowseParams {
    /// Begin with this tag: `next` of the page before.
    #[param(value_type = Option<String>)]
    from: Option<TagText>,
    /// Topics: begin with the first message at or after this time (milliseconds since 1970, or RFC 3339).
    time: Option<String>,
    /// Topics: this partition only.
    partition: Option<u32>,
    /// Most messages: 1 to 10000 (default 100). A page also ends at 4 MiB.
    limit: Option<u32>,
    /// Only messages for which this holds: a filter as in a subscription, in JSON.
    filter: Option<String>,
}

/// A time in a parameter.
pub(super) fn moment(text: Option<&str>) -> Result<Option<waystation_base::Millis>, Failure> {
    let wrong = || Failure::field("time", "must be milliseconds since 1970 or an RFC 3339 time");
    text.map(|text| time::parse_either(text).ok_or_else(wrong)).transpose()
}

async fn browse(
    door: Arc<Door>,
    caller: Caller,
    name: &Name,
    target: Target,
    params: BrowseParams,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    caller.require(Permission::Read, name)?;
    if !matches!(target, Target::Topic(_)) && (params.time.is_some() || params.partition.is_some()) {
        return Err(Failure::field("time", "time and partition apply to topics only"));
    }
    let max = at_most("limit", params.limit.unwrap_or(100), 1, PAGE_MESSAGES_MAX)?;
    let browse = Browse {
        from: params.from.map(|tag| tag.0),
        from_time: moment(params.time.as_deref())?,
        partition: params.partition,
        filter: extract::filter(params.filter.as_deref())?,
        max: max as usize,
        bytes_max: PAGE_BYTES_MAX,
    };
    let _permit = door.begin_request()?;
    let page = door.broker.browse(target, browse).await?;
    let mut response = if extract::accepts(&headers, media::CLOUD_EVENTS) {
        receive::events(&page.messages)?
    } else if extract::accepts(&headers, media::NDJSON) {
        lines(&page)?
    } else {
        return json(&page);
    };
    response.headers_mut().extend(page.next.map(|next| (NEXT, next.0.into())));
    Ok(response)
}

#[derive(Serialize)]
struct ShownPage<'a> {
    messages: Vec<Shown<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<TagText>,
}

fn json(page: &Page) -> Result<Response, Failure> {
    ok(&ShownPage { messages: page.messages.iter().map(Shown).collect(), next: page.next.map(TagText) })
}

fn lines(page: &Page) -> Result<Response, Failure> {
    let mut text = Vec::new();
    for message in &page.messages {
        serde_json::to_writer(&mut text, &Shown(message)).map_err(Failure::internal)?;
        text.push(b'\n');
    }
    Ok(([(header::CONTENT_TYPE, media::NDJSON)], text).into_response())
}

/// The tag under which a topic's offset is browsed.
pub(super) fn topic_tag(partition: u32, offset: waystation_base::Offset) -> Result<Tag, Failure> {
    let wrong = || Failure::field("offset", "is past what a log can hold");
    let partition = u16::try_from(partition).map_err(|_| wrong())?;
    if offset.0 >= 1 << 48 { Err(wrong()) } else { Ok(Tag::new(partition, offset)) }
}

/// Look at a queue's messages: waiting, held and delayed.
#[utoipa::path(get, path = "/v1/queues/{name}/messages", tag = "queues",
    params(("name" = String, Path), BrowseParams), responses(
    (status = 200, description = "A page; NDJSON and CloudEvents if asked for, `Ws-Next` then tells where to go on", body = MessagePage),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn browse_queue(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Named(name): Named,
    Params(params): Params<BrowseParams>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    browse(door, caller, &name, Target::Queue(name.clone()), params, headers).await
}

/// Read a topic's log.
#[utoipa::path(get, path = "/v1/topics/{name}/messages", tag = "topics",
    params(("name" = String, Path), BrowseParams), responses(
    (status = 200, description = "A page; NDJSON and CloudEvents if asked for, `Ws-Next` then tells where to go on", body = MessagePage),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn browse_topic(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Named(name): Named,
    Params(params): Params<BrowseParams>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    browse(door, caller, &name, Target::Topic(name.clone()), params, headers).await
}

/// Look at what a subscription has not acknowledged.
#[utoipa::path(get, path = "/v1/subscriptions/{name}/messages", tag = "subscriptions",
    params(("name" = String, Path), BrowseParams), responses(
    (status = 200, description = "A page; NDJSON and CloudEvents if asked for, `Ws-Next` then tells where to go on", body = MessagePage),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn browse_subscription(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Named(name): Named,
    Params(params): Params<BrowseParams>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    browse(door, caller, &name, Target::Subscription(name.clone()), params, headers).await
}
