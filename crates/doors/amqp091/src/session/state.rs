//! Where is a connection between its greeting and its end, and which of its channels does a frame concern?

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use smol_str::SmolStr;
use waystation_base::Millis;

use super::{
    Action, Answer, ChannelKey, DeliveryTag, Failure, Held, Remains, Settings, Ticket, channel::Channel,
    handshake,
};
use crate::{
    limits::{CHANNELS_CLOSING_MAX, FRAMES_AFTER_CLOSE_MAX},
    wire::{self, Arguments, ChannelId, Command, Frame, Method, ReplyCode, Whole, methods::*},
};

/// Where the connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// `start` is sent.
    Starting,
    /// Somebody is being let in or not.
    LoggingIn,
    /// `tune` is sent.
    Tuning,
    /// `tune-ok` has come.
    Opening,
    /// A virtual host is being opened.
    Entering,
    /// Channels may be opened.
    Running,
    /// `close` is sent.
    Closing,
    /// Nothing more is said.
    Over,
}

/// The protocol's state of one connection.
#[derive(Debug)]
pub struct Session {
    phase: Phase,
    /// See [`Session::client_leaves`].
    client_leaves: bool,
    settings: Settings,
    channel_max: u16,
    mechanism: SmolStr,
    client_properties: wire::Table,
    vhost: SmolStr,
    user: SmolStr,
    channels: BTreeMap<u16, Channel>,
    epochs: u32,
    /// Channels with confirms to tell.
    confirmed: BTreeSet<u16>,
    /// Frames that came after `close` was sent.
    ignored: usize,
}

impl Session {
    /// A connection whose client has sent the right greeting: says `start`.
    pub fn start(settings: Settings, out: &mut Vec<Action>) -> Session {
        let start = connection::Start {
            version_major: 0,
            version_minor: 9,
            server_properties: settings.server_properties.clone(),
            mechanisms: Bytes::from(settings.mechanisms.clone()),
            locales: Bytes::from_static(b"en_US"),
        };
        out.push(Action::Send(ChannelId::CONNECTION, start.into()));
        Session {
            phase: Phase::Starting,
            client_leaves: false,
            channel_max: settings.channel_max,
            settings,
            mechanism: SmolStr::default(),
            client_properties: wire::Table::default(),
            vhost: SmolStr::default(),
            user: SmolStr::default(),
            channels: BTreeMap::new(),
            epochs: 0,
            confirmed: BTreeSet::new(),
            ignored: 0,
        }
    }

    /// Whether the client has to wait for an answer before it may say anything more.
    pub fn is_waiting(&self) -> bool {
        matches!(self.phase, Phase::LoggingIn | Phase::Entering)
    }

    /// Whether a virtual host is open.
    pub fn is_running(&self) -> bool {
        self.phase == Phase::Running
    }

    /// Whether the connection is on its way to its end.
    pub fn is_ending(&self) -> bool {
        matches!(self.phase, Phase::Closing | Phase::Over)
    }

    /// What the client said about itself.
    pub fn client_properties(&self) -> &wire::Table {
        &self.client_properties
    }

    /// What the client calls its connection.
    pub fn connection_name(&self) -> Option<String> {
        handshake::connection_name(&self.client_properties)
    }

    /// Whether the client understands an extension.
    pub fn has_capability(&self, name: &str) -> bool {
        handshake::has_capability(&self.client_properties, name)
    }

    /// The open virtual host.
    pub fn vhost(&self) -> &SmolStr {
        &self.vhost
    }

    /// Requests that wait behind an unanswered one, and their bytes.
    pub fn backlog(&self) -> (usize, usize) {
        let sum = |(count, bytes), channel: &Channel| {
            let (more, more_bytes) = channel.backlog();
            (count + more, bytes + more_bytes)
        };
        self.channels.values().fold((0, 0), sum)
    }

    /// Takes a frame.
    pub fn frame(&mut self, frame: Frame, out: &mut Vec<Action>) {
        match self.phase {
            Phase::Over => {}
            Phase::Closing => self.frame_while_closing(&frame, out),
            _ => {
                let (id, result) = match frame {
                    Frame::Heartbeat => return,
                    Frame::Method(ChannelId::CONNECTION, method) => {
                        let numbers = method.numbers();
                        let result = self.connection_method(method, out);
                        (ChannelId::CONNECTION, result.map_err(|failure| failure.caused_by(numbers)))
                    }
                    Frame::Header(id, _) | Frame::Body(id, _) => (id, self.channel_frame(id, frame, out)),
                    Frame::Method(id, ref method) => {
                        let numbers = method.numbers();
                        let result = self.channel_frame(id, frame, out);
                        (id, result.map_err(|failure| failure.caused_by(numbers)))
                    }
                };
                if let Err(failure) = result {
                    self.fail_on(id, failure, out);
                }
            }
        }
    }

    /// Takes a message that came as a whole: like its frames one after the other.
    pub fn publish(&mut self, whole: Whole, out: &mut Vec<Action>) {
        let channel = self.channels.get_mut(&whole.channel.0).filter(|it| it.takes_whole(&whole.content));
        match channel {
            Some(channel) if self.phase == Phase::Running => {
                let Whole { channel: id, publish, content } = whole;
                if let Err(failure) = channel.publish(publish, content, out) {
                    let numbers = (basic::Publish::CLASS, basic::Publish::METHOD);
                    self.fail_on(id, failure.caused_by(numbers), out);
                }
            }
            _ => whole.into_frames().into_iter().for_each(|frame| self.frame(frame, out)),
        }
    }

    fn frame_while_closing(&mut self, frame: &Frame, out: &mut Vec<Action>) {
        self.ignored += 1;
        match frame {
            Frame::Method(ChannelId::CONNECTION, Method::ConnectionCloseOk(_)) => self.hang_up(out),
            Frame::Method(ChannelId::CONNECTION, Method::ConnectionClose(_)) => {
                self.client_leaves = true;
                out.push(Action::Send(ChannelId::CONNECTION, connection::CloseOk {}.into()));
                self.hang_up(out);
            }
            // One that goes on talking is not listened to for ever.
            _ if self.ignored > FRAMES_AFTER_CLOSE_MAX => self.hang_up(out),
            _ => {}
        }
    }

    fn connection_method(&mut self, method: Method, out: &mut Vec<Action>) -> Result<(), Failure> {
        match (self.phase, method) {
            (_, Method::ConnectionClose(_)) => {
                self.end_channels(out);
                self.client_leaves = true;
                out.push(Action::Send(ChannelId::CONNECTION, connection::CloseOk {}.into()));
                self.hang_up(out);
            }
            (Phase::Starting, Method::ConnectionStartOk(start)) => self.start_ok(start, out)?,
            (Phase::Tuning, Method::ConnectionTuneOk(tune)) => self.tune_ok(&tune, out)?,
            (Phase::Opening, Method::ConnectionOpen(open)) => {
                self.phase = Phase::Entering;
                self.vhost = open.virtual_host.clone();
                out.push(Action::Enter(open.virtual_host));
            }
            // A secret in place of one that expires: ours do not.
            (Phase::Running, Method::ConnectionUpdateSecret(_)) => {
                out.push(Action::Send(ChannelId::CONNECTION, connection::UpdateSecretOk {}.into()));
            }
            (phase, _) => {
                let text = format!("unexpected method in connection state {}", phase.name());
                return Err(Failure::new(ReplyCode::ChannelError, text));
            }
        }
        Ok(())
    }

    fn start_ok(&mut self, start: connection::StartOk, out: &mut Vec<Action>) -> Result<(), Failure> {
        let proof = handshake::peer_proof(&start, self.settings.certificate.as_deref())?;
        self.mechanism = start.mechanism.clone();
        self.client_properties = start.client_properties;
        self.phase = Phase::LoggingIn;
        out.push(Action::Login { mechanism: start.mechanism, proof });
        Ok(())
    }

    fn tune_ok(&mut self, tune: &connection::TuneOk, out: &mut Vec<Action>) -> Result<(), Failure> {
        let agreed = handshake::agreed(tune, self.settings.channel_max, self.settings.frame_max);
        let (channel_max, frame_max) = agreed?;
        self.channel_max = channel_max;
        self.phase = Phase::Opening;
        out.push(Action::Tune { channel_max, frame_max, heartbeat: tune.heartbeat });
        Ok(())
    }

    /// Somebody was let in under this name, or not.
    pub fn logged_in(&mut self, user: Option<&str>, out: &mut Vec<Action>) {
        if self.phase != Phase::LoggingIn {
            return;
        }
        let Some(user) = user else {
            if self.has_capability("authentication_failure_close") {
                let failure = handshake::refused(&self.mechanism);
                self.close(&failure, out);
            } else {
                self.hang_up(out);
            }
            return;
        };
        self.user = user.into();
        self.phase = Phase::Tuning;
        let Settings { channel_max, frame_max, heartbeat, .. } = self.settings;
        let tune = connection::Tune { channel_max, frame_max, heartbeat };
        out.push(Action::Send(ChannelId::CONNECTION, tune.into()));
    }

    /// The virtual host is open, or cannot be opened.
    pub fn entered(&mut self, result: Result<(), Failure>, out: &mut Vec<Action>) {
        if self.phase != Phase::Entering {
            return;
        }
        match result {
            Ok(()) => {
                self.phase = Phase::Running;
                out.push(Action::Send(ChannelId::CONNECTION, connection::OpenOk::default().into()));
            }
            Err(failure) => {
                self.close(&failure.caused_by((connection::Open::CLASS, connection::Open::METHOD)), out)
            }
        }
    }

    fn channel_frame(&mut self, id: ChannelId, frame: Frame, out: &mut Vec<Action>) -> Result<(), Failure> {
        if self.phase != Phase::Running {
            return Err(Failure::new(
                ReplyCode::UnexpectedFrame,
                format!("frame on channel {} before open", id.0),
            ));
        }
        let Some(channel) = self.channels.get_mut(&id.0) else {
            return self.open_channel(id, &frame, out);
        };
        if channel.is_closing() {
            return self.frame_while_channel_closes(id, &frame, out);
        }
        let begun = channel.assembler.method().map(Method::numbers);
        let command = match channel.assembler.take(frame) {
            Ok(Some(command)) => command,
            Ok(None) => return Ok(()),
            Err(error) => return Err(Failure::from(error).caused_by(begun.unwrap_or_default())),
        };
        self.command(id, command, out)
    }

    fn open_channel(&mut self, id: ChannelId, frame: &Frame, out: &mut Vec<Action>) -> Result<(), Failure> {
        match frame {
            Frame::Method(_, Method::ChannelOpen(_)) => {}
            // What was on its way when the channel was closed by both sides.
            Frame::Method(_, Method::ChannelCloseOk(_)) => return Ok(()),
            Frame::Method(..) => {
                return Err(Failure::new(ReplyCode::ChannelError, "expected 'channel.open'"));
            }
            _ => return Err(wire::Error::ExpectedMethod.into()),
        }
        let open = self.channels.len();
        if open >= self.channel_max.into() {
            return Err(Failure::not_allowed(format!(
                "number of channels opened ({open}) has reached the negotiated channel_max ({})",
                self.channel_max
            )));
        }
        self.epochs = self.epochs.wrapping_add(1);
        let key = ChannelKey { id, epoch: self.epochs };
        self.channels.insert(id.0, Channel::new(key, self.settings.body_max));
        out.push(Action::Opened(key));
        out.push(Action::Send(id, channel::OpenOk::default().into()));
        Ok(())
    }

    fn frame_while_channel_closes(
        &mut self,
        id: ChannelId,
        frame: &Frame,
        out: &mut Vec<Action>,
    ) -> Result<(), Failure> {
        match frame {
            Frame::Method(_, Method::ChannelCloseOk(_)) => {
                self.channels.remove(&id.0);
            }
            Frame::Method(_, Method::ChannelClose(_)) => {
                // Both sides close at once: each answers the other, and the number is free.
                self.channels.remove(&id.0);
                out.push(Action::Send(id, channel::CloseOk {}.into()));
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes a whole command of an open channel.
    fn command(&mut self, id: ChannelId, command: Command, out: &mut Vec<Action>) -> Result<(), Failure> {
        let Some(channel) = self.channels.get_mut(&id.0) else { return Ok(()) };
        match channel.admit(command) {
            Some(command) => self.run(id, command, out),
            None => Ok(()),
        }
    }

    /// Carries out a command whose turn it is.
    fn run(&mut self, id: ChannelId, command: Command, out: &mut Vec<Action>) -> Result<(), Failure> {
        let Some(channel) = self.channels.get_mut(&id.0) else { return Ok(()) };
        let numbers = command.method.numbers();
        if matches!(command.method, Method::ChannelClose(_)) {
            if let Some(remains) = self.end_channel(id) {
                out.push(Action::Ended(remains));
            }
            self.channels.remove(&id.0);
            out.push(Action::Send(id, channel::CloseOk {}.into()));
            return Ok(());
        }
        channel.command(command, out).map_err(|failure| failure.caused_by(numbers))
    }

    fn channel_of(&mut self, key: ChannelKey) -> Option<&mut Channel> {
        self.channels.get_mut(&key.id.0).filter(|channel| channel.key == key && !channel.is_closing())
    }

    /// What became of a call; the channel goes on with what waited behind it.
    pub fn answered(&mut self, key: ChannelKey, answer: Answer, out: &mut Vec<Action>) {
        let Some(channel) = self.channel_of(key) else { return };
        if let Err(failure) = channel.answered(answer, out) {
            return self.fail_on(key.id, failure, out);
        }
        channel.tell_ended(out);
        self.go_on(key, out);
    }

    /// Lets a channel wait until something about its last publish is known: [`Session::answered`] says so.
    pub fn hold(&mut self, key: ChannelKey) {
        if let Some(channel) = self.channel_of(key) {
            channel.hold();
        }
    }

    /// Carries out what has waited on a channel for something that has come.
    fn go_on(&mut self, key: ChannelKey, out: &mut Vec<Action>) {
        while let Some(command) = self.channel_of(key).and_then(Channel::take_backlog) {
            if let Err(failure) = self.run(key.id, command, out) {
                return self.fail_on(key.id, failure, out);
            }
        }
    }

    /// Whether that channel is there and open.
    pub fn is_open(&self, key: ChannelKey) -> bool {
        self.channels.get(&key.id.0).is_some_and(|channel| channel.key == key && !channel.is_closing())
    }

    /// Whether one more delivery to that channel's consumers may go out; no for a channel that is gone.
    pub fn may_deliver(&self, key: ChannelKey) -> bool {
        self.is_open(key) && self.channels.get(&key.id.0).is_some_and(Channel::may_deliver)
    }

    /// A delivery on a channel: gives it its tag, and notes it if it is to be acknowledged.
    pub fn deliver(&mut self, key: ChannelKey, held: Option<Held>) -> Option<DeliveryTag> {
        Some(self.channel_of(key)?.deliver(held))
    }

    /// What a channel's `amq.rabbitmq.reply-to` stands for.
    pub fn reply_address(&self, key: ChannelKey) -> Option<&SmolStr> {
        self.channels.get(&key.id.0).filter(|channel| channel.key == key)?.reply_address()
    }

    /// What became of a publish: confirmed at the next [`Session::tell_confirms`]. What has waited for it goes on.
    pub fn published(&mut self, ticket: Ticket, is_ack: bool, out: &mut Vec<Action>) {
        let Some(channel) = self.channel_of(ticket.channel) else { return };
        channel.published();
        if let Some(seq) = ticket.seq {
            channel.confirms().answer(seq, is_ack);
            self.confirmed.insert(ticket.channel.id.0);
        }
        self.go_on(ticket.channel, out);
    }

    /// Tells what has been confirmed since the last time.
    pub fn tell_confirms(&mut self, mut put: impl FnMut(ChannelKey, super::Confirm)) {
        for id in std::mem::take(&mut self.confirmed) {
            if let Some(channel) = self.channels.get_mut(&id).filter(|channel| !channel.is_closing()) {
                let key = channel.key;
                channel.confirms().take().for_each(|confirm| put(key, confirm));
            }
        }
    }

    /// Open channels with a delivery that should have been settled by now, each with how long that was allowed; and whether there are
    /// others with a time-out.
    pub fn overdue(&mut self, now: Millis) -> (Vec<(ChannelKey, u64)>, bool) {
        let (mut overdue, mut others) = (Vec::new(), false);
        for channel in self.channels.values_mut().filter(|channel| !channel.is_closing()) {
            let timeouts = channel.timeouts();
            match timeouts.iter().find(|timeout| timeout.at <= now) {
                Some(timeout) => overdue.push((channel.key, timeout.after_ms)),
                None => others |= !timeouts.is_empty(),
            }
        }
        (overdue, others)
    }

    /// Deliveries of a channel that are not acknowledged, and publishes that are not confirmed.
    pub fn outstanding(&self, id: ChannelId) -> (usize, usize) {
        self.channels.get(&id.0).map_or((0, 0), Channel::outstanding)
    }

    /// Prefetch for new consumers and for the channel.
    pub fn prefetch(&self, key: ChannelKey) -> (u16, u16) {
        self.channels.get(&key.id.0).map_or((0, 0), Channel::prefetch)
    }

    /// Whether a channel confirms, and whether it has transactions.
    pub fn mode(&self, key: ChannelKey) -> (bool, bool) {
        self.channels.get(&key.id.0).map_or((false, false), Channel::mode)
    }

    /// A consumer has ended by the broker: the client is told if it understands that.
    pub fn consumer_ended(&mut self, key: ChannelKey, tag: &str, out: &mut Vec<Action>) {
        let tells = self.has_capability("consumer_cancel_notify");
        if let Some(channel) = self.channel_of(key) {
            channel.consumer_ended(tag, tells, out);
        }
    }

    /// An error that only the broker could find, on a channel that may be gone by now.
    pub fn fail(&mut self, key: ChannelKey, failure: Failure, out: &mut Vec<Action>) {
        if self.is_open(key) {
            self.fail_on(key.id, failure, out);
        }
    }

    /// Bytes that are not frames.
    pub fn malformed(&mut self, error: wire::Error, out: &mut Vec<Action>) {
        self.close(&error.into(), out);
    }

    fn fail_on(&mut self, id: ChannelId, failure: Failure, out: &mut Vec<Action>) {
        if id == ChannelId::CONNECTION || failure.code.closes_connection() {
            return self.close(&failure, out);
        }
        let Some(remains) = self.end_channel(id) else { return };
        out.push(Action::Ended(remains));
        let (class_id, method_id) = failure.method;
        let (reply_code, reply_text) = (failure.code.number(), failure.reply_text());
        out.push(Action::Send(id, channel::Close { reply_code, reply_text, class_id, method_id }.into()));
        if self.channels.values().filter(|channel| channel.is_closing()).count() > CHANNELS_CLOSING_MAX {
            self.close(&Failure::not_allowed("too many channel errors without close-ok"), out);
        }
    }

    fn end_channel(&mut self, id: ChannelId) -> Option<Remains> {
        self.confirmed.remove(&id.0);
        self.channels.get_mut(&id.0).filter(|channel| !channel.is_closing()).map(Channel::end)
    }

    fn end_channels(&mut self, out: &mut Vec<Action>) {
        let ids: Vec<u16> = self.channels.keys().copied().collect();
        let remains = ids.into_iter().filter_map(|id| self.end_channel(ChannelId(id)));
        out.extend(remains.map(Action::Ended));
        self.channels.clear();
    }

    /// Ends the connection with an error, or because the server wishes.
    pub fn close(&mut self, failure: &Failure, out: &mut Vec<Action>) {
        if self.is_ending() {
            return;
        }
        self.end_channels(out);
        self.phase = Phase::Closing;
        let (class_id, method_id) = failure.method;
        let (reply_code, reply_text) = (failure.code.number(), failure.reply_text());
        let close = connection::Close { reply_code, reply_text, class_id, method_id };
        out.push(Action::Send(ChannelId::CONNECTION, close.into()));
    }

    fn hang_up(&mut self, out: &mut Vec<Action>) {
        self.phase = Phase::Over;
        out.push(Action::Hangup);
    }

    /// Whether the client has asked for the end and been answered: then it closes the socket, as with RabbitMQ. One that finds it
    /// closed while it reads the answer may take that for a broken connection.
    pub fn client_leaves(&self) -> bool {
        self.client_leaves
    }

    /// The connection has ended without a word.
    pub fn abandon(&mut self, out: &mut Vec<Action>) {
        self.end_channels(out);
        self.phase = Phase::Over;
    }

    /// Whether a channel waits for an answer.
    pub fn is_busy(&self, key: ChannelKey) -> bool {
        self.channels.get(&key.id.0).is_some_and(|channel| channel.key == key && channel.is_busy())
    }
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Phase::Starting => "starting",
            Phase::LoggingIn => "securing",
            Phase::Tuning => "tuning",
            Phase::Opening | Phase::Entering => "opening",
            Phase::Running => "running",
            Phase::Closing => "closing",
            Phase::Over => "closed",
        }
    }
}
