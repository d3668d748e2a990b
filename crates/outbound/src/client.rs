//! Which HTTP client makes the requests? One whose every connection goes where the guard lets it, and that follows nobody elsewhere.

use std::{sync::Arc, time::Duration};

use url::Url;

use crate::guard::{Guard, Guarded};

/// Milliseconds for a connection to come about, TLS included; the request's own bound may be shorter.
const CONNECT_MS: u64 = 10_000;
/// Idle connections kept for each host.
const IDLE_CONNECTIONS_MAX: usize = 16;
/// For how long.
const IDLE: Duration = Duration::from_secs(30);

/// The client cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client cannot be made: {0}")]
pub struct NoClient(String);

/// A client within these bounds. `authorities`: a PEM bundle of certificates to trust besides the system's.
pub fn build(guard: &Guard, authorities: Option<&[u8]>) -> Result<reqwest::Client, NoClient> {
    // Whoever installed one before us chose the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        // A proxy of the environment would resolve the name itself, past the guard.
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .dns_resolver(Arc::new(Guarded(guard.clone())))
        .connect_timeout(Duration::from_millis(CONNECT_MS))
        .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
        .pool_idle_timeout(IDLE)
        .referer(false)
        .user_agent(concat!("waystation/", env!("CARGO_PKG_VERSION")));
    if let Some(pem) = authorities {
        let bundle =
            reqwest::Certificate::from_pem_bundle(pem).map_err(|error| NoClient(error.to_string()))?;
        builder = builder.tls_certs_merge(bundle);
    }
    builder.build().map_err(|error| NoClient(chain(&error)))
}

/// The URL without query and fragment.
pub fn endpoint(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}

/// An error with what lies below it.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let more = inner.to_string();
        if !text.ends_with(&more) {
            text += &format!(": {more}");
        }
        source = inner.source();
    }
    text
}
