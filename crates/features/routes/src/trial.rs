//! What would a route do? It is run on messages that are given, or on the last ones of its source, and nothing comes of it; another
//! declaration can be held against the present one.

use std::collections::VecDeque;

use waystation_base::{Message, Millis, Name, Tag};
use waystation_host::{Browse, Delivery, Target};

use crate::{
    Error, Program, RouteSteps, Routes,
    limits::{TRIAL_MESSAGES_MAX, TRIAL_MS_MAX, TRIAL_SCAN_MAX},
    run::{self, Evaluation, Output, Say},
    spec::Taken,
};

/// Messages and bytes of one page that is read.
const PAGE: (usize, usize) = (1_000, 4 << 20);

/// What is to be tried.
#[derive(Clone, Debug, Default)]
pub struct Trial {
    /// Another declaration than that of the route; it need not be there then.
    pub spec: Option<RouteSteps>,
    /// Messages, with the address each is from.
    pub messages: Vec<(Name, Message)>,
    /// So many of the last messages of its source, besides.
    pub last: usize,
}

/// What came of one message.
#[derive(Clone, Debug)]
pub struct Tried {
    /// The message.
    pub message: Message,
    /// The address it is from.
    pub address: Name,
    /// What the declaration that is tried makes of it.
    pub evaluation: Evaluation,
    /// What the present one makes of it, if another is tried.
    pub present: Option<Evaluation>,
}

impl Tried {
    /// Whether the present declaration would make something else of it.
    pub fn differs(&self) -> bool {
        self.present.as_ref().is_some_and(|present| !same(present, &self.evaluation))
    }
}

/// Whether two evaluations come to the same: the same messages in the same places, or a failure.
fn same(one: &Evaluation, other: &Evaluation) -> bool {
    let key = |output: &Output| (output.to.clone(), output.message.id);
    let outputs = |of: &Evaluation| {
        let mut outputs = of.outputs.clone();
        // A stable sort: several messages for one place stay in order.
        outputs.sort_by_key(key);
        outputs
    };
    one.fault.is_some() == other.fault.is_some() && outputs(one) == outputs(other)
}

impl Routes {
    /// Runs a route on messages, without any effect. What has not been tried after [`TRIAL_MS_MAX`] is left out.
    pub async fn try_messages(&self, name: &Name, trial: Trial) -> Result<Vec<Tried>, Error> {
        let present = match self.spec(name).await {
            Ok(spec) => Some(spec),
            Err(_) if trial.spec.is_some() => None,
            Err(error) => return Err(error),
        };
        let tried = trial.spec.as_ref().or(present.as_ref()).ok_or_else(|| Error::NotFound(name.clone()))?;
        let mut messages = trial.messages;
        if trial.last > 0 {
            let taken = tried.from.taken(name)?;
            messages.extend(self.last_messages(&taken, trial.last.min(TRIAL_MESSAGES_MAX)).await?);
        }
        messages.truncate(TRIAL_MESSAGES_MAX);
        let program = self.compile(name, tried).await?;
        let present = match (&trial.spec, &present) {
            (Some(_), Some(present)) => Some(self.compile(name, present).await?),
            _ => None,
        };
        let mut all = Vec::with_capacity(messages.len());
        let until = self.tools().clock.now().plus(TRIAL_MS_MAX);
        for (address, message) in messages {
            if self.tools().clock.now() > until {
                break;
            }
            let evaluation = self.evaluate(&program, &address, &message).await;
            let present = match &present {
                Some(present) => Some(self.evaluate(present, &address, &message).await),
                None => None,
            };
            all.push(Tried { message, address, evaluation, present });
        }
        Ok(all)
    }

    pub(crate) async fn evaluate(&self, program: &Program, address: &Name, message: &Message) -> Evaluation {
        run::evaluate(program, self.tools(), address.clone(), message.clone(), Say::ALL).await
    }

    /// The last messages of a source that are still there, oldest first.
    async fn last_messages(&self, taken: &Taken, count: usize) -> Result<Vec<(Name, Message)>, Error> {
        let targets = match taken {
            Taken::Queue(queue) => vec![Target::Queue(queue.clone())],
            Taken::Subscription(name) | Taken::Own { subscription: name, .. } => {
                let declared = match taken {
                    Taken::Own { topic, .. } => topic.clone(),
                    _ => self.broker().subscription(name.clone()).await?.spec.topic,
                };
                self.topics(declared).await?
            }
        };
        let mut last: VecDeque<Delivery> = VecDeque::new();
        for target in targets {
            last.extend(self.last_of(target, count).await?);
        }
        let mut last: Vec<Delivery> = last.into();
        last.sort_by_key(|delivery| delivery.message.id);
        let surplus = last.len().saturating_sub(count);
        Ok(last.drain(..).skip(surplus).map(|it| (it.address, it.message)).collect())
    }

    /// The topics that a name or pattern stands for.
    pub(crate) async fn topics(&self, declared: String) -> Result<Vec<Target>, Error> {
        let all = self.broker().query(move |view| {
            if !waystation_base::name::is_pattern(&declared) {
                return Name::new(&declared).into_iter().collect();
            }
            let names = view.names(waystation_broker::Kind::Topic, None, usize::MAX);
            names
                .into_iter()
                .filter(|name| waystation_base::name::matches(&declared, name.as_str()))
                .collect::<Vec<_>>()
        });
        Ok(all.await?.into_iter().map(Target::Topic).collect())
    }

    async fn last_of(&self, target: Target, count: usize) -> Result<VecDeque<Delivery>, Error> {
        let mut last = VecDeque::new();
        for from in self.beginnings(&target, count).await? {
            let (mut from, mut seen, mut lane) = (from, 0, VecDeque::new());
            loop {
                let (max, bytes_max) = PAGE;
                let partition =
                    matches!(target, Target::Topic(_)).then(|| u32::from(from.unwrap_or_default().log()));
                let browse = Browse { from, partition, max, bytes_max, ..Browse::default() };
                let page = self.broker().browse(target.clone(), browse).await?;
                seen += page.messages.len();
                lane.extend(page.messages);
                let surplus = lane.len().saturating_sub(count);
                lane.drain(..surplus);
                from = page.next;
                if from.is_none() || seen >= TRIAL_SCAN_MAX {
                    break;
                }
            }
            last.extend(lane);
        }
        Ok(last)
    }

    /// Where to begin to read, for each log: a queue's head, and so far before the end of each partition.
    async fn beginnings(&self, target: &Target, count: usize) -> Result<Vec<Option<Tag>>, Error> {
        let Target::Topic(name) = target else { return Ok(vec![None]) };
        let info = self.broker().topic(name.clone()).await?;
        let partitions = info.partitions.iter().enumerate();
        let begin = |(number, it): (usize, &waystation_broker::view::PartitionInfo)| {
            let offset = it.end_offset.saturating_sub(count as u64).max(it.start_offset);
            Some(Tag::new(number as u16, waystation_base::Offset(offset)))
        };
        Ok(partitions.map(begin).collect())
    }
}

/// When a message was stored: its id says so (RFC 9562 §5.7: the first 48 bits are milliseconds).
pub(crate) fn stored_at(id: &[u8; 16]) -> Millis {
    Millis(id[..6].iter().fold(0, |ms, byte| ms << 8 | u64::from(*byte)))
}
