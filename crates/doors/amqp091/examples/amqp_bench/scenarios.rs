//! Which loads are run, against whom, and what is printed of them?

use std::{error::Error, io, path::Path, time::Duration};

use crate::{
    Arguments, BROKER_CORE,
    brokers::Broker,
    load::{Outcome, Plan, Until, run as run_load},
    stats::median,
};

/// Unconfirmed messages at most, and bytes of them.
const WINDOW_MESSAGES: usize = 4_000;
const WINDOW_BYTES: usize = 16 << 20;

/// A load without a rate.
struct Load {
    name: &'static str,
    body_bytes: usize,
    queues: usize,
    consumers: usize,
    /// Part of a short run.
    quick: bool,
}

const LOADS: &[Load] = &[
    Load { name: "1 KiB, 1 queue, publish", body_bytes: 1024, queues: 1, consumers: 0, quick: true },
    Load { name: "1 KiB, 1 queue, 1 consumer", body_bytes: 1024, queues: 1, consumers: 1, quick: true },
    Load { name: "1 KiB, 1 queue, 10 consumers", body_bytes: 1024, queues: 1, consumers: 10, quick: false },
    Load { name: "1 KiB, 100 queues, publish", body_bytes: 1024, queues: 100, consumers: 0, quick: false },
    Load {
        name: "1 KiB, 100 queues, 10 consumers",
        body_bytes: 1024,
        queues: 100,
        consumers: 10,
        quick: false,
    },
    Load { name: "1 KiB, 1000 queues, publish", body_bytes: 1024, queues: 1000, consumers: 0, quick: true },
    Load { name: "16 B, 1 queue, publish", body_bytes: 16, queues: 1, consumers: 0, quick: true },
    Load { name: "16 B, 1 queue, 1 consumer", body_bytes: 16, queues: 1, consumers: 1, quick: false },
    Load { name: "64 KiB, 1 queue, publish", body_bytes: 64 << 10, queues: 1, consumers: 0, quick: true },
    Load { name: "64 KiB, 1 queue, 1 consumer", body_bytes: 64 << 10, queues: 1, consumers: 1, quick: false },
];

/// The load that has a queue drained that was filled before.
const DRAIN: &str = "1 KiB, 1 queue, drained";

/// Who is measured: a broker and a type of queue.
#[derive(Clone, Copy, PartialEq)]
enum Party {
    /// Given by its address.
    Given,
    Waystation,
    Classic,
    Quorum,
}

impl Party {
    fn name(self) -> &'static str {
        match self {
            Party::Given => "the broker",
            Party::Waystation => "Waystation",
            Party::Classic => "RabbitMQ classic",
            Party::Quorum => "RabbitMQ quorum",
        }
    }

    fn kind(self, given: &str) -> &str {
        match self {
            Party::Given => given,
            Party::Quorum => "quorum",
            _ => "classic",
        }
    }
}

/// One measured round.
struct Round {
    outcome: Outcome,
    cpu_s: f64,
}

struct Bench {
    brokers: Brokers,
    rounds: u64,
    seconds: Duration,
    parties: Vec<Party>,
    /// Of a broker given by its address.
    queue_type: String,
}

/// Those that run; RabbitMQ serves both of its types of queue.
struct Brokers {
    ours: Broker,
    peer: Option<Broker>,
}

impl Brokers {
    fn start(arguments: &Arguments, dir: &Path) -> Result<Brokers, Box<dyn Error>> {
        if let Some(address) = arguments.text("--address") {
            return Ok(Brokers { ours: Broker::running(address.parse()?)?, peer: None });
        }
        let binary = Path::new(arguments.text("--server-binary").unwrap_or("target/release/waystation"));
        let peer = if arguments.has("--alone") { None } else { Some(Broker::rabbitmq(dir, BROKER_CORE)?) };
        Ok(Brokers { ours: Broker::waystation(&binary.canonicalize()?, dir, BROKER_CORE)?, peer })
    }

    fn get(&self, party: Party) -> &Broker {
        match (party, &self.peer) {
            (Party::Classic | Party::Quorum, Some(peer)) => peer,
            _ => &self.ours,
        }
    }
}

pub fn run(arguments: &Arguments, dir: &Path) -> Result<(), Box<dyn Error>> {
    let quick = arguments.has("--quick");
    let bench = Bench {
        brokers: Brokers::start(arguments, &dir.join("load"))?,
        rounds: arguments.number("--rounds", if quick { 1 } else { 5 }),
        seconds: Duration::from_secs(arguments.number("--seconds", if quick { 2 } else { 5 })),
        parties: if arguments.has("--address") {
            vec![Party::Given]
        } else if arguments.has("--alone") {
            vec![Party::Waystation]
        } else {
            vec![Party::Waystation, Party::Classic, Party::Quorum]
        },
        queue_type: arguments.text("--queue-type").unwrap_or("classic").to_owned(),
    };
    let only = arguments.text("--only").unwrap_or_default();
    let chosen = |name: &str| name.contains(only);
    println!("{} rounds of {} s each, medians", bench.rounds, bench.seconds.as_secs());
    println!(
        "\n{:34} {:18} {:>11} {:>15} {:>8} {:>8}",
        "load", "broker", "messages/s", "CPU s/million", "times", "CPU of"
    );
    let mut peers = Vec::new();
    let mut one_queue = f64::NAN;
    for load in LOADS.iter().filter(|load| chosen(load.name) && (load.quick || !quick)) {
        let rates = bench.throughput(load)?;
        match (load.queues, load.body_bytes, load.consumers) {
            (1, 1024, 0) => one_queue = rates[0],
            (1000, 1024, 0) => println!("{:34} of one queue: {:.0} %", "", rates[0] / one_queue * 100.0),
            (1, 1024, 1) => peers = rates,
            _ => {}
        }
    }
    let backlog = if quick { 200_000 } else { 1_000_000 };
    if chosen(DRAIN) {
        bench.drain(backlog)?;
    }
    if chosen("latency") {
        bench.latency(&peers)?;
        bench.lone_publisher()?;
    }
    if chosen("memory") {
        println!(
            "\n{:34} {:18} {:>9} {:>9}",
            format!("resident MiB, {backlog} of 1 KiB queued"),
            "",
            "before",
            "with"
        );
        let Bench { brokers, parties, queue_type, .. } = bench;
        drop(brokers);
        for party in parties {
            // Fresh ones, so that nothing is left of earlier loads.
            let brokers = Brokers::start(arguments, &dir.join(party.name()))?;
            print_memory(brokers.get(party), party, party.kind(&queue_type), backlog)?;
        }
    }
    Ok(())
}

fn queue_names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("bench.{number}")).collect()
}

impl Bench {
    /// One round on fresh queues.
    fn round(&self, party: Party, plan: &Plan) -> io::Result<Round> {
        let broker = self.brokers.get(party);
        broker.declare(&plan.queues, party.kind(&self.queue_type))?;
        let before = broker.cpu_s();
        let outcome = run_load(broker.address, plan)?;
        let cpu_s = broker.cpu_s() - before;
        broker.delete(&plan.queues)?;
        Ok(Round { outcome, cpu_s })
    }

    /// Prints and returns the messages a second of each party.
    fn throughput(&self, load: &Load) -> io::Result<Vec<f64>> {
        let plan = Plan {
            queues: queue_names(load.queues),
            body_bytes: load.body_bytes,
            window: WINDOW_MESSAGES.min(WINDOW_BYTES / load.body_bytes),
            rate: None,
            consumers: load.consumers,
            prefetch: 500,
            until: Until::Time(self.seconds),
            queued: 0,
        };
        let mut rates = vec![Vec::new(); self.parties.len()];
        let mut costs = vec![Vec::new(); self.parties.len()];
        for _ in 0..self.rounds {
            for (index, party) in self.parties.iter().enumerate() {
                let round = self.round(*party, &plan)?;
                rates[index].push(round.outcome.messages as f64 / round.outcome.seconds);
                costs[index].push(round.cpu_s / round.outcome.messages as f64 * 1e6);
            }
        }
        self.print_rates(load.name, &rates, &costs);
        Ok(rates.iter().map(|rates| median(rates)).collect())
    }

    fn print_rates(&self, name: &str, rates: &[Vec<f64>], costs: &[Vec<f64>]) {
        let (ours, our_cost) = (median(&rates[0]), median(&costs[0]));
        for (index, party) in self.parties.iter().enumerate() {
            let (rate, cost) = (median(&rates[index]), median(&costs[index]));
            let name = if index == 0 { name } else { "" };
            print!("{name:34} {:18} {rate:>11.0} {cost:>15.2}", party.name());
            match index {
                0 => println!(),
                _ => println!(" {:>8.1} {:>8.3}", ours / rate, our_cost / cost),
            }
        }
    }

    /// What a consumer does with that many messages that were queued before it came.
    fn drain(&self, count: u64) -> io::Result<()> {
        let fill = fill(count);
        let plan =
            Plan { consumers: 1, prefetch: 500, until: Until::Count(0), queued: count, ..fill.clone() };
        let mut rates = vec![Vec::new(); self.parties.len()];
        let mut costs = vec![Vec::new(); self.parties.len()];
        for _ in 0..self.rounds {
            for (index, party) in self.parties.iter().enumerate() {
                let broker = self.brokers.get(*party);
                broker.declare(&fill.queues, party.kind(&self.queue_type))?;
                run_load(broker.address, &fill)?;
                let before = broker.cpu_s();
                let outcome = run_load(broker.address, &plan)?;
                rates[index].push(outcome.messages as f64 / outcome.seconds);
                costs[index].push((broker.cpu_s() - before) / outcome.messages as f64 * 1e6);
                broker.delete(&fill.queues)?;
            }
        }
        self.print_rates(DRAIN, &rates, &costs);
        Ok(())
    }

    /// At half of what each peer can do, the same rate for both.
    fn latency(&self, peers: &[f64]) -> io::Result<()> {
        println!(
            "\n{:34} {:18} {:>29}   {:>29}",
            "1 KiB, 1 queue, 1 consumer", "ms:", "confirm p50 p99 p99.9", "to consumer p50 p99 p99.9"
        );
        for (index, peer) in self.parties.iter().enumerate().skip(usize::from(self.parties.len() > 1)) {
            let rate = peers.get(index).copied().unwrap_or(20_000.0) / 2.0;
            let mut pair = vec![self.parties[0], *peer];
            pair.dedup();
            for party in pair {
                let plan = Plan {
                    queues: queue_names(1),
                    body_bytes: 1024,
                    window: WINDOW_MESSAGES,
                    rate: Some(rate),
                    consumers: 1,
                    prefetch: 500,
                    until: Until::Time(self.seconds * 2),
                    queued: 0,
                };
                self.print_latency(&format!("at {rate:.0}/s"), party, &plan)?;
            }
        }
        Ok(())
    }

    /// The median of each quantile over the rounds.
    fn print_latency(&self, name: &str, party: Party, plan: &Plan) -> io::Result<()> {
        let mut quantiles = vec![Vec::new(); 6];
        for _ in 0..self.rounds {
            let mut outcome = self.round(party, plan)?.outcome;
            for (index, share) in [0.5, 0.99, 0.999].into_iter().enumerate() {
                quantiles[index].push(outcome.confirm.quantile_ms(share));
                quantiles[index + 3].push(outcome.end_to_end.quantile_ms(share));
            }
        }
        let [a, b, c, d, e, f] = [0, 1, 2, 3, 4, 5].map(|index| median(&quantiles[index]));
        println!("{name:34} {:18} {a:>9.2} {b:>9.2} {c:>9.2}   {d:>9.2} {e:>9.2} {f:>9.2}", party.name());
        Ok(())
    }

    /// One message at a time.
    fn lone_publisher(&self) -> io::Result<()> {
        for party in &self.parties {
            let plan = Plan {
                queues: queue_names(1),
                body_bytes: 1024,
                window: 1,
                rate: None,
                consumers: 0,
                prefetch: 0,
                until: Until::Time(self.seconds),
                queued: 0,
            };
            self.print_latency("one at a time, publish", *party, &plan)?;
        }
        Ok(())
    }
}

/// Publishes that many messages, which nobody consumes.
fn fill(count: u64) -> Plan {
    Plan {
        queues: queue_names(1),
        body_bytes: 1024,
        window: WINDOW_MESSAGES,
        rate: None,
        consumers: 0,
        prefetch: 0,
        until: Until::Count(count),
        queued: 0,
    }
}

/// Resident memory without and with that many messages queued.
fn print_memory(broker: &Broker, party: Party, kind: &str, count: u64) -> io::Result<()> {
    let plan = fill(count);
    broker.declare(&plan.queues, kind)?;
    let before = broker.resident_mib();
    run_load(broker.address, &plan)?;
    println!("{:34} {:18} {before:>9.0} {:>9.0}", "", party.name(), broker.resident_mib());
    broker.delete(&plan.queues)
}
