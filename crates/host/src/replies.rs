//! Who waits for which answer, and from which position on it may be given.

use std::collections::VecDeque;

use tokio::sync::oneshot;
use waystation_base::{ConsumerId, Position};
use waystation_broker::{Refusal, Reply, RequestId};

pub(crate) type ReplySender = oneshot::Sender<Result<Reply, Refusal>>;

/// A request that the shard has not answered.
pub(crate) struct Waiter {
    reply: ReplySender,
    /// The consumer that it would attach.
    pub(crate) attaches: Option<ConsumerId>,
}

/// An answer that waits for durability.
struct Confirm {
    position: Position,
    reply: ReplySender,
    result: Reply,
}

/// All open requests: a request's id is its place here, so that finding it costs nothing.
#[derive(Default)]
pub(crate) struct Replies {
    waiters: Vec<Option<Waiter>>,
    free: Vec<u32>,
    /// In order of position.
    confirms: VecDeque<Confirm>,
}

impl Replies {
    /// Notes who waits, and names the request.
    pub(crate) fn open(&mut self, reply: ReplySender, attaches: Option<ConsumerId>) -> RequestId {
        let waiter = Some(Waiter { reply, attaches });
        match self.free.pop() {
            Some(at) => {
                self.waiters[at as usize] = waiter;
                RequestId(at.into())
            }
            None => {
                self.waiters.push(waiter);
                RequestId(self.waiters.len() as u64 - 1)
            }
        }
    }

    /// Answers a request: at once if it is refused, else when `position` is durable. Returns the consumer that was not
    /// attached.
    pub(crate) fn answer(
        &mut self,
        request: RequestId,
        result: Result<Reply, Refusal>,
        position: Position,
    ) -> Option<ConsumerId> {
        let Waiter { reply, attaches } = self.waiters.get_mut(request.0 as usize)?.take()?;
        self.free.push(request.0 as u32);
        match result {
            Ok(result) => {
                self.confirms.push_back(Confirm { position, reply, result });
                None
            }
            Err(refusal) => {
                // A caller that gave up needs no answer.
                let _ = reply.send(Err(refusal));
                attaches
            }
        }
    }

    /// Gives every answer that waits for `durable` or less.
    pub(crate) fn release(&mut self, durable: Position) {
        while self.confirms.front().is_some_and(|confirm| confirm.position <= durable) {
            let Some(Confirm { reply, result, .. }) = self.confirms.pop_front() else { return };
            let _ = reply.send(Ok(result));
        }
    }

    /// Whether any answer waits for durability.
    pub(crate) fn is_empty(&self) -> bool {
        self.confirms.is_empty()
    }

    /// Refuses all that is open.
    pub(crate) fn refuse_all(&mut self, refusal: &Refusal) {
        let waiters = std::mem::take(&mut self.waiters).into_iter().flatten().map(|waiter| waiter.reply);
        let confirms = std::mem::take(&mut self.confirms).into_iter().map(|confirm| confirm.reply);
        for reply in waiters.chain(confirms) {
            let _ = reply.send(Err(refusal.clone()));
        }
        self.free.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_waits_for_its_position_and_a_refusal_for_nothing() {
        let mut replies = Replies::default();
        let (first, mut first_answer) = oneshot::channel();
        let (second, mut second_answer) = oneshot::channel();
        let first = replies.open(first, None);
        let second = replies.open(second, Some(ConsumerId(3)));
        assert_eq!(replies.answer(first, Ok(Reply::Done), Position(100)), None);
        assert_eq!(replies.answer(second, Err(Refusal::Busy), Position(100)), Some(ConsumerId(3)));
        assert_eq!(second_answer.try_recv(), Ok(Err(Refusal::Busy)));
        replies.release(Position(99));
        assert!(first_answer.try_recv().is_err());
        replies.release(Position(100));
        assert_eq!(first_answer.try_recv(), Ok(Ok(Reply::Done)));
        assert!(replies.is_empty());
    }

    #[test]
    fn places_of_answered_requests_are_used_again() {
        let mut replies = Replies::default();
        for _ in 0..10 {
            let ids = [0, 1].map(|_| replies.open(oneshot::channel().0, None));
            for id in ids {
                replies.answer(id, Ok(Reply::Done), Position(0));
            }
        }
        assert_eq!(replies.waiters.len(), 2);
    }

    #[test]
    fn at_the_end_everybody_is_refused() {
        let mut replies = Replies::default();
        let (one, mut one_answer) = oneshot::channel();
        let (two, mut two_answer) = oneshot::channel();
        replies.open(one, None);
        let id = replies.open(two, None);
        replies.answer(id, Ok(Reply::Done), Position(5));
        replies.refuse_all(&Refusal::Draining);
        assert_eq!(one_answer.try_recv(), Ok(Err(Refusal::Draining)));
        assert_eq!(two_answer.try_recv(), Ok(Err(Refusal::Draining)));
    }
}
