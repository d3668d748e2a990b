//! What does Prometheus see of this door? Names and meanings stand in `docs/metrics.md`.

use std::fmt::Write as _;

use super::{Registry, STATES};

/// Together they are all connections.
const BY_STATE: &str = "waystation_amqp_connections_by_state";

/// Name, type, help and value of each figure.
fn rows(registry: &Registry) -> Vec<(&'static str, &'static str, &'static str, u64)> {
    let totals = registry.totals();
    let counts = totals.counts;
    let channels = totals.channels_opened.saturating_sub(totals.channels_closed);
    let consumers = registry.consumers().len() as u64;
    let (unacknowledged, unconfirmed) = registry.under_way();
    vec![
        ("connections", "gauge", "Open connections.", registry.len() as u64),
        ("connections_total", "counter", "Connections whose greeting was right.", totals.connections_opened),
        (
            "connections_refused_total",
            "counter",
            "Connections turned away at the limit.",
            totals.connections_refused,
        ),
        ("logins_refused_total", "counter", "Logins refused.", totals.logins_refused),
        ("channels", "gauge", "Open channels.", channels),
        ("channels_total", "counter", "Channels opened.", totals.channels_opened),
        ("consumers", "gauge", "Consumers.", consumers),
        ("messages_unacknowledged", "gauge", "Messages delivered and not acknowledged yet.", unacknowledged),
        ("messages_unconfirmed", "gauge", "Messages published and not confirmed yet.", unconfirmed),
        ("published_total", "counter", "Messages published.", counts.published),
        ("confirmed_total", "counter", "Publishes confirmed.", counts.confirmed),
        ("returned_total", "counter", "Mandatory messages sent back.", counts.returned),
        (
            "delivered_total",
            "counter",
            "Messages delivered to consumers, to be acknowledged.",
            counts.delivered,
        ),
        (
            "delivered_no_ack_total",
            "counter",
            "Messages delivered without acknowledgement.",
            counts.delivered_no_ack,
        ),
        ("got_total", "counter", "Messages got one by one.", counts.got + counts.got_no_ack),
        ("got_empty_total", "counter", "Messages asked for one by one in vain.", counts.got_empty),
        (
            "redelivered_total",
            "counter",
            "Messages delivered or got not for the first time.",
            counts.redelivered,
        ),
        ("acknowledged_total", "counter", "Messages acknowledged.", counts.acknowledged),
    ]
}

impl Registry {
    /// The door's figures in Prometheus' text format.
    pub fn figures(&self) -> String {
        let mut text = String::new();
        for (name, kind, help, value) in rows(self) {
            let name = format!("waystation_amqp_{name}");
            // Writing to a String does not fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
        }
        let name = BY_STATE;
        let _ = writeln!(text, "# HELP {name} Open connections by what they are doing.\n# TYPE {name} gauge");
        for (state, count) in STATES.iter().zip(self.by_state()) {
            let _ = writeln!(text, "{name}{{state=\"{state}\"}} {count}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_is_documented_and_has_help_and_type() {
        let documented = include_str!("../../../../../docs/metrics.md");
        let text = Registry::default().figures();
        for (name, kind, ..) in rows(&Registry::default()) {
            let name = format!("waystation_amqp_{name}");
            assert!(documented.contains(&format!("`{name}`")), "{name}");
            assert!(text.contains(&format!("# TYPE {name} {kind}\n{name} 0\n")), "{text}");
        }
        assert!(documented.contains(&format!("`{BY_STATE}`")));
        for state in STATES {
            assert!(documented.contains(&format!("`{state}`")), "{state}");
            assert!(text.contains(&format!("\n{BY_STATE}{{state=\"{state}\"}} 0\n")), "{text}");
        }
    }
}
