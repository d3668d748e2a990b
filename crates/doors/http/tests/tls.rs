//! Is the whole interface there behind TLS, and is a server that everybody could use refused?

mod common;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;
use waystation_access::Access;
use waystation_base::os::OsClock;
use waystation_http::{Error, Limits, Options, serve};
use waystation_net::{Drain, Listener, Tls, tls::Files};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../net/tests/data").join(name)
}

fn connector() -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(data("ca.pem")).expect("the authority")).expect("a root");
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

#[tokio::test]
async fn requests_are_answered_through_tls_and_plain_ones_are_not() {
    let files = Files { cert: data("server.pem"), key: data("server-key.pem"), client_ca: None };
    let tls = Tls::load(files, &["http/1.1"]).expect("good files");
    let server = common::Server::over(Some(tls)).await;
    let stream = server.connect().await;
    let mut stream =
        connector().connect(ServerName::try_from("localhost").expect("a name"), stream).await.expect("in");
    let body = vec![b'x'; 300_000];
    let requests = format!(
        "PUT /v1/queues/q HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n\
         POST /v1/queues/q/messages HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(requests.as_bytes()).await.expect("written");
    stream.write_all(&body).await.expect("written");
    let mut text = Vec::new();
    stream.read_to_end(&mut text).await.expect("an end");
    let text = String::from_utf8_lossy(&text);
    assert!(text.contains("201 Created") && text.contains("\"accepted\":1"), "{text}");
    let mut plain = server.connect().await;
    plain.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("written");
    let mut bytes = Vec::new();
    // A reset is as good as an end.
    let _ = plain.read_to_end(&mut bytes).await;
    assert!(!String::from_utf8_lossy(&bytes).contains("200"));
    server.end().await;
}

#[tokio::test]
async fn an_address_for_everybody_without_tokens_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let clock = Arc::new(OsClock);
    let disk = Arc::new(waystation_base::os::OsDisk);
    let (broker, driver, _) =
        waystation_host::open(waystation_host::Options::new(dir.path()), disk, clock.clone()).expect("opens");
    let driver = tokio::spawn(driver.run(std::future::pending()));
    let listener = Listener::bind(([0, 0, 0, 0], 0).into(), None).await.expect("any port");
    let access = Access::new(vec![]).expect("none");
    let (limits, drain) = (Limits::default(), Drain::default());
    let figures = Vec::new();
    let (catalog, definitions) = (waystation_catalog::Catalog::new(access), None);
    let pushes = common::pushes(&broker, clock.clone());
    let callbacks = common::callbacks(&broker, clock.clone());
    let routes = common::routes(&broker, clock.clone());
    let (calls, _engine) = waystation_calls::Calls::new(broker.clone(), clock.clone());
    let (redrives, _redriving) = waystation_redrive::Redrives::new(broker.clone(), clock.clone(), None);
    let (alerts, _telling) = waystation_alerts::Alerts::new(broker.clone(), clock.clone());
    let options = Options {
        broker,
        calls,
        catalog,
        definitions,
        loopback_needs_token: false,
        limits,
        clock,
        drain,
        figures,
        open: std::sync::Arc::new(waystation_http::Open::default),
        pushes,
        callbacks,
        redrives,
        routes,
        alerts,
    };
    assert!(matches!(serve(vec![listener], options).await, Err(Error::Open(_))));
    driver.abort();
}
