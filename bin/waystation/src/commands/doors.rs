//! How is the AMQP door opened beside the HTTP door?

use std::{net::SocketAddr, sync::Arc};

use waystation_amqp091::{Options, Registry, directory::Directory};
use waystation_base::Clock;
use waystation_host::Broker;
use waystation_net::{Drain, Listener, Tls, tls};

use crate::{
    config::{Amqp, Config, Place},
    exit::{Exit, Failure},
};

/// Where the AMQP door listens.
pub struct Listening {
    listeners: Vec<Listener>,
    /// As a client would write it.
    pub urls: Vec<String>,
}

/// Binds the AMQP door's addresses. The default one may be taken, by a RabbitMQ for instance: then the server runs without
/// it and says so. One that somebody chose must be had.
pub async fn listen(config: &Config) -> Result<Listening, Failure> {
    let mut listening = Listening { listeners: Vec::new(), urls: Vec::new() };
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
    Ok(listening)
}

impl Listening {
    fn add(&mut self, listener: Listener, scheme: &str) -> Result<(), Failure> {
        self.urls.push(format!("{scheme}://{}", listener.address()?));
        self.listeners.push(listener);
        Ok(())
    }

    /// Serves until the drain is over.
    pub async fn serve(
        self,
        config: Amqp,
        broker: Broker,
        directory: Arc<dyn Directory>,
        registry: Arc<Registry>,
        clock: Arc<dyn Clock>,
        drain: Drain,
    ) -> Result<(), Failure> {
        let options = Options { broker, directory, registry, limits: config.limits(), clock, drain };
        waystation_amqp091::serve(self.listeners, options)
            .await
            .map_err(|error| Failure::new(Exit::Failure, error))
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
