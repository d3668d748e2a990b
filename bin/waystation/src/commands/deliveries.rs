//! What works beside the doors while the server runs: pushes, the callbacks of calls, upstreams, and routes with steps?

use std::{env, fmt, fs, path::PathBuf, sync::Arc, time::Duration};

use waystation_base::Clock;
use waystation_calls::{Calls, Upstreams};
use waystation_host::Broker;
use waystation_jq::{Command, Limits, Pool};
use waystation_net::Drain;
use waystation_otlp::Export;
use waystation_outbound::{exchange::Client, span::Spans};
use waystation_routes::{Routes, Tools, limits};
use waystation_webhooks::{
    Pushes, Secret, Sender,
    push::{Callbacks, Signing},
};

use crate::{
    config::Config,
    exit::{Exit, Failure},
};

/// What serves the upstreams of operations; nothing is sent yet.
pub fn upstreams(
    config: &Config,
    calls: &Calls,
    clock: &Arc<dyn Clock>,
    spans: Spans,
) -> Result<Upstreams, Failure> {
    Ok(calls.upstreams(client(config)?.with_spans(spans), clock.clone(), config.upstreams.buffer_bytes_max))
}

/// What asks services, within the guard for upstreams: whom one may ask is one question.
fn client(config: &Config) -> Result<Client, Failure> {
    let section = "upstreams";
    let authorities = authorities(section, config.upstreams.ca.as_ref())?;
    Client::new(config.upstreams.guard(), authorities.as_deref()).map_err(|error| wrong(section, error))
}

/// A section of the configuration that cannot be used.
fn wrong(section: &str, error: impl fmt::Display) -> Failure {
    Failure::usage(format!("{section}: {error}"))
}

/// What a section names as `ca`.
fn authorities(section: &str, ca: Option<&PathBuf>) -> Result<Option<Vec<u8>>, Failure> {
    let read = |path: &PathBuf| fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    ca.map(read).transpose().map_err(|error| wrong(&format!("{section}.ca"), error))
}

/// What evaluates jq, for all who need it: this program again, as its own children. Its bounds are the widest that anybody may ask for; each
/// asks for its own.
pub fn jq() -> Result<Pool, Failure> {
    let command = Command { program: env::current_exe()?, arguments: vec!["jq-worker".into()] };
    let most = Limits {
        time: Duration::from_millis(limits::TIME_MS_MAX),
        output_bytes: limits::OUTPUT_BYTES_MAX,
        outputs: limits::OUTPUTS_MAX as usize,
        ..Limits::default()
    };
    Ok(Pool::new(command, most))
}

/// Routes with steps; none runs yet.
pub fn routes(
    config: &Config,
    broker: &Broker,
    jq: Pool,
    clock: &Arc<dyn Clock>,
    spans: Spans,
) -> Result<Routes, Failure> {
    let tools = Tools::new(jq, clock.clone()).with_services(client(config)?.with_spans(spans));
    Ok(Routes::new(broker.clone(), tools))
}

/// What sends spans of what the record and requests tell, if that is configured.
pub fn spans(config: &Config, broker: &Broker, clock: &Arc<dyn Clock>) -> Result<Option<Export>, Failure> {
    let Some(options) = config.otlp.options() else { return Ok(None) };
    let section = "otlp";
    if broker.record().is_none() {
        return Err(wrong(section, "spans are made from the record, and record.enabled is false"));
    }
    let authorities = authorities(section, config.otlp.ca.as_ref())?;
    let client = Client::new(config.otlp.guard(), authorities.as_deref());
    let client = client.map_err(|error| wrong(section, error))?;
    Export::new(options, client, clock.clone()).map(Some).map_err(|error| wrong(section, error))
}

/// Ready to deliver; nothing is delivered yet.
pub struct Deliveries {
    /// Those that are declared.
    pub pushes: Pushes,
    /// Those of calls.
    pub callbacks: Callbacks,
}

/// The secrets of operations, for who signs their callbacks.
struct OfCalls(Calls);

impl Signing for OfCalls {
    fn any(&self) -> bool {
        self.0.has_callback_secrets()
    }

    fn of(&self, operation: &str) -> Vec<String> {
        self.0.callback_secrets(operation)
    }
}

impl Deliveries {
    /// As configured.
    pub fn new(
        config: &Config,
        broker: &Broker,
        calls: &Calls,
        clock: &Arc<dyn Clock>,
        spans: Spans,
    ) -> Result<Deliveries, Failure> {
        let section = "webhooks";
        let authorities = authorities(section, config.webhooks.ca.as_ref())?;
        let sender = Sender::new(config.webhooks.guard(), clock.clone(), authorities.as_deref());
        let sender = sender.map_err(|error| wrong(section, error))?.with_spans(spans);
        let secrets = config.webhooks.secrets().map_err(|error| wrong(section, error))?;
        let secrets: Arc<[Secret]> = secrets.into();
        let (broker, clock) = (broker.clone(), clock.clone());
        let pushes = Pushes::new(broker.clone(), clock.clone(), sender.clone());
        let own: Arc<dyn Signing> = Arc::new(OfCalls(calls.clone()));
        let callbacks = Callbacks::new(broker, clock, sender, secrets, Some(own));
        Ok(Deliveries { pushes, callbacks })
    }

    /// Delivers until the drain begins, and lets what is under way end.
    pub async fn serve(self, drain: Drain) -> Result<(), Failure> {
        let Deliveries { pushes, callbacks } = self;
        let callbacks = callbacks.serve(drain.begun());
        let pushes = async {
            pushes.serve(drain.begun()).await;
            Ok(())
        };
        tokio::try_join!(callbacks, pushes)
            .map(|_| ())
            .map_err(|refusal| Failure::new(Exit::Failure, refusal))
    }
}
