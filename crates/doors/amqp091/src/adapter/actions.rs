//! How is each thing that the session wants done carried out?

use std::sync::{Arc, atomic::Ordering};

use smol_str::SmolStr;
use waystation_broker::Command;
use waystation_host::audit::Origin;

use super::{
    calls::Done,
    connection::{Connection, Context},
    consume::pool,
    routes,
};
use crate::{
    mapping::to_json,
    registry::Crowded,
    session::{Action, ChannelKey, Failure, Remains, Verdict},
};

impl Connection {
    /// Carries out what the session wants.
    pub fn act(&mut self) {
        while !self.actions.is_empty() {
            let mut actions = std::mem::take(&mut self.actions);
            for action in actions.drain(..) {
                self.carry_out(action);
            }
            // What came up meanwhile comes next; else the room is used again.
            if self.actions.is_empty() {
                self.actions = actions;
            }
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Publish(publishing) => self.publish(publishing),
            Action::Settle(channel, held, verdict) => {
                self.count_settled(channel, held.len(), verdict);
                self.settles.gather(held, verdict);
                self.touch(channel.id);
                self.resume(channel);
            }
            Action::Send(channel, _) if self.shut == Some(channel) => {}
            Action::Send(channel, method) => self.output.put_method(channel, &method),
            Action::Call(channel, call) => self.call(channel, call),
            Action::Opened(channel) => {
                if let Err(failure) = self.check_channels() {
                    self.shut = Some(channel.id);
                    return self.session.close(&failure, &mut self.actions);
                }
                self.channels.insert(channel.id.0, self.entered.entry.add_channel(channel.id.0));
                self.door.registry.channels_opened.add(1);
            }
            Action::Ended(remains) => self.channel_ended(remains),
            Action::Qos(channel) => self.set_qos(channel),
            Action::Mode(channel) => {
                let (confirm, transactional) = self.session.mode(channel);
                if let Some(entry) = self.counters(channel) {
                    entry.confirm.store(confirm, Ordering::Relaxed);
                    entry.transactional.store(transactional, Ordering::Relaxed);
                }
            }
            Action::Login { mechanism, proof } => {
                self.entered.entry.describe(|about| {
                    about.mechanism = mechanism;
                    about.client_properties = to_json(self.session.client_properties());
                });
                let (door, peer) = (self.door.clone(), self.peer);
                let login = async move { Done::LoggedIn(door.directory.login(&proof, peer).await) };
                self.calls.push(Box::pin(login));
            }
            Action::Tune { channel_max, frame_max, heartbeat } => {
                self.decoder.set_frame_max(frame_max);
                self.output.set_frame_max(frame_max);
                self.set_heartbeat(heartbeat);
                self.entered.entry.describe(|about| {
                    (about.channel_max, about.frame_max, about.heartbeat) =
                        (channel_max, frame_max, heartbeat);
                });
            }
            Action::Enter(vhost) => self.enter(vhost),
            Action::Hangup => self.hangup = true,
        }
    }

    /// Refuses one more channel of a user that has as many as it may.
    fn check_channels(&self) -> Result<(), Failure> {
        let Some(account) = &self.account else { return Ok(()) };
        let user = account.name();
        match self.door.directory.bounds_of_user(user).channels {
            Some(most) if self.door.registry.channels_of(user) >= most as usize => {
                Err(Failure::not_allowed(format!(
                    "number of channels opened for user '{user}' has reached the maximum allowed user limit of ({most})"
                )))
            }
            _ => Ok(()),
        }
    }

    /// Refuses one more connection of a virtual host or user that has as many as it may.
    fn check_connections(&self, vhost: &SmolStr, user: &str) -> Result<(), Failure> {
        let directory = &self.door.directory;
        let of_vhost = directory.bounds_of_vhost(vhost).connections;
        let of_user = directory.bounds_of_user(user).connections;
        let admitted = self.door.registry.admit(&self.entered.entry, (vhost, of_vhost), (user, of_user));
        admitted.map_err(|crowded| {
            Failure::not_allowed(match crowded {
                Crowded::Vhost(most) => format!(
                    "access to vhost '{vhost}' refused for user '{user}': connection limit ({most}) is reached"
                ),
                Crowded::User(most) => format!(
                    "Connection refused for user '{user}': user connection limit ({most}) is reached"
                ),
            })
        })
    }

    fn enter(&mut self, vhost: SmolStr) {
        let Some(account) = self.account.clone() else { return };
        if let Err(failure) = self.check_connections(&vhost, account.name()) {
            return self.calls.push(Box::pin(std::future::ready(Done::Entered(Err(failure)))));
        }
        let who = Some(account.name().to_owned());
        let origin = Origin {
            door: "amqp",
            who,
            client: Some(self.peer),
            name: self.session.connection_name(),
            inner: false,
        };
        let context = Arc::new(Context {
            door: self.door.clone(),
            broker: self.door.broker.with_origin(origin),
            session: self.broker_session,
            account,
            vhost,
            replies: self.replies_in.clone(),
        });
        self.context = Some(context.clone());
        self.calls.push(Box::pin(async move { Done::Entered(routes::enter(&context).await) }));
    }

    /// What belongs to a channel that has ended goes, in the order of the channel's own requests.
    fn channel_ended(&mut self, remains: Remains) {
        let Remains { channel, consumers, held } = remains;
        let mut of_consumers = Vec::new();
        for key in consumers {
            self.end_consumer(key);
            of_consumers.push(key);
        }
        // What a consumer holds comes back with its detaching; the rest was got, or its consumer was cancelled.
        let rest =
            held.into_iter().filter(|held| held.consumer.is_none_or(|key| !of_consumers.contains(&key)));
        self.commands.extend(super::settle::lost(rest));
        if self.pools.remove(&channel) {
            self.commands.push(Command::Pool(pool(self.broker_session, channel), None));
        }
        self.end_ending_consumers_of(channel);
        self.close_replies_of(channel);
        if let Some(entry) = self.entered.entry.remove_channel(channel.id.0) {
            self.door.registry.channel_ended(&entry);
        }
        self.channels.remove(&channel.id.0);
        self.publishes.forget_channel(channel);
    }

    /// Takes the address for direct replies to a channel away.
    pub fn close_replies_of(&mut self, channel: ChannelKey) {
        if let Some(address) = self.publishes.reply_addresses.remove(&channel) {
            self.door.replies.close(&address);
        }
    }

    fn count_settled(&self, channel: ChannelKey, count: usize, verdict: Verdict) {
        if let (Some(entry), Verdict::Accepted) = (self.counters(channel), verdict) {
            entry.acknowledged.add(count as u64);
        }
    }

    fn set_qos(&mut self, channel: ChannelKey) {
        let (prefetch, prefetch_global) = self.session.prefetch(channel);
        if let Some(entry) = self.counters(channel) {
            entry.prefetch.set(prefetch.into());
            entry.prefetch_global.set(prefetch_global.into());
        }
        if prefetch_global > 0 || self.pools.contains(&channel) {
            self.pools.insert(channel);
            let limit = if prefetch_global == 0 { u32::MAX } else { prefetch_global.into() };
            self.commands.push(Command::Pool(pool(self.broker_session, channel), Some(limit)));
        }
        self.resume(channel);
    }
}
