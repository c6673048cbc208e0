//! What blobs promise, in a directory and in a real object store; then what is particular to an object store.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::future::join_all;
use jiff::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use stack::Stack;
use store::blobs::{
    BlobError, BlobKey, BlobLocation, BlobUri, Blobs, S3Blobs, S3Credentials, S3Options, Spool, SpooledBody,
    connect,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use uuid::Uuid;

const MIB: usize = 1024 * 1024;

const CATALOG: Uuid = Uuid::from_u128(1);

/// Blobs of one kind, empty, and a spool to fill them from.
struct Place {
    blobs: Arc<dyn Blobs>,
    location: BlobLocation,
    spool: Spool,
    /// An address in these blobs where there is nothing.
    nothing: BlobUri,
    _directory: TempDir,
}

impl Place {
    async fn directory() -> Self {
        let directory = TempDir::new().unwrap();
        let root = directory.path().join("blobs");
        let location = BlobLocation::Directory(root.clone());
        let blobs = connect(&location, CATALOG).await.unwrap();
        let nothing = BlobUri::File(root.canonicalize().unwrap().join("raw/1/2026/01/01/00.bin"));
        Self {
            blobs,
            location,
            spool: Spool::open(directory.path().join("spool")).await.unwrap(),
            nothing,
            _directory: directory,
        }
    }

    async fn object_store() -> Self {
        let directory = TempDir::new().unwrap();
        let options = options(&directory).await;
        let location = BlobLocation::S3(options.clone());
        let blobs = connect(&location, CATALOG).await.unwrap();
        let nothing = BlobUri::S3 { bucket: options.bucket, key: "raw/1/2026/01/01/00.bin".to_owned() };
        Self {
            blobs,
            location,
            spool: Spool::open(directory.path().join("spool")).await.unwrap(),
            nothing,
            _directory: directory,
        }
    }

    async fn put(&self, body: &SpooledBody) -> BlobUri {
        self.blobs.put(&key(body), body).await.unwrap()
    }

    /// The hash of what is stored, computed anew.
    async fn stored_hash(&self, uri: &BlobUri) -> (String, u64) {
        let mut writer = self.spool.writer();
        let mut reader = self.blobs.open(uri).await.unwrap();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match reader.read(&mut buffer).await.unwrap() {
                0 => break,
                length => writer.write(&buffer[..length]).await.unwrap(),
            }
        }
        let read = writer.finish().await.unwrap();
        (read.sha256.clone(), read.byte_size)
    }
}

/// The same tests against every kind of blobs.
macro_rules! promises {
    ($($promise:ident),* $(,)?) => {
        mod directory {
            $(#[tokio::test] async fn $promise() { super::$promise(super::Place::directory().await).await; })*
        }
        mod object_store {
            $(#[tokio::test] async fn $promise() { super::$promise(super::Place::object_store().await).await; })*
        }
    };
}

promises!(
    what_is_put_can_be_read,
    a_large_body_is_stored_whole,
    nothing_is_told_from_something,
    the_same_body_can_be_put_by_many_at_once,
    one_catalog_has_them_and_no_other
);

#[tokio::test]
async fn objects_of_users_are_not_put_among_bodies() {
    let directory = TempDir::new().unwrap();
    let options = options(&directory).await;
    let blobs = connect(&BlobLocation::S3(options.clone()), CATALOG).await.unwrap();
    let put = async |key: &str| {
        blobs.put_object(&options.bucket, key, "application/json", "{}".into()).await.map(drop)
    };
    for key in ["changes/raw/id.json", "raw-changes/id.json"] {
        put(key).await.unwrap();
    }
    // As of a namespace that has this name, and no prefix.
    let refused = put("raw/orders/2026/03/09/id.json").await.unwrap_err();
    assert!(matches!(refused, BlobError::InvalidUri { .. }), "{refused:?}");
}

async fn what_is_put_can_be_read(place: Place) {
    for bytes in [b"".as_slice(), b"an opinion", &[0, 255, 10]] {
        let body = spooled(&place.spool, bytes).await;
        let uri = place.put(&body).await;
        assert!(uri.to_string().ends_with(&format!("/raw/7/2026/03/09/{}.bin", body.sha256)), "{uri}");
        // As it comes back from a row.
        let uri: BlobUri = uri.to_string().parse().unwrap();
        assert!(place.blobs.exists(&uri).await.unwrap());
        let mut read = Vec::new();
        place.blobs.open(&uri).await.unwrap().read_to_end(&mut read).await.unwrap();
        assert_eq!(read, bytes);
    }
}

async fn a_large_body_is_stored_whole(place: Place) {
    let body = large_body(&place.spool).await;
    let uri = place.put(&body).await;
    assert_eq!(place.stored_hash(&uri).await, (body.sha256.clone(), 20 * MIB as u64));
}

async fn nothing_is_told_from_something(place: Place) {
    assert!(!place.blobs.exists(&place.nothing).await.unwrap());
    let Err(error) = place.blobs.open(&place.nothing).await else {
        panic!("something is there");
    };
    assert!(matches!(&error, BlobError::NotFound(uri) if *uri == place.nothing), "{error:?}");
    assert!(!error.is_transient());
}

async fn the_same_body_can_be_put_by_many_at_once(place: Place) {
    let body = spooled(&place.spool, &[3; 2 * MIB]).await;
    let (first, second, third) = tokio::join!(place.put(&body), place.put(&body), place.put(&body));
    assert!(first == second && second == third);
    assert_eq!(place.stored_hash(&first).await.0, body.sha256);
}

async fn one_catalog_has_them_and_no_other(place: Place) {
    const PROCESSES: usize = 20;
    connect(&place.location, CATALOG).await.unwrap();
    let other = Uuid::from_u128(2);
    let error = connect(&place.location, other).await.unwrap_err();
    assert!(matches!(error, BlobError::OtherCatalog { .. }) && !error.is_transient(), "{error:?}");
    let said = error.to_string();
    for named in ["/raw/catalog", &CATALOG.to_string(), &other.to_string()] {
        assert!(said.contains(named), "{said}");
    }

    // Processes of two catalogs begin at once, several of each.
    let location = &match place.location {
        BlobLocation::Directory(path) => BlobLocation::Directory(path.with_file_name("beside")),
        BlobLocation::S3(options) => {
            BlobLocation::S3(S3Options { bucket: format!("{}-beside", options.bucket), ..options })
        }
    };
    let begun = join_all((0..PROCESSES).map(async |number| {
        let catalog = Uuid::from_u128(1 + number as u128 % 2);
        (catalog, connect(location, catalog).await)
    }))
    .await;
    let mut having = Vec::new();
    for (catalog, blobs) in begun {
        match blobs {
            Ok(_) => having.push(catalog),
            Err(error) => assert!(matches!(error, BlobError::OtherCatalog { .. }), "{error:?}"),
        }
    }
    assert_eq!(having.len(), PROCESSES / 2);
    having.dedup();
    assert_eq!(having.len(), 1);
}

#[tokio::test]
async fn what_another_catalog_has_is_not_deleted() {
    let directory = TempDir::new().unwrap();
    let (shared, own) = (options(&directory).await, options(&TempDir::new().unwrap()).await);
    let own = S3Options { credentials: shared.credentials.clone(), ..own };
    let spool = Spool::open(directory.path().join("spool")).await.unwrap();
    let body = spooled(&spool, b"evidence").await;
    let other = Uuid::from_u128(2);
    let theirs = connect(&BlobLocation::S3(shared.clone()), other).await.unwrap();
    let uri = theirs.put(&key(&body), &body).await.unwrap();

    // Its row names the bucket that both had.
    let ours = connect(&BlobLocation::S3(own.clone()), CATALOG).await.unwrap();
    let error = ours.delete(&uri).await.unwrap_err();
    assert!(
        matches!(&error, BlobError::OtherCatalog { owner, .. } if *owner == other.to_string()),
        "{error:?}"
    );
    assert!(theirs.exists(&uri).await.unwrap());

    // In a bucket that was configured before, its own is deleted.
    let moved = S3Options { bucket: format!("{}-moved", own.bucket), ..own };
    let moved = connect(&BlobLocation::S3(moved), other).await.unwrap();
    moved.delete(&uri).await.unwrap();
    assert!(!theirs.exists(&uri).await.unwrap());
    // As from one that is gone, or that nobody says is his.
    let gone = BlobUri::S3 { bucket: format!("{}-gone", shared.bucket), key: key(&body).as_str().to_owned() };
    moved.delete(&gone).await.unwrap();
}

#[tokio::test]
async fn an_object_store_that_knows_no_condition_or_takes_nothing_without_a_checksum_is_used() {
    for trouble in [Trouble::NoConditions, Trouble::NoneWithoutChecksum] {
        let (directory, proxy) = (TempDir::new().unwrap(), Proxy::start(trouble).await);
        let (blobs, _) = through(&proxy, &directory).await;
        assert_eq!(proxy.had_trouble(), trouble == Trouble::NoConditions);
        blobs
            .put_object(&blobs_bucket(&directory), "changes/id.json", "application/json", "{}".into())
            .await
            .unwrap();
        let error =
            connect(&BlobLocation::S3(options(&directory).await), Uuid::from_u128(2)).await.unwrap_err();
        assert!(matches!(error, BlobError::OtherCatalog { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn stored_bytes_are_not_uploaded_again() {
    let (directory, proxy) = (TempDir::new().unwrap(), Proxy::start(Trouble::None).await);
    let (blobs, spool) = through(&proxy, &directory).await;
    let body = large_body(&spool).await;

    let first = blobs.put(&key(&body), &body).await.unwrap();
    let uploaded = proxy.bytes_sent();
    assert!(uploaded > 20 * MIB, "{uploaded} bytes");
    let second = blobs.put(&key(&body), &body).await.unwrap();
    assert_eq!(first, second);
    let asked = proxy.bytes_sent() - uploaded;
    assert!((1..16 * 1024).contains(&asked), "{asked} bytes");
}

#[tokio::test]
async fn an_upload_that_breaks_off_is_sent_again() {
    let (directory, proxy) = (TempDir::new().unwrap(), Proxy::start(Trouble::BreakOnce).await);
    let (blobs, spool) = through(&proxy, &directory).await;
    let body = large_body(&spool).await;
    let uri = blobs.put(&key(&body), &body).await.unwrap();
    assert!(proxy.had_trouble());

    let mut read = Vec::new();
    blobs.open(&uri).await.unwrap().read_to_end(&mut read).await.unwrap();
    assert_eq!(spooled(&spool, &read).await.sha256, body.sha256);
}

#[tokio::test]
async fn bytes_damaged_on_the_way_are_not_stored() {
    let (directory, proxy) = (TempDir::new().unwrap(), Proxy::start(Trouble::Damage).await);
    let (blobs, spool) = through(&proxy, &directory).await;
    let body = spooled(&spool, &[b'x'; 2 * MIB]).await;
    assert!(body.is_in_file());

    let error = blobs.put(&key(&body), &body).await.unwrap_err();
    assert!(proxy.had_trouble());
    assert!(
        matches!(&error, BlobError::ObjectStore { action: "store", target, .. } if target.contains(&body.sha256)),
        "{error:?}"
    );
    let uri = BlobUri::S3 { bucket: blobs_bucket(&directory), key: key(&body).as_str().to_owned() };
    assert!(!blobs.exists(&uri).await.unwrap());
}

#[tokio::test]
async fn the_bucket_is_created_once_by_however_many() {
    let directory = TempDir::new().unwrap();
    let options = options(&directory).await;
    let (first, second) =
        (S3Blobs::new(&options, CATALOG).unwrap(), S3Blobs::new(&options, CATALOG).unwrap());
    let spool = Spool::open(directory.path()).await.unwrap();
    let body = spooled(&spool, b"x").await;

    let error = first.put(&key(&body), &body).await.unwrap_err();
    assert!(
        error.to_string().contains("NoSuchBucket") && error.to_string().contains(&options.bucket),
        "{error}"
    );

    let (one, other) = tokio::join!(first.ensure_bucket(), second.ensure_bucket());
    one.unwrap();
    other.unwrap();
    first.ensure_bucket().await.unwrap();
    first.put(&key(&body), &body).await.unwrap();
}

#[tokio::test]
async fn credentials_are_read_anew_when_their_file_changes() {
    let directory = TempDir::new().unwrap();
    let options = options(&directory).await;
    let right = std::fs::read_to_string(credentials_path(&directory)).unwrap();
    let blobs = S3Blobs::new(&options, CATALOG).unwrap();

    std::fs::write(
        credentials_path(&directory),
        "[default]\naws_access_key_id = nobody\naws_secret_access_key = wrong\n",
    )
    .unwrap();
    let error = blobs.ensure_bucket().await.unwrap_err();
    assert!(matches!(error, BlobError::ObjectStore { denied: true, .. }), "{error:?}");
    assert!(error.to_string().contains(&format!("s3://{}", options.bucket)), "{error}");

    std::fs::remove_file(credentials_path(&directory)).unwrap();
    let error = blobs.ensure_bucket().await.unwrap_err();
    assert!(error.to_string().contains(&options.bucket), "{error}");
    assert!(error.is_transient());

    std::fs::write(credentials_path(&directory), right).unwrap();
    blobs.ensure_bucket().await.unwrap();
}

#[tokio::test]
async fn an_object_store_that_is_not_there_is_named() {
    let directory = TempDir::new().unwrap();
    let mut options = options(&directory).await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    options.endpoint = Some(format!("http://{nobody}"));
    let error = connect(&BlobLocation::S3(options.clone()), CATALOG).await.unwrap_err();
    assert!(error.is_transient());
    let shown = error.to_string();
    assert!(shown.contains(&options.bucket) && shown.contains("refused"), "{shown}");
}

#[tokio::test]
async fn the_certificates_of_a_private_authority_are_trusted_where_it_is_named() {
    let directory = TempDir::new().unwrap();
    let (address, ca) = encrypted().await;
    let ca_file = directory.path().join("ca.crt");
    std::fs::write(&ca_file, ca).unwrap();
    let endpoint = Some(format!("https://{address}"));
    let options = S3Options { endpoint, ca_file: Some(ca_file.clone()), ..options(&directory).await };

    let blobs = connect(&BlobLocation::S3(options.clone()), CATALOG).await.unwrap();
    let spool = Spool::open(directory.path().join("spool")).await.unwrap();
    let body = spooled(&spool, b"encrypted on its way").await;
    let uri = blobs.put(&key(&body), &body).await.unwrap();
    assert!(blobs.exists(&uri).await.unwrap());

    let public_only = S3Options { ca_file: None, ..options.clone() };
    let error = connect(&BlobLocation::S3(public_only), CATALOG).await.unwrap_err();
    assert!(events::error_chain(&error).contains("certificate"), "{}", events::error_chain(&error));

    for (text, said) in [(None, "could not read"), (Some("no certificate"), "PEM format")] {
        match text {
            Some(text) => std::fs::write(&ca_file, text).unwrap(),
            None => std::fs::remove_file(&ca_file).unwrap(),
        }
        let error = S3Blobs::new(&options, CATALOG).unwrap_err().to_string();
        assert!(error.contains(said) && error.contains("ca.crt"), "{error}");
    }
}

/// An address where the object store answers in TLS, and the certificate of who signed its certificate.
async fn encrypted() -> (SocketAddr, String) {
    let authority_key = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(parameters, authority_key).unwrap();
    let own_key = KeyPair::generate().unwrap();
    let parameters = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let own = parameters.signed_by(&own_key, &authority).unwrap();

    let private_key = PrivateKeyDer::try_from(own_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.der().clone()], private_key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let target = store_address().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (acceptor, target) = (acceptor.clone(), target.clone());
            tokio::spawn(async move {
                // A client that does not trust the certificate hangs up.
                let Ok(mut client) = acceptor.accept(client).await else { return };
                let mut server = TcpStream::connect(&target).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (address, authority.pem())
}

#[tokio::test]
async fn options_that_cannot_work_are_refused() {
    let directory = TempDir::new().unwrap();
    let right = options(&directory).await;
    for wrong in [
        S3Options { bucket: "Upper".to_owned(), ..right.clone() },
        S3Options { bucket: String::new(), ..right.clone() },
        S3Options { region: String::new(), ..right.clone() },
        S3Options { endpoint: Some("minio:9000".to_owned()), ..right.clone() },
        S3Options { endpoint: Some("http://user:pass@minio:9000".to_owned()), ..right.clone() },
    ] {
        let error = S3Blobs::new(&wrong, CATALOG).unwrap_err();
        assert!(matches!(error, BlobError::Configuration(_)), "{error:?}");
        assert!(!error.to_string().contains("pass"), "{error}");
    }
    let elsewhere = BlobUri::File(PathBuf::from("/var/lib/blobs/x"));
    let error = S3Blobs::new(&right, CATALOG).unwrap().exists(&elsewhere).await.unwrap_err();
    assert!(matches!(error, BlobError::Elsewhere { .. }), "{error:?}");
}

async fn spooled(spool: &Spool, bytes: &[u8]) -> SpooledBody {
    let mut writer = spool.writer();
    writer.write(bytes).await.unwrap();
    writer.finish().await.unwrap()
}

/// 20 MiB that do not repeat.
async fn large_body(spool: &Spool) -> SpooledBody {
    let mut writer = spool.writer();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..20 * MIB / 8192 {
        let mut chunk = Vec::with_capacity(8192);
        while chunk.len() < 8192 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            chunk.extend_from_slice(&state.to_le_bytes());
        }
        writer.write(&chunk).await.unwrap();
    }
    let body = writer.finish().await.unwrap();
    assert!(body.is_in_file());
    body
}

fn key(body: &SpooledBody) -> BlobKey {
    BlobKey::new(7, "2026-03-09T12:00:00Z".parse::<Timestamp>().unwrap(), body)
}

fn credentials_path(directory: &TempDir) -> PathBuf {
    directory.path().join("credentials")
}

/// A bucket's name that no other test has.
fn blobs_bucket(directory: &TempDir) -> String {
    let name = directory.path().join("bucket");
    if !name.exists() {
        std::fs::write(&name, format!("blobs-{}", Uuid::new_v4())).unwrap();
    }
    std::fs::read_to_string(name).unwrap()
}

/// Options for a bucket of this test's own, which is not there yet.
async fn options(directory: &TempDir) -> S3Options {
    let s3 = Stack::shared().await.unwrap().s3().unwrap();
    let keys = format!(
        "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
        s3.access_key, s3.secret_key
    );
    std::fs::write(credentials_path(directory), keys).unwrap();
    S3Options {
        endpoint: Some(s3.endpoint),
        region: s3.region,
        bucket: blobs_bucket(directory),
        path_style: true,
        ca_file: None,
        credentials: S3Credentials::File(credentials_path(directory)),
    }
}

/// Host and port of the object store.
async fn store_address() -> String {
    let s3 = Stack::shared().await.unwrap().s3().unwrap();
    s3.endpoint.trim_start_matches("http://").trim_end_matches('/').to_owned()
}

async fn through(proxy: &Proxy, directory: &TempDir) -> (Arc<dyn Blobs>, Spool) {
    let options =
        S3Options { endpoint: Some(format!("http://{}", proxy.address)), ..options(directory).await };
    let blobs = connect(&BlobLocation::S3(options), CATALOG).await.unwrap();
    (blobs, Spool::open(directory.path().join("spool")).await.unwrap())
}

/// Stands between the client and the object store, counts what is sent and makes trouble.
struct Proxy {
    address: SocketAddr,
    state: Arc<ProxyState>,
}

struct ProxyState {
    target: String,
    trouble: Trouble,
    sent: AtomicUsize,
    had_trouble: AtomicBool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Trouble {
    None,
    /// Closes the first connection on which a mebibyte was sent.
    BreakOnce,
    /// Changes a byte of every body that consists of x.
    Damage,
    /// Answers 501 to a request that has a condition.
    NoConditions,
    /// Refuses an object without a checksum, as where objects are locked.
    NoneWithoutChecksum,
}

impl Trouble {
    /// How it answers a request that begins like this instead of the object store.
    fn answer(self, bytes: &[u8]) -> Option<&'static str> {
        let request = String::from_utf8_lossy(bytes).to_lowercase();
        let is_object = request.starts_with("put /") && request.contains("x-id=putobject");
        match self {
            Self::NoConditions if is_object && request.contains("\r\nif-none-match:") => {
                Some("501 Not Implemented")
            }
            Self::NoneWithoutChecksum if is_object && !request.contains("\r\nx-amz-checksum-sha256:") => {
                Some("400 Bad Request")
            }
            _ => None,
        }
    }
}

impl Proxy {
    async fn start(trouble: Trouble) -> Self {
        let target = store_address().await;
        let state = Arc::new(ProxyState {
            target,
            trouble,
            sent: AtomicUsize::new(0),
            had_trouble: AtomicBool::new(false),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&shared.target).await.unwrap();
                let (from_client, mut to_client) = client.into_split();
                let (mut from_server, to_server) = server.into_split();
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    let answer = tokio::select! {
                        answer = shared.forward(from_client, to_server) => answer,
                        _ = tokio::io::copy(&mut from_server, &mut to_client) => None,
                    };
                    if let Some(status) = answer {
                        let answer =
                            format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                        let _ = to_client.write_all(answer.as_bytes()).await;
                    }
                });
            }
        });
        Self { address, state }
    }

    fn bytes_sent(&self) -> usize {
        self.state.sent.load(Ordering::SeqCst)
    }

    fn had_trouble(&self) -> bool {
        self.state.had_trouble.load(Ordering::SeqCst)
    }
}

impl ProxyState {
    /// What the client is told instead of what the object store says, if that is the trouble.
    async fn forward(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> Option<&'static str> {
        let (mut buffer, mut on_this) = (vec![0; 64 * 1024], 0);
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            if let Some(answer) = self.trouble.answer(&buffer[..length]) {
                self.had_trouble.store(true, Ordering::SeqCst);
                return Some(answer);
            }
            on_this += length;
            self.sent.fetch_add(length, Ordering::SeqCst);
            if self.trouble == Trouble::BreakOnce
                && on_this > MIB
                && !self.had_trouble.swap(true, Ordering::SeqCst)
            {
                return None;
            }
            if self.trouble == Trouble::Damage && length > 64 && buffer[..length].ends_with(&[b'x'; 64]) {
                buffer[length - 1] = b'y';
                self.had_trouble.store(true, Ordering::SeqCst);
            }
            if to.write_all(&buffer[..length]).await.is_err() {
                return None;
            }
        }
        None
    }
}
