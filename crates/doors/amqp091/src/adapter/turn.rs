//! What is done in one turn of a connection: everything that is ready is taken, the commands that it gives go out together,
//! and so do the frames.

use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::StreamExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

use super::connection::{Connection, GOODBYE};
use crate::{
    limits::{
        BACKLOG_BYTES_MAX, BACKLOG_MAX, PUBLISHES_OPEN_BYTES_MAX, PUBLISHES_OPEN_MAX, READ_BYTES,
        SETTLES_OPEN_MAX, WRITE_BYTES_MAX,
    },
    registry::Order,
    session::Failure,
    wire::{
        ChannelId, ReplyCode, Whole,
        methods::{basic, connection},
    },
};

/// Bytes that a quiet connection is read by.
pub(super) const READ_BYTES_MIN: usize = 8 << 10;
/// Half-intervals of heartbeats without a byte from the client after which it is taken for dead: two intervals.
const SILENT_HALVES: u32 = 4;
/// How often deliveries are looked at that must be settled in time.
const TIMEOUTS_LOOK: Duration = Duration::from_secs(1);
/// A moment that does not come.
const NEVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

impl Connection {
    /// Takes everything that is ready; false at the end of the connection.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        let mut any = false;
        self.begin_publishes();
        // A client that leaves hears so when all is over, from where the connection ends.
        if self.hangup && self.session.client_leaves() || self.poll_write(context).is_err() {
            return Poll::Ready(false);
        }
        if self.hangup && self.output.is_empty() && self.is_flushed {
            return Poll::Ready(false);
        }
        any |= self.poll_orders(context);
        any |= self.poll_replies(context);
        any |= self.poll_published(context);
        any |= self.poll_settled(context);
        while let Poll::Ready(Some(done)) = self.calls.poll_next_unpin(context) {
            self.done(done);
            any = true;
        }
        any |= self.poll_consumers(context);
        if self.may_read() {
            match self.poll_read(context) {
                Poll::Ready(true) => any = true,
                Poll::Ready(false) => return Poll::Ready(false),
                Poll::Pending => {}
            }
        } else if !self.has_credit() {
            self.entered.entry.note_flow();
        }
        any |= self.poll_timeouts(context);
        match self.poll_pulse(context) {
            Poll::Ready(true) => any = true,
            Poll::Ready(false) => return Poll::Ready(false),
            Poll::Pending => {}
        }
        if any { Poll::Ready(true) } else { Poll::Pending }
    }

    /// Carries out what was taken.
    pub async fn turn(&mut self) {
        self.act();
        self.take_frames();
        self.flush().await;
        self.tell_confirms();
        self.act();
        self.pulse_for_phase();
    }

    /// Whether anything more may be taken from the client: not while what it asked for is more than can be held.
    fn may_read(&self) -> bool {
        if self.session.is_ending() {
            return true;
        }
        let (backlog, backlog_bytes) = self.session.backlog();
        !self.session.is_waiting()
            && !self.is_held_up()
            && self.has_credit()
            && self.settles.open() < SETTLES_OPEN_MAX
            && self.output.len() < WRITE_BYTES_MAX
            && backlog < BACKLOG_MAX
            && backlog_bytes < BACKLOG_BYTES_MAX
    }

    /// Whether it may publish more: what it has published and what is not on disk yet is bounded.
    fn has_credit(&self) -> bool {
        self.publishes.open < PUBLISHES_OPEN_MAX && self.publishes.open_bytes < PUBLISHES_OPEN_BYTES_MAX
    }

    /// Whether it has published while publishing is refused. Who is told so and stops is read on: it acknowledges, and closes.
    /// Messages of a transaction are known at its commit, which could only be refused: who has committed some is not read.
    fn is_held_up(&self) -> bool {
        self.door.is_blocked() && (self.publishes.wait() || self.has_committed)
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        let missing = self.decoder.missing(&self.input);
        // What was announced is not trusted before it comes: the room grows with what has come.
        self.input.reserve(self.read_bytes.max(missing.min(READ_BYTES)));
        let room = self.input.capacity() - self.input.len();
        let read = pin!(self.stream.read_buf(&mut self.input)).poll(context);
        match read {
            Poll::Pending => {
                if self.input.is_empty() && self.input.capacity() > READ_BYTES_MIN {
                    self.input = bytes::BytesMut::new();
                }
                Poll::Pending
            }
            Poll::Ready(Err(_) | Ok(0)) => Poll::Ready(false),
            Poll::Ready(Ok(count)) => {
                self.entered.entry.received_bytes.add(count as u64);
                self.pulse.last_read = Instant::now();
                self.read_bytes = match count {
                    count if count >= room => (self.read_bytes * 2).min(READ_BYTES),
                    count if count < self.read_bytes / 4 => (self.read_bytes / 2).max(READ_BYTES_MIN),
                    _ => self.read_bytes,
                };
                Poll::Ready(true)
            }
        }
    }

    /// Writes until nothing waits or the socket takes no more.
    fn poll_write(&mut self, context: &mut Context<'_>) -> std::io::Result<()> {
        while !self.output.is_empty() {
            match pin!(self.stream.write_buf(&mut self.output)).poll(context) {
                Poll::Ready(Ok(count)) => {
                    self.entered.entry.sent_bytes.add(count as u64);
                    self.entered.entry.writes.add(1);
                    if count == 0 {
                        return Err(std::io::ErrorKind::WriteZero.into());
                    }
                    self.is_flushed = false;
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(()),
            }
        }
        // TLS takes more than the socket does, and passes the rest on only when it is asked to.
        if !self.is_flushed
            && let Poll::Ready(flushed) = pin!(self.stream.flush()).poll(context)
        {
            flushed?;
            self.is_flushed = true;
        }
        Ok(())
    }

    /// Takes all whole frames that were read.
    fn take_frames(&mut self) {
        let mut frames = 0;
        while !self.session.is_waiting() && !self.hangup {
            if let Some(whole) = self.decoder.decode_whole(&mut self.input) {
                frames += Whole::FRAMES;
                self.session.publish(whole, &mut self.actions);
                self.act();
                continue;
            }
            match self.decoder.decode(&mut self.input) {
                Ok(Some(frame)) => {
                    frames += 1;
                    self.session.frame(frame, &mut self.actions);
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::debug!(connection = %self.entered.entry.name, %error, "malformed");
                    if self.session.is_ending() {
                        self.hangup = true;
                    }
                    self.session.malformed(error, &mut self.actions);
                    // Where the next frame begins is not known any more: nothing more is read but to be thrown away.
                    self.input.clear();
                    self.act();
                    self.hangup = true;
                    break;
                }
            }
            self.act();
        }
        self.entered.entry.received_frames.add(frames);
    }

    /// Hands over to the broker what was gathered, in order: publishes, settlements, and what ends or changes consumers.
    pub async fn flush(&mut self) {
        self.send_publishes().await;
        self.send_settles().await;
        for command in std::mem::take(&mut self.commands) {
            // Refused only by a server that is going down.
            let _ = self.broker().begin(command).await;
        }
    }

    fn tell_confirms(&mut self) {
        let (output, channels) = (&mut self.output, &self.channels);
        self.session.tell_confirms(|channel, confirm| {
            let (delivery_tag, multiple) = (confirm.seq.0, confirm.multiple);
            if confirm.is_ack {
                output.put(channel.id, &basic::Ack { delivery_tag, multiple });
                if let Some(entry) = channels.get(&channel.id.0) {
                    entry.confirmed.add(confirm.count);
                }
            } else {
                output.put(channel.id, &basic::Nack { delivery_tag, multiple, requeue: false });
            }
        });
        for id in std::mem::take(&mut self.touched) {
            if let Some(entry) = self.channels.get(&id.0) {
                let (unacknowledged, unconfirmed) = self.session.outstanding(id);
                entry.unacknowledged.set(unacknowledged as u64);
                entry.unconfirmed.set(unconfirmed as u64);
            }
        }
    }

    /// Has a channel's outstanding deliveries and publishes counted at the end of the turn.
    pub fn touch(&mut self, id: ChannelId) {
        if self.touched.last() != Some(&id) {
            self.touched.push(id);
        }
    }

    fn poll_orders(&mut self, context: &mut Context<'_>) -> bool {
        let mut any = false;
        while let Poll::Ready(Some(order)) = self.orders.poll_recv(context) {
            any = true;
            match order {
                Order::Close(reason) => {
                    let failure = Failure::new(ReplyCode::ConnectionForced, reason);
                    if self.session.is_running() {
                        self.session.close(&failure, &mut self.actions);
                    } else if !self.session.is_ending() {
                        self.hangup = true;
                    }
                }
                Order::Blocked(reason) => self.tell_blocked(reason),
            }
        }
        any
    }

    /// Tells a client that publishes whether it is held up, if it understands that.
    pub fn tell_blocked(&mut self, reason: Option<&'static str>) {
        let tells = self.has_published && self.session.has_capability("connection.blocked");
        match reason {
            Some(reason) if tells && !self.told_blocked => {
                self.told_blocked = true;
                self.output.put(ChannelId::CONNECTION, &connection::Blocked { reason: reason.into() });
            }
            None if self.told_blocked => {
                self.told_blocked = false;
                self.output.put(ChannelId::CONNECTION, &connection::Unblocked {});
            }
            _ => {}
        }
        self.show_state();
    }

    /// Shows what the connection is doing to whoever asks.
    fn show_state(&self) {
        let blocked_by = self.door.blocked_by().filter(|_| self.has_published);
        let (state, by) = match (self.session.is_running(), self.session.is_ending()) {
            (true, _) => (blocked_by.map_or("running", |_| "blocked"), blocked_by),
            (_, true) => ("closing", None),
            _ => ("starting", None),
        };
        self.entered.entry.describe(|about| (about.state, about.held_up_by) = (state, by));
    }

    fn poll_replies(&mut self, context: &mut Context<'_>) -> bool {
        let mut any = false;
        while self.output.len() < WRITE_BYTES_MAX {
            let Poll::Ready(Some(reply)) = self.replies.poll_recv(context) else { break };
            any = true;
            self.put_reply(reply);
        }
        any
    }

    /// Agrees on heartbeats.
    pub fn set_heartbeat(&mut self, seconds: u16) {
        let half = Duration::from_millis(u64::from(seconds) * 500);
        self.pulse.heartbeat = (seconds > 0).then_some(half);
    }

    /// Sets the clock to what it is for now.
    fn pulse_for_phase(&mut self) {
        let pulse = &mut self.pulse;
        if self.session.is_running() && pulse.deadline.take().is_some() {
            let next = Instant::now() + pulse.heartbeat.unwrap_or(NEVER);
            pulse.last_read = Instant::now();
            pulse.sleep.as_mut().reset(next);
        } else if self.session.is_ending() && !pulse.is_goodbye {
            pulse.is_goodbye = true;
            let deadline = Instant::now() + GOODBYE;
            pulse.deadline = Some(deadline);
            pulse.sleep.as_mut().reset(deadline);
            self.show_state();
        }
    }

    /// Sees to it that deliveries are looked at that must be settled in time.
    pub fn watch_timeouts(&mut self) {
        if self.pulse.watch.is_none() {
            self.pulse.watch = Some(Box::pin(tokio::time::sleep(TIMEOUTS_LOOK)));
        }
    }

    /// Closes channels on which a delivery was not settled in time; what they held comes back.
    fn poll_timeouts(&mut self, context: &mut Context<'_>) -> bool {
        let Some(watch) = &mut self.pulse.watch else { return false };
        if watch.as_mut().poll(context).is_pending() {
            return false;
        }
        let (overdue, others) = self.session.overdue(self.door.clock.now());
        self.pulse.watch = None;
        if others {
            self.watch_timeouts();
        }
        for (channel, after_ms) in overdue {
            let number = channel.id.0;
            let text = format!(
                "delivery acknowledgement on channel {number} timed out. Timeout value used: {after_ms} ms. This timeout value \
                 can be configured, see consumers doc guide to learn more"
            );
            self.fail(channel, Failure::precondition(text));
        }
        // The next look has not been asked for yet.
        true
    }

    fn poll_pulse(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        if self.pulse.sleep.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        if self.pulse.deadline.is_some() {
            tracing::debug!(connection = %self.entered.entry.name, "handshake or goodbye took too long");
            return Poll::Ready(false);
        }
        let half = self.pulse.heartbeat.unwrap_or(NEVER);
        let now = Instant::now();
        self.pulse.sleep.as_mut().reset(now + half);
        // Whether or not something else was written meanwhile: some clients wait for one interval and no longer, and a beat that
        // is left out because of the beat before it comes too late for them.
        if self.output.is_empty() {
            self.output.put_heartbeat();
        }
        if !self.may_read() {
            // What is not read cannot be missed.
            self.pulse.last_read = now;
        } else if now.duration_since(self.pulse.last_read) > half * SILENT_HALVES {
            tracing::info!(connection = %self.entered.entry.name, "missed heartbeats from the client");
            return Poll::Ready(false);
        }
        Poll::Ready(true)
    }
}
