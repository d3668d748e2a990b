//! How are callbacks sent again from the command line that were given up?

use reqwest::Method;
use serde_json::{Map, Value};
use waystation_webhooks::push::redrive::Redriven;

use super::sure;
use crate::{
    args::calls::RedriveCalls,
    client::Client,
    exit::{Exit, Failure},
    output::{self, Output},
};

pub async fn run(client: &Client, args: RedriveCalls, output: Output) -> Result<Exit, Failure> {
    if args.all || args.sure.dry_run {
        let found = ask(client, &args, true).await?;
        let what = format!("{} callbacks", counted(&found));
        let lines: Vec<String> =
            found.callbacks.iter().map(|it| format!("{} to {}: {}", it.id, it.url, it.error)).collect();
        let preview = || lines.iter().map(String::as_str);
        if args.sure.dry_run {
            sure::show("redrive", &what, preview(), output)?;
            return Ok(Exit::Done);
        }
        if !sure::go_on(args.sure, "redrive", &what, preview(), output)? {
            return Ok(Exit::Done);
        }
    }
    let done = ask(client, &args, false).await?;
    output.say(&done, || format!("{} callbacks are sent again", done.callbacks.len()))?;
    if !output.json && done.more {
        output::text("more were given up than one request looks at: say it again")?;
    }
    let is_whole = args.all || args.ids.iter().all(|id| done.callbacks.iter().any(|it| it.id == *id));
    Ok(if is_whole { Exit::Done } else { Exit::NotFound })
}

fn counted(found: &Redriven) -> String {
    let beyond = if found.more { "at least " } else { "" };
    format!("{beyond}{}", found.callbacks.len())
}

async fn ask(client: &Client, args: &RedriveCalls, dry_run: bool) -> Result<Redriven, Failure> {
    let mut which = Map::new();
    which.insert("dry_run".into(), dry_run.into());
    match &args.operation {
        _ if !args.all => drop(which.insert("ids".into(), args.ids.clone().into())),
        Some(operation) => drop(which.insert("operation".into(), operation.clone().into())),
        None => drop(which.insert("all".into(), true.into())),
    }
    client.json(client.request(Method::POST, "/v1/callbacks/redrive").json(&Value::Object(which))).await
}
