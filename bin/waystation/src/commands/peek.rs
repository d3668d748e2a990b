//! How does one look at messages without taking them?

use reqwest::Method;
use waystation_base::{Millis, message::header};
use waystation_broker::Kind;
use waystation_http::api::{MessagePage, Received};

use super::{consume::body, show};
use crate::{
    args::messages::Peek,
    client::{Client, path},
    exit::{Exit, Failure},
    output::{self, Output},
};

/// Messages asked for with one request.
const PAGE: u64 = 100;
/// Characters of a body that a table shows.
const PREVIEW: usize = 60;

pub async fn run(client: Client, args: Peek, output: Output) -> Result<Exit, Failure> {
    let kinds = [Kind::Queue, Kind::Topic, Kind::Subscription];
    let kind = client.kind_of(&args.name, args.kind.as_deref(), &kinds).await?;
    let (mut shown, mut from) = (0, args.from.clone());
    let mut rows = Vec::new();
    while shown < args.count {
        let page = page(&client, kind, &args, from.take(), (args.count - shown).min(PAGE)).await?;
        shown += page.messages.len() as u64;
        for message in &page.messages {
            match output.json {
                true => output.json(message)?,
                false => rows.push(row(message)),
            }
        }
        from = page.next.map(|tag| tag.to_string());
        if from.is_none() || page.messages.is_empty() {
            break;
        }
    }
    if !rows.is_empty() {
        let columns = ["position", "partition", "offset", ">age", ">attempts", "key", "dead because", "body"];
        output::text(&output::table(&columns, rows))?;
    }
    if let Some(next) = from.filter(|_| !output.json) {
        output::text(&format!("there may be more: --from {next}"))?;
    }
    Ok(Exit::Done)
}

async fn page(
    client: &Client,
    kind: Kind,
    args: &Peek,
    from: Option<String>,
    max: u64,
) -> Result<MessagePage, Failure> {
    let mut query = vec![("limit", max.to_string())];
    query.extend(args.partition.map(|partition| ("partition", partition.to_string())));
    query.extend(args.filter.clone().map(|filter| ("filter", filter)));
    match from {
        Some(from) => query.push(("from", from)),
        None => query.extend(args.from_time.map(|time| ("time", time.0.to_string()))),
    }
    let path = format!("{}/messages", path(kind, &args.name));
    client.json(client.request(Method::GET, &path).query(&query)).await
}

fn row(message: &Received) -> Vec<String> {
    let reason = message.headers.get(header::DEATH_REASON).and_then(|reason| reason.as_str());
    vec![
        message.tag.to_string(),
        message.partition.to_string(),
        message.offset.to_string(),
        show::age(Millis(message.timestamp)),
        message.attempt.to_string(),
        message.key.clone().or(message.key_base64.clone()).unwrap_or_default(),
        reason.unwrap_or_default().to_owned(),
        preview(&body(message)),
    ]
}

/// The beginning of a body on one line.
fn preview(body: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(body) else { return format!("{} bytes", body.len()) };
    let mut shown: String =
        text.chars().take(PREVIEW).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(PREVIEW).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preview_is_one_short_line() {
        assert_eq!(preview(b"a\nb\x1b[31m"), "a b [31m");
        assert_eq!(preview(&[0xff; 5]), "5 bytes");
        assert_eq!(preview("ä".repeat(PREVIEW).as_bytes()), "ä".repeat(PREVIEW));
        assert_eq!(preview("ä".repeat(PREVIEW + 1).as_bytes()), "ä".repeat(PREVIEW) + "…");
    }
}
