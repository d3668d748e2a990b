//! How are routes with steps declared by a file, tried, explained, paused and resumed?

use std::{fs, io, io::Read, path::Path};

use reqwest::Method;
use serde::de::DeserializeOwned;
use serde_json::{json, value::RawValue};
use waystation_admin::document;
use waystation_base::Name;
use waystation_broker::Kind;
use waystation_http::api::{Declaration, Declared, Line, MadeOutput, Trial, TrialRequest, TriedMessage};
use waystation_routes::{Ending, Explanation, Program, Record, RouteSteps, Said};

use super::entities::Context;
use crate::{
    args::routes::Trial as Args,
    client::{path, segments},
    exit::{Exit, Failure},
    units::show_time,
};

/// Bytes of a file of messages.
const MESSAGES_BYTES_MAX: u64 = 24 << 20;

/// Declares a route as a file says.
pub async fn put(context: &Context, name: &str, file: &Path, change: bool) -> Result<Exit, Failure> {
    let spec = declaration(name, file)?;
    let request = context.client.request(Method::PUT, &path(Kind::Route, name)).json(&spec);
    let done: Declaration = context.client.json(request.query(&[("change", change)])).await?;
    context.declared(name, done)
}

/// Lets a route rest, or work again.
pub async fn set(context: &Context, name: &str, what: &str) -> Result<Exit, Failure> {
    let done: Declaration = context.client.post(Kind::Route, name, what, &json!({})).await?;
    context.output.say(&done, || {
        let how = match (what, done.declared) {
            ("pause", Declared::Unchanged) => "rests already",
            ("pause", _) => "rests",
            (_, Declared::Unchanged) => "works already",
            _ => "works",
        };
        format!("route {name} {how}")
    })?;
    Ok(Exit::Done)
}

/// Runs a route on messages without any effect.
pub async fn test(context: &Context, args: Args) -> Result<Exit, Failure> {
    let spec = args.file.as_deref().map(|file| declaration(&args.name, file)).transpose()?;
    let messages = messages(&args)?;
    let (address, routing_key) = (args.address, args.routing_key);
    let request = TrialRequest { spec, messages, address, routing_key, last: args.last };
    if request.messages.is_empty() && request.last == 0 {
        return Err(Failure::usage("there is no message to try it on")
            .advise("give --body, --ndjson, or --last N for those that its source still has"));
    }
    let mut trial: Trial = context.client.post(Kind::Route, &args.name, "test", &request).await?;
    if args.differences {
        trial.tried.retain(|tried| tried.differs == Some(true));
    }
    context.output.say(&trial, || {
        let mut text: String = trial.tried.iter().map(tried).collect();
        if request.spec.is_some() {
            let count = trial.different;
            text +=
                &format!("{count} of the messages would fare otherwise than by the present declaration\n");
        }
        text
    })?;
    Ok(Exit::Done)
}

/// Says why a message went where it went.
pub async fn explain(context: &Context, message: &str) -> Result<Exit, Failure> {
    let request = context.client.request(Method::GET, &segments(&["v1", "explanations", message]));
    let explanation: Explanation = context.client.json(request).await?;
    context.output.say(&explanation, || explained(&explanation))?;
    Ok(Exit::Done)
}

fn read(file: &Path, most: u64) -> Result<Vec<u8>, Failure> {
    let named =
        if file.as_os_str() == "-" { "standard input".to_owned() } else { file.display().to_string() };
    let mut bytes = Vec::new();
    let got = match file.as_os_str() == "-" {
        true => io::stdin().lock().take(most + 1).read_to_end(&mut bytes),
        false => fs::File::open(file).and_then(|it| it.take(most + 1).read_to_end(&mut bytes)),
    };
    got.map_err(|error| Failure::usage(format!("reading {named} failed: {error}")))?;
    match bytes.len() as u64 > most {
        true => Err(Failure::usage(format!("{named} is longer than {most} bytes"))),
        false => Ok(bytes),
    }
}

/// Reads a declaration and compiles it, so that an error names the place in the file.
fn declaration(name: &str, file: &Path) -> Result<RouteSteps, Failure> {
    let bytes = read(file, document::DOCUMENT_BYTES_MAX as u64)?;
    let wrong = |error: document::Error| Failure::usage(format!("{}: {error}", file.display()));
    let spec: RouteSteps = document::read(&bytes).map_err(wrong)?;
    let text = document::text(&bytes).map_err(wrong)?;
    let name = Name::new(name).map_err(|error| Failure::usage(format!("'{name}': {error}")))?;
    Program::compile(&name, &spec).map_err(|invalid| {
        let at = document::locate_field(text, &[], &invalid.field);
        wrong(document::Error::at(text, at, invalid.to_string()))
    })?;
    Ok(spec)
}

fn messages(args: &Args) -> Result<Vec<Line>, Failure> {
    if let Some(body) = &args.body {
        return Ok(vec![line(args, body)]);
    }
    let Some(file) = &args.ndjson else { return Ok(Vec::new()) };
    let bytes = read(file, MESSAGES_BYTES_MAX)?;
    let lines = bytes.split(|byte| *byte == b'\n').enumerate();
    let lines = lines.filter(|(_, line)| !line.iter().all(u8::is_ascii_whitespace));
    lines.map(|(number, line)| parsed(file, number, line)).collect()
}

fn parsed<T: DeserializeOwned>(file: &Path, number: usize, line: &[u8]) -> Result<T, Failure> {
    let wrong = |error| Failure::usage(format!("{}: line {}: {error}", file.display(), number + 1));
    serde_json::from_slice(line).map_err(wrong)
}

fn line(args: &Args, body: &str) -> Line {
    let json: Option<Box<RawValue>> = serde_json::from_str(body).ok();
    let is_json = json.is_some() && args.content_type.is_none();
    Line {
        key: args.key.clone(),
        content_type: args.content_type.clone(),
        headers: args.header.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect(),
        body_text: (!is_json).then(|| body.to_owned()),
        body: json.filter(|_| is_json),
        ..Line::default()
    }
}

fn word(of: impl serde::Serialize) -> String {
    let word = serde_json::to_value(of).unwrap_or_default();
    word.as_str().unwrap_or_default().replace('_', " ")
}

fn tried(tried: &TriedMessage) -> String {
    let TriedMessage { message, trail, outputs, present, .. } = tried;
    let ends = ending(tried.ending, false);
    let mut text = format!("message {} from {}: {ends}\n", message.uuid, message.address);
    text += &made(trail, outputs, "  ");
    if let Some(present) = present {
        text += &format!("  at present: {}\n", ending(present.ending, false));
        text += &made(&present.trail, &present.outputs, "    ");
    }
    text + "\n"
}

fn ending(ending: Ending, was: bool) -> String {
    let would = if was { "" } else { "would be " };
    match ending {
        Ending::Sent => format!("{would}sent"),
        Ending::Ended => if was { "ended there" } else { "would end there" }.to_owned(),
        Ending::DeadLettered => format!("{would}dead-lettered"),
        Ending::Retried => format!("{would}tried again"),
    }
}

fn made(said: &[Said], outputs: &[MadeOutput], indent: &str) -> String {
    let mut text = trail(said, indent);
    for output in outputs {
        text += &format!("{indent}-> {}  {}\n", output.to, body(&output.message));
    }
    text
}

/// The body on one line, cut.
fn body(message: &waystation_http::api::Received) -> String {
    const CHARS_MAX: usize = 200;
    let json = message.body.as_ref().map(|body| body.get().to_owned());
    let text = json.or_else(|| message.body_text.clone()).or_else(|| message.body_base64.clone());
    let text = text.unwrap_or_default().replace('\n', " ");
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn trail(trail: &[Said], indent: &str) -> String {
    let width = trail.iter().map(|said| said.step.len()).max().unwrap_or_default();
    let line = |said: &Said| {
        let part: String = said.part.iter().map(|part| format!("part {part}: ")).collect();
        let detail = said.detail.as_deref().unwrap_or_default();
        let line = format!("{indent}{part}{:width$}  {:11}  {detail}", said.step, word(said.verdict));
        format!("{}\n", line.trim_end())
    };
    trail.iter().map(line).collect()
}

fn explained(explanation: &Explanation) -> String {
    let mut text = String::new();
    if let Some(record) = &explanation.made_by {
        text += &format!(
            "made by route {} out of message {} from {}\n",
            record.route, record.message, record.address
        );
        text += &recorded(record);
    }
    for record in &explanation.taken_by {
        let at = show_time(record.at);
        text += &format!("taken by route {} from {} at {at}", record.route, record.address);
        text += &format!(" (attempt {}): {}\n", record.attempt, ending(record.ending, true));
        text += &recorded(record);
    }
    if explanation.is_cut {
        text += "there may be more: only so many records are looked through\n";
    }
    text
}

fn recorded(record: &Record) -> String {
    let mut text = trail(&record.trail, "  ");
    if let Some(error) = &record.error {
        text += &format!("  error: {error}\n");
    }
    for sent in &record.sent {
        text += &format!("  -> {} as message {}\n", sent.to, sent.id);
    }
    text
}
