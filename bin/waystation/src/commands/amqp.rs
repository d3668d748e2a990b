//! How are RabbitMQ's definitions read in from a file, and written to one?

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use reqwest::Method;
use serde_json::{Map, Value};
use waystation_http::{api::Imported, limits::DEFINITIONS_BYTES_MAX};

use crate::{
    args::access::AmqpCommand,
    client::Client,
    exit::{Exit, Failure},
    output::{self, Output},
};

const PATH: &str = "/v1/amqp/definitions";

pub async fn run(client: Client, command: AmqpCommand, output: Output) -> Result<Exit, Failure> {
    match command {
        AmqpCommand::Import { file, dry_run, vhost } => {
            import(&client, &file, dry_run, vhost.as_deref(), output).await
        }
        AmqpCommand::Export { output: file, vhost } => export(&client, file, vhost.as_deref()).await,
    }
}

fn read(path: &Path) -> Result<Map<String, Value>, Failure> {
    let named = path.display();
    let most = DEFINITIONS_BYTES_MAX as u64 + 1;
    let mut bytes = Vec::new();
    let got = match path.as_os_str() == "-" {
        true => std::io::stdin().lock().take(most).read_to_end(&mut bytes),
        false => File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)),
    };
    got.map_err(|error| Failure::usage(format!("reading {named} failed: {error}")))?;
    if bytes.len() > DEFINITIONS_BYTES_MAX {
        return Err(Failure::usage(format!("{named} has more than {DEFINITIONS_BYTES_MAX} bytes")));
    }
    serde_json::from_slice(&bytes).map_err(|error| {
        Failure::usage(format!("{named}: {error}"))
            .advise("RabbitMQ writes such a file with `rabbitmqctl export_definitions FILE`")
    })
}

async fn import(
    client: &Client,
    file: &Path,
    dry_run: bool,
    vhost: Option<&str>,
    output: Output,
) -> Result<Exit, Failure> {
    let definitions = read(file)?;
    let request = client.request(Method::POST, PATH).json(&definitions);
    let request = if dry_run { request.query(&[("dry_run", "true")]) } else { request };
    let request = match vhost {
        Some(vhost) => request.query(&[("vhost", vhost)]),
        None => request,
    };
    let done: Imported = client.json(request).await?;
    output.say(&done, || told(&done, dry_run))?;
    if done.differs > 0 && !dry_run {
        let count = done.differs;
        return Err(Failure::new(
            Exit::Refused,
            format!("{count} are there otherwise, and stay as they are"),
        )
        .advise("delete those and import again, or change the file"));
    }
    Ok(Exit::Done)
}

/// A line for each object about which something is to be done, and how many of each kind.
fn told(done: &Imported, dry_run: bool) -> String {
    let line = |step: &waystation_http::api::ImportStep| {
        let what = &step.what;
        match step.step.as_str() {
            "create" => Some(format!("+ {what}")),
            "change" => Some(format!("~ {what}")),
            "differs" => Some(format!("! {what} is there otherwise")),
            _ => None,
        }
    };
    let mut lines: Vec<String> = done.steps.iter().filter_map(line).collect();
    let Imported { create, change, keep, differs, .. } = done;
    lines.push(match dry_run {
        true => format!("{create} to create, {change} to change, {differs} otherwise, {keep} there just so"),
        false => format!("{create} created, {change} changed, {differs} otherwise, {keep} there just so"),
    });
    lines.join("\n")
}

async fn export(client: &Client, to: Option<PathBuf>, vhost: Option<&str>) -> Result<Exit, Failure> {
    let request = client.request(Method::GET, PATH);
    let request = match vhost {
        Some(vhost) => request.query(&[("vhost", vhost)]),
        None => request,
    };
    let definitions: Value = client.json(request).await?;
    let text = serde_json::to_string_pretty(&definitions).unwrap_or_default();
    match to {
        Some(path) => write(&path, &text)
            .map_err(|error| Failure::from(error).during(format!("writing {}", path.display())))?,
        None => output::text(&text)?,
    }
    Ok(Exit::Done)
}

/// For the owner's eyes only: there are hashes of passwords in it.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    writeln!(file, "{text}")
}

#[cfg(test)]
mod tests {
    use waystation_http::api::ImportStep;

    use super::*;

    #[test]
    fn an_import_is_told_by_what_it_does_and_not_by_what_stays() {
        let step = |what: &str, step: &str| ImportStep { what: what.into(), step: step.into() };
        let steps =
            vec![step("queue 'a'", "create"), step("queue 'b'", "keep"), step("queue 'c'", "differs")];
        let done = Imported { steps, create: 1, keep: 1, differs: 1, change: 0 };
        let text = told(&done, true);
        let expected = "+ queue 'a'\n! queue 'c' is there otherwise\n\
            1 to create, 0 to change, 1 otherwise, 1 there just so";
        assert_eq!(text, expected);
    }
}
