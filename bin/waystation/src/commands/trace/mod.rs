//! What became of a message, as a tree for people, a graph, or JSON.

mod graph;
mod paint;
mod tree;

use reqwest::Method;
use waystation_journeys::Journey;

use self::paint::Paint;
use crate::{
    args::messages::Trace,
    client::Client,
    exit::{Exit, Failure},
    output::{self, Output},
};

/// What the interface calls each way to look for something.
const ROLES: [(&str, &str); 5] = [
    ("message", "message_id"),
    ("correlation", "correlation_id"),
    ("trace", "trace_id"),
    ("call", "call"),
    ("business", "business"),
];

pub async fn run(client: Client, args: Trace, output: Output) -> Result<Exit, Failure> {
    let said = args.role.as_deref().and_then(|role| ROLES.iter().find(|(name, _)| *name == role));
    let parameter = said.map_or("id", |(_, parameter)| *parameter);
    let mut journey = ask(&client, parameter, &args).await?;
    if said.is_none() && journey.messages.is_empty() && args.id.contains(':') {
        journey = ask(&client, "business", &args).await?;
    }
    if journey.messages.is_empty() {
        return Err(nothing(&args.id, &journey));
    }
    match args.graph.as_deref() {
        Some("dot") => output::text(&graph::dot(&journey))?,
        Some(_) => output::text(&graph::mermaid(&journey))?,
        None => output.say(&journey, || tree::tell(&journey, Paint::of_terminal()))?,
    }
    Ok(Exit::Done)
}

async fn ask(client: &Client, parameter: &str, args: &Trace) -> Result<Journey, Failure> {
    let query = [(parameter, args.id.clone()), ("limit", args.count.to_string())];
    client.json(client.request(Method::GET, "/v1/journeys").query(&query)).await
}

fn nothing(id: &str, journey: &Journey) -> Failure {
    let hidden = match journey.hidden {
        0 => String::new(),
        hidden => format!("; {hidden} places are hidden from this token, which may not consume there"),
    };
    let failure = Failure::new(Exit::NotFound, format!("the record knows nothing of '{id}'{hidden}"));
    failure.advise(match journey.record.from {
        Some(from) => format!("it goes back to {}", paint::moment(from)),
        None => "nothing has been recorded yet".to_owned(),
    })
}
