//! Certificates, and what crosses between https and http.
//!
//! Which authorities are trusted is a matter of the process (`SSL_CERT_FILE`), so that the test starts itself again with
//! one of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::http::header;
use http::HeaderValue;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use worker::fetch::{FetchError, Redirect, install_crypto_provider};

use crate::site::{Fetching, PAGE, PAGE_SHA256, Site, body, request};

const FOLDER: &str = "TIPSTAFF_TEST_CERTIFICATES";

#[test]
fn only_certificates_of_a_trusted_authority_for_the_host_and_the_day_are_accepted() {
    let own_name = "tls::only_certificates_of_a_trusted_authority_for_the_host_and_the_day_are_accepted";
    with_authority(own_name, async |folder| ask_each(folder).await);
}

#[test]
fn http_2_is_spoken_and_its_headers_are_limited() {
    with_authority("tls::http_2_is_spoken_and_its_headers_are_limited", async |folder| {
        let fetching = Fetching::local().await;
        let address = speaking_http_2(&folder.join("good")).await;
        let url = |bytes: usize| format!("https://localhost:{}/{bytes}", address.port());
        let (exchange, body) = body(fetching.get(&url(1_000)).await);
        assert_eq!(body.sha256, PAGE_SHA256);
        let long = exchange.headers.iter().find(|(name, _)| name == "x-long").map(|(_, value)| value.len());
        assert_eq!(long, Some(1_000));
        for bytes in [50_000, 1_000_000] {
            let error = fetching.get(&url(bytes)).await.unwrap_err();
            assert_eq!((error.reason(), error.is_transient()), ("HeadersTooLarge", false), "{error:?}");
            fetching.get(&url(1_000)).await.unwrap();
        }
    });
}

/// Runs a test that trusts an authority of its own, whose certificates are in the folder.
fn with_authority(own_name: &str, test: impl AsyncFnOnce(&Path)) {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return tokio::runtime::Runtime::new().unwrap().block_on(test(folder.as_ref()));
    }
    let folder = TempDir::new().unwrap();
    write_certificates(folder.path());
    let run = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", own_name, "--nocapture"])
        .env(FOLDER, folder.path())
        .env("SSL_CERT_FILE", folder.path().join("authority.pem"))
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{shown}{}", String::from_utf8_lossy(&run.stderr));
    assert!(shown.contains("1 passed"), "{shown}");
}

fn write_certificates(folder: &Path) {
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // A self-signed certificate, which has rcgen's own name, is not to look like one of its.
    parameters.distinguished_name.push(DnType::CommonName, "authority of a test");
    let authority = CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(folder.join("authority.pem"), authority.pem()).unwrap();

    let parameters = |name: &str| CertificateParams::new(vec![name.to_owned()]).unwrap();
    let mut expired = parameters("localhost");
    expired.not_before = date_time_ymd(2020, 1, 1);
    expired.not_after = date_time_ymd(2020, 12, 31);
    for (name, parameters) in
        [("good", parameters("localhost")), ("other", parameters("gazette.example")), ("expired", expired)]
    {
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &authority).unwrap();
        std::fs::write(folder.join(name), certificate.pem() + &key.serialize_pem()).unwrap();
    }
    let key = KeyPair::generate().unwrap();
    let certificate = parameters("localhost").self_signed(&key).unwrap();
    std::fs::write(folder.join("self-signed"), certificate.pem() + &key.serialize_pem()).unwrap();
}

/// What a server with this certificate and key accepts.
fn acceptor(pem: &Path, protocol: &[u8]) -> TlsAcceptor {
    install_crypto_provider();
    let certificate = CertificateDer::from_pem_file(pem).unwrap();
    let key = PrivateKeyDer::from_pem_file(pem).unwrap();
    let mut config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    config.alpn_protocols = vec![protocol.to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

/// Speaks HTTP/2 only. A path says how long a header of its answer is.
async fn speaking_http_2(pem: &Path) -> SocketAddr {
    let acceptor = acceptor(pem, b"h2");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let stream = acceptor.accept(stream).await.unwrap();
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, mut answer))) = connection.accept().await {
                    let bytes: usize = request.uri().path()[1..].parse().unwrap();
                    let headers =
                        http::Response::builder().header("x-long", "x".repeat(bytes)).body(()).unwrap();
                    // The client may refuse it.
                    if let Ok(mut stream) = answer.send_response(headers, false) {
                        let _ = stream.send_data(PAGE.into(), true);
                    }
                }
            });
        }
    });
    address
}

/// Answers every request with a redirect to `target`.
async fn redirecting(pem: &Path, target: String) -> (SocketAddr, Arc<AtomicUsize>) {
    let acceptor = acceptor(pem, b"http/1.1");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&requests);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut asked = [0; 4096];
            if stream.read(&mut asked).await.is_ok_and(|read| read > 0) {
                counter.fetch_add(1, Ordering::SeqCst);
            }
            let answer = format!("HTTP/1.1 301 Moved\r\nlocation: {target}\r\ncontent-length: 0\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    (address, requests)
}

async fn ask_each(folder: &Path) {
    let (site, fetching) = (Site::start().await, Fetching::local().await);
    let (address, requests) = redirecting(&folder.join("good"), site.url("/page")).await;
    let secure = format!("https://localhost:{}/secure", address.port());

    // From https to http: followed, noted, and without what was for the secure site only.
    let mut asked = request(&secure);
    asked.headers.push((header::AUTHORIZATION, HeaderValue::from_static("Bearer token")));
    let (exchange, body) = body(fetching.send(&asked).await);
    assert_eq!(body.sha256, PAGE_SHA256);
    let redirect = Redirect { url: secure.parse().unwrap(), status: 301, location: site.url("/page") };
    assert_eq!(exchange.redirects, [redirect]);
    assert_eq!(exchange.final_url.as_str(), site.url("/page"));
    assert!(!exchange.request_headers.iter().any(|(name, _)| name == "authorization"));
    assert_eq!(requests.load(Ordering::SeqCst), 1);

    for (name, says) in
        [("other", "not valid for name"), ("expired", "expired"), ("self-signed", "UnknownIssuer")]
    {
        let (address, requests) = redirecting(&folder.join(name), site.url("/page")).await;
        let error = fetching.get(&format!("https://localhost:{}/", address.port())).await.unwrap_err();
        let FetchError::TlsFailed { cause, .. } = &error else { panic!("{name}: {error:?}") };
        assert!(cause.contains(says), "{name}: {cause}");
        assert_eq!((error.reason(), error.is_transient()), ("TlsFailed", false));
        assert_eq!(requests.load(Ordering::SeqCst), 0, "{name}: nothing was asked of it");
    }
}
