//! How are pushes made, shown, paused, resumed, tried and removed?

use reqwest::Method;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use waystation_base::Millis;
use waystation_http::api::{Declaration, Declared, List, Removed};
use waystation_webhooks::{
    push::{PushInfo, PushState, Tested},
    sign,
};

use crate::{
    args::pushes::{PushCommand, PushFields},
    client::{Client, segments},
    exit::{Exit, Failure},
    output::{Output, table},
    units,
};

pub async fn run(client: Client, command: PushCommand, output: Output) -> Result<Exit, Failure> {
    let context = Context { client, output };
    match command {
        PushCommand::Create { name, fields } => context.create(&name, &fields).await,
        PushCommand::Change { name, fields } => context.change(&name, &fields).await,
        PushCommand::List => context.list().await,
        PushCommand::Show { name } => context.show(&name).await,
        PushCommand::Delete { name } => context.delete(&name).await,
        PushCommand::Pause { name } => context.set(&name, "pause", "rests", "rests already").await,
        PushCommand::Resume { name } => {
            context.set(&name, "resume", "delivers", "delivers, and tries at once").await
        }
        PushCommand::Test { name } => context.test(&name).await,
    }
}

struct Context {
    client: Client,
    output: Output,
}

fn path(name: &str) -> String {
    segments(&["v1", "pushes", name])
}

impl Context {
    async fn send<T: DeserializeOwned>(&self, method: Method, path: &str) -> Result<T, Failure> {
        self.client.json(self.client.request(method, path)).await
    }

    async fn find(&self, name: &str) -> Result<Option<PushInfo>, Failure> {
        match self.send(Method::GET, &path(name)).await {
            Ok(info) => Ok(Some(info)),
            Err(failure) if failure.exit == Exit::NotFound => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    async fn put(
        &self,
        name: &str,
        fields: &Map<String, Value>,
        change: bool,
    ) -> Result<Declaration, Failure> {
        let request = self.client.request(Method::PUT, &path(name)).json(fields);
        self.client.json(request.query(&[("change", change)])).await
    }

    /// A new push without a secret is given one, which is shown this once.
    async fn create(&self, name: &str, said: &PushFields) -> Result<Exit, Failure> {
        let mut fields = Map::new();
        said.put_into(&mut fields);
        let mut secret = None;
        if said.secret.is_empty() && self.find(name).await?.is_none() {
            let made = sign::new_symmetric().map_err(|error| Failure::new(Exit::Failure, error))?;
            fields.insert("secrets".to_owned(), json!([made]));
            secret = Some(made);
        }
        let done = self.put(name, &fields, false).await?;
        let mut told = json!(done);
        if let Some(secret) = &secret {
            told["secret"] = json!(secret);
        }
        self.output.say(&told, || {
            let shown =
                secret.as_ref().map(|it| format!("\nsecret (shown only now): {it}")).unwrap_or_default();
            match done.declared {
                Declared::Unchanged => format!("push {name} is there just so"),
                _ => format!("push {name} is made{shown}"),
            }
        })?;
        Ok(Exit::Done)
    }

    async fn change(&self, name: &str, said: &PushFields) -> Result<Exit, Failure> {
        let there: PushInfo = self.send(Method::GET, &path(name)).await?;
        let mut fields = match serde_json::to_value(there.spec) {
            Ok(Value::Object(fields)) => fields,
            _ => Map::new(),
        };
        said.put_into(&mut fields);
        let done = self.put(name, &fields, true).await?;
        self.output.say(&done, || match done.declared {
            Declared::Unchanged => format!("push {name} is so already"),
            _ => format!("push {name} is changed"),
        })?;
        Ok(Exit::Done)
    }

    async fn list(&self) -> Result<Exit, Failure> {
        let mut all: Vec<PushInfo> = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let request = self.client.request(Method::GET, "/v1/pushes").query(&[("limit", "1000")]);
            let request = match &after {
                Some(name) => request.query(&[("after", name)]),
                None => request,
            };
            let page: List<PushInfo> = self.client.json(request).await?;
            all.extend(page.items);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        self.output.say(&all, || {
            let row = |info: &PushInfo| {
                let from = info.spec.queue.clone().or(info.spec.subscription.clone()).unwrap_or_default();
                let counts = info.counts;
                vec![
                    info.name.to_string(),
                    word(info.state),
                    from,
                    info.spec.url.clone(),
                    counts.delivered.to_string(),
                    counts.retried.to_string(),
                    counts.dead_lettered.to_string(),
                ]
            };
            let columns = ["name", "state", "from", "url", ">delivered", ">retried", ">dead"];
            table(&columns, all.iter().map(row).collect())
        })?;
        Ok(Exit::Done)
    }

    async fn show(&self, name: &str) -> Result<Exit, Failure> {
        let info: PushInfo = self.send(Method::GET, &path(name)).await?;
        self.output.say(&info, || details(&info))?;
        Ok(Exit::Done)
    }

    async fn delete(&self, name: &str) -> Result<Exit, Failure> {
        let done: Removed = self.send(Method::DELETE, &path(name)).await?;
        self.output.say(&done, || format!("push {name} is deleted; its messages stay where they are"))?;
        Ok(Exit::Done)
    }

    async fn set(&self, name: &str, what: &str, now: &str, already: &str) -> Result<Exit, Failure> {
        let done: Declaration = self.send(Method::POST, &format!("{}/{what}", path(name))).await?;
        self.output.say(&done, || {
            let how = if done.declared == Declared::Unchanged { already } else { now };
            format!("push {name} {how}")
        })?;
        Ok(Exit::Done)
    }

    async fn test(&self, name: &str) -> Result<Exit, Failure> {
        let tested: Tested = self.send(Method::POST, &format!("{}/test", path(name))).await?;
        self.output.say(&tested, || answered(&tested))?;
        Ok(if tested.delivered { Exit::Done } else { Exit::Refused })
    }
}

/// What a test came to, for people.
pub fn answered(tested: &Tested) -> String {
    let how = match (&tested.cause, tested.status) {
        (Some(cause), _) => format!("not delivered: {cause}"),
        (None, status) => format!("delivered: answered {}", status.unwrap_or_default()),
    };
    let answer = match tested.answer.trim() {
        "" => String::new(),
        answer => format!("\n\n{answer}"),
    };
    format!("{how}, in {} ms (webhook-id {}){answer}", tested.took_ms, tested.webhook_id)
}

fn word(state: PushState) -> String {
    serde_json::to_value(state).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

fn moment(at: Millis) -> String {
    if at == Millis(0) { "never".to_owned() } else { units::show_time(at) }
}

fn details(info: &PushInfo) -> String {
    let counts = &info.counts;
    let spec = serde_json::to_string_pretty(&info.spec).unwrap_or_default();
    let reason = info.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let until = info.until.map(|until| format!(" until {}", moment(until))).unwrap_or_default();
    let attempts = info.attempts.iter().map(|attempt| {
        vec![
            moment(attempt.at),
            attempt.webhook_id.clone(),
            attempt.attempt.to_string(),
            attempt.messages.to_string(),
            attempt.status.map(|status| status.to_string()).unwrap_or_default(),
            attempt.took_ms.to_string(),
            serde_json::to_value(attempt.ending)
                .ok()
                .and_then(|it| it.as_str().map(str::to_owned))
                .unwrap_or_default(),
            attempt.cause.clone().unwrap_or_default(),
        ]
    });
    let columns = ["at", "webhook-id", ">attempt", ">messages", ">status", ">ms", "ending", "cause"];
    let attempts = table(&columns, attempts.collect());
    format!(
        "push {}\n\nstate        {}{until}{reason}\nsignatures   {}\nheaders      {}\nrequests     {} under way\n\
delivered    {} (last {})\nretried      {} (last failure {})\ndead letters {}\n\n{spec}\n\n{attempts}",
        info.name,
        word(info.state),
        info.signatures.iter().chain(&info.public_keys).cloned().collect::<Vec<_>>().join(" "),
        info.header_names.join(" "),
        info.requests,
        counts.delivered,
        moment(counts.last_delivered),
        counts.retried,
        moment(counts.last_failed),
        counts.dead_lettered,
    )
}
