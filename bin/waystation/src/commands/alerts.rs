//! How are alerts looked at from the command line, and their rules set?

use reqwest::Method;
use waystation_alerts::{
    Alert, AlertSpec, Rule,
    alert::Kind,
    rule::{Absence, Growth, Lag},
};
use waystation_base::Millis;
use waystation_http::api::{Declaration, Declared, List, Removed};

use crate::{
    args::alerts::{self, AlertsCommand, SetRule},
    client::{Client, segments},
    exit::{Exit, Failure},
    output::{Output, table},
    units::{show_duration, show_time},
};

pub async fn run(client: Client, command: AlertsCommand, output: Output) -> Result<Exit, Failure> {
    match command {
        AlertsCommand::List => list(&client, output).await,
        AlertsCommand::Rules => rules(&client, output).await,
        AlertsCommand::Set(args) => set(&client, args, output).await,
        AlertsCommand::Unset { name } => {
            let path = segments(&["v1", "alert-rules", &name]);
            let done: Removed = client.json(client.request(Method::DELETE, &path)).await?;
            output.say(&done, || format!("alert rule {name} is taken away"))?;
            Ok(Exit::Done)
        }
    }
}

async fn list(client: &Client, output: Output) -> Result<Exit, Failure> {
    let all: List<Alert> = client.json(client.request(Method::GET, "/v1/alerts")).await?;
    output.say(&all.items, || {
        if all.items.is_empty() {
            return "nothing is wrong".to_owned();
        }
        let row = |alert: &Alert| {
            vec![
                alert.kind.to_string(),
                show_time(Millis(alert.raised)),
                alert.summary.clone(),
                alert.runbook.clone(),
            ]
        };
        table(&["alert", "since", "what", "runbook"], all.items.iter().map(row).collect())
    })?;
    Ok(Exit::Done)
}

async fn rules(client: &Client, output: Output) -> Result<Exit, Failure> {
    let all: List<Rule> = client.json(client.request(Method::GET, "/v1/alert-rules")).await?;
    output.say(&all.items, || {
        let row = |rule: &Rule| {
            let AlertSpec { on, dead_letters, no_consumer, lag, off } = &rule.spec;
            let or_default = |text: Option<String>| text.unwrap_or_else(|| "as by default".to_owned());
            vec![
                rule.name.to_string(),
                on.clone(),
                or_default(
                    dead_letters.map(|it| format!("{} in {}", it.messages, show_duration(it.within_ms))),
                ),
                or_default(no_consumer.map(|it| show_duration(it.for_ms))),
                or_default(lag.map(|it| show_duration(it.age_ms))),
                off.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            ]
        };
        let columns = ["rule", "on", "dead letters", "no consumer", "lag", "off"];
        table(&columns, all.items.iter().map(row).collect())
    })?;
    Ok(Exit::Done)
}

async fn set(client: &Client, args: SetRule, output: Output) -> Result<Exit, Failure> {
    let SetRule { name, on, dead_letters, within, no_consumer, lag, off } = args;
    let growth = Growth::default();
    let spec = AlertSpec {
        on,
        dead_letters: (dead_letters.is_some() || within.is_some()).then(|| Growth {
            messages: dead_letters.unwrap_or(growth.messages),
            within_ms: within.unwrap_or(growth.within_ms),
        }),
        no_consumer: no_consumer.map(|for_ms| Absence { for_ms }),
        lag: lag.map(|age_ms| Lag { age_ms }),
        off: off.into_iter().map(kind).collect(),
    };
    let path = segments(&["v1", "alert-rules", &name]);
    let request = client.request(Method::PUT, &path).query(&[("change", true)]).json(&spec);
    let done: Declaration = client.json(request).await?;
    output.say(&done, || match done.declared {
        Declared::Unchanged => format!("alert rule {name} is so already"),
        _ => format!("alert rule {name} is set"),
    })?;
    Ok(Exit::Done)
}

fn kind(kind: alerts::Kind) -> Kind {
    match kind {
        alerts::Kind::DeadLetters => Kind::DeadLetters,
        alerts::Kind::NoConsumer => Kind::NoConsumer,
        alerts::Kind::Lag => Kind::Lag,
    }
}
