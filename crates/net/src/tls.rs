//! Who are we, and who may connect: certificate and key from PEM files, loaded again when they change.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    server::WebPkiClientVerifier,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// The files that TLS is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The certificate chain, our own first (PEM).
    pub cert: PathBuf,
    /// Its private key (PEM: PKCS#8, PKCS#1 or SEC1).
    pub key: PathBuf,
    /// Certificates of those who may sign a client's; with it a client without certificate is refused.
    pub client_ca: Option<PathBuf>,
}

/// Why TLS cannot be offered with these files.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that cannot be read.
    #[error("cannot read {path}: {error}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file that is not what it should be.
    #[error("{path} holds no {what} in PEM form")]
    Missing {
        /// Which file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// A file that is damaged.
    #[error("{path} is not valid PEM: {error}")]
    Pem {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: pem::Error,
    },
    /// The parts do not fit each other.
    #[error("certificate {cert} cannot be used: {error}")]
    Refused {
        /// The certificate's file.
        cert: PathBuf,
        /// Why.
        error: String,
    },
}

/// TLS for a listener. Clones share what is loaded.
#[derive(Clone)]
pub struct Tls {
    shared: Arc<Shared>,
}

struct Shared {
    files: Files,
    protocols: Vec<Vec<u8>>,
    config: RwLock<Arc<ServerConfig>>,
    seen: Mutex<Vec<Option<SystemTime>>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tls").field(&self.shared.files).finish()
    }
}

/// Makes ring the process's provider of cryptography, for libraries that ask for a default one. Once is enough.
pub fn install_provider() {
    // An error says that there is one already.
    let _ = ring::default_provider().install_default();
}

impl Tls {
    /// Loads the files. `protocols` are offered by ALPN (RFC 7301), best first.
    pub fn load(files: Files, protocols: &[&str]) -> Result<Tls, Error> {
        let protocols: Vec<_> = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let seen = files.modified();
        let config = configure(&files, &protocols)?;
        let config = RwLock::new(Arc::new(config));
        Ok(Tls { shared: Arc::new(Shared { files, protocols, config, seen: Mutex::new(seen) }) })
    }

    /// Loads the files again for connections to come. If that fails, what was loaded before stays in use.
    pub fn reload(&self) -> Result<(), Error> {
        let Shared { files, protocols, config, seen } = &*self.shared;
        let modified = files.modified();
        let fresh = configure(files, protocols)?;
        *config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
        *seen.lock().unwrap_or_else(PoisonError::into_inner) = modified;
        Ok(())
    }

    /// [`Tls::reload`] if one of the files has changed; whether it did.
    pub fn reload_if_changed(&self) -> Result<bool, Error> {
        let is_same = {
            let seen = self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
            *seen == self.shared.files.modified()
        };
        if is_same { Ok(false) } else { self.reload().map(|()| true) }
    }

    /// Shakes hands with a client within `limit`.
    pub async fn handshake(&self, stream: TcpStream, limit: Duration) -> io::Result<TlsStream<TcpStream>> {
        let config = self.shared.config.read().unwrap_or_else(PoisonError::into_inner).clone();
        timeout(limit, TlsAcceptor::from(config).accept(stream)).await?
    }
}

impl Files {
    fn modified(&self) -> Vec<Option<SystemTime>> {
        let time = |path: &PathBuf| fs::metadata(path).and_then(|meta| meta.modified()).ok();
        [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()].into_iter().flatten().map(time).collect()
    }
}

fn configure(files: &Files, protocols: &[Vec<u8>]) -> Result<ServerConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let refused = |error: String| Error::Refused { cert: files.cert.clone(), error };
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| refused(error.to_string()))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => builder.with_client_cert_verifier(client_verifier(path, provider)?),
    };
    let mut config = builder
        .with_single_cert(certificates(&files.cert)?, private_key(&files.key)?)
        .map_err(|error| refused(error.to_string()))?;
    config.alpn_protocols = protocols.to_vec();
    Ok(config)
}

fn client_verifier(
    path: &Path,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, Error> {
    let refused = |error: String| Error::Refused { cert: path.to_path_buf(), error };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| refused(error.to_string()))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let verifier = builder.build().map_err(|error| refused(error.to_string()))?;
    Ok(verifier)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|error| Error::Read { path: path.to_path_buf(), error })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|error| Error::Pem { path: path.to_path_buf(), error })?;
    if found.is_empty() {
        return Err(Error::Missing { path: path.to_path_buf(), what: "certificate" });
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| match error {
        pem::Error::NoItemsFound => Error::Missing { path: path.to_path_buf(), what: "private key" },
        error => Error::Pem { path: path.to_path_buf(), error },
    })
}
