//! Who looks, and where is it told? One task looks at everything every few seconds and puts what changed on the topic `$alerts`.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use waystation_base::{Clock, Message, MessageId, Millis, Name, message::header, os};
use waystation_broker::{
    Refusal, SessionId,
    effect::Declared,
    spec::{Spec, TopicSpec},
};
use waystation_host::{Broker, Browse, Target};

use crate::{
    alert::{Alert, State},
    judge::Judge,
    rule::{AlertSpec, Invalid, Settings},
};

/// The topic of alerts, keyed by their ids.
pub const TOPIC: &str = "$alerts";
/// What the names of the documents with settings begin with.
const PREFIX: &str = "alert/";
/// Settings of one server.
pub const RULES_MAX: usize = 1_000;
/// How often everything is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Milliseconds for which alerts are kept.
const RETENTION_MS: u64 = 30 * 24 * 60 * 60 * 1000;
/// Bytes of them.
const RETENTION_BYTES: u64 = 256 << 20;
/// Alerts that are read at a time.
const PAGE: (usize, usize) = (1_000, 8 << 20);

/// Why settings cannot be had so.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// There are none of that name.
    #[error("there is no alert rule '{0}'")]
    NotFound(Name),
    /// They are there and differ.
    #[error("alert rule '{0}' is there and differs; with change=true it is changed")]
    Differs(Name),
    /// A field is wrong.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// Too many.
    #[error("there may be {RULES_MAX} alert rules")]
    Limit,
    /// The broker refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Settings by their name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rule {
    /// Their name.
    #[schema(value_type = String)]
    pub name: Name,
    /// What they say.
    pub spec: AlertSpec,
}

/// Alerts and their settings. Clones are cheap and mean the same.
#[derive(Clone, Debug)]
pub struct Alerts {
    broker: Broker,
    active: Arc<Mutex<Vec<Alert>>>,
}

/// The task behind [`Alerts`]: run it beside the broker's driver.
pub struct Engine {
    alerts: Alerts,
    clock: Arc<dyn Clock>,
}

fn own(text: &str) -> Name {
    Name::reserved(text).unwrap_or_else(|error| unreachable!("a good name: {error}"))
}

fn document(rule: &Name) -> Result<Name, Error> {
    Name::new(format!("{PREFIX}{rule}"))
        .map_err(|error| Invalid { field: "name", reason: error.to_string() }.into())
}

impl Alerts {
    /// A handle, and what does the work.
    pub fn new(broker: Broker, clock: Arc<dyn Clock>) -> (Alerts, Engine) {
        let alerts = Alerts { broker, active: Arc::default() };
        (alerts.clone(), Engine { alerts, clock })
    }

    /// What is raised now, the longest first.
    pub fn active(&self) -> Vec<Alert> {
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner).clone();
        active.sort_by(|a, b| (a.raised, &a.id).cmp(&(b.raised, &b.id)));
        active
    }

    /// All settings, by name.
    pub async fn rules(&self) -> Result<Vec<Rule>, Refusal> {
        let read = |(name, body): (Name, bytes::Bytes)| {
            let rule = Name::new(name.as_str().strip_prefix(PREFIX)?).ok()?;
            match serde_json::from_slice(&body) {
                Ok(spec) => Some(Rule { name: rule, spec }),
                Err(error) => {
                    tracing::error!(%name, %error, "an alert rule cannot be read");
                    None
                }
            }
        };
        Ok(self.broker.documents(PREFIX.to_owned()).await?.into_iter().filter_map(read).collect())
    }

    /// Settings by their name.
    pub async fn rule(&self, name: &Name) -> Result<Rule, Error> {
        self.rules()
            .await?
            .into_iter()
            .find(|rule| rule.name == *name)
            .ok_or_else(|| Error::NotFound(name.clone()))
    }

    /// Declares settings, on behalf of whoever `broker` acts for; or only says what that would do.
    pub async fn put(
        &self,
        broker: &Broker,
        name: &Name,
        spec: &AlertSpec,
        change: bool,
        dry_run: bool,
    ) -> Result<Declared, Error> {
        spec.check()?;
        let document = document(name)?;
        let rules = self.rules().await?;
        let put = match rules.iter().find(|rule| rule.name == *name) {
            Some(rule) if rule.spec == *spec => return Ok(Declared::Unchanged),
            Some(_) if change => Declared::Changed,
            Some(_) => return Err(Error::Differs(name.clone())),
            None if rules.len() >= RULES_MAX => return Err(Error::Limit),
            None => Declared::Created,
        };
        if !dry_run {
            let body = serde_json::to_vec(spec).map_err(|error| Refusal::Stopped(error.to_string()))?;
            broker.put_document(document, Some(body.into())).await?;
        }
        Ok(put)
    }

    /// Takes settings away.
    pub async fn delete(&self, broker: &Broker, name: &Name) -> Result<(), Error> {
        self.rule(name).await?;
        Ok(broker.put_document(document(name)?, None).await?)
    }
}

impl Engine {
    /// Looks and tells until `stopped`.
    pub async fn run(self, stopped: impl Future<Output = ()>) -> Result<(), Refusal> {
        tokio::pin!(stopped);
        self.set_up().await?;
        let mut judge = Judge::new(self.raised().await?);
        self.show(&judge);
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = &mut stopped => return Ok(()),
                _ = look.tick() => {}
            }
            match self.look(&mut judge).await {
                Ok(()) => {}
                Err(Refusal::Draining | Refusal::Stopped(_)) => return Ok(()),
                Err(refusal) => tracing::warn!(%refusal, "alerts cannot be told now"),
            }
            self.show(&judge);
        }
    }

    /// Makes the topic before there is anything to tell: whoever is to be told subscribes to it now.
    async fn set_up(&self) -> Result<(), Refusal> {
        let topic = TopicSpec {
            retention_ms: Some(RETENTION_MS),
            retention_bytes: Some(RETENTION_BYTES),
            ..TopicSpec::default()
        };
        let declared = self.alerts.broker.declare(own(TOPIC), Spec::Topic(topic), true, SessionId::default());
        declared.await.map(|_| ())
    }

    fn show(&self, judge: &Judge) {
        *self.alerts.active.lock().unwrap_or_else(PoisonError::into_inner) =
            judge.active().cloned().collect();
    }

    async fn look(&self, judge: &mut Judge) -> Result<(), Refusal> {
        let rules = self.alerts.rules().await?;
        let settings = Settings::new(rules.into_iter().map(|rule| (rule.name, rule.spec)).collect());
        let vitals = self.alerts.broker.query(|view| view.vitals()).await?;
        let now = self.clock.now();
        let changes = judge.look(now, &vitals, &settings);
        for alert in &changes {
            match alert.state {
                State::Raised => {
                    tracing::warn!(alert = %alert.id, runbook = %alert.runbook, "{}", alert.summary)
                }
                State::Resolved => tracing::info!(alert = %alert.id, "{}", alert.summary),
            }
        }
        self.tell(now, &changes).await
    }

    async fn tell(&self, now: Millis, changes: &[Alert]) -> Result<(), Refusal> {
        if changes.is_empty() {
            return Ok(());
        }
        let messages = changes.iter().map(|alert| message(alert, now)).collect::<Result<_, _>>()?;
        self.alerts.broker.publish(own(TOPIC), messages).await.map(|_| ())
    }

    /// What earlier runs have raised and not resolved.
    async fn raised(&self) -> Result<Vec<Alert>, Refusal> {
        let (mut last, mut from) = (BTreeMap::new(), None);
        loop {
            let browse = Browse { from, max: PAGE.0, bytes_max: PAGE.1, ..Browse::default() };
            let page = self.alerts.broker.browse(Target::Topic(own(TOPIC)), browse).await?;
            for delivery in page.messages {
                if let Ok(alert) = serde_json::from_slice::<Alert>(&delivery.message.body) {
                    last.insert(alert.id.clone(), alert);
                }
            }
            from = page.next;
            if from.is_none() {
                return Ok(last.into_values().filter(|alert| alert.state == State::Raised).collect());
            }
        }
    }
}

/// An alert as a message: pushes and the HTTP interface make a CloudEvent of it.
fn message(alert: &Alert, now: Millis) -> Result<Message, Refusal> {
    let random = os::random().map_err(|error| Refusal::Stopped(format!("no randomness: {error}")))?;
    let body = serde_json::to_vec(alert).map_err(|error| Refusal::Stopped(error.to_string()))?;
    let mut message = Message::new(MessageId::new(now, random), now, body);
    message.key = Some(alert.id.clone().into_bytes().into());
    let kind = match alert.state {
        State::Raised => "waystation.alert.raised",
        State::Resolved => "waystation.alert.resolved",
    };
    message.headers.set(header::TYPE, kind);
    message.headers.set(header::CONTENT_TYPE, "application/json");
    Ok(message)
}
