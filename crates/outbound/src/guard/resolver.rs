//! How does a name become addresses: asked of the system, checked, and given to the connection as they are?

use std::{error::Error, future::Future, io, net::SocketAddr, pin::Pin};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::Guard;

/// What a look-up gives, later.
pub type Found = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// Tells the addresses of a name. The ports mean nothing.
pub trait Lookup: Send + Sync + 'static {
    /// Asks once.
    fn lookup(&self, host: String) -> Found;
}

/// The system's own resolver.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemLookup;

impl Lookup for SystemLookup {
    fn lookup(&self, host: String) -> Found {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, 0)).await?.collect()) })
    }
}

/// The guard as the HTTP client's resolver: the client connects to what comes back and asks nobody else.
pub(crate) struct Guarded(pub Guard);

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.0.clone();
        Box::pin(async move {
            let addresses = guard.resolve(name.as_str()).await;
            let addresses = addresses.map_err(|refusal| Box::new(refusal) as Box<dyn Error + Send + Sync>)?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
