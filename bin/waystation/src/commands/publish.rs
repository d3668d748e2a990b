//! How do messages get from the command line, a file or a pipe into a queue or topic, or by a route?

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::stream;
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::{Body, Response, StatusCode};
use tokio::time::Instant;
use waystation_broker::Kind;
use waystation_http::api::{Accepted, Line, Progress};

use super::feed::{self, Feed, LINE_BYTES_MAX, Piece, Sent};
use crate::{
    args::messages::Publish,
    client::{Client, problem},
    exit::{Exit, Failure},
    output::{self, Output},
    units::{show_count, show_messages},
};

/// Pieces a second when a rate is given: smooth, and still few.
const PIECES_PER_SECOND: u64 = 20;
/// Bytes of a file's buffer.
const BUFFER_BYTES: usize = 256 << 10;

pub async fn run(client: Client, args: Publish, output: Output) -> Result<Exit, Failure> {
    // Only a route has such a key.
    let said = args.kind.as_deref().or(args.routing_key.as_ref().map(|_| "route"));
    let kind = client.kind_of(&args.address, said, &[Kind::Queue, Kind::Topic, Kind::Route]).await?;
    let (feed, size) = feed(&args)?;
    match feed {
        Feed::Repeat { line, left: 1 } => one(&client, kind, &args, line, output).await,
        feed => many(&client, kind, &args, feed, size, output).await,
    }
}

/// What is to be published, and the input's size in bytes if that is known.
fn feed(args: &Publish) -> Result<(Feed, Option<u64>), Failure> {
    if let Some(path) = &args.ndjson {
        let (input, size) = open(path)?;
        return Ok((Feed::Messages(Box::new(BufReader::with_capacity(BUFFER_BYTES, input))), size));
    }
    let rest = envelope(args);
    if let Some(path) = &args.lines {
        let (input, size) = open(path)?;
        let input = Box::new(BufReader::with_capacity(BUFFER_BYTES, input));
        return Ok((Feed::Bodies(input, Box::new(rest)), size));
    }
    let body = match (&args.body, &args.file) {
        (Some(body), _) => body.clone().into_bytes(),
        (None, path) => read_body(path.as_deref().unwrap_or(Path::new("-")))?,
    };
    let line = feed::message(&body, &rest)?;
    let size = (line.len() as u64).checked_mul(args.count);
    Ok((Feed::Repeat { line, left: args.count }, size))
}

fn envelope(args: &Publish) -> Line {
    Line {
        key: args.key.clone(),
        id: args.id.clone(),
        content_type: args.content_type.clone(),
        priority: args.priority,
        ttl_ms: args.ttl,
        delay_ms: args.delay,
        headers: args.header.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect(),
        ..Line::default()
    }
}

fn open(path: &PathBuf) -> Result<(Box<dyn Read + Send>, Option<u64>), Failure> {
    if path.as_os_str() == "-" {
        return Ok((Box::new(io::stdin()), None));
    }
    let told = |error: io::Error| Failure::usage(format!("reading {} failed: {error}", path.display()));
    let file = File::open(path).map_err(told)?;
    let about = file.metadata().map_err(told)?;
    Ok((Box::new(file), about.is_file().then_some(about.len())))
}

fn read_body(path: &Path) -> Result<Vec<u8>, Failure> {
    let (input, _) = open(&path.to_owned())?;
    let mut body = Vec::new();
    input.take(LINE_BYTES_MAX as u64 + 1).read_to_end(&mut body)?;
    match body.len() > LINE_BYTES_MAX {
        true => Err(Failure::usage(format!("the body is longer than {LINE_BYTES_MAX} bytes"))
            .advise("--lines and --ndjson publish files of many messages")),
        false => Ok(body),
    }
}

async fn one(
    client: &Client,
    kind: Kind,
    args: &Publish,
    line: Vec<u8>,
    output: Output,
) -> Result<Exit, Failure> {
    let address = &args.address;
    // As a whole, so that the answer names the message.
    let request = client
        .publish(kind, address, args.partition, args.routing_key.as_deref())
        .query(&[("atomic", "true")])
        .body(line);
    let accepted: Accepted = client.json(request).await?;
    output.say(&accepted, || match (accepted.accepted, &accepted.uuid) {
        _ if accepted.unrouted.is_some_and(|count| count > 0) => {
            format!("no binding of {kind} {address} matches; nothing was stored")
        }
        (0, _) => format!("{kind} {address} has a message with that id already; nothing was stored"),
        (_, Some(uuid)) => format!("published {uuid} to {kind} {address}"),
        (count, None) => format!("published {count} message to {kind} {address}"),
    })?;
    Ok(Exit::Done)
}

async fn many(
    client: &Client,
    kind: Kind,
    args: &Publish,
    feed: Feed,
    size: Option<u64>,
    output: Output,
) -> Result<Exit, Failure> {
    let begun = Instant::now();
    let sent = Arc::new(Sent::default());
    let lines_max = args.rate.map_or(u64::MAX, |rate| (rate / PIECES_PER_SECOND).max(1));
    let body = body(feed::spawn(feed, args.skip, lines_max), args.rate, sent.clone());
    let bar = bar(size);
    let mut last = Progress::default();
    let request = client.publish(kind, &args.address, args.partition, args.routing_key.as_deref()).body(body);
    let ended = match client.send(request).await {
        Ok(response) => {
            follow(client, response, &mut last, |progress| {
                bar.set_position(sent.bytes.load(Ordering::Relaxed));
                let rate = progress.lines as f64 / begun.elapsed().as_secs_f64().max(0.001);
                bar.set_message(format!(
                    "{} stored, {}/s",
                    show_count(progress.lines),
                    show_count(rate as u64)
                ));
            })
            .await
        }
        Err(failure) => Err(failure),
    };
    bar.finish_and_clear();
    let is_file = args.ndjson.is_some() || args.lines.is_some();
    ended.map_err(|failure| interrupted(failure, &last, is_file.then_some(args.skip)))?;
    let accepted = Accepted { accepted: last.accepted, duplicates: last.duplicates, ..Accepted::default() };
    output.say(&accepted, || {
        let seconds = begun.elapsed().as_secs_f64().max(0.001);
        let duplicates = match last.duplicates {
            0 => String::new(),
            count => format!(" and {} known before", show_count(count)),
        };
        format!(
            "published {} to {kind} {}{duplicates} in {seconds:.1} s, {}/s",
            show_messages(last.accepted),
            args.address,
            show_count((last.lines as f64 / seconds) as u64)
        )
    })?;
    Ok(Exit::Done)
}

/// The pieces as a request body, no faster than the rate allows.
fn body(pieces: tokio::sync::mpsc::Receiver<io::Result<Piece>>, rate: Option<u64>, sent: Arc<Sent>) -> Body {
    let state = (pieces, Instant::now(), 0u64);
    Body::wrap_stream(stream::unfold(state, move |(mut pieces, begun, lines)| {
        let sent = sent.clone();
        async move {
            let piece = match pieces.recv().await? {
                Ok(piece) => piece,
                Err(error) => return Some((Err(error), (pieces, begun, lines))),
            };
            if let Some(rate) = rate {
                let due = Duration::from_secs_f64(lines as f64 / rate as f64);
                tokio::time::sleep_until(begun + due).await;
            }
            feed::count(&sent, &piece);
            Some((Ok(piece.bytes), (pieces, begun, lines + piece.lines)))
        }
    }))
}

/// Reads what the server says on the way, a line each, until it is done.
async fn follow(
    client: &Client,
    mut response: Response,
    last: &mut Progress,
    told: impl Fn(&Progress),
) -> Result<(), Failure> {
    let mut buffer = Vec::new();
    loop {
        let chunk = response.chunk().await.map_err(|error| problem::unreachable(client.base(), &error))?;
        let Some(chunk) = chunk else { break };
        buffer.extend_from_slice(&chunk);
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            *last = serde_json::from_slice(&line).map_err(io::Error::from)?;
            told(last);
        }
    }
    if let Some(reason) = &last.problem {
        let status = StatusCode::from_u16(reason.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        return Err(problem::told(reason, status));
    }
    match last.done {
        true => Ok(()),
        false => Err(Failure::new(Exit::Unreachable, "the server's answer broke off")),
    }
}

/// Adds what is stored already, and how to go on.
fn interrupted(failure: Failure, last: &Progress, skipped: Option<u64>) -> Failure {
    let stored = format!("{} stored for certain", show_messages(last.lines));
    match (skipped, failure.advice.clone()) {
        (Some(skip), advice) => {
            let advice = advice.map(|text| text + "\n  ").unwrap_or_default();
            failure.advise(format!("{advice}{stored}; --skip {} goes on after them", skip + last.lines))
        }
        (None, Some(advice)) => failure.advise(format!("{advice}\n  {stored}")),
        (None, None) => failure.advise(stored),
    }
}

fn bar(size: Option<u64>) -> ProgressBar {
    if !output::is_watched() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match size {
        Some(size) => (ProgressBar::new(size), "{bar:30} {percent}% {msg}, {eta} left"),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes} {msg}"),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_broke_off_says_how_to_go_on() {
        let broken = || Failure::new(Exit::Unreachable, "gone").advise("start it");
        let last = Progress { lines: 1200, ..Progress::default() };
        let failure = interrupted(broken(), &last, Some(300));
        let expected = "start it\n  1,200 messages stored for certain; --skip 1500 goes on after them";
        assert_eq!(failure.advice.as_deref(), Some(expected));
        let failure = interrupted(broken(), &last, None);
        assert_eq!(failure.advice.as_deref(), Some("start it\n  1,200 messages stored for certain"));
    }
}
