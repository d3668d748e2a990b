//! How is a topic followed as server-sent events, without consuming it?
//!
//! An event's id says where to go on in every partition that is followed, as `partition:next offset` with commas between;
//! a client that comes back with it in `Last-Event-ID` misses nothing.

use std::{collections::BTreeMap, sync::Arc};

use axum::{extract::State, http::HeaderMap, response::Response};
use serde::Deserialize;
use utoipa::IntoParams;
use waystation_base::{Name, Offset, filter::Filter, limits::PARTITIONS_MAX};
use waystation_broker::view::PartitionInfo;
use waystation_host::{Browse, Target};

use super::{
    browse,
    events::{self, Feed},
    extract::{self, Named, Params},
    settle,
    tails::{self, Seen},
};
use crate::{
    api::{Problem, ServerSentEvent},
    auth::{Caller, Permission},
    door::{Counts, Door},
    failure::{Failure, Kind},
};

/// Partitions that one stream may follow: their offsets stand in every event's id.
pub const FOLLOWED_PARTITIONS_MAX: usize = 64;
/// Messages in one look at the log.
const LOOK_MESSAGES_MAX: usize = 256;
/// Bytes of messages in one look at the log.
const LOOK_BYTES_MAX: usize = 256 << 10;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct FollowTopicParams {
    /// `latest` (default), `earliest`, an offset for every partition, or an id of an event (`0:17,1:4`).
    from: Option<String>,
    /// Begin with the first message at or after this time (milliseconds since 1970, or RFC 3339).
    time: Option<String>,
    /// This partition only. Needed for a topic with more than 64.
    partition: Option<u32>,
    /// Only messages for which this holds: a filter as in a subscription, in JSON.
    filter: Option<String>,
}

/// Where to go on, by partition.
type Positions = BTreeMap<u32, Offset>;

/// Reads `0:17,1:4`.
fn positions(text: &str) -> Option<Positions> {
    let pair = |pair: &str| {
        let (partition, offset) = pair.split_once(':')?;
        let partition = partition.parse().ok().filter(|partition| *partition < PARTITIONS_MAX)?;
        let offset = offset.parse().ok().filter(|offset| *offset < 1 << 48)?;
        Some((partition, Offset(offset)))
    };
    text.split(',').map(pair).collect()
}

fn id_of(positions: &Positions) -> String {
    let pairs: Vec<_> = positions.iter().map(|(partition, offset)| format!("{partition}:{offset}")).collect();
    pairs.join(",")
}

/// Where a stream begins.
enum Start {
    Latest,
    Earliest,
    Offset(Offset),
    At(Positions),
    Time(waystation_base::Millis),
}

fn start(params: &FollowTopicParams, headers: &HeaderMap) -> Result<Start, Failure> {
    if let Some(id) = headers.get("last-event-id").filter(|id| !id.is_empty()) {
        let read = id.to_str().ok().and_then(positions);
        return read
            .map(Start::At)
            .ok_or_else(|| Failure::field("last-event-id", "must be the id of an event"));
    }
    let time = browse::moment(params.time.as_deref())?;
    match (params.from.as_deref(), time) {
        (Some(_), Some(_)) => Err(Failure::field("time", "is given besides from")),
        (None, Some(time)) => Ok(Start::Time(time)),
        (None | Some("latest"), None) => Ok(Start::Latest),
        (Some("earliest"), None) => Ok(Start::Earliest),
        (Some(text), None) => {
            let offset = text
                .parse()
                .ok()
                .filter(|offset| *offset < 1 << 48)
                .map(|offset| Start::Offset(Offset(offset)));
            let read = offset.or_else(|| positions(text).map(Start::At));
            read.ok_or_else(|| {
                Failure::field("from", "must be latest, earliest, an offset or the id of an event")
            })
        }
    }
}

/// Follows a topic.
struct Follower {
    door: Arc<Door>,
    topic: Name,
    filter: Option<Filter>,
    positions: Positions,
}

/// Follow a topic as server-sent events: from now on, from an offset or from a time, without consuming.
#[utoipa::path(get, path = "/v1/topics/{name}/events", tag = "topics",
    params(("name" = String, Path), FollowTopicParams,
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that was seen")),
    responses(
    (status = 200, description = "Events; `data` is a message", body = ServerSentEvent, content_type = "text/event-stream"),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn follow_topic(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Named(topic): Named,
    Params(params): Params<FollowTopicParams>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    caller.require(Permission::Read, &topic)?;
    let filter = extract::filter(params.filter.as_deref())?;
    let start = start(&params, &headers)?;
    let permit = door.begin_wait()?;
    let partitions = door.broker.topic(topic.clone()).await?.partitions;
    let positions = begin(&door, &topic, &partitions, &start, params.partition).await?;
    let tail = tails::watch(&door, &topic).await?;
    let (feed, response) = Feed::open();
    let mut follower = Follower { door, topic, filter, positions };
    tokio::spawn(async move {
        let _permit = permit;
        if let Err(failure) = follower.run(tail, &feed).await {
            feed.fail(failure).await;
        }
    });
    Ok(response)
}

/// Where each followed partition begins.
async fn begin(
    door: &Door,
    topic: &Name,
    partitions: &[PartitionInfo],
    start: &Start,
    only: Option<u32>,
) -> Result<Positions, Failure> {
    let count = partitions.len() as u32;
    if only.is_some_and(|only| only >= count) {
        return Err(Failure::field("partition", format_args!("the topic has {count}, counted from 0")));
    }
    let followed = only.map_or(0..count, |only| only..only + 1);
    if followed.len() > FOLLOWED_PARTITIONS_MAX {
        let reason = format_args!("must be given for a topic with more than {FOLLOWED_PARTITIONS_MAX}");
        return Err(Failure::field("partition", reason));
    }
    let mut positions = Positions::new();
    for partition in followed {
        let PartitionInfo { start_offset, end_offset, .. } = partitions[partition as usize];
        let offset = match start {
            Start::Latest => Offset(end_offset),
            Start::Earliest => Offset(start_offset),
            Start::Offset(offset) => *offset,
            // A partition that came since the id was given has not been seen at all.
            Start::At(positions) => positions.get(&partition).copied().unwrap_or(Offset(start_offset)),
            Start::Time(at) => {
                settle::offset_at(&door.broker, topic, partition, *at).await?.unwrap_or(Offset(end_offset))
            }
        };
        positions.insert(partition, offset);
    }
    Ok(positions)
}

impl Follower {
    async fn run(
        &mut self,
        mut tail: tokio::sync::watch::Receiver<Seen>,
        feed: &Feed,
    ) -> Result<(), Failure> {
        let mut beats = events::heartbeat();
        let mut is_open = feed.begin().await;
        while is_open {
            let seen = tail.borrow_and_update().clone();
            let gone = || Failure::new(Kind::Gone, "the topic is gone");
            is_open = self.catch_up(&seen.ok_or_else(gone)?, feed).await?;
            tokio::select! {
                biased;
                () = feed.closed() => return Ok(()),
                () = self.door.drain.begun() => return Ok(()),
                changed = tail.changed() => changed.map_err(|_| gone())?,
                _ = beats.tick() => is_open = is_open && feed.beat().await,
            }
        }
        Ok(())
    }

    /// Writes what is there; whether the client is.
    async fn catch_up(&mut self, partitions: &[PartitionInfo], feed: &Feed) -> Result<bool, Failure> {
        for (partition, end) in partitions.iter().enumerate().map(|(at, info)| (at as u32, info.end_offset)) {
            while self.positions.get(&partition).is_some_and(|next| next.0 < end) {
                if self.door.drain.has_begun() || !self.look(partition, Offset(end), feed).await? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Writes one look at a partition and moves its position on.
    async fn look(&mut self, partition: u32, end: Offset, feed: &Feed) -> Result<bool, Failure> {
        let from = self.positions[&partition];
        let browse = Browse {
            from: Some(browse::topic_tag(partition, from)?),
            from_time: None,
            partition: Some(partition),
            filter: self.filter.clone(),
            max: LOOK_MESSAGES_MAX,
            bytes_max: LOOK_BYTES_MAX,
        };
        let page = self.door.broker.browse(Target::Topic(self.topic.clone()), browse).await?;
        let positions = &mut self.positions;
        let text = events::render(&page.messages, |message| {
            positions.insert(partition, message.offset.next());
            id_of(positions)
        })?;
        // A look that ended early goes on behind its last message; one that reached the end has seen all of it.
        let after = page.next.map_or(end, |next| next.offset());
        let next = positions.entry(partition).or_insert(from);
        *next = after.max(*next).max(from.next());
        Counts::add(&self.door.counts.delivered, page.messages.len() as u64);
        Ok(text.is_empty() || feed.write(text).await)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_is_read_as_it_was_written() {
        let at = Positions::from([(0, Offset(17)), (3, Offset(4))]);
        assert_eq!(id_of(&at), "0:17,3:4");
        assert_eq!(positions("0:17,3:4"), Some(at));
        for bad in ["", "0", "0:", ":1", "0:x", "4096:1", "0:281474976710656", "0:1,"] {
            assert_eq!(positions(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_id_or_is_not(text: String) {
            if let Some(read) = positions(&text) {
                prop_assert_eq!(positions(&id_of(&read)), Some(read));
            }
        }
    }
}
