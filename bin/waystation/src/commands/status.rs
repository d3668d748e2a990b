//! How is the server, and what does it hold, at a glance?

use std::{io::Write, time::Duration};

use serde_json::json;
use waystation_admin::bindings::is_predeclared;
use waystation_broker::Kind;
use waystation_host::Alarms;
use waystation_http::api::Status;

use super::show;
use crate::{
    args::messages::Status as Args,
    client::{Client, Info},
    exit::{Exit, Failure},
    output::Output,
    units::{show_count, show_duration, show_size},
};

/// Moves the cursor home and clears the screen (ECMA-48 §8.3.21, §8.3.39).
const CLEAR: &str = "\x1b[H\x1b[2J";

pub async fn run(client: Client, args: Args, output: Output) -> Result<Exit, Failure> {
    loop {
        let status = client.status().await?;
        let mut kinds = Vec::new();
        for kind in [Kind::Queue, Kind::Topic, Kind::Subscription, Kind::Route] {
            let mut infos = client.list(kind, None).await?;
            infos.retain(|info| !is_idle(info));
            kinds.push(infos);
        }
        if args.watch.is_some() && !output.json {
            write!(std::io::stdout(), "{CLEAR}")?;
        }
        tell(&client, &status, &kinds, output)?;
        match args.watch {
            Some(ms) => tokio::time::sleep(Duration::from_millis(ms.max(100))).await,
            None => return Ok(Exit::Done),
        }
    }
}

/// What is there without anybody's doing, and does nothing.
fn is_idle(info: &Info) -> bool {
    matches!(info, Info::Route(route) if route.bindings == 0 && is_predeclared(&route.name))
}

fn tell(client: &Client, status: &Status, kinds: &[Vec<Info>], output: Output) -> Result<(), Failure> {
    let [queues, topics, subscriptions, routes] = kinds else { unreachable!("four kinds were listed") };
    let whole = json!({
        "server": status, "queues": queues, "topics": topics, "subscriptions": subscriptions, "routes": routes,
    });
    output.say(&whole, || {
        let mut text = head(client, status);
        for infos in kinds.iter().filter(|infos| !infos.is_empty()) {
            text += "\n\n";
            text += &show::table(infos);
        }
        text
    })
}

fn head(client: &Client, status: &Status) -> String {
    let state = match status {
        Status { stopped: Some(reason), .. } => format!("STOPPED: {reason}"),
        Status { draining: true, .. } => "shutting down".to_owned(),
        _ => {
            let alarms = Alarms { disk: status.disk_low, memory: status.memory_low };
            alarms.told().unwrap_or("accepting").to_owned()
        }
    };
    let memory = match (show_size(status.memory_used_bytes), status.memory_high_bytes) {
        (used, 0) => used,
        (used, high_bytes) => format!("{used} of {}", show_size(high_bytes)),
    };
    let journal = status.journal_end.saturating_sub(status.journal_start);
    format!(
        "waystation {} at {}: {state}, up {}, {} connections\njournal {}, settled {} in {} files, disk free {}, memory {}",
        status.version,
        client.base(),
        show_duration(status.uptime_s * 1000),
        show_count(status.connections),
        show_size(journal),
        show_size(status.settled_bytes),
        show_count(status.settled_files),
        show_size(status.disk_free_bytes),
        memory,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::ServerAddress;

    #[test]
    fn the_head_says_first_what_is_wrong() {
        let address = ServerAddress { server: "http://x:1".into(), token: None, ca: None, cert: None };
        let client = Client::new(&address).expect("a client");
        let check = |status: Status, expected: &str| {
            let text = head(&client, &status);
            assert!(text.contains(expected), "{text}");
        };
        check(Status { stopped: Some("no".into()), draining: true, ..Status::default() }, "STOPPED: no");
        check(Status { disk_low: true, ..Status::default() }, "disk space is low");
        check(Status { memory_low: true, ..Status::default() }, "memory is low");
        let status = Status { memory_used_bytes: 3 << 20, memory_high_bytes: 6 << 20, ..Status::default() };
        check(status, "memory 3.0 MiB of 6.0 MiB");
        check(Status { memory_used_bytes: 3 << 20, ..Status::default() }, "memory 3.0 MiB");
        check(Status { uptime_s: 90, ..Status::default() }, "accepting, up 1m 30s");
    }
}
