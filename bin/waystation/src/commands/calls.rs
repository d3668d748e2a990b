//! How is an operation called from the command line, and how are calls looked at?

use std::{
    io::{self, Read, Write},
    path::Path,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use tokio::time::Instant;
use waystation_base::Millis;
use waystation_calls::Replied;
use waystation_http::api::{Call as Shown, CallReply, Cancellation, List};
use waystation_webhooks::push::Fate;

use crate::{
    args::calls::{Call, CallsCommand, ListCalls},
    client::{Client, problem, segments},
    exit::{Exit, Failure},
    output::{self, Output, is_watched},
    units::{show_duration, show_size, show_time},
};

/// Seconds that one request waits.
const POLL_S: u64 = 20;
/// Calls that one request lists.
const PAGE: usize = 500;

/// Calls an operation and waits for its result.
pub async fn call(client: Client, args: Call, output: Output) -> Result<Exit, Failure> {
    let response = client.send(request(&client, &args)?).await?;
    let accepted: Shown = read(response).await?;
    if args.detach {
        output.say(&accepted, || accepted.id.clone())?;
        return Ok(Exit::Done);
    }
    let wait = args.wait.map(Duration::from_millis);
    let finished = wait_for(&client, accepted, wait).await?;
    if finished.finished.is_none() {
        return Err(Failure::new(
            Exit::Failure,
            format!("call {} has no result yet; it goes on", finished.id),
        )
        .advise(format!("`waystation calls show {} --wait 1m` waits on", finished.id)));
    }
    result(&client, &finished.id).await
}

/// The path of a call, or of what belongs to it.
pub(super) fn path(parts: &[&str]) -> String {
    segments(&[&["v1", "calls"], parts].concat())
}

fn request(client: &Client, args: &Call) -> Result<RequestBuilder, Failure> {
    let body = body(args.body.as_deref(), args.file.as_deref())?;
    let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok();
    let default = if is_json { "application/json" } else { "application/octet-stream" };
    let content_type = args.content_type.as_deref().unwrap_or(default);
    let path = path(&[&args.operation]);
    let mut request = client.request(Method::POST, &path).header(header::CONTENT_TYPE, content_type);
    request = request.header("prefer", "respond-async");
    if let Some(url) = &args.callback {
        request = request.header("ws-callback-url", url);
    }
    if let Some(key) = &args.key {
        request = request
            .header("idempotency-key", format!("\"{}\"", key.replace('\\', "\\\\").replace('"', "\\\"")));
    }
    if let Some(ms) = args.timeout {
        request = request.header("ws-ttl-ms", ms);
    }
    for (name, value) in &args.header {
        request = request.header(format!("ws-header-{name}"), value);
    }
    Ok(request.body(body))
}

fn body(said: Option<&str>, file: Option<&Path>) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    match (said, file) {
        (Some(said), _) => body.extend_from_slice(said.as_bytes()),
        (None, Some(path)) if path != Path::new("-") => {
            body = std::fs::read(path)
                .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
        }
        _ => {
            io::stdin().lock().read_to_end(&mut body)?;
        }
    }
    Ok(body)
}

pub(super) async fn read<T: serde::de::DeserializeOwned>(response: Response) -> Result<T, Failure> {
    let bytes = response.bytes().await.map_err(|error| Failure::new(Exit::Unreachable, error))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Failure::new(Exit::Failure, format!("the answer cannot be understood: {error}")))
}

/// Waits for a call's end, and shows how it goes to whoever watches.
async fn wait_for(client: &Client, mut call: Shown, wait: Option<Duration>) -> Result<Shown, Failure> {
    let end = wait.map(|wait| Instant::now() + wait);
    let spinner = if is_watched() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg}") {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(Duration::from_millis(100));
    while call.finished.is_none() {
        spinner.set_message(told(&call));
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        let seconds = left.map_or(POLL_S, |left| left.as_secs_f64().ceil() as u64).min(POLL_S);
        if left.is_some_and(|left| left.is_zero()) {
            break;
        }
        call = poll(client, &call, seconds).await?;
    }
    spinner.finish_and_clear();
    Ok(call)
}

/// Waits for the next step, and shows the call then.
async fn poll(client: &Client, call: &Shown, seconds: u64) -> Result<Shown, Failure> {
    let path = path(&[&call.id]);
    let request = client.request(Method::GET, &path);
    let request = request.query(&[("wait", seconds.to_string()), ("follow", "false".to_owned())]);
    let request = request.header(header::IF_NONE_MATCH, format!("\"{}\"", call.version));
    let response = request.send().await.map_err(|error| problem::unreachable(client.base(), &error))?;
    match response.status() {
        StatusCode::NOT_MODIFIED => Ok(call.clone()),
        status if status.is_success() => read(response).await,
        _ => Err(problem::refusal(response).await),
    }
}

/// Where a call stands, in a few words.
fn told(call: &Shown) -> String {
    let state = call.state.map_or("accepted", |state| state.word());
    let place = call.place.map(|place| format!(", place {place}"));
    let attempt = (call.attempt > 1).then(|| format!(", attempt {}", call.attempt));
    let progress = call.progress.clone().unwrap_or_default();
    let percent = progress.percent.map(|percent| format!(", {percent} %"));
    let note = progress.note.map(|note| format!(": {note}"));
    let parts = [Some(state.to_owned()), place, attempt, percent, note];
    parts.into_iter().flatten().collect()
}

/// Writes a call's result as it is; a failed call is a failure.
async fn result(client: &Client, id: &str) -> Result<Exit, Failure> {
    let request = client.request(Method::GET, &path(&[id, "result"]));
    let response = request.send().await.map_err(|error| problem::unreachable(client.base(), &error))?;
    let is_result = response.headers().contains_key("ws-call");
    let status = response.status();
    let is_problem = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/problem+json"));
    if !is_result {
        return Err(problem::refusal(response).await);
    }
    if is_problem {
        let failure = problem::refusal(response).await;
        return Err(Failure { exit: Exit::Failure, ..failure }.during(format!("call {id}")));
    }
    let body = response.bytes().await.map_err(|error| problem::unreachable(client.base(), &error))?;
    io::stdout().lock().write_all(&body)?;
    if !body.is_empty() && !body.ends_with(b"\n") && io::IsTerminal::is_terminal(&io::stdout()) {
        output::text("")?;
    }
    if status.is_success() {
        return Ok(Exit::Done);
    }
    Err(Failure::new(Exit::Failure, format!("call {id} ended with status {}", status.as_u16())))
}

pub async fn calls(client: Client, command: CallsCommand, output: Output) -> Result<Exit, Failure> {
    match command {
        CallsCommand::List(args) => list(&client, args, output).await,
        CallsCommand::Show { id, wait } => {
            let path = format!("{}?follow=false", path(&[&id]));
            let shown: Shown = client.json(client.request(Method::GET, &path)).await?;
            let shown = match wait {
                Some(ms) => wait_for(&client, shown, Some(Duration::from_millis(ms))).await?,
                None => shown,
            };
            output.say(&shown, || details(&shown))?;
            Ok(Exit::Done)
        }
        CallsCommand::Result { id } => result(&client, &id).await,
        CallsCommand::Cancel { id } => {
            let request = client.request(Method::DELETE, &path(&[&id]));
            let done: Cancellation = client.json(request).await?;
            output.say(&done, || match done.cancelled {
                true => format!("call {id} is cancelled; it was {}", done.before),
                false => format!("call {id} is {} already", done.state),
            })?;
            Ok(if done.cancelled { Exit::Done } else { Exit::Refused })
        }
        CallsCommand::Retry(args) => super::retry::run(&client, args, output).await,
        CallsCommand::Redrive(args) => super::callbacks::run(&client, args, output).await,
    }
}

/// Calls that the filters leave, newest first, page by page.
pub(super) async fn listed(
    client: &Client,
    filters: &[(&str, String)],
    count: usize,
) -> Result<Vec<Shown>, Failure> {
    let (mut all, mut after) = (Vec::<Shown>::new(), None::<String>);
    while all.len() < count {
        let request = client.request(Method::GET, "/v1/calls").query(filters);
        let request = request.query(&[("limit", (count - all.len()).min(PAGE))]);
        let request = request.query(&after.iter().map(|id| ("after", id)).collect::<Vec<_>>());
        let page: List<Shown> = client.json(request).await?;
        all.extend(page.items);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    Ok(all)
}

async fn list(client: &Client, args: ListCalls, output: Output) -> Result<Exit, Failure> {
    let state = args.state.map(|state| format!("{state:?}").to_lowercase());
    let filters = [("operation", args.operation), ("state", state), ("correlation_id", args.correlation_id)];
    let filters: Vec<_> =
        filters.into_iter().filter_map(|(name, value)| value.map(|value| (name, value))).collect();
    let all = listed(client, &filters, args.count).await?;
    if output.json {
        output.json(&all)?;
    } else if !all.is_empty() {
        let row = |call: &Shown| {
            let state = call.state.map_or(String::new(), |state| state.to_string());
            vec![
                call.id.clone(),
                call.operation.clone(),
                state,
                call.attempt.to_string(),
                show_duration(call.age_ms),
            ]
        };
        output::text(&output::table(
            &["id", "operation", "state", ">attempt", ">age"],
            all.iter().map(row).collect(),
        ))?;
    }
    Ok(Exit::Done)
}

/// Whether an outcome has gone to whoever called by a message.
fn replied(reply: &CallReply) -> String {
    match (reply.state, &reply.error) {
        (Replied::Pending, _) => "pending".to_owned(),
        (Replied::Sent, _) => "sent".to_owned(),
        (Replied::Undeliverable, error) => format!("undeliverable: {}", error.as_deref().unwrap_or_default()),
    }
}

/// How a callback goes.
fn delivered(fate: &Fate) -> String {
    let state = format!("{:?}", fate.state).to_lowercase();
    let error = fate.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
    format!("{state}, {} attempts{error}", fate.attempts)
}

/// Everything that is known of a call, a line each.
fn details(call: &Shown) -> String {
    let mut rows =
        vec![("call", call.id.clone()), ("operation", call.operation.clone()), ("state", told(call))];
    let mut moment = |name, at: Option<u64>| rows.extend(at.map(|at| (name, show_time(Millis(at)))));
    moment("created", Some(call.created));
    moment("started", call.started);
    moment("deadline", call.deadline);
    moment("finished", call.finished);
    moment("forget_at", call.forget_at);
    rows.push(("attempt", call.attempt.to_string()));
    rows.extend(call.last_error.clone().map(|error| ("last_error", error)));
    rows.extend(call.callback.clone().map(|url| ("callback", url)));
    rows.extend(call.callback_delivery.as_ref().map(|fate| ("delivery", delivered(fate))));
    rows.extend(
        call.result.as_ref().map(|it| ("result", format!("status {}, {}", it.status, show_size(it.bytes)))),
    );
    rows.extend(call.correlation_id.clone().map(|id| ("caller's", id)));
    rows.extend(call.reply.clone().map(|it| ("reply_to", format!("{}, {}", it.to, replied(&it)))));
    rows.extend(call.retry_of.clone().map(|id| ("retry_of", id)));
    rows.extend(call.retried_as.clone().map(|id| ("retried_as", id)));
    rows.extend(call.problem.as_ref().map(|problem| ("problem", problem.detail.clone())));
    let lines: Vec<String> = rows.iter().map(|(name, value)| format!("{name:10}  {value}")).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use waystation_calls::{Progress, State};

    use super::*;

    #[test]
    fn a_call_is_told_in_a_few_words() {
        let mut call = Shown { state: Some(State::Queued), place: Some(3), ..Shown::default() };
        assert_eq!(told(&call), "queued, place 3");
        let progress = Progress { percent: Some(40), note: Some("half".into()) };
        call =
            Shown { state: Some(State::Working), attempt: 2, progress: Some(progress), ..Shown::default() };
        assert_eq!(told(&call), "working, attempt 2, 40 %: half");
        assert!(details(&call).contains("working, attempt 2"), "{}", details(&call));
    }
}
