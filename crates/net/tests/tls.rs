//! Does TLS hold: the right client gets in, the wrong one does not, and fresh files are taken up while serving?

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use waystation_net::{
    Listener, Tls,
    tls::{Error, Files},
};

const LIMIT: Duration = Duration::from_secs(30);

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn files(client_ca: bool) -> Files {
    Files {
        cert: data("server.pem"),
        key: data("server-key.pem"),
        client_ca: client_ca.then(|| data("ca.pem")),
    }
}

fn client(with_certificate: bool) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(data("ca.pem")).expect("the authority")).expect("a root");
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let mut config = if with_certificate {
        let chain = vec![CertificateDer::from_pem_file(data("client.pem")).expect("a certificate")];
        let key = PrivateKeyDer::from_pem_file(data("client-key.pem")).expect("a key");
        builder.with_client_auth_cert(chain, key).expect("they fit")
    } else {
        builder.with_no_client_auth()
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    TlsConnector::from(Arc::new(config))
}

/// Connects and says "ping" both ways.
async fn ping(tls: &Tls, client: TlsConnector) -> io::Result<TlsStream<TcpStream>> {
    let listener = Listener::bind(([127, 0, 0, 1], 0).into(), Some(tls.clone())).await.expect("any port");
    let address = listener.address()?;
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await;
        let tls = listener.tls().expect("given above").clone();
        let mut stream = tls.handshake(stream, LIMIT).await?;
        let mut word = [0; 4];
        stream.read_exact(&mut word).await?;
        stream.write_all(&word).await?;
        stream.shutdown().await
    });
    let stream = TcpStream::connect(address).await?;
    let mut stream = client.connect(ServerName::try_from("localhost").expect("a name"), stream).await?;
    stream.write_all(b"ping").await?;
    let mut word = [0; 4];
    let answer = stream.read_exact(&mut word).await;
    server.await.expect("no panic")?;
    answer?;
    assert_eq!(&word, b"ping");
    Ok(stream)
}

#[tokio::test]
async fn a_client_that_trusts_the_authority_gets_in_and_agrees_on_the_protocol() {
    let tls = Tls::load(files(false), &["http/1.1"]).expect("good files");
    let stream = ping(&tls, client(false)).await.expect("in");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
}

#[tokio::test]
async fn where_clients_need_a_certificate_only_those_with_one_get_in() {
    let tls = Tls::load(files(true), &["http/1.1"]).expect("good files");
    ping(&tls, client(true)).await.expect("in");
    ping(&tls, client(false)).await.expect_err("out");
}

#[tokio::test]
async fn fresh_files_are_taken_up_and_bad_ones_leave_the_old_in_use() {
    let dir = tempfile::tempdir().expect("a folder");
    let place = |name: &str| dir.path().join(name);
    let put = |name: &str, at: &str| fs::copy(data(name), place(at)).expect("copied");
    put("server.pem", "cert");
    put("server-key.pem", "key");
    let tls =
        Tls::load(Files { cert: place("cert"), key: place("key"), client_ca: None }, &[]).expect("good");
    assert!(!tls.reload_if_changed().expect("nothing new"));
    let served = async || {
        let stream = ping(&tls, client(false)).await.expect("in");
        stream.get_ref().1.peer_certificates().expect("one")[0].to_vec()
    };
    let first = served().await;
    fs::write(place("cert"), "not a certificate").expect("written");
    assert!(matches!(tls.reload(), Err(Error::Missing { what: "certificate", .. })));
    assert_eq!(served().await, first);
    put("second.pem", "cert");
    put("second-key.pem", "key");
    assert!(tls.reload_if_changed().expect("good files"));
    assert_ne!(served().await, first);
}

#[test]
fn files_that_do_not_fit_are_refused_by_name() {
    let mismatched = Files { key: data("second-key.pem"), ..files(false) };
    assert!(matches!(Tls::load(mismatched, &[]), Err(Error::Refused { .. })));
    let absent = Files { cert: data("nowhere.pem"), ..files(false) };
    let error = Tls::load(absent, &[]).expect_err("absent").to_string();
    assert!(error.contains("nowhere.pem"), "{error}");
    let no_key = Files { key: data("ca.pem"), ..files(false) };
    assert!(matches!(Tls::load(no_key, &[]), Err(Error::Missing { what: "private key", .. })));
}
