//! How is the server put together, run and ended?

use std::{future::Future, io::Write, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use serde_json::json;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};
use waystation_access::Access;
use waystation_alerts::Alerts;
use waystation_amqp091::Registry;
use waystation_base::{
    Clock, Millis,
    os::{OsClock, OsDisk},
};
use waystation_calls::Calls;
use waystation_catalog::Catalog;
use waystation_host::{Broker, Driver, MemoryBound, Mode as HostMode, OpenError, Recovery};
use waystation_net::{Drain, Listener, Tls, tls};
use waystation_otlp::{Counts, Export, Exporter};
use waystation_record::Record;
use waystation_redrive::Redrives;

use super::{
    configuration::{refuse_exposure, variables},
    deliveries::{self, Deliveries},
    doors::{self, Listening},
    journal::{data_dir, unreadable},
};
use crate::{
    args::server::Serve,
    config::{Config, Mode, layers},
    exit::{Exit, Failure},
    logs, memory,
    output::Output,
    units::{show_size, show_time},
};

pub fn run(args: &Serve, output: Output) -> Result<Exit, Failure> {
    let config = configured(args)?;
    logs::start(&config.log)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let exit = runtime.block_on(serve(args, config, output));
    // What still runs after a second signal is not waited for.
    runtime.shutdown_timeout(Duration::from_millis(100));
    exit
}

/// File, environment and flags together, checked.
fn configured(args: &Serve) -> Result<Config, Failure> {
    let mut config = layers::load(args.config.as_deref(), variables())?;
    args.overlay(&mut config);
    let config = checked(config)?;
    config.check_exposure().map_err(refuse_exposure)?;
    Ok(config)
}

fn checked(config: Config) -> Result<Config, Failure> {
    match config.check() {
        Ok(()) => Ok(config),
        Err(problem) => Err(Failure::usage(format!("{}: {}", problem.path.join("."), problem.reason))),
    }
}

async fn serve(args: &Serve, config: Config, output: Output) -> Result<Exit, Failure> {
    let clock: Arc<dyn Clock> = Arc::new(OsClock);
    let access = Access::new(config.auth.tokens.clone())
        .map_err(|error| Failure::usage(format!("auth.tokens: {error}")))?;
    let tls = certificate(&config)?;
    let memory = memory::bound(&config.limits);
    let options = host_options(&config, memory.clone(), clock.now());
    let opened = waystation_host::open(options, Arc::new(OsDisk), clock.clone());
    let (broker, driver, recovery) = opened.map_err(|error| unopened(&error))?;
    tell_recovery(&config, &recovery);
    let listener = listen(config.http.address, tls.clone()).await?;
    let address = listener.address()?;
    let amqp = doors::listen(&config).await?;
    // Whoever is told that the server is ready may send it signals.
    let signals = Signals::new()?;
    let drain = Drain::default();
    let (calls, engine) = Calls::new(broker.clone(), clock.clone());
    let export = deliveries::spans(&config, &broker, &clock)?;
    let asked = export.as_ref().map(|export| export.requests.clone()).unwrap_or_default();
    let upstreams = deliveries::upstreams(&config, &calls, &clock, asked.clone())?;
    let deliveries = Deliveries::new(&config, &broker, &calls, &clock, asked.clone())?;
    let (pushes, callbacks) = (deliveries.pushes.clone(), deliveries.callbacks.clone());
    let jq = deliveries::jq()?;
    let routes = deliveries::routes(&config, &broker.as_part("routes", None), jq.clone(), &clock, asked)?;
    let (redrives, redriving) = Redrives::new(broker.as_part("redrive", None), clock.clone(), Some(jq));
    let counted = redrives.clone();
    let (alerts, telling) = Alerts::new(broker.as_part("alerts", None), clock.clone());
    let (spans, traced) = export.map(|export| follow(&broker, export)).unzip();
    // All that is configured has been looked at: whoever is told so can rely on it.
    tell_ready(address, tls.is_some(), &amqp, output)?;
    let registry = Arc::new(Registry::default());
    let figures: waystation_http::Figures = {
        let registry = registry.clone();
        Arc::new(move || registry.figures())
    };
    let open: waystation_http::Opened = {
        let registry = registry.clone();
        Arc::new(move || {
            let waystation_amqp091::Open { vhosts, users } = registry.open();
            waystation_http::Open { vhosts, users }
        })
    };
    let catalog = Catalog::new(access.clone());
    let managed = amqp.managed(&broker, &catalog, &registry, &clock, &drain);
    let http = waystation_http::serve(
        vec![listener],
        waystation_http::Options {
            broker: broker.clone(),
            calls: calls.clone(),
            catalog: catalog.clone(),
            definitions: Some(Arc::new(doors::Speaker::new(managed.clone()))),
            loopback_needs_token: config.auth.loopback_needs_token,
            limits: config.http.limits(),
            clock: clock.clone(),
            drain: drain.clone(),
            figures: vec![
                figures,
                Arc::new(move || calls.figures()),
                Arc::new(move || counted.figures()),
                recorded(&broker),
                Arc::new(move || traced.as_ref().map(|counts| counts.figures()).unwrap_or_default()),
            ],
            open,
            pushes: pushes.clone(),
            callbacks,
            redrives,
            routes: routes.clone(),
            alerts,
        },
    );
    let routing = {
        let (routes, drain) = (routes.clone(), drain.clone());
        async move {
            routes.serve(drain.begun()).await;
            Ok(())
        }
    };
    let upstreams = {
        let drain = drain.clone();
        async move {
            upstreams.serve(drain.begun()).await;
            Ok(())
        }
    };
    let redriving = {
        let drain = drain.clone();
        async move { redriving.run(drain.begun()).await.map_err(|refusal| Failure::new(Exit::Failure, refusal)) }
    };
    let telling = {
        let drain = drain.clone();
        async move { telling.run(drain.begun()).await.map_err(|refusal| Failure::new(Exit::Failure, refusal)) }
    };
    let delivering = deliveries.serve(drain.clone());
    let http = async move {
        // Whoever asks for a push shall not be told that there is none because it has not been read yet.
        pushes.load().await.map_err(|refusal| Failure::new(Exit::Failure, refusal))?;
        routes.load().await.map_err(|refusal| Failure::new(Exit::Failure, refusal))?;
        http.await.map_err(|error| Failure::new(Exit::Failure, error))
    };
    let amqp = amqp.serve(config.amqp.clone(), managed);
    let door = async move {
        let (end, ended) = oneshot::channel::<()>();
        let engine = tokio::spawn(async {
            if let Err(error) = engine.run(async { drop(ended.await) }).await {
                tracing::error!(%error, "calls are not served");
            }
        });
        let (last, lasted) = oneshot::channel::<()>();
        let spans = spans.map(|exporter| tokio::spawn(exporter.run(async { drop(lasted.await) })));
        let served =
            tokio::try_join!(http, amqp, delivering, upstreams, redriving, routing, telling).map(|_| ());
        // Nobody asks any more; what is under way is seen to its end.
        drop(end);
        engine.await.map_err(crashed)?;
        drop(last);
        if let Some(spans) = spans {
            spans.await.map_err(crashed)?;
        }
        served
    };
    let reloader = Reloader { args_config: args.config.clone(), access, memory, tls };
    let exit = conduct(driver, door, drain, signals, reloader).await?;
    tracing::info!("ended");
    Ok(exit)
}

/// Runs door and driver until a signal, or a failure, and then to a good end of both.
async fn conduct(
    driver: Driver,
    door: impl Future<Output = Result<(), Failure>> + Send + 'static,
    drain: Drain,
    mut signals: Signals,
    reloader: Reloader,
) -> Result<Exit, Failure> {
    let (stop, stopped) = oneshot::channel::<()>();
    let mut driver = tokio::spawn(driver.run(async {
        // A sender that is gone says the same.
        let _ = stopped.await;
    }));
    let mut door = tokio::spawn(door);
    let mut failed = None;
    loop {
        tokio::select! {
            biased;
            end = &mut door => {
                end.map_err(crashed)??;
                break;
            }
            end = &mut driver, if failed.is_none() => {
                // It ends by itself only when writing has failed; the doors say so to whoever still asks.
                let failure = end.map_err(crashed)?.err();
                let reason = failure.map_or_else(|| "the driver has ended".to_owned(), |failure| failure.to_string());
                tracing::error!(%reason, "nothing is accepted any more; the server ends");
                failed = Some(reason);
                drain.begin();
            }
            signal = signals.next() => match signal {
                Told::Reload => reloader.reload(),
                Told::End if drain.has_begun() => return Ok(interrupted()),
                Told::End => {
                    tracing::info!("draining: requests under way are finished, a second signal ends at once");
                    drain.begin();
                }
            },
        }
    }
    if let Some(reason) = failed {
        return Err(Failure::new(Exit::Storage, reason)
            .advise("what was acknowledged is safe; mend the disk, then start the server again"));
    }
    // The door has gone, and with it all that could still be asked.
    drop(stop);
    loop {
        tokio::select! {
            biased;
            end = &mut driver => {
                let closed = end.map_err(crashed)?;
                return closed.map(|()| Exit::Done).map_err(|failure| Failure::new(Exit::Storage, failure));
            }
            told = signals.next() => if let Told::End = told {
                return Ok(interrupted());
            },
        }
    }
}

fn interrupted() -> Exit {
    tracing::warn!("ended by a second signal before everything was drained; nothing acknowledged is lost");
    Exit::Interrupted
}

fn crashed(error: tokio::task::JoinError) -> Failure {
    Failure::new(Exit::Failure, format!("a part of the server crashed: {error}"))
        .advise("what was acknowledged is safe; please report this with the log")
}

/// What the operating system asks for.
enum Told {
    End,
    Reload,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> Result<Signals, Failure> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::End,
            _ = self.interrupt.recv() => Told::End,
            _ = self.hang_up.recv() => Told::Reload,
        }
    }
}

/// What can be changed while the server runs.
struct Reloader {
    args_config: Option<PathBuf>,
    access: Access,
    memory: Arc<MemoryBound>,
    tls: Option<Tls>,
}

impl Reloader {
    /// Reads tokens, the bound of memory and the certificate anew. What cannot be used is told, and the old stays.
    fn reload(&self) {
        if let Some(tls) = &self.tls {
            match tls.reload() {
                Ok(()) => tracing::info!("the certificate is read anew"),
                Err(error) => tracing::error!(%error, "the certificate cannot be used; the old one stays"),
            }
        }
        if let Some(path) = &self.args_config {
            match self.reload_tokens(path) {
                Ok(count) => tracing::info!(count, "the tokens are read anew"),
                Err(failure) => {
                    tracing::error!(error = %failure, "the tokens cannot be used; the old ones stay")
                }
            }
            match self.reload_memory(path) {
                Ok(high_bytes) => tracing::info!(high_bytes, "the bound of memory is read anew"),
                Err(failure) => {
                    tracing::error!(error = %failure, "the bound of memory cannot be used; the old one stays")
                }
            }
        }
    }

    fn reload_tokens(&self, path: &std::path::Path) -> Result<usize, Failure> {
        let tokens = layers::read(path)?.auth.tokens;
        let count = tokens.len();
        if count == 0 && !self.access.is_empty() {
            return Err(Failure::usage("the last token cannot be taken away while the server runs"));
        }
        self.access.replace_tokens(tokens).map_err(Failure::usage)?;
        Ok(count)
    }

    fn reload_memory(&self, path: &std::path::Path) -> Result<u64, Failure> {
        let high_bytes = memory::high_bytes(&checked(layers::load(Some(path), variables())?)?.limits);
        self.memory.set_high_bytes(high_bytes);
        Ok(high_bytes)
    }
}

fn certificate(config: &Config) -> Result<Option<Tls>, Failure> {
    tls::install_provider();
    let (Some(cert), Some(key)) = (config.tls.certificate.clone(), config.tls.key.clone()) else {
        return Ok(None);
    };
    let files = tls::Files { cert, key, client_ca: config.tls.client_ca.clone() };
    Tls::load(files, &["http/1.1"]).map(Some).map_err(|error| Failure::usage(format!("tls: {error}")))
}

/// Lets spans be made of what the record tells.
fn follow(broker: &Broker, export: Export) -> (Exporter, Arc<Counts>) {
    let Export { tracer, exporter, counts, .. } = export;
    if let Some(record) = broker.record() {
        record.follow(Box::new(tracer));
    }
    (exporter, counts)
}

async fn listen(address: SocketAddr, tls: Option<Tls>) -> Result<Listener, Failure> {
    Listener::bind(address, tls).await.map_err(|error| {
        Failure::new(Exit::Failure, error).advise("is another server running? --http names another address")
    })
}

fn host_options(config: &Config, memory: Arc<MemoryBound>, now: Millis) -> waystation_host::Options {
    let limits = &config.limits;
    waystation_host::Options {
        owner: format!("process {}, since {}", std::process::id(), show_time(now)),
        mode: match config.durability.mode {
            Mode::Sync => HostMode::Sync,
            Mode::Interval => HostMode::Interval(config.durability.interval_ms),
            Mode::Os => HostMode::Os,
        },
        cache_bytes: limits.cache_bytes as usize,
        journal_file_bytes: limits.journal_file_bytes,
        hot_bytes: limits.hot_bytes,
        snapshot_bytes: limits.snapshot_bytes,
        disk_reserve_bytes: limits.disk_reserve_bytes,
        memory: Some(memory),
        requests_max: limits.requests_max,
        audit: Some(waystation_host::audit::Audit {
            retention_ms: config.audit.retention_ms,
            retention_bytes: config.audit.retention_bytes,
        }),
        record: config.record.options(),
        ..waystation_host::Options::new(&config.data.dir)
    }
}

/// Figures of the record, if there is one.
fn recorded(broker: &Broker) -> waystation_http::Figures {
    let record = broker.record().cloned();
    Arc::new(move || record.as_ref().map(Record::figures).unwrap_or_default())
}

/// Why the data cannot be had.
fn unopened(error: &OpenError) -> Failure {
    use waystation_journal::{ReadError, snapshot};
    let damaged =
        || Failure::new(Exit::Damaged, error).advise("`waystation journal verify DIR` tells what else is");
    match error {
        OpenError::DataDir(error) => data_dir(error),
        OpenError::Journal(error) => unreadable(error),
        OpenError::Read(ReadError::Io { .. }) => Failure::new(Exit::Failure, error),
        OpenError::Snapshot(snapshot::Error::Io { .. }) => Failure::new(Exit::Failure, error),
        OpenError::Read(_)
        | OpenError::Snapshot(_)
        | OpenError::State { .. }
        | OpenError::Replay { .. }
        | OpenError::Settled(_)
        | OpenError::Missing { .. } => damaged(),
        OpenError::Refused(_) => Failure::new(Exit::Storage, error),
        OpenError::Io { .. } => Failure::new(Exit::Failure, error),
    }
}

fn tell_recovery(config: &Config, recovery: &Recovery) {
    let journal = &recovery.journal;
    tracing::info!(
        data = %config.data.dir.display(),
        files = journal.files,
        size = %show_size(journal.end.0.saturating_sub(journal.start.0)),
        snapshot = recovery.snapshot.map(|position| position.0),
        replayed = recovery.replayed,
        "the data is read"
    );
    if journal.torn_groups > 0 {
        tracing::warn!(
            groups = journal.torn_groups,
            bytes = journal.torn_bytes,
            "the last run ended in the middle of a write; what was never acknowledged is cut"
        );
    }
    if journal.after_failure {
        tracing::warn!(
            "the last run ended after a failed write or sync; the end of the journal was written again"
        );
    }
    for damaged in &recovery.damaged_snapshots {
        tracing::warn!(snapshot = %damaged, "a snapshot is damaged; an older one was used");
    }
    if recovery.orphans > 0 {
        tracing::info!(files = recovery.orphans, "settled files that nothing refers to were removed");
    }
    if config.durability.mode != Mode::Sync {
        tracing::warn!(mode = ?config.durability.mode, "a power cut may lose what was acknowledged");
    }
}

/// One line on standard output, for people, scripts and tests.
fn tell_ready(
    address: SocketAddr,
    is_tls: bool,
    listening: &Listening,
    output: Output,
) -> Result<(), Failure> {
    let (amqp, management) = (&listening.urls, &listening.management_url);
    let scheme = if is_tls { "https" } else { "http" };
    let url = format!("{scheme}://{address}");
    let version = env!("CARGO_PKG_VERSION");
    let told = json!({
        "ready": url, "amqp": amqp, "amqp_management": management, "pid": std::process::id(), "version": version
    });
    let beside = if amqp.is_empty() { String::new() } else { format!(" and {}", amqp.join(" and ")) };
    output.say(&told, || format!("waystation {version} is ready at {url}{beside}"))?;
    std::io::stdout().flush()?;
    tracing::info!(%url, ?amqp, "ready");
    Ok(())
}
