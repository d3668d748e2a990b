//! Who knows the dead letters? One task follows the queues where they go, reads each letter once, and answers from memory.

use std::{collections::HashSet, future::Future, time::Duration};

use tokio::sync::{mpsc, oneshot};
use waystation_base::{Name, Tag};
use waystation_broker::Refusal;
use waystation_host::{Broker, Browse, Delivery, Target};

use crate::{
    groups::{Asked, Groups},
    index::{Bounds, Index},
    letter::Letter,
    limits::{LOOK_BYTES, LOOK_MESSAGES},
};

/// How often the queues are looked at though nobody asks.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Questions that may wait.
const ASKS_MAX: usize = 256;
/// Messages between two that are wanted which are read rather than asked for anew.
const GAP_MAX: u64 = 16;

enum Ask {
    Queues(oneshot::Sender<Result<Vec<Name>, Refusal>>),
    Groups(Asked, usize, oneshot::Sender<Result<Groups, Refusal>>),
    Members(Name, Asked, Option<Tag>, usize, oneshot::Sender<Result<(Vec<Tag>, bool), Refusal>>),
}

/// The dead letters, for whoever asks. Clones are cheap.
#[derive(Clone, Debug)]
pub struct Letters {
    broker: Broker,
    asks: mpsc::Sender<Ask>,
}

/// The task behind [`Letters`]: run it beside the broker's driver.
pub struct Follower {
    broker: Broker,
    asks: mpsc::Receiver<Ask>,
    index: Index,
    /// Queues that somebody asked about though no dead letters are said to go there.
    asked: HashSet<Name>,
}

/// Some members of a group.
#[derive(Clone, Debug, Default)]
pub struct Members {
    /// They, with the queue that each lies in as its address.
    pub messages: Vec<Delivery>,
    /// Where to go on; nothing at the end.
    pub next: Option<(Name, Tag)>,
}

impl Letters {
    /// A handle, and what answers it.
    pub fn new(broker: Broker) -> (Letters, Follower) {
        let (asks, inbox) = mpsc::channel(ASKS_MAX);
        let index = Index::new(Bounds::default());
        let follower = Follower { broker: broker.clone(), asks: inbox, index, asked: HashSet::new() };
        (Letters { broker, asks }, follower)
    }

    async fn ask<T>(
        &self,
        ask: impl FnOnce(oneshot::Sender<Result<T, Refusal>>) -> Ask,
    ) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.asks.send(ask(reply)).await.map_err(|_| Refusal::Draining)?;
        answer.await.map_err(|_| Refusal::Draining)?
    }

    /// Queues where dead letters go, or that were asked about.
    pub async fn queues(&self) -> Result<Vec<Name>, Refusal> {
        self.ask(Ask::Queues).await
    }

    /// Groups, the largest first, at most `max`.
    pub async fn groups(&self, asked: Asked, max: usize) -> Result<Groups, Refusal> {
        self.ask(|reply| Ask::Groups(asked, max, reply)).await
    }

    /// Where members of a group stand in a queue, from `from` on, at most `max`; and whether there are more.
    pub async fn places(
        &self,
        queue: Name,
        asked: Asked,
        from: Option<Tag>,
        max: usize,
    ) -> Result<(Vec<Tag>, bool), Refusal> {
        self.ask(|reply| Ask::Members(queue, asked, from, max, reply)).await
    }

    /// Members of a group, queue by queue in order of names, at most `max`.
    pub async fn members(
        &self,
        asked: &Asked,
        from: Option<(Name, Tag)>,
        max: usize,
        bytes_max: usize,
    ) -> Result<Members, Refusal> {
        let mut queues = match &asked.queues {
            Some(queues) => queues.clone(),
            None => self.queues().await?,
        };
        queues.sort_unstable();
        queues.retain(|queue| from.as_ref().is_none_or(|(name, _)| queue >= name));
        let mut found = Members::default();
        for queue in queues {
            let from = from.as_ref().filter(|(name, _)| *name == queue).map(|(_, tag)| *tag);
            let room = max - found.messages.len();
            let (mut tags, mut more) = self.places(queue.clone(), asked.clone(), from, room.max(1)).await?;
            if room == 0 {
                more = !tags.is_empty();
                tags.truncate(1);
                if more {
                    found.next = Some((queue, tags[0]));
                    return Ok(found);
                }
                continue;
            }
            let (messages, rest) = read(&self.broker, &queue, &tags, bytes_max).await?;
            found.messages.extend(messages);
            let after = |last: &Tag| Tag::new(last.log(), last.offset().next());
            if let Some(next) = rest.or_else(|| tags.last().filter(|_| more).map(after)) {
                found.next = Some((queue, next));
                return Ok(found);
            }
        }
        Ok(found)
    }
}

/// Reads these messages of a queue, in order; those that are gone are left out. Gives the first that was not read, if they are more
/// than `bytes_max`; one is read at least.
pub(crate) async fn read(
    broker: &Broker,
    queue: &Name,
    tags: &[Tag],
    bytes_max: usize,
) -> Result<(Vec<Delivery>, Option<Tag>), Refusal> {
    let mut messages = Vec::new();
    let near = |a: &Tag, b: &Tag| {
        a.log() == b.log() && b.offset().0 > a.offset().0 && b.offset().0 - a.offset().0 <= GAP_MAX
    };
    let mut bytes = bytes_max;
    for run in tags.chunk_by(near) {
        let (first, last) = (run[0], run[run.len() - 1]);
        let mut from = Some(first);
        let wanted: HashSet<Tag> = run.iter().copied().collect();
        while let Some(at) = from {
            let max = (last.offset().0 - at.offset().0 + 1) as usize;
            let browse = Browse { from, max, bytes_max: bytes, ..Browse::default() };
            let page = broker.browse(Target::Queue(queue.clone()), browse).await?;
            let there = page.messages.into_iter().filter(|delivery| wanted.contains(&delivery.tag));
            for delivery in there {
                bytes = bytes.saturating_sub(delivery.message.size());
                messages.push(delivery);
            }
            from = page.next.filter(|next| next.log() == last.log() && next.offset() <= last.offset());
            if bytes == 0 {
                let read = messages.last().map(|delivery: &Delivery| delivery.tag);
                let rest = read.and_then(|read| tags.iter().position(|tag| *tag == read));
                return Ok((messages, rest.and_then(|at| tags.get(at + 1)).copied()));
            }
        }
    }
    Ok((messages, None))
}

impl Follower {
    /// Follows and answers until `stopped`.
    pub async fn run(mut self, stopped: impl Future<Output = ()>) {
        tokio::pin!(stopped);
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = &mut stopped => return,
                ask = self.asks.recv() => match ask {
                    Some(ask) => self.answer(ask).await,
                    None => return,
                },
                _ = look.tick() => {
                    if let Err(refusal) = self.look().await
                        && !matches!(refusal, Refusal::Draining)
                    {
                        tracing::debug!(%refusal, "dead letters cannot be looked at now");
                    }
                }
            }
        }
    }

    async fn answer(&mut self, ask: Ask) {
        // An asker that is gone needs no answer.
        match ask {
            Ask::Queues(reply) => {
                let looked = self.look().await;
                let _ = reply.send(looked.map(|()| self.index.queues().cloned().collect()));
            }
            Ask::Groups(asked, max, reply) => {
                let looked = self.look_at(&asked).await;
                let _ = reply.send(looked.map(|()| self.index.groups(&asked, max)));
            }
            Ask::Members(queue, asked, from, max, reply) => {
                let looked = self.read_new(&queue).await;
                let _ = reply.send(looked.map(|()| self.index.members(&queue, &asked, from, max)));
            }
        }
    }

    async fn look_at(&mut self, asked: &Asked) -> Result<(), Refusal> {
        let Some(queues) = &asked.queues else { return self.look().await };
        for queue in queues {
            self.read_new(queue).await?;
        }
        Ok(())
    }

    /// Takes in what has happened in all queues where dead letters go.
    async fn look(&mut self) -> Result<(), Refusal> {
        let mut queues = self.broker.query(|view| view.graves()).await?;
        queues.extend(self.asked.iter().cloned());
        let gone: Vec<Name> = self.index.queues().filter(|known| !queues.contains(*known)).cloned().collect();
        for queue in gone {
            self.index.see(&queue, None);
        }
        for queue in queues {
            self.read_new(&queue).await?;
        }
        Ok(())
    }

    /// Takes in what has happened in one queue.
    async fn read_new(&mut self, queue: &Name) -> Result<(), Refusal> {
        let name = queue.clone();
        let extents = self.broker.query(move |view| view.extents(&name)).await?;
        if extents.is_none() {
            self.asked.remove(queue);
        } else if self.index.queues().all(|known| known != queue) {
            self.asked.insert(queue.clone());
        }
        for (log, from, to) in self.index.see(queue, extents) {
            let mut from = Some(Tag::new(log, from));
            while let Some(at) = from.filter(|at| at.log() == log && at.offset() < to) {
                let browse =
                    Browse { from: Some(at), max: LOOK_MESSAGES, bytes_max: LOOK_BYTES, ..Browse::default() };
                let page = self.broker.browse(Target::Queue(queue.clone()), browse).await?;
                for delivery in page.messages.iter().filter(|delivery| delivery.tag.log() == log) {
                    if !self.index.note(queue, delivery.tag, &Letter::of(&delivery.message)) {
                        return Ok(());
                    }
                }
                from = page.next;
            }
            self.index.pass(queue, log, to);
        }
        Ok(())
    }
}
