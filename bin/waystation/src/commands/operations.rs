//! How are operations declared, listed, shown and removed from the command line?

use reqwest::Method;
use serde_json::json;
use waystation_base::name;
use waystation_http::api::{Declaration, Declared, List, OperationInfo, Removed};

use crate::{
    args::calls::OperationCommand,
    client::{Client, segments},
    exit::{Exit, Failure},
    output::{self, Output},
    units::show_duration,
};

/// Operations that one request lists.
const PAGE: usize = 1000;

fn path(name: &str) -> String {
    segments(&["v1", "operations", name])
}

pub async fn operation(client: Client, command: OperationCommand, output: Output) -> Result<Exit, Failure> {
    match command {
        OperationCommand::Create { name, fields, change } => {
            let mut request = client.request(Method::PUT, &path(&name)).json(&fields.fields());
            if change {
                request = request.query(&[("change", "true")]);
            }
            let done: Declaration = client.json(request).await?;
            let verb = match done.declared {
                Declared::Created => "is created",
                Declared::Changed => "is changed",
                Declared::Unchanged => "is there just so; nothing was changed",
            };
            output.say(&done, || format!("operation {name} {verb}"))?;
        }
        OperationCommand::List(args) => {
            let mut all = all(&client).await?;
            all.retain(|it| args.pattern.as_deref().is_none_or(|pattern| name::matches(pattern, &it.name)));
            list(&all, output)?;
        }
        OperationCommand::Show { name } => {
            let info: OperationInfo = client.json(client.request(Method::GET, &path(&name))).await?;
            output.say(&info, || details(&info))?;
        }
        OperationCommand::Delete { name } => {
            let done: Removed = client.json(client.request(Method::DELETE, &path(&name))).await?;
            output.say(&done, || {
                format!("operation {name} is removed; its calls go on, and its queue stays")
            })?;
        }
    }
    Ok(Exit::Done)
}

async fn all(client: &Client) -> Result<Vec<OperationInfo>, Failure> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let request = client.request(Method::GET, "/v1/operations");
        let request = request.query(&[("limit", PAGE.to_string()), ("after", after)]);
        let page: List<OperationInfo> = client.json(request).await?;
        all.extend(page.items);
        match page.next {
            Some(next) => after = next,
            None => return Ok(all),
        }
    }
}

fn list(all: &[OperationInfo], output: Output) -> Result<(), Failure> {
    if output.json {
        return output.json(&all);
    }
    let row = |info: &OperationInfo| {
        let queue = info.spec.queue.clone().unwrap_or_else(|| info.name.clone());
        let [timeout, retention] = [info.spec.timeout_ms, info.spec.retention_ms].map(show_duration);
        vec![info.name.clone(), queue, timeout, retention, info.spec.max_attempts.to_string()]
    };
    if all.is_empty() {
        return Ok(());
    }
    let columns = ["operation", "queue", ">timeout", ">retention", ">attempts"];
    output::text(&output::table(&columns, all.iter().map(row).collect()))
}

/// Everything that is declared, a line each.
fn details(info: &OperationInfo) -> String {
    let spec = json!(info.spec);
    let mut lines = vec![format!("{:16}  {}", "operation", info.name)];
    for (name, value) in spec.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        let shown = match (name.ends_with("_ms"), value.as_u64(), value.as_str()) {
            (true, Some(ms), _) => show_duration(ms),
            (_, _, Some(text)) => text.to_owned(),
            _ => value.to_string(),
        };
        lines.push(format!("{name:16}  {shown}"));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use waystation_calls::Operation;

    use super::*;

    #[test]
    fn details_show_durations_as_people_write_them() {
        let text = details(&OperationInfo { name: "ship".into(), spec: Operation::default() });
        assert!(text.lines().any(|line| line.starts_with("timeout_ms") && line.ends_with("1d")), "{text}");
    }
}
