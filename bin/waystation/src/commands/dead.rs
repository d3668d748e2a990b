//! How are dead letters looked at from the command line?

use reqwest::Method;
use waystation_base::Millis;
use waystation_http::api::{DeadLetter, DeadLetterPage};
use waystation_redrive::{Group, Groups};

use crate::{
    args::redrive::{DeadCommand, DeadList, DeadShow},
    client::{Client, segments},
    exit::{Exit, Failure},
    output::{Output, table},
    units::{show_messages, show_time},
};

/// Characters of a body that are shown.
const BODY_CHARS_MAX: usize = 120;

pub async fn run(client: Client, command: DeadCommand, output: Output) -> Result<Exit, Failure> {
    match command {
        DeadCommand::List(args) => list(&client, args, output).await,
        DeadCommand::Show(args) => show(&client, args, output).await,
    }
}

async fn list(client: &Client, args: DeadList, output: Output) -> Result<Exit, Failure> {
    let DeadList { queue, cause, origin, origin_kind, limit } = args;
    let asked = [
        ("queue", queue),
        ("cause", cause),
        ("origin", origin),
        ("origin_kind", origin_kind),
        ("limit", Some(limit.to_string())),
    ];
    let groups: Groups = client.json(client.request(Method::GET, "/v1/dead-letters").query(&asked)).await?;
    output.say(&groups, || shown(&groups))?;
    Ok(Exit::Done)
}

fn shown(groups: &Groups) -> String {
    let names = |counts: &std::collections::BTreeMap<String, u64>| {
        counts.keys().map(|name| if name.is_empty() { "?" } else { name }).collect::<Vec<_>>().join(" ")
    };
    let row = |group: &Group| {
        vec![
            group.id.clone(),
            group.cause.clone(),
            group.messages.to_string(),
            show_time(Millis(group.first)),
            show_time(Millis(group.last)),
            names(&group.origins),
            names(&group.queues),
            group.error.clone().unwrap_or_default(),
        ]
    };
    let columns = ["group", "cause", ">messages", "first", "last", "failed in", "lie in", "error"];
    let mut text = table(&columns, groups.groups.iter().map(row).collect());
    let mut say = |what: String| text.push_str(&format!("\n{what}"));
    if groups.messages == 0 {
        return "there are no dead letters".to_owned();
    }
    if groups.more {
        say("there are more groups: --limit shows more of them".to_owned());
    }
    if groups.other > 0 {
        say(format!("{} belong to more groups than are told apart", show_messages(groups.other)));
    }
    if groups.unread > 0 {
        say(format!("{} are not looked at yet", show_messages(groups.unread)));
    }
    text
}

async fn show(client: &Client, args: DeadShow, output: Output) -> Result<Exit, Failure> {
    let path = segments(&["v1", "dead-letters", &args.group]);
    let asked = [
        ("queue", args.queue),
        ("origin", args.origin),
        ("origin_kind", args.origin_kind),
        ("limit", Some(args.limit.to_string())),
    ];
    let page: DeadLetterPage = client.json(client.request(Method::GET, &path).query(&asked)).await?;
    output.say(&page, || {
        let letters: Vec<String> = page.items.iter().map(letter).collect();
        let more = page.next.as_ref().map(|_| "\n\nthere are more: --limit shows more of them");
        format!("{}{}", letters.join("\n\n"), more.unwrap_or_default())
    })?;
    Ok(Exit::Done)
}

fn letter(dead: &DeadLetter) -> String {
    let DeadLetter { queue, letter, message } = dead;
    let body = match (&message.body, &message.body_text, &message.body_base64) {
        (Some(json), ..) => json.get().to_owned(),
        (_, Some(text), _) => text.clone(),
        (_, _, bytes) => bytes.clone().unwrap_or_default(),
    };
    let body: String = body.chars().take(BODY_CHARS_MAX).collect();
    let mut lines = vec![
        format!("uuid      {}", message.uuid),
        format!("lies in   {queue} (tag {})", message.tag),
        format!(
            "failed    in {} at {}, attempts {}",
            letter.place().map_or_else(|| "?".to_owned(), |place| place.to_string()),
            show_time(Millis(letter.time)),
            letter.attempts
        ),
        format!("cause     {}", letter.cause),
    ];
    lines.extend(letter.error.as_ref().map(|error| format!("error     {error}")));
    lines.extend(message.id.as_ref().map(|id| format!("id        {id}")));
    lines.extend((letter.redriven > 0).then(|| format!("redriven  {} times", letter.redriven)));
    lines.push(format!("body      {body}"));
    lines.join("\n")
}
