//! How are messages taken, written out or worked on, and acknowledged only then?

use std::{
    io::{self, Write},
    process::{Command, Stdio},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use reqwest::Method;
use serde_json::{Value, json};
use waystation_broker::Kind;
use waystation_http::api::{Outcome, Received, ReceivedPage, SettleRequest, Settlement};

use crate::{
    args::messages::Consume,
    client::{Client, path},
    exit::{Exit, Failure},
    output::Output,
};

/// How long one request waits at most.
const WAIT_MS: u64 = 20_000;
/// How long to wait before a server that went away is asked again.
const PAUSE: Duration = Duration::from_millis(500);
/// After a failed command a message is tried again this much later, and twice as much each time after.
const RETRY_MS: u64 = 1_000;
/// At most this much later.
const RETRY_MS_MAX: u64 = 60_000;

struct Worker {
    client: Client,
    kind: Kind,
    args: Consume,
    output: Output,
    /// The source says itself when what failed is tried again.
    has_policy: bool,
}

/// How a message went.
#[derive(Debug, Default, PartialEq)]
struct Went {
    outcome: Outcome,
    error: Option<String>,
    class: Option<String>,
    delay_ms: Option<u64>,
}

pub async fn run(client: Client, args: Consume, output: Output) -> Result<Exit, Failure> {
    let kinds = [Kind::Queue, Kind::Subscription];
    let kind = client.kind_of(&args.source, args.kind.as_deref(), &kinds).await?;
    let has_policy = match args.exec {
        Some(_) => has_policy(&client, kind, &args.source).await?,
        None => false,
    };
    let worker = Worker { client, kind, args, output, has_policy };
    let (mut taken, mut is_away, mut patience_ms) = (0, false, worker.args.wait);
    while worker.left(taken) > 0 {
        let wait_ms = if worker.args.follow { WAIT_MS } else { patience_ms.min(WAIT_MS) };
        let page = match worker.receive(taken, wait_ms).await {
            // A worker outlives the server's restarts.
            Err(failure) if failure.exit == Exit::Unreachable && worker.args.follow => {
                if !is_away {
                    failure.tell(output.json);
                }
                is_away = true;
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            other => other?,
        };
        is_away = false;
        if page.messages.is_empty() && !worker.args.follow {
            patience_ms -= wait_ms;
            if patience_ms == 0 {
                break;
            }
            continue;
        }
        patience_ms = worker.args.wait;
        taken += page.messages.len() as u64;
        worker.work(page.messages).await?;
    }
    Ok(Exit::Done)
}

impl Worker {
    fn left(&self, taken: u64) -> u64 {
        self.args.count.map_or(u64::MAX, |count| count.saturating_sub(taken))
    }

    async fn receive(&self, taken: u64, wait_ms: u64) -> Result<ReceivedPage, Failure> {
        let max = match self.args.exec {
            // The next ones should not wait under a lease while a command runs.
            Some(_) => 1,
            None => self.left(taken).min(self.args.batch.into()),
        };
        let mut query = vec![("max", max), ("wait_ms", wait_ms)];
        query.extend(self.args.lease.map(|lease| ("lease_ms", lease)));
        let path = format!("{}/receive", path(self.kind, &self.args.source));
        self.client.json(self.client.request(Method::POST, &path).query(&query)).await
    }

    async fn work(&self, messages: Vec<Received>) -> Result<(), Failure> {
        let mut settlements = Vec::new();
        for message in &messages {
            let outcome = match &self.args.exec {
                Some(command) => {
                    let went = execute(command, message)?;
                    if self.has_policy { Went { delay_ms: None, ..went } } else { went }
                }
                None => {
                    self.write(message)?;
                    Went::default()
                }
            };
            settlements.push(settlement(message, outcome));
        }
        io::stdout().flush()?;
        if self.args.no_ack || settlements.is_empty() {
            return Ok(());
        }
        self.settle(settlements).await
    }

    fn write(&self, message: &Received) -> Result<(), Failure> {
        if self.output.json {
            return self.output.json(message);
        }
        let mut stdout = io::stdout().lock();
        stdout.write_all(&body(message))?;
        Ok(stdout.write_all(b"\n")?)
    }

    /// Settles all at once, or one by one if some of them are not held any more: those come again.
    async fn settle(&self, settlements: Vec<Settlement>) -> Result<(), Failure> {
        let several = settlements.len() > 1;
        match self.send(settlements.clone()).await {
            Err(failure) if failure.exit == Exit::Refused && several => {
                for settlement in settlements {
                    self.tolerate(self.send(vec![settlement]).await)?;
                }
                Ok(())
            }
            other => self.tolerate(other),
        }
    }

    fn tolerate(&self, result: Result<(), Failure>) -> Result<(), Failure> {
        match result {
            Err(failure) if failure.exit == Exit::Refused => {
                failure.advise("it comes again; --lease gives more time").tell(self.output.json);
                Ok(())
            }
            Err(failure) if failure.exit == Exit::Unreachable && self.args.follow => {
                failure.tell(self.output.json);
                Ok(())
            }
            other => other,
        }
    }

    async fn send(&self, settlements: Vec<Settlement>) -> Result<(), Failure> {
        let request = SettleRequest { settlements };
        let _: Value = self.client.post(self.kind, &self.args.source, "settle", &request).await?;
        Ok(())
    }
}

fn settlement(message: &Received, went: Went) -> Settlement {
    let Went { outcome, error, class, delay_ms } = went;
    Settlement { tag: message.tag, attempt: message.attempt, outcome, error, class, delay_ms }
}

async fn has_policy(client: &Client, kind: Kind, source: &str) -> Result<bool, Failure> {
    let info: Value = client.json(client.request(Method::GET, &path(kind, source))).await?;
    Ok(!info["spec"]["retry"].is_null())
}

/// The body's bytes, however they were written in JSON.
pub fn body(message: &Received) -> Vec<u8> {
    match (&message.body, &message.body_text, &message.body_base64) {
        (Some(json), _, _) => json.get().as_bytes().to_vec(),
        (_, Some(text), _) => text.as_bytes().to_vec(),
        (_, _, Some(encoded)) => BASE64_STANDARD.decode(encoded).unwrap_or_default(),
        _ => Vec::new(),
    }
}

/// Runs the command with the body on its standard input and all else in its environment.
fn execute(command: &str, message: &Received) -> Result<Went, Failure> {
    let about = json!({"key": message.key, "headers": message.headers, "attempt": message.attempt});
    let mut child = Command::new("sh")
        .arg("-c")
        .arg(command)
        .env("MESSAGE_UUID", &message.uuid)
        .env("MESSAGE_ID", message.id.as_deref().unwrap_or_default())
        .env("MESSAGE_KEY", message.key.as_deref().unwrap_or_default())
        .env("MESSAGE_ADDRESS", &message.address)
        .env("MESSAGE_ATTEMPT", message.attempt.to_string())
        .env("MESSAGE_ABOUT", about.to_string())
        .stdin(Stdio::piped())
        .spawn()
        .map_err(|error| Failure::usage(format!("the command cannot be run: {error}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that does not read its input is no failure.
        let _ = stdin.write_all(&body(message));
    }
    let status = child.wait()?;
    if status.success() {
        return Ok(Went::default());
    }
    let doublings = message.attempt.saturating_sub(1).min(16);
    Ok(Went {
        outcome: Outcome::Requeue,
        error: Some(format!("the command ended with {status}")),
        class: status.code().map(|code| format!("exit_{code}")),
        delay_ms: Some((RETRY_MS << doublings).min(RETRY_MS_MAX)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(json: &str) -> Received {
        serde_json::from_str(json).expect("a message")
    }

    #[test]
    fn a_body_is_the_same_bytes_however_it_was_written() {
        assert_eq!(body(&message(r#"{"body": {"a":  1}}"#)), b"{\"a\":  1}");
        assert_eq!(body(&message(r#"{"body_text": "a\nb"}"#)), b"a\nb");
        assert_eq!(body(&message(r#"{"body_base64": "/w=="}"#)), b"\xff");
        assert_eq!(body(&message("{}")), b"");
    }

    #[test]
    fn a_command_that_fails_has_its_message_tried_again_later() {
        let first = message(r#"{"attempt": 1, "key": "k", "body_text": "hello"}"#);
        let check = |command: &str, message: &Received| execute(command, message).expect("it runs");
        assert_eq!(check("test \"$(cat)\" = hello", &first), Went::default());
        assert_eq!(check("test \"$MESSAGE_KEY\" = k", &first), Went::default());
        let failed = check("exit 75", &first);
        assert_eq!((failed.outcome, failed.delay_ms), (Outcome::Requeue, Some(1_000)));
        assert_eq!(failed.class.as_deref(), Some("exit_75"));
        assert!(failed.error.is_some_and(|error| error.contains("75")));
        let fourth = message(r#"{"attempt": 4}"#);
        assert_eq!(check("false", &fourth).delay_ms, Some(8_000));
        let late = message(r#"{"attempt": 4000000000}"#);
        assert_eq!(check("false", &late).delay_ms, Some(RETRY_MS_MAX));
    }
}
