//! How are the AMQP door and its management interface opened beside the HTTP door?

use std::{net::SocketAddr, sync::Arc};

use serde_json::{Map, Value};
use waystation_access::Caller;
use waystation_amqp091::{
    Options, Registry,
    directory::close_gone,
    management::{self, Endpoint, Office},
};
use waystation_base::Clock;
use waystation_catalog::Catalog;
use waystation_host::Broker;
use waystation_http::{Definitions, Saying, Unsaid};
use waystation_net::{Drain, Listener, Tls, tls};

use crate::{
    config::{Amqp, Config, Place},
    exit::{Exit, Failure},
};

/// Where the AMQP door listens.
#[derive(Default)]
pub struct Listening {
    listeners: Vec<Listener>,
    /// As a client would write it.
    pub urls: Vec<String>,
    management: Option<Listener>,
    /// As a browser would write it.
    pub management_url: Option<String>,
    endpoints: Vec<Endpoint>,
}

/// Binds the AMQP door's addresses. The default one may be taken, by a RabbitMQ for instance: then the server runs without
/// it and says so. One that somebody chose must be had.
pub async fn listen(config: &Config) -> Result<Listening, Failure> {
    let mut listening = Listening::default();
    if let Place::At(address) = config.amqp.address {
        match bind(address, None).await {
            Ok(listener) => listening.add(listener, "amqp")?,
            Err(failure) if config.amqp.address == Amqp::default().address => tracing::warn!(
                error = %failure,
                "the AMQP door stays closed: is RabbitMQ running? --amqp names another address, --amqp off is quiet"
            ),
            Err(failure) => return Err(failure),
        }
    }
    if let Place::At(address) = config.amqp.tls_address {
        let tls = certificate(config)?;
        listening.add(bind(address, tls).await?, "amqps")?;
    }
    listening.open_management(config).await?;
    Ok(listening)
}

impl Listening {
    fn add(&mut self, listener: Listener, scheme: &str) -> Result<(), Failure> {
        self.urls.push(format!("{scheme}://{}", listener.address()?));
        let protocol = if scheme == "amqps" { "amqp/ssl" } else { "amqp" };
        self.endpoints.push(Endpoint { protocol, address: listener.address()? });
        self.listeners.push(listener);
        Ok(())
    }

    /// The same for the management interface.
    async fn open_management(&mut self, config: &Config) -> Result<(), Failure> {
        let Place::At(address) = config.amqp.management else { return Ok(()) };
        // Tools on this machine speak plainly.
        let tls = if address.ip().to_canonical().is_loopback() { None } else { certificate(config)? };
        let (scheme, protocol) = if tls.is_some() { ("https", "https") } else { ("http", "http") };
        match Listener::bind(address, tls).await {
            Ok(listener) => {
                let address = listener.address()?;
                self.management_url = Some(format!("{scheme}://{address}"));
                self.endpoints.push(Endpoint { protocol, address });
                self.management = Some(listener);
                Ok(())
            }
            Err(error) if config.amqp.management == Amqp::default().management => {
                tracing::warn!(
                    %error,
                    "RabbitMQ's management interface stays closed: --amqp-management names another address, or off"
                );
                Ok(())
            }
            Err(error) => {
                Err(Failure::new(Exit::Failure, error)
                    .advise("--amqp-management names another address, or off"))
            }
        }
    }

    /// What RabbitMQ's management interface, and whoever speaks for it, is built from.
    pub fn managed(
        &self,
        broker: &Broker,
        catalog: &Catalog,
        registry: &Arc<Registry>,
        clock: &Arc<dyn Clock>,
        drain: &Drain,
    ) -> management::Options {
        management::Options {
            broker: broker.clone(),
            catalog: catalog.clone(),
            registry: registry.clone(),
            clock: clock.clone(),
            drain: drain.clone(),
            version: env!("CARGO_PKG_VERSION"),
            endpoints: self.endpoints.clone(),
        }
    }

    /// Serves until the drain is over.
    pub async fn serve(self, config: Amqp, managed: management::Options) -> Result<(), Failure> {
        let management::Options { broker, catalog, registry, clock, drain, .. } = managed.clone();
        catalog.load(&broker).await.map_err(|refusal| Failure::new(Exit::Failure, refusal))?;
        close_gone(&catalog, registry.clone());
        let management = async {
            if let Some(listener) = self.management {
                management::serve(listener, managed).await;
            }
            Ok(())
        };
        let directory = Arc::new(catalog);
        let options = Options { broker, directory, registry, limits: config.limits(), clock, drain };
        let door = waystation_amqp091::serve(self.listeners, options);
        let served = tokio::try_join!(door, management);
        served.map(|_| ()).map_err(|error| Failure::new(Exit::Failure, error))
    }
}

/// Speaks RabbitMQ's definitions for the HTTP door.
pub struct Speaker(Office);

impl Speaker {
    pub fn new(managed: management::Options) -> Speaker {
        Speaker(Office::new(managed))
    }
}

fn unsaid(refused: management::Unsaid) -> Unsaid {
    let management::Unsaid { status, reason, refusal } = refused;
    Unsaid { status, reason, refusal }
}

impl Definitions for Speaker {
    fn export(&self, caller: Caller, broker: Broker, vhost: Option<String>) -> Saying<'_> {
        Box::pin(async move { self.0.export(caller, broker, vhost.as_deref()).await.map_err(unsaid) })
    }

    fn import(
        &self,
        caller: Caller,
        broker: Broker,
        definitions: Map<String, Value>,
        vhost: Option<String>,
        dry_run: bool,
    ) -> Saying<'_> {
        Box::pin(async move {
            let imported = self.0.import(caller, broker, definitions, vhost.as_deref(), dry_run);
            imported.await.map_err(unsaid)
        })
    }
}

async fn bind(address: SocketAddr, tls: Option<Tls>) -> Result<Listener, Failure> {
    Listener::bind(address, tls).await.map_err(|error| {
        Failure::new(Exit::Failure, error).advise(
            "is RabbitMQ or another server running? --amqp names another address, --amqp off closes the door",
        )
    })
}

/// The certificate without a choice of protocols: AMQP's clients name none.
fn certificate(config: &Config) -> Result<Option<Tls>, Failure> {
    let (Some(cert), Some(key)) = (config.tls.certificate.clone(), config.tls.key.clone()) else {
        return Ok(None);
    };
    let files = tls::Files { cert, key, client_ca: config.tls.client_ca.clone() };
    Tls::load(files, &[]).map(Some).map_err(|error| Failure::usage(format!("tls: {error}")))
}
