//! How are dead letters redriven from the command line: begun after they were shown, followed, paused, aborted and undone?

use std::{collections::BTreeSet, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Method;
use serde_json::Value;
use waystation_base::{Millis, Name};
use waystation_http::api::{List, RedrivePreview};
use waystation_redrive::{
    OriginKind, Redrive, Spec, Which,
    job::{Edit, State},
};

use super::sure;
use crate::{
    args::redrive::{RedriveCommand, RedriveStart},
    client::{Client, segments},
    exit::{Exit, Failure},
    output::{Output, is_watched, table},
    units::{show_messages, show_time},
};

/// How often a redrive is looked at while it is followed.
const LOOK_EVERY: Duration = Duration::from_millis(250);

pub async fn run(client: Client, command: RedriveCommand, output: Output) -> Result<Exit, Failure> {
    match command {
        RedriveCommand::Start(args) => start(&client, *args, output).await,
        RedriveCommand::List => list(&client, output).await,
        RedriveCommand::Show { id } => say(&get(&client, &id).await?, output),
        RedriveCommand::Watch { id } => follow(&client, &id, output).await,
        RedriveCommand::Pause { id } => say(&wish(&client, &id, "pause").await?, output),
        RedriveCommand::Resume { id } => say(&wish(&client, &id, "resume").await?, output),
        RedriveCommand::Abort { id } => say(&wish(&client, &id, "abort").await?, output),
        RedriveCommand::Undo { id, detach } => {
            let undoing = wish(&client, &id, "undo").await?;
            if detach { say(&undoing, output) } else { follow(&client, &id, output).await }
        }
    }
}

fn say(redrive: &Redrive, output: Output) -> Result<Exit, Failure> {
    output.say(redrive, || details(redrive))?;
    Ok(Exit::Done)
}

async fn get(client: &Client, id: &str) -> Result<Redrive, Failure> {
    client.json(client.request(Method::GET, &segments(&["v1", "redrives", id]))).await
}

async fn wish(client: &Client, id: &str, what: &str) -> Result<Redrive, Failure> {
    client.json(client.request(Method::POST, &segments(&["v1", "redrives", id, what]))).await
}

fn kind(word: &str) -> Result<OriginKind, Failure> {
    serde_json::from_value(word.into()).map_err(|error| Failure::usage(format!("--origin-kind: {error}")))
}

fn spec(args: &RedriveStart) -> Result<Spec, Failure> {
    let name = |text: &String| Name::new(text).map_err(|error| Failure::usage(format!("'{text}': {error}")));
    let wrong = |error: serde_json::Error| Failure::usage(format!("--filter: {error}"));
    let filter = args.filter.as_deref().map(serde_json::from_str).transpose().map_err(wrong)?;
    let which = Which {
        all: args.all,
        group: args.group.clone(),
        cause: args.cause.clone(),
        origin: args.origin.clone(),
        origin_kind: args.origin_kind.as_deref().map(kind).transpose()?,
        error: args.error.clone(),
        after: args.after.map(|at| at.0),
        before: args.before.map(|at| at.0),
        filter,
        ids: args.id.iter().cloned().collect::<BTreeSet<_>>(),
    };
    let set = args.set.iter().map(|(name, text)| (name.clone(), Value::String(text.clone())));
    let edit = Edit { set: set.collect(), remove: args.remove.clone(), jq: args.jq.clone() };
    Ok(Spec {
        from: args.from.iter().map(name).collect::<Result<_, _>>()?,
        which,
        to: args.to.as_ref().map(name).transpose()?,
        edit: (edit != Edit::default()).then_some(edit),
        rate: args.rate,
        max: args.max,
    })
}

async fn start(client: &Client, args: RedriveStart, output: Output) -> Result<Exit, Failure> {
    let spec = spec(&args)?;
    let request = || client.request(Method::POST, "/v1/redrives").json(&spec);
    if args.sure.dry_run || !args.sure.yes {
        let preview: RedrivePreview = client.json(request().query(&[("dry_run", true)])).await?;
        if args.sure.dry_run {
            output.say(&preview, || previewed(&preview))?;
            return Ok(Exit::Done);
        }
        let what = counted(&preview);
        let lines: Vec<String> = previewed(&preview).lines().skip(1).map(str::to_owned).collect();
        let lines = || lines.iter().map(String::as_str);
        if !sure::go_on(args.sure, "redrive", &what, lines(), output)? {
            return Ok(Exit::Done);
        }
    }
    let begun: Redrive = client.json(request()).await?;
    if args.detach {
        output.say(&begun, || begun.id.clone())?;
        return Ok(Exit::Done);
    }
    follow(client, &begun.id, output).await
}

fn counted(preview: &RedrivePreview) -> String {
    let beyond = if preview.preview.more { "at least " } else { "" };
    format!("{beyond}{}", show_messages(preview.preview.messages))
}

fn previewed(preview: &RedrivePreview) -> String {
    let mut lines = vec![format!("would redrive {}", counted(preview))];
    let each = |verb: &'static str| {
        move |(what, count): (&String, &u64)| format!("{} {verb} {what}", show_messages(*count))
    };
    lines.extend(preview.preview.targets.iter().map(each("to")));
    lines.extend(preview.preview.left.iter().map(each("stay:")));
    lines.extend(preview.samples.iter().map(|sample| {
        let where_to = sample.to.as_ref().or(sample.left.as_ref()).map(String::as_str).unwrap_or_default();
        let error = sample.letter.error.as_deref().unwrap_or(&sample.letter.cause);
        format!("e.g. {} of {} to {where_to}: {error}", sample.message.uuid, sample.queue)
    }));
    lines.join("\n")
}

/// Waits until a redrive rests or has ended.
async fn follow(client: &Client, id: &str, output: Output) -> Result<Exit, Failure> {
    let bar = ProgressBar::hidden();
    let mut bar = if is_watched() && !output.json { ProgressBar::new_spinner() } else { bar };
    loop {
        let redrive = get(client, id).await?;
        if !redrive.state.is_active() {
            bar.finish_and_clear();
            say(&redrive, output)?;
            let is_done = matches!(redrive.state, State::Completed | State::Undone) && redrive.left() == 0;
            return Ok(if is_done { Exit::Done } else { Exit::Refused });
        }
        bar = drawn(bar, &redrive);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn drawn(bar: ProgressBar, redrive: &Redrive) -> ProgressBar {
    let undoes = redrive.state == State::Undoing;
    let total = if undoes { Some(redrive.moved) } else { redrive.total };
    let done = if undoes { redrive.undone } else { redrive.moved + redrive.left() };
    let template = match total {
        Some(total) => {
            bar.set_length(total);
            "{bar:30} {pos} of {len}, {per_sec}, {eta} left {msg}"
        }
        None => "{spinner} {pos} messages, {per_sec} {msg}",
    };
    bar.set_position(done);
    bar.set_message(redrive.reason.clone().unwrap_or_default());
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

async fn list(client: &Client, output: Output) -> Result<Exit, Failure> {
    let all: List<Redrive> = client.json(client.request(Method::GET, "/v1/redrives")).await?;
    output.say(&all.items, || {
        let row = |redrive: &Redrive| {
            vec![
                redrive.id.clone(),
                word(redrive.state),
                show_time(Millis(redrive.created)),
                redrive.moved.to_string(),
                redrive.left().to_string(),
                redrive.undone.to_string(),
                redrive.total.map(|total| total.to_string()).unwrap_or_default(),
            ]
        };
        let columns = ["id", "state", "begun", ">moved", ">left", ">undone", ">of"];
        table(&columns, all.items.iter().map(row).collect())
    })?;
    Ok(Exit::Done)
}

fn word(state: State) -> String {
    serde_json::to_value(state).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

fn details(redrive: &Redrive) -> String {
    let of = redrive.total.map(|total| format!(" of {total}")).unwrap_or_default();
    let mut lines = vec![
        format!("redrive  {}", redrive.id),
        format!("state    {}", word(redrive.state)),
        format!(
            "begun    {} by {}",
            show_time(Millis(redrive.created)),
            redrive.by.as_deref().unwrap_or("the local caller")
        ),
        format!("from     {}", redrive.queues.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")),
        format!("moved    {}{of}", redrive.moved),
    ];
    lines.extend(redrive.reason.as_ref().map(|reason| format!("because  {reason}")));
    lines.extend(redrive.targets.iter().map(|(to, count)| format!("  {} to {to}", show_messages(*count))));
    lines.extend((redrive.undone > 0).then(|| format!("undone   {}", redrive.undone)));
    lines.extend((redrive.left() > 0).then(|| format!("left     {}", redrive.left())));
    lines.extend(redrive.left.iter().map(|(reason, count)| format!("  {}: {reason}", show_messages(*count))));
    lines.join("\n")
}
