//! How are redrives begun, found again after a restart, looked at and told what to do?

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};
use waystation_base::{Clock, Name};
use waystation_broker::{
    Refusal, SessionId,
    command::Transaction,
    spec::{Spec as Declaration, TopicSpec},
};
use waystation_host::{Broker, Browse, Delivery, Target};
use waystation_jq::Pool;

use super::{
    Error, Preview, Sample,
    edit::Editor,
    figures::Counts,
    preview,
    record::{self, ORIGINALS, Record, Redrive, State, TOPIC, Walk, fresh_id, own},
    spec::Spec,
    work::{Ask, Wish, Work},
};
use crate::{
    letters::{Follower, Letters},
    limits::{ACTIVE_MAX, BATCH_MESSAGES, ENDED_MAX, ORIGINALS_BYTES, ORIGINALS_MS, PAGE_MAX},
    which::Invalid,
};

/// Wishes that may wait for one redrive.
const ASKS_MAX: usize = 16;

/// Who begins a redrive.
#[derive(Clone, Debug, Default)]
pub struct Maker {
    /// By name; none: somebody on the server's machine.
    pub name: Option<String>,
    /// Where he may publish; none: everywhere.
    pub may: Option<Vec<String>>,
}

/// The tasks behind [`Redrives`]: run it beside the broker's driver.
pub struct Engine {
    redrives: Redrives,
    follower: Follower,
}

impl Engine {
    /// Goes on with what was under way, and works until `stopped`.
    pub async fn run(self, stopped: impl Future<Output = ()>) -> Result<(), Refusal> {
        let (stop, follow) = oneshot::channel::<()>();
        let follower = tokio::spawn(self.follower.run(async { drop(follow.await) }));
        self.redrives.load().await?;
        stopped.await;
        self.redrives.end().await;
        drop(stop);
        // One that crashed has told so by itself.
        let _ = follower.await;
        Ok(())
    }
}

/// All redrives. Clones are cheap and mean the same ones.
#[derive(Clone)]
pub struct Redrives {
    broker: Broker,
    letters: Letters,
    clock: Arc<dyn Clock>,
    jq: Option<Pool>,
    inner: Arc<Mutex<Inner>>,
    pub(super) counts: Arc<Counts>,
    stop: watch::Sender<bool>,
}

#[derive(Default)]
struct Inner {
    jobs: BTreeMap<String, Job>,
    /// One is being begun.
    beginning: usize,
}

struct Job {
    seen: watch::Receiver<Record>,
    asks: mpsc::Sender<Ask>,
    task: JoinHandle<()>,
}

/// One is being begun, until this is dropped: whoever asked for it may go away meanwhile.
struct Beginning<'a>(&'a Redrives);

impl Drop for Beginning<'_> {
    fn drop(&mut self) {
        self.0.lock().beginning -= 1;
    }
}

impl Redrives {
    /// A handle, and what does the work; `jq` evaluates the programs of edits.
    pub fn new(broker: Broker, clock: Arc<dyn Clock>, jq: Option<Pool>) -> (Redrives, Engine) {
        let (letters, follower) = Letters::new(broker.clone());
        let stop = watch::Sender::new(false);
        let redrives =
            Redrives { broker, letters, clock, jq, inner: Arc::default(), counts: Arc::default(), stop };
        (redrives.clone(), Engine { redrives, follower })
    }

    /// The dead letters.
    pub fn letters(&self) -> &Letters {
        &self.letters
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what there is, and goes on with what was under way.
    async fn load(&self) -> Result<(), Refusal> {
        for record in record::read_all(&self.broker).await? {
            self.start(record);
        }
        Ok(())
    }

    /// Lets each step that is under way end, and nothing more begin.
    async fn end(&self) {
        self.stop.send_replace(true);
        let jobs = std::mem::take(&mut self.lock().jobs);
        for job in jobs.into_values() {
            // One that crashed has told so by itself.
            let _ = job.task.await;
        }
    }

    fn start(&self, record: Record) {
        let id = record.redrive.id.clone();
        let (asks, inbox) = mpsc::channel(ASKS_MAX);
        let (seen, see) = watch::channel(record.clone());
        let editable = record.redrive.spec.clone();
        let work = Work {
            broker: self.broker.clone(),
            letters: self.letters.clone(),
            counts: self.counts.clone(),
            clock: self.clock.clone(),
            record,
            seen,
            asks: inbox,
            stop: self.stop.subscribe(),
            batch: BATCH_MESSAGES,
            editor: self.editor(&editable),
            originals: None,
        };
        let task = tokio::spawn(work.run());
        self.lock().jobs.insert(id, Job { seen: see, asks, task });
    }

    fn editor(&self, spec: &Spec) -> Result<Option<Editor>, Invalid> {
        spec.edit.as_ref().map(|edit| Editor::new(edit, self.jq.as_ref())).transpose()
    }

    /// The queues that a declaration takes from.
    pub async fn queues(&self, spec: &Spec) -> Result<Vec<Name>, Error> {
        Ok(if spec.from.is_empty() { self.letters.queues().await? } else { spec.from.clone() })
    }

    /// What a redrive would do, with samples.
    pub async fn preview(
        &self,
        spec: &Spec,
        queues: &[Name],
        maker: &Maker,
    ) -> Result<(Preview, Vec<Sample>), Error> {
        spec.check()?;
        let (editor, may) = (self.editor(spec)?, maker.may.as_deref());
        Ok(preview::preview(&self.broker, &self.letters, spec, editor.as_ref(), queues, may).await?)
    }

    /// Begins a redrive over these queues. When this returns it is durable, and goes on whatever happens.
    pub async fn begin(&self, spec: Spec, queues: Vec<Name>, maker: Maker) -> Result<Redrive, Error> {
        spec.check()?;
        self.editor(&spec)?;
        let beginning = {
            let mut inner = self.lock();
            let is_open = |job: &&Job| !job.seen.borrow().redrive.state.is_ended();
            if inner.jobs.values().filter(is_open).count() + inner.beginning >= ACTIVE_MAX {
                return Err(Error::Busy);
            }
            inner.beginning += 1;
            Beginning(self)
        };
        let record = self.write(spec, queues, maker).await?;
        let redrive = record.redrive.clone();
        self.start(record);
        drop(beginning);
        self.forget_oldest().await;
        Ok(redrive)
    }

    async fn write(&self, spec: Spec, queues: Vec<Name>, maker: Maker) -> Result<Record, Error> {
        self.set_up().await?;
        let (total, by_groups) = match spec.asked(queues.clone()) {
            None => (None, false),
            Some(asked) => {
                let groups = self.letters.groups(asked, PAGE_MAX).await?;
                let is_complete = groups.unread == 0 && groups.other == 0 && !groups.more;
                let total = groups.groups.iter().map(|group| group.messages).sum();
                (is_complete.then_some(total), is_complete)
            }
        };
        let names = queues.clone();
        let extents = self
            .broker
            .query(move |view| names.into_iter().map(|name| (view.extents(&name), name)).collect::<Vec<_>>());
        let mut through = Vec::new();
        for (extents, name) in extents.await? {
            let kind = waystation_broker::Kind::Queue;
            let missing = || Refusal::NotFound { kind, name: name.to_string() };
            through.push((name.clone(), extents.ok_or_else(missing)?));
        }
        let now = self.clock.now();
        let total = total.map(|total: u64| spec.max.map_or(total, |max| total.min(max)));
        let redrive = Redrive {
            id: fresh_id(now)?.to_string(),
            spec,
            by: maker.name,
            created: now.0,
            changed: now.0,
            queues,
            total,
            ..Redrive::default()
        };
        let record = Record { redrive, walk: Walk::through(through), by_groups, may: maker.may };
        let publish = record.publish(now)?;
        self.broker.transact(Transaction { publishes: vec![publish], settlements: Vec::new() }).await?;
        Ok(record)
    }

    async fn set_up(&self) -> Result<(), Refusal> {
        let redrives = TopicSpec { compact: true, ..TopicSpec::default() };
        let originals = TopicSpec {
            retention_ms: Some(ORIGINALS_MS),
            retention_bytes: Some(ORIGINALS_BYTES),
            ..TopicSpec::default()
        };
        for (name, spec) in [(TOPIC, redrives), (ORIGINALS, originals)] {
            self.broker.declare(own(name), Declaration::Topic(spec), true, SessionId::default()).await?;
        }
        Ok(())
    }

    /// Keeps as many ended ones as there is room for.
    async fn forget_oldest(&self) {
        let gone: Vec<(String, Job)> = {
            let mut inner = self.lock();
            let ended = inner.jobs.iter().filter(|(_, job)| job.seen.borrow().redrive.state.is_ended());
            let mut ended: Vec<(u64, String)> =
                ended.map(|(id, job)| (job.seen.borrow().redrive.created, id.clone())).collect();
            ended.sort_unstable();
            let excess = ended.len().saturating_sub(ENDED_MAX);
            ended[..excess].iter().filter_map(|(_, id)| inner.jobs.remove_entry(id)).collect()
        };
        for (id, job) in gone {
            drop(job);
            let forgotten = match record::forget(&id, self.clock.now()) {
                Ok(publish) => {
                    let transaction = Transaction { publishes: vec![publish], settlements: Vec::new() };
                    self.broker.transact(transaction).await.map(|_| ())
                }
                Err(refusal) => Err(refusal),
            };
            if let Err(refusal) = forgotten {
                tracing::warn!(%id, %refusal, "an old redrive cannot be forgotten now");
            }
        }
    }

    /// All of them, the newest first.
    pub fn list(&self) -> Vec<Redrive> {
        let mut all: Vec<Redrive> =
            self.lock().jobs.values().map(|job| job.seen.borrow().redrive.clone()).collect();
        all.sort_by(|a, b| (b.created, &b.id).cmp(&(a.created, &a.id)));
        all
    }

    /// One of them.
    pub fn get(&self, id: &str) -> Result<Redrive, Error> {
        let inner = self.lock();
        let job = inner.jobs.get(id).ok_or_else(|| Error::NotFound(id.to_owned()))?;
        let redrive = job.seen.borrow().redrive.clone();
        Ok(redrive)
    }

    async fn wish(&self, id: &str, wish: Wish) -> Result<Redrive, Error> {
        let asks = {
            let inner = self.lock();
            inner.jobs.get(id).map(|job| job.asks.clone()).ok_or_else(|| Error::NotFound(id.to_owned()))?
        };
        let (reply, answer) = oneshot::channel();
        asks.send(Ask { wish, reply }).await.map_err(|_| Refusal::Draining)?;
        answer.await.map_err(|_| Refusal::Draining)??;
        self.get(id)
    }

    /// Lets one rest; when this returns it moves nothing more.
    pub async fn pause(&self, id: &str) -> Result<Redrive, Error> {
        self.wish(id, Wish::Pause).await
    }

    /// Lets one go on that rests.
    pub async fn resume(&self, id: &str) -> Result<Redrive, Error> {
        self.wish(id, Wish::Resume).await
    }

    /// Ends one; what it has moved stays where it is.
    pub async fn abort(&self, id: &str) -> Result<Redrive, Error> {
        self.wish(id, Wish::Abort).await
    }

    /// Brings back what one has moved and nobody was given yet.
    pub async fn undo(&self, id: &str) -> Result<Redrive, Error> {
        self.wish(id, Wish::Undo).await
    }

    /// A message as it was before a redrive edited it, if it is still kept.
    pub async fn original(&self, redrive: &str, message: &str) -> Result<Delivery, Error> {
        let key = super::outgoing::original_prefix(redrive, message);
        let only = std::collections::BTreeMap::from([("key".to_owned(), key.clone())]);
        let filter = Some(waystation_base::filter::Filter::Prefix(only));
        let mut from = None;
        loop {
            let browse = Browse { from, max: 1, bytes_max: 0, filter: filter.clone(), ..Browse::default() };
            let page = match self.broker.browse(Target::Topic(own(ORIGINALS)), browse).await {
                Err(Refusal::NotFound { .. }) => return Err(Error::NotFound(key)),
                page => page?,
            };
            if let Some(mut kept) = page.messages.into_iter().next() {
                kept.message = super::outgoing::unkept(kept.message);
                return Ok(kept);
            }
            from = page.next;
            if from.is_none() {
                return Err(Error::NotFound(key));
            }
        }
    }

    /// How many there are in a state.
    pub(super) fn count(&self, state: State) -> usize {
        self.lock().jobs.values().filter(|job| job.seen.borrow().redrive.state == state).count()
    }
}
