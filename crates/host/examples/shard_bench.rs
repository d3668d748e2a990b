//! How many small durable messages a second does one shard take, what do many queues cost, how soon is a message
//! delivered, and what does settling cost those who publish?
//!
//! Prints lines of `name value unit`, and ends with failure if a ratio that was promised is not reached. `--help` tells what can be said.
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "measures time, and prints it")]

mod support;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use clap::Parser;
use support::{Running, cpu_seconds, median, message, percentile, resident};
use waystation_base::{
    Name,
    disk::{Disk, File},
    os::OsDisk,
};
use waystation_broker::{SessionId, Source, command::Hold, spec::QueueSpec};
use waystation_host::{Broker, Event};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const QUEUES: usize = 10_000;
const ROUNDS: usize = 3;
const RATIO_MAX: f64 = 1.3;

#[derive(Parser)]
struct Arguments {
    /// Where the data lives
    #[arg(long, default_value_os_t = std::env::temp_dir().join("waystation-shard-bench"))]
    dir: PathBuf,
    /// How many are published in each round
    #[arg(long, default_value_t = 2_000_000)]
    messages: usize,
    /// How many publish at a time
    #[arg(long, default_value_t = 4_000)]
    publishers: usize,
    /// Run one part
    #[arg(long, value_parser = ["throughput", "delivery", "settling"])]
    only: Option<String>,
    /// Instead fill a queue with so many messages of 1 KiB and measure memory and restart
    #[arg(long)]
    backlog: Option<usize>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    support::run(async {
        if let Some(messages) = arguments.backlog {
            backlog(&arguments, messages).await;
            return true;
        }
        let runs = |part: &str| arguments.only.as_deref().is_none_or(|only| only == part);
        let mut content = true;
        if runs("throughput") {
            content &= throughput(&arguments).await;
        }
        if runs("delivery") {
            delivery(&arguments).await;
        }
        if runs("settling") {
            settling(&arguments).await;
        }
        content
    })
}

fn name(n: usize) -> Name {
    Name::new(format!("queue-{n}")).expect("a name")
}

/// Publishes `messages` one by one from many tasks, over `queues` queues in turn; returns seconds and the processor's.
async fn publish_all(broker: &Broker, messages: usize, publishers: usize, queues: usize) -> (f64, f64) {
    let names: Rc<Vec<Name>> = Rc::new((0..queues).map(name).collect());
    let body = Bytes::from(vec![b'x'; 100]);
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let tasks: Vec<_> = (0..publishers)
        .map(|publisher| {
            let (broker, names, body) = (broker.clone(), names.clone(), body.clone());
            tokio::task::spawn_local(async move {
                for n in (publisher..messages).step_by(publishers) {
                    let address = names[n % queues].clone();
                    broker.publish(address, vec![message(n, &body)]).await.expect("published");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    (began.elapsed().as_secs_f64(), cpu_seconds() - cpu)
}

async fn throughput(arguments: &Arguments) -> bool {
    let mut rates = [Vec::new(), Vec::new()];
    let mut ratios = Vec::new();
    for round in 0..ROUNDS {
        let mut seconds = [0.0; 2];
        for (at, queues) in [1, QUEUES].into_iter().enumerate() {
            let running = Running::fresh(&arguments.dir.join("throughput"), |_| ());
            for n in 0..queues {
                running.declare(name(n), QueueSpec::default()).await;
            }
            let (elapsed, cpu) =
                publish_all(&running.broker, arguments.messages, arguments.publishers, queues).await;
            let overview = running.broker.overview().await.expect("there");
            println!("round_{round}_queues_{queues} {:.0} messages/s", arguments.messages as f64 / elapsed);
            println!(
                "round_{round}_queues_{queues}_cpu {:.2} us/message",
                cpu * 1e6 / arguments.messages as f64
            );
            println!("round_{round}_queues_{queues}_groups {} groups", overview.groups);
            seconds[at] = elapsed;
            rates[at].push(arguments.messages as f64 / elapsed);
            running.stop().await;
        }
        ratios.push(seconds[1] / seconds[0]);
    }
    println!("durable_publishes_one_queue {:.0} messages/s", median(&mut rates[0]));
    println!("durable_publishes_{QUEUES}_queues {:.0} messages/s", median(&mut rates[1]));
    let ratio = median(&mut ratios);
    println!("time_{QUEUES}_queues_to_one {ratio:.2} ratio");
    ratio <= RATIO_MAX
}

/// One page written and synced again and again, in a file whose blocks are there: what the journal does at the least.
fn bare_syncs(dir: &Path) -> Vec<f64> {
    std::fs::create_dir_all(dir).expect("a folder");
    let path = dir.join("bare");
    let file: Arc<dyn File> = OsDisk.open(&path, true).expect("a file");
    file.write_all_at(&vec![0; 8 << 20], 0).expect("written");
    file.sync_data().expect("synced");
    let page = vec![7; 4096];
    let times = (0..2000).map(|n| {
        let began = Instant::now();
        file.write_all_at(&page, n % 2048 * 4096).expect("written");
        file.sync_data().expect("synced");
        began.elapsed().as_secs_f64() * 1e3
    });
    let times = times.collect();
    let _ = std::fs::remove_file(path);
    times
}

async fn delivery(arguments: &Arguments) {
    let mut bare = bare_syncs(&arguments.dir);
    print_times("bare_fdatasync", &mut bare);
    let running = Running::fresh(&arguments.dir.join("delivery"), |_| ());
    running.declare(name(0), QueueSpec::default()).await;
    let source = Source::Queue(name(0));
    let mut consumer =
        running.broker.consume(source, 1000, Hold::None, SessionId::default()).await.expect("attached");
    const COUNT: usize = 10_000;
    let epoch = Instant::now();
    let received = tokio::task::spawn_local(async move {
        let mut times = Vec::new();
        while times.len() < COUNT {
            let Some(Event::Messages(messages)) = consumer.next().await else { break };
            for delivery in messages {
                let sent: [u8; 8] = delivery.message.body[..8].try_into().expect("eight bytes");
                times.push((epoch.elapsed().as_nanos() as u64 - u64::from_le_bytes(sent)) as f64 / 1e6);
            }
            consumer.set_credit(1000).await.expect("taken");
        }
        times
    });
    let mut pace = tokio::time::interval(Duration::from_millis(1));
    let mut confirms = Vec::new();
    for n in 0..COUNT {
        pace.tick().await;
        let broker = running.broker.clone();
        confirms.push(tokio::task::spawn_local(async move {
            let began = epoch.elapsed().as_nanos() as u64;
            let body = Bytes::from([&began.to_le_bytes()[..], &[0; 92]].concat());
            broker.publish(name(0), vec![message(n, &body)]).await.expect("published");
            (epoch.elapsed().as_nanos() as u64 - began) as f64 / 1e6
        }));
    }
    let mut confirm_times = Vec::new();
    for confirm in confirms {
        confirm_times.push(confirm.await.expect("no panic"));
    }
    let mut times = received.await.expect("no panic");
    print_times("confirm_at_1000_per_second", &mut confirm_times);
    print_times("delivery_at_1000_per_second", &mut times);
    println!(
        "delivery_p99_over_bare_p99 {:.2} ms",
        percentile(&mut times, 99.0) - percentile(&mut bare, 99.0)
    );
    running.stop().await;
}

/// The same steady publishing, without settling and with a journal so short that everything is settled at once.
async fn settling(arguments: &Arguments) {
    for round in 0..ROUNDS {
        for (label, hot_bytes) in [("calm", u64::MAX / 4), ("settling", 16 << 20)] {
            let running = Running::fresh(&arguments.dir.join("settling"), |options| {
                options.hot_bytes = hot_bytes;
                options.snapshot_bytes = if label == "calm" { u64::MAX / 4 } else { 32 << 20 };
            });
            running.declare(name(0), QueueSpec::default()).await;
            let mut times = steady(&running.broker, Duration::from_secs(8)).await;
            let overview = running.broker.overview().await.expect("there");
            println!("round_{round}_{label}_settle_jobs {} jobs", overview.settle_jobs);
            println!("round_{round}_{label}_snapshots {} snapshots", overview.snapshots);
            print_times(&format!("round_{round}_publish_{label}"), &mut times);
            running.stop().await;
        }
    }
}

/// 20,000 messages of 1 KiB a second: each millisecond twenty, each confirmed for itself.
async fn steady(broker: &Broker, length: Duration) -> Vec<f64> {
    let body = Bytes::from(vec![b'x'; 1024]);
    let mut pace = tokio::time::interval(Duration::from_millis(1));
    let began = Instant::now();
    let mut tasks = Vec::new();
    let mut n = 0;
    while began.elapsed() < length {
        pace.tick().await;
        for _ in 0..20 {
            n += 1;
            let (broker, body) = (broker.clone(), body.clone());
            tasks.push(tokio::task::spawn_local(async move {
                let began = Instant::now();
                broker.publish(name(0), vec![message(n, &body)]).await.expect("published");
                began.elapsed().as_secs_f64() * 1e3
            }));
        }
    }
    let mut times = Vec::new();
    for task in tasks {
        times.push(task.await.expect("no panic"));
    }
    times
}

async fn backlog(arguments: &Arguments, messages: usize) {
    let dir = arguments.dir.join("backlog");
    println!("idle_before {:.1} MB", resident_mb());
    let running = Running::fresh(&dir, |_| ());
    running.declare(name(0), QueueSpec::default()).await;
    println!("idle {:.1} MB", resident_mb());
    let body = Bytes::from(vec![b'x'; 1024]);
    let began = Instant::now();
    let mut peak = 0.0f64;
    const TASKS: usize = 1000;
    for step in (0..messages).step_by(100_000) {
        let end = (step + 100_000).min(messages);
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| {
                let (broker, body) = (running.broker.clone(), body.clone());
                tokio::task::spawn_local(async move {
                    for n in (step + task..end).step_by(TASKS) {
                        broker.publish(name(0), vec![message(n, &body)]).await.expect("published");
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("no panic");
        }
        peak = peak.max(resident_mb());
    }
    println!("backlog_publish {:.0} messages/s", messages as f64 / began.elapsed().as_secs_f64());
    println!("backlog_peak {peak:.1} MB");
    let overview = running.broker.overview().await.expect("there");
    println!("journal {:.0} MB", (overview.journal_end.0 - overview.journal_start.0) as f64 / 1e6);
    println!("settled {:.0} MB in {} files", overview.settled_bytes as f64 / 1e6, overview.settled_files);
    println!("backlog_resident {:.1} MB", resident_mb());
    // No farewell: a restart after a crash.
    running.crash().await;
    let began = Instant::now();
    let running = Running::on(&dir, |_| ());
    let info = running.broker.queue(name(0)).await.expect("there");
    println!("restart_after_crash {:.2} s", began.elapsed().as_secs_f64());
    println!("restart_messages {} messages", info.ready);
    println!("restart_resident {:.1} MB", resident_mb());
    running.stop().await;
    let began = Instant::now();
    let running = Running::on(&dir, |_| ());
    running.broker.overview().await.expect("there");
    println!("restart_after_stop {:.2} s", began.elapsed().as_secs_f64());
    let began = Instant::now();
    let mut consumer = running
        .broker
        .consume(Source::Queue(name(0)), 10_000, Hold::None, SessionId::default())
        .await
        .expect("attached");
    let mut seen = 0;
    while seen < messages.min(1_000_000) {
        let Some(Event::Messages(some)) = consumer.next().await else { break };
        seen += some.len();
        consumer.set_credit(10_000).await.expect("taken");
    }
    println!("cold_read {:.0} messages/s", seen as f64 / began.elapsed().as_secs_f64());
    println!("cold_read_resident {:.1} MB", resident_mb());
    drop(consumer);
    running.stop().await;
}

fn print_times(label: &str, times: &mut [f64]) {
    for p in [50.0, 99.0, 99.9] {
        println!("{label}_p{p} {:.3} ms", percentile(times, p));
    }
}

fn resident_mb() -> f64 {
    resident() as f64 / 1e6
}
