//! How are operations declared, listed, shown and removed from the command line?

use std::io::{self, Write};

use reqwest::Method;
use serde_json::{Value, json};
use waystation_base::name;
use waystation_calls::UpstreamInfo;
use waystation_http::api::{Declared, List, OperationDeclaration, OperationInfo, Removed};

use crate::{
    args::calls::OperationCommand,
    client::{Client, segments},
    exit::{Exit, Failure},
    output::{self, Output},
    units::{show_duration, show_time},
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
            let done: OperationDeclaration = client.json(request).await?;
            for warning in done.warnings.iter().filter(|_| !output.json) {
                writeln!(io::stderr(), "warning: operation {name}: {warning}")?;
            }
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
        OperationCommand::Pause { name } => set_paused(&client, &name, true, output).await?,
        OperationCommand::Resume { name } => set_paused(&client, &name, false, output).await?,
        OperationCommand::Delete { name } => {
            let done: Removed = client.json(client.request(Method::DELETE, &path(&name))).await?;
            output.say(&done, || {
                format!("operation {name} is removed; its calls go on, and its queue stays")
            })?;
        }
    }
    Ok(Exit::Done)
}

/// Declares an operation anew with its upstream paused, or not.
async fn set_paused(client: &Client, name: &str, paused: bool, output: Output) -> Result<(), Failure> {
    let info: OperationInfo = client.json(client.request(Method::GET, &path(name))).await?;
    let mut spec = info.spec;
    let Some(upstream) = &mut spec.upstream else {
        let failure = Failure::new(Exit::Refused, format!("operation {name} has no upstream"));
        return Err(failure.advise("`waystation operation create NAME --upstream URL --change` gives it one"));
    };
    upstream.paused = paused;
    let request = client.request(Method::PUT, &path(name)).json(&spec).query(&[("change", "true")]);
    let done: OperationDeclaration = client.json(request).await?;
    let verb = if paused { "is paused; calls wait in their queue" } else { "serves" };
    output.say(&done, || format!("the upstream of operation {name} {verb}"))
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

/// Everything that is declared, a line each, and how the upstream is.
fn details(info: &OperationInfo) -> String {
    let mut lines = vec![format!("{:33}  {}", "operation", info.name)];
    declared(&mut lines, "", &json!(info.spec));
    if let Some(upstream) = &info.upstream {
        now(&mut lines, upstream);
    }
    lines.join("\n")
}

fn declared(lines: &mut Vec<String>, within: &str, spec: &Value) {
    for (name, value) in spec.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        let name = format!("{within}{name}");
        let shown = match (name.ends_with("_ms") || name.ends_with("_ms_max"), value.as_u64(), value.as_str())
        {
            (true, Some(ms), _) => show_duration(ms),
            (_, _, Some(text)) => text.to_owned(),
            _ if value.is_object() => {
                declared(lines, &format!("{name}."), value);
                continue;
            }
            _ => value.to_string(),
        };
        lines.push(format!("{name:33}  {shown}"));
    }
}

/// How an upstream is now.
fn now(lines: &mut Vec<String>, info: &UpstreamInfo) {
    let mut line = |name: &str, shown: String| lines.push(format!("{name:33}  {shown}"));
    let state = json!(info.state).as_str().unwrap_or_default().to_owned();
    let until = info.until.map(|until| format!(" until {}", show_time(until))).unwrap_or_default();
    let reason = info.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    line("upstream", format!("{state}{until}{reason}"));
    if !info.header_names.is_empty() {
        line("headers (values hidden)", info.header_names.join(", "));
    }
    line("requests under way", info.requests.to_string());
    let counts = &info.counts;
    let mean = show_duration(counts.took_ms.checked_div(counts.attempts).unwrap_or_default());
    line("requests", format!("{}, {mean} each on average", counts.attempts));
    line("calls succeeded, failed", format!("{}, {}", counts.succeeded, counts.failed));
    line("tried again, dropped", format!("{}, {}", counts.retried, counts.dropped));
    for failure in &info.failures {
        let next = failure.next_ms.map(|ms| format!("; again in {}", show_duration(ms))).unwrap_or_default();
        let (call, attempt, cause) = (&failure.call, failure.attempt, &failure.cause);
        line("failure", format!("{} {call} attempt {attempt}: {cause}{next}", show_time(failure.at)));
    }
}

#[cfg(test)]
mod tests {
    use waystation_base::Millis;
    use waystation_calls::{Operation, Upstream, UpstreamFailure, UpstreamState};

    use super::*;

    #[test]
    fn details_show_how_an_upstream_is_declared_and_how_it_is() {
        let upstream = Upstream { url: "https://a.example/".into(), ..Upstream::default() };
        let spec = Operation { upstream: Some(upstream), ..Operation::default() };
        let failure =
            UpstreamFailure { cause: "answered 503".into(), attempt: 2, ..UpstreamFailure::default() };
        let upstream = UpstreamInfo {
            state: UpstreamState::Suspended,
            until: Some(Millis(0)),
            failures: vec![failure],
            ..UpstreamInfo::default()
        };
        let text = details(&OperationInfo {
            name: "ship".into(),
            spec,
            upstream: Some(upstream),
            callback_signatures: Vec::new(),
        });
        for part in
            ["upstream.url ", "upstream.breaker.pause_ms ", "suspended until 1970", "attempt 2: answered 503"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn details_show_durations_as_people_write_them() {
        let text = details(&OperationInfo {
            name: "ship".into(),
            spec: Operation::default(),
            upstream: None,
            callback_signatures: Vec::new(),
        });
        assert!(text.lines().any(|line| line.starts_with("timeout_ms") && line.ends_with("1d")), "{text}");
    }
}
