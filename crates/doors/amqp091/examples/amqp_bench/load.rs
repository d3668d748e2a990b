//! What does one round of load do? One thread keeps every connection busy: publishers within their window or at their rate,
//! consumers acknowledging one by one; each moment of sending lies in the body.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::{Buf, BufMut, Bytes};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use waystation_amqp091::wire::{
    Output, Properties,
    limits::FRAME_BYTES_DEFAULT,
    methods::{basic, confirm},
};

use crate::{
    connection::{CHANNEL, Connection, Heard},
    stats::Samples,
};

/// Bytes that wait in a publisher's buffer at most: many messages to a write, and room for confirms in between.
const WRITE_BYTES: usize = 256 << 10;
/// Past this time without anything heard the round is given up.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Published to in turn.
    pub queues: Vec<String>,
    pub body_bytes: usize,
    /// Unconfirmed messages at most.
    pub window: usize,
    /// Messages a second; none: as many as the window allows.
    pub rate: Option<f64>,
    /// Connections that consume; 0: nothing is consumed.
    pub consumers: usize,
    pub prefetch: u16,
    /// How long to publish, or how many.
    pub until: Until,
    /// Messages that are in the queues already, to be consumed too.
    pub queued: u64,
}

#[derive(Clone, Copy, Debug)]
pub enum Until {
    Time(Duration),
    Count(u64),
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    pub messages: u64,
    /// From the first publish until everything was confirmed and consumed.
    pub seconds: f64,
    pub confirm: Samples,
    pub end_to_end: Samples,
}

struct Publisher {
    connection: Connection,
    /// One message for each queue, and where in it the body begins.
    frames: Vec<(Vec<u8>, usize)>,
    /// When each unconfirmed message was sent; `u64::MAX` once it is confirmed.
    sent: VecDeque<u64>,
    first_unconfirmed: u64,
    unconfirmed: usize,
    published: u64,
}

struct Consumer {
    connection: Connection,
    /// Put aside while the connection is being heard.
    acks: Vec<u8>,
    /// Of the body that is coming: bytes so far.
    body_at: usize,
}

/// Publishes and consumes as planned.
pub fn run(address: SocketAddr, plan: &Plan) -> io::Result<Outcome> {
    let mut consumers: Vec<_> =
        (0..plan.consumers).map(|index| Consumer::open(address, plan, index)).collect::<Result<_, _>>()?;
    let mut publisher = Publisher::open(address, plan)?;
    let mut round =
        Round { plan, begun: Instant::now(), outcome: Outcome::default(), consumed: 0, heard: Ok(()) };
    let mut last_heard = 0;
    loop {
        let now = round.now();
        publisher.publish(&round, now);
        publisher.connection.flush()?;
        wait(&publisher, &consumers, &round)?;
        let before = (publisher.unconfirmed, round.consumed);
        while publisher.connection.fill()? {
            publisher.hear(&mut round);
        }
        for consumer in &mut consumers {
            consumer.hear(&mut round, plan)?;
        }
        std::mem::replace(&mut round.heard, Ok(()))?;
        let now = round.now();
        if before != (publisher.unconfirmed, round.consumed) {
            last_heard = now;
        } else if (publisher.unconfirmed > 0 || round.waits_for_consumers(publisher.published))
            && now - last_heard > SILENCE_MAX.as_nanos() as u64
        {
            return Err(io::Error::other("the broker says nothing any more"));
        }
        let over = round.is_over(publisher.published, now) && publisher.unconfirmed == 0;
        if over && !round.waits_for_consumers(publisher.published) {
            round.outcome.messages = publisher.published + plan.queued;
            round.outcome.seconds = now as f64 / 1e9;
            return Ok(round.outcome);
        }
    }
}

struct Round<'a> {
    plan: &'a Plan,
    begun: Instant,
    outcome: Outcome,
    consumed: u64,
    heard: io::Result<()>,
}

impl Round<'_> {
    /// Nanoseconds since the round began.
    fn now(&self) -> u64 {
        self.begun.elapsed().as_nanos() as u64
    }

    fn is_over(&self, published: u64, now: u64) -> bool {
        match self.plan.until {
            Until::Time(time) => now >= time.as_nanos() as u64,
            Until::Count(count) => published >= count,
        }
    }

    fn waits_for_consumers(&self, published: u64) -> bool {
        self.plan.consumers > 0 && self.consumed < published + self.plan.queued
    }

    /// Messages that should have been sent by now.
    fn due(&self, now: u64) -> u64 {
        self.plan.rate.map_or(u64::MAX, |rate| (now as f64 / 1e9 * rate) as u64 + 1)
    }
}

/// Sleeps until something can be read or written, or the next message is due.
fn wait(publisher: &Publisher, consumers: &[Consumer], round: &Round<'_>) -> io::Result<()> {
    let flags = |connection: &Connection| match connection.pending() {
        0 => PollFlags::IN,
        _ => PollFlags::IN | PollFlags::OUT,
    };
    let connections =
        std::iter::once(&publisher.connection).chain(consumers.iter().map(|consumer| &consumer.connection));
    let mut fds: Vec<_> = connections.map(|it| PollFd::new(&it.stream, flags(it))).collect();
    let now = round.now();
    let idle_ns = match round.plan.rate {
        Some(rate) => ((publisher.published as f64 / rate * 1e9) as u64).saturating_sub(now).min(1_000_000),
        // With an open window and a socket that takes more there is nothing to wait for.
        None if publisher.may_publish(round, now) => 0,
        None => 1_000_000,
    };
    let timeout = Timespec { tv_sec: 0, tv_nsec: idle_ns as i64 };
    match poll(&mut fds, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

impl Publisher {
    fn open(address: SocketAddr, plan: &Plan) -> io::Result<Publisher> {
        let mut connection = Connection::open(address)?;
        connection.call(&confirm::Select { no_wait: false }, "confirm.select-ok")?;
        connection.stream.set_nonblocking(true)?;
        let frames = plan.queues.iter().map(|queue| message(queue, plan.body_bytes)).collect();
        let sent = VecDeque::with_capacity(plan.window);
        Ok(Publisher { connection, frames, sent, first_unconfirmed: 1, unconfirmed: 0, published: 0 })
    }

    /// Whether one more message can be sent: the window and the buffer are open, and it is due.
    fn may_publish(&self, round: &Round<'_>, now: u64) -> bool {
        self.unconfirmed < round.plan.window
            && self.published < round.due(now)
            && self.connection.pending() < WRITE_BYTES
            && !round.is_over(self.published, now)
    }

    fn publish(&mut self, round: &Round<'_>, now: u64) {
        while self.may_publish(round, now) {
            // At a rate, what counts is when it should have been sent.
            let at = round.plan.rate.map_or(now, |rate| (self.published as f64 / rate * 1e9) as u64);
            let (frames, body_at) = &self.frames[(self.published % self.frames.len() as u64) as usize];
            let begin = self.connection.out.len();
            self.connection.out.extend_from_slice(frames);
            self.connection.out[begin + body_at..][..8].copy_from_slice(&at.to_be_bytes());
            self.sent.push_back(at);
            self.published += 1;
            self.unconfirmed += 1;
        }
    }

    fn hear(&mut self, round: &mut Round<'_>) {
        let now = round.now();
        let Publisher { connection, sent, first_unconfirmed, unconfirmed, .. } = self;
        connection.hear(|heard| match heard {
            Heard::Ack { tag, multiple } => {
                let from = if multiple { *first_unconfirmed } else { tag };
                for number in from..=tag {
                    let at = &mut sent[(number - *first_unconfirmed) as usize];
                    if *at != u64::MAX {
                        round.outcome.confirm.add(now.saturating_sub(*at));
                        *at = u64::MAX;
                        *unconfirmed -= 1;
                    }
                }
                while sent.front() == Some(&u64::MAX) {
                    sent.pop_front();
                    *first_unconfirmed += 1;
                }
            }
            Heard::Nack => round.heard = Err(io::Error::other("a message was not stored")),
            Heard::Closed(text) => round.heard = Err(io::Error::other(text)),
            Heard::Deliver { .. } | Heard::Body(_) => {}
        });
    }
}

impl Consumer {
    /// Consumes from its share of the queues; from the same ones as others where there are fewer queues than consumers.
    fn open(address: SocketAddr, plan: &Plan, index: usize) -> io::Result<Consumer> {
        let mut connection = Connection::open(address)?;
        let qos = basic::Qos { prefetch_count: plan.prefetch, ..basic::Qos::default() };
        connection.call(&qos, "basic.qos-ok")?;
        let step = plan.consumers.min(plan.queues.len());
        for queue in plan.queues.iter().skip(index % step).step_by(step) {
            let consume = basic::Consume {
                queue: queue.as_str().into(),
                consumer_tag: queue.as_str().into(),
                no_wait: true,
                ..basic::Consume::default()
            };
            let mut consume_frame = Output::default();
            consume_frame.put(CHANNEL, &consume);
            connection.out.extend_from_slice(consume_frame.chunk());
        }
        connection.stream.set_nonblocking(true)?;
        Ok(Consumer { connection, acks: Vec::new(), body_at: 0 })
    }

    fn hear(&mut self, round: &mut Round<'_>, plan: &Plan) -> io::Result<()> {
        let Consumer { connection, acks, body_at } = self;
        while connection.fill()? {
            let now = round.now();
            connection.hear(|heard| match heard {
                Heard::Deliver { tag } => {
                    *body_at = 0;
                    put_ack(acks, tag);
                }
                Heard::Body(body) => {
                    if *body_at == 0 {
                        let at = body.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
                        round.outcome.end_to_end.add(now.saturating_sub(at));
                    }
                    *body_at += body.len();
                    round.consumed += u64::from(*body_at == plan.body_bytes);
                }
                Heard::Closed(text) => round.heard = Err(io::Error::other(text)),
                Heard::Ack { .. } | Heard::Nack => {}
            });
        }
        connection.out.append(acks);
        connection.flush()
    }
}

fn put_ack(out: &mut Vec<u8>, tag: u64) {
    out.extend_from_slice(&[1, 0, 1, 0, 0, 0, 13, 0, 60, 0, 80]);
    out.put_u64(tag);
    out.extend_from_slice(&[0, 0xce]);
}

/// The three frames of one persistent message, and where its body begins.
fn message(queue: &str, body_bytes: usize) -> (Vec<u8>, usize) {
    let publish = basic::Publish { routing_key: queue.into(), ..basic::Publish::default() };
    let properties = Properties { delivery_mode: Some(2), ..Properties::default() };
    let mut output = Output::default();
    output.set_frame_max(FRAME_BYTES_DEFAULT);
    output.put(CHANNEL, &publish);
    output.put_content(CHANNEL, |out| properties.write(out), &Bytes::from(vec![b'x'; body_bytes]));
    let mut frames = Vec::new();
    while output.has_remaining() {
        let chunk = output.chunk();
        frames.extend_from_slice(chunk);
        let count = chunk.len();
        output.advance(count);
    }
    let body_at = frames.len() - 1 - body_bytes;
    (frames, body_at)
}
