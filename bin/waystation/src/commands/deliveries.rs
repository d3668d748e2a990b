//! What works beside the doors while the server runs: pushes, the callbacks of calls, upstreams, and routes with steps?

use std::{env, fmt, fs, sync::Arc, time::Duration};

use waystation_base::Clock;
use waystation_calls::{Calls, Upstreams};
use waystation_host::Broker;
use waystation_jq::{Command, Limits, Pool};
use waystation_net::Drain;
use waystation_otlp::{Counts, Exporter};
use waystation_outbound::exchange::Client;
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
pub fn upstreams(config: &Config, calls: &Calls, clock: &Arc<dyn Clock>) -> Result<Upstreams, Failure> {
    Ok(calls.upstreams(client(config)?, clock.clone(), config.upstreams.buffer_bytes_max))
}

/// What asks services, within the guard for upstreams: whom one may ask is one question.
fn client(config: &Config) -> Result<Client, Failure> {
    let wrong = |error: &dyn fmt::Display| Failure::usage(format!("upstreams: {error}"));
    let authorities = config.upstreams.ca.as_ref().map(fs::read).transpose();
    let authorities = authorities.map_err(|error| wrong(&error))?;
    Client::new(config.upstreams.guard(), authorities.as_deref()).map_err(|error| wrong(&error))
}

/// Routes with steps; none runs yet. Their jq programs run in processes of this same program.
pub fn routes(config: &Config, broker: &Broker, clock: &Arc<dyn Clock>) -> Result<Routes, Failure> {
    let command = Command { program: env::current_exe()?, arguments: vec!["jq-worker".into()] };
    let most = Limits {
        time: Duration::from_millis(limits::TIME_MS_MAX),
        output_bytes: limits::OUTPUT_BYTES_MAX,
        outputs: limits::OUTPUTS_MAX as usize,
        ..Limits::default()
    };
    let tools = Tools::new(Pool::new(command, most), clock.clone()).with_services(client(config)?);
    Ok(Routes::new(broker.clone(), tools))
}

/// What sends spans of what the record tells, if that is configured; with its figures.
pub fn spans(
    config: &Config,
    broker: &Broker,
    clock: &Arc<dyn Clock>,
) -> Result<Option<(Exporter, Arc<Counts>)>, Failure> {
    let Some(options) = config.otlp.options() else { return Ok(None) };
    let wrong = |error: &dyn fmt::Display| Failure::usage(format!("otlp: {error}"));
    let Some(record) = broker.record() else {
        return Err(wrong(&"spans are made from the record, and record.enabled is false"));
    };
    let authorities = config.otlp.ca.as_ref().map(fs::read).transpose().map_err(|error| wrong(&error))?;
    let client = Client::new(config.otlp.guard(), authorities.as_deref()).map_err(|error| wrong(&error))?;
    let made = Exporter::new(options, client, clock.clone()).map_err(|error| wrong(&error))?;
    let (tracer, exporter, counts) = made;
    record.follow(Box::new(tracer));
    Ok(Some((exporter, counts)))
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
    ) -> Result<Deliveries, Failure> {
        let wrong = |error: &dyn fmt::Display| Failure::usage(format!("webhooks: {error}"));
        let authorities = config.webhooks.ca.as_ref().map(fs::read).transpose();
        let authorities = authorities.map_err(|error| wrong(&error))?;
        let sender = Sender::new(config.webhooks.guard(), clock.clone(), authorities.as_deref());
        let sender = sender.map_err(|error| wrong(&error))?;
        let secrets: Arc<[Secret]> = config.webhooks.secrets().map_err(|error| wrong(&error))?.into();
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
