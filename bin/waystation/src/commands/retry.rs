//! How are calls tried anew from the command line: some by their ids, or all that filters leave, after they were shown?

use reqwest::{Method, StatusCode};
use serde::Serialize;
use waystation_http::api::Call as Shown;

use super::{
    calls::{listed, path, read},
    sure,
};
use crate::{
    args::calls::RetryCalls,
    client::{Client, problem},
    exit::{Exit, Failure},
    output::{self, Output},
};

/// What came of one call.
#[derive(Serialize)]
struct Retried {
    id: String,
    /// The new call; none: it was refused.
    retried_as: Option<String>,
    /// The new call was there already.
    before: bool,
    /// Why it was refused.
    error: Option<String>,
}

pub async fn run(client: &Client, args: RetryCalls, output: Output) -> Result<Exit, Failure> {
    let ids = match args.all {
        false => args.ids.clone(),
        true => chosen(client, &args).await?,
    };
    let what = format!("{} calls", ids.len());
    let preview = || ids.iter().map(String::as_str);
    if args.all && !sure::go_on(args.sure, "retry", &what, preview(), output)? {
        return Ok(Exit::Done);
    }
    if args.sure.dry_run {
        sure::show("retry", &what, preview(), output)?;
        return Ok(Exit::Done);
    }
    let mut all = Vec::new();
    for id in &ids {
        all.push(retry(client, id).await?);
        if let (false, Some(last)) = (output.json, all.last()) {
            output::text(&told(last))?;
        }
    }
    if output.json {
        output.json(&all)?;
    }
    Ok(if all.iter().all(|it| it.error.is_none()) { Exit::Done } else { Exit::Refused })
}

/// The calls that the filters leave, oldest first.
async fn chosen(client: &Client, args: &RetryCalls) -> Result<Vec<String>, Failure> {
    let state = format!("{:?}", args.state).to_lowercase();
    let operation = args.operation.as_ref().map(|name| ("operation", name.clone()));
    let filters = [("state", state), ("retried", "false".to_owned())].into_iter().chain(operation);
    let found = listed(client, &filters.collect::<Vec<_>>(), usize::MAX).await?;
    Ok(found.into_iter().rev().map(|call| call.id).collect())
}

async fn retry(client: &Client, id: &str) -> Result<Retried, Failure> {
    let request = client.request(Method::POST, &path(&[id, "retry"]));
    let response = request.send().await.map_err(|error| problem::unreachable(client.base(), &error))?;
    let before = response.headers().contains_key("idempotency-replayed");
    let refused = |error: String| Retried { id: id.to_owned(), retried_as: None, before, error: Some(error) };
    match response.status() {
        status if status.is_success() => {
            let call: Shown = read(response).await?;
            Ok(Retried { id: id.to_owned(), retried_as: Some(call.id), before, error: None })
        }
        // What speaks against one call does not speak against the others.
        StatusCode::CONFLICT
        | StatusCode::GONE
        | StatusCode::NOT_FOUND
        | StatusCode::UNPROCESSABLE_ENTITY => Ok(refused(problem::refusal(response).await.to_string())),
        _ => Err(problem::refusal(response).await.during(format!("call {id}"))),
    }
}

fn told(retried: &Retried) -> String {
    let Retried { id, retried_as, before, error } = retried;
    match (retried_as, error) {
        (Some(new), _) if *before => format!("call {id} was retried before as {new}"),
        (Some(new), _) => format!("call {id} is retried as {new}"),
        (None, error) => format!("call {id} is not retried: {}", error.as_deref().unwrap_or_default()),
    }
}
