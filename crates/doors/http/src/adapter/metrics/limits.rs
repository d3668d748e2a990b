//! How much of what it may have has each virtual host and user?

use std::collections::HashMap;

use waystation_access::User;
use waystation_broker::view::VhostInfo;

use super::{
    tables::NAMED_MAX,
    text::{Text, escaped},
};

/// What is open now at the doors whose connections last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Open {
    /// Connections, by virtual host.
    pub vhosts: HashMap<String, u64>,
    /// Connections and the channels on them, by user.
    pub users: HashMap<String, (u64, u64)>,
}

/// A virtual host that has limits, with its connections.
pub type VhostRow = (VhostInfo, u64);
/// A user that has limits, with its connections and channels.
pub type UserRow = (User, u64, u64);

/// Name, help, and how to read it; nothing: no limit.
type Figure<T> = (&'static str, &'static str, fn(&T) -> Option<f64>);

fn bound(most: Option<u32>) -> Option<f64> {
    most.map(f64::from)
}

/// Figures of virtual hosts; all are gauges.
pub const VHOSTS: [Figure<VhostRow>; 8] = [
    ("vhost_queues", "Queues and topics.", |(it, _)| Some(it.queues as f64)),
    ("vhost_queues_limit", "Queues and topics that it may have.", |(it, _)| bound(it.limits.max_queues)),
    ("vhost_connections", "Connections.", |(_, connections)| Some(*connections as f64)),
    ("vhost_connections_limit", "Connections that it may have.", |(it, _)| bound(it.limits.max_connections)),
    ("vhost_messages_in_flight", "Messages that consumers hold.", |(it, _)| Some(it.held as f64)),
    ("vhost_messages_in_flight_limit", "Messages that consumers may hold.", |(it, _)| {
        bound(it.limits.concurrency)
    }),
    ("vhost_rate_limit", "Messages that may be handed out in a second.", |(it, _)| {
        let rate = it.limits.rate.as_ref();
        rate.map(|rate| f64::from(rate.messages) * 1000.0 / rate.per_ms as f64)
    }),
    ("vhost_held_back", "1 while a limit keeps messages from consumers.", |(it, _)| {
        Some(f64::from(u8::from(it.held_back.is_some())))
    }),
];

/// Figures of users; all are gauges.
pub const USERS: [Figure<UserRow>; 4] = [
    ("user_connections", "Connections.", |(_, connections, _)| Some(*connections as f64)),
    ("user_connections_limit", "Connections that it may have.", |(it, ..)| bound(it.limits.max_connections)),
    ("user_channels", "Channels on all its connections.", |(_, _, channels)| Some(*channels as f64)),
    ("user_channels_limit", "Channels that it may have.", |(it, ..)| bound(it.limits.max_channels)),
];

/// Those that have limits, the first by name.
pub fn of_vhosts(text: &mut Text, hosts: Vec<VhostInfo>, open: &Open) {
    let count = |name: &str| open.vhosts.get(name).copied().unwrap_or_default();
    let rows = hosts.into_iter().take(NAMED_MAX).map(|it| {
        let connections = count(&it.name);
        (escaped(&it.name), (it, connections))
    });
    write(text, "vhost", &VHOSTS, &rows.collect::<Vec<_>>());
}

/// Those that have limits, the first by name.
pub fn of_users(text: &mut Text, users: Vec<User>, open: &Open) {
    let limited = users.into_iter().filter(|it| it.limits != Default::default()).take(NAMED_MAX);
    let rows = limited.map(|it| {
        let (connections, channels) = open.users.get(&it.name).copied().unwrap_or_default();
        (escaped(&it.name), (it, connections, channels))
    });
    write(text, "user", &USERS, &rows.collect::<Vec<_>>());
}

fn write<T>(text: &mut Text, label: &str, figures: &[Figure<T>], rows: &[(String, T)]) {
    for (name, help, read) in figures {
        text.family(name, "gauge", help);
        for (of, row) in rows {
            read(row).into_iter().for_each(|value| text.sample(name, Some((label, of)), value));
        }
    }
}

#[cfg(test)]
mod tests {
    use waystation_access::UserLimits;
    use waystation_broker::spec::{MessageRate, VhostLimits};

    use super::*;

    fn vhost(name: &str, limits: VhostLimits) -> VhostInfo {
        VhostInfo { name: name.to_owned(), limits, queues: 3, held: 5, held_back: None }
    }

    fn user(name: &str, limits: UserLimits) -> User {
        serde_json::from_value(serde_json::json!({"name": name, "limits": limits})).expect("a user")
    }

    #[test]
    fn a_limit_stands_beside_what_there_is_and_only_where_there_is_one() {
        let mut text = Text::default();
        let rate = MessageRate { messages: 3, per_ms: 2_000, burst: None };
        let limits = VhostLimits { max_queues: Some(7), rate: Some(rate), ..VhostLimits::default() };
        let open = Open {
            vhosts: [("a\"b".to_owned(), 2)].into(),
            users: [("u".to_owned(), (4, 9)), ("w".to_owned(), (1, 1))].into(),
        };
        of_vhosts(&mut text, vec![vhost("a\"b", limits)], &open);
        let limited = UserLimits { max_channels: Some(10), ..UserLimits::default() };
        of_users(&mut text, vec![user("u", limited), user("w", UserLimits::default())], &open);
        let samples: Vec<_> = text.0.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            samples,
            [
                "waystation_vhost_queues{vhost=\"a\\\"b\"} 3",
                "waystation_vhost_queues_limit{vhost=\"a\\\"b\"} 7",
                "waystation_vhost_connections{vhost=\"a\\\"b\"} 2",
                "waystation_vhost_messages_in_flight{vhost=\"a\\\"b\"} 5",
                "waystation_vhost_rate_limit{vhost=\"a\\\"b\"} 1.5",
                "waystation_vhost_held_back{vhost=\"a\\\"b\"} 0",
                "waystation_user_connections{user=\"u\"} 4",
                "waystation_user_channels{user=\"u\"} 9",
                "waystation_user_channels_limit{user=\"u\"} 10",
            ]
        );
    }

    #[test]
    fn named_max_of_them_have_series_and_one_more_has_none() {
        let series = |count: usize| {
            let mut text = Text::default();
            let limits = VhostLimits { max_queues: Some(1), ..VhostLimits::default() };
            let hosts = (0..count).map(|at| vhost(&format!("v{at}"), limits.clone())).collect();
            let limits = UserLimits { max_channels: Some(1), ..UserLimits::default() };
            let users = (0..count).map(|at| user(&format!("u{at}"), limits)).collect();
            of_vhosts(&mut text, hosts, &Open::default());
            of_users(&mut text, users, &Open::default());
            let of = |name: &str| text.0.matches(&format!("\nwaystation_{name}{{")).count();
            (of("vhost_queues_limit"), of("user_channels_limit"))
        };
        assert_eq!(series(NAMED_MAX), (NAMED_MAX, NAMED_MAX));
        assert_eq!(series(NAMED_MAX + 1), (NAMED_MAX, NAMED_MAX));
    }
}
