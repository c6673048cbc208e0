//! A document of a gigabyte.

use std::{
    convert::Infallible,
    io::Write,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aws_sdk_s3::primitives::ByteStream;
use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use flate2::{Compress, Compression, Crc, FlushCompress};
use futures::stream;
use sha2::{Digest, Sha256};
use sqlx::Row;
use tests::{Installation, corpus, s3_client};
use tokio::{net::TcpListener, task::AbortHandle};

use crate::objects::{MB, all_is_done, assert_grew_less, source, subscription};

const PIECE: usize = 1 << 20;
const GIGABYTE: u64 = 1 << 30;
/// As much as `fetch.maxBytes` may allow.
const MOST: u64 = 256 << 20;

/// Streams what it does not hold.
struct LargeSite {
    port: u16,
    sent: Arc<AtomicU64>,
    serving: AbortHandle,
}

impl LargeSite {
    async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let sent = Arc::new(AtomicU64::new(0));
        let router = Router::new().fallback(serve).with_state(sent.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { port, sent, serving: serving.abort_handle() }
    }

    fn at(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    /// How many bytes of bodies were taken since the last question.
    fn sent(&self) -> u64 {
        self.sent.swap(0, Ordering::SeqCst)
    }
}

impl Drop for LargeSite {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(State(sent): State<Arc<AtomicU64>>, uri: Uri) -> Response {
    let text = (header::CONTENT_TYPE, "text/plain");
    match uri.path() {
        "/endless" => ([text], streamed(piece(), GIGABYTE, sent)).into_response(),
        "/declared" => {
            let length = (header::CONTENT_LENGTH, GIGABYTE.to_string());
            ([(text.0, text.1.to_owned()), length], streamed(piece(), GIGABYTE, sent)).into_response()
        }
        "/bomb" => ([text, (header::CONTENT_ENCODING, "gzip")], gzipped_zeros()).into_response(),
        "/largest" => ([text], streamed(piece(), MOST, sent)).into_response(),
        "/small" => ([(header::CONTENT_TYPE, "text/html")], corpus::CA11).into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Letters, so that it is a text.
fn piece() -> Bytes {
    b"The judgment is affirmed. It is so ordered. Costs are taxed.\n"
        .iter()
        .copied()
        .cycle()
        .take(PIECE)
        .collect()
}

fn streamed(piece: Bytes, bytes: u64, sent: Arc<AtomicU64>) -> Body {
    let pieces = (0..bytes / piece.len() as u64).map(move |_| {
        sent.fetch_add(piece.len() as u64, Ordering::SeqCst);
        Ok::<_, Infallible>(piece.clone())
    });
    Body::from_stream(stream::iter(pieces))
}

/// A gigabyte of zeros in about a megabyte: a compressed piece of them that ends at a byte's boundary, repeated (RFC 1952).
fn gzipped_zeros() -> Vec<u8> {
    let zeros = vec![0; PIECE];
    let mut block = Vec::with_capacity(PIECE);
    Compress::new(Compression::best(), false).compress_vec(&zeros, &mut block, FlushCompress::Full).unwrap();
    let (mut one, mut all) = (Crc::new(), Crc::new());
    one.update(&zeros);
    let mut gzip = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    for _ in 0..GIGABYTE / PIECE as u64 {
        gzip.write_all(&block).unwrap();
        all.combine(&one);
    }
    // A last, empty block; then the checksum and the length.
    gzip.extend([0x03, 0x00]);
    gzip.extend(all.sum().to_le_bytes());
    gzip.extend(u32::try_from(GIGABYTE).unwrap().to_le_bytes());
    gzip
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gigabyte_is_refused_while_it_comes_and_the_largest_that_is_allowed_is_streamed_to_the_bucket() {
    let tipstaff = Installation::new("large-document").await;
    let worker = tipstaff.worker(&[]);
    let _operator = tipstaff.operator(&[]);
    let site = LargeSite::start().await;
    let most = ", fetch: { maxBytes: 268435456, timeout: 10m }";
    for (name, more) in [("endless", ""), ("declared", ""), ("bomb", most), ("largest", most), ("small", "")]
    {
        tipstaff.apply(&(source(name, &site.at(name), more) + &subscription(name))).await;
        tipstaff.condition(&format!("tsub/{name}"), "Ready", "True", None).await;
    }
    tipstaff.request("small", "1").await;
    tipstaff.ended_runs("small", 1).await;
    let before = worker.peak_memory();

    for (name, limit) in [("declared", 0), ("endless", 64 * MB), ("bomb", 0)] {
        site.sent();
        tipstaff.request(name, "1").await;
        tipstaff.ended_runs(name, 1).await;
        let said =
            tipstaff.condition(&format!("tsub/{name}"), "Succeeding", "False", Some("RunFailed")).await;
        assert!(
            said.starts_with("TooLarge: ") && said.contains("the limit for this source"),
            "{name}: {said}"
        );
        tipstaff.condition(&format!("tsrc/{name}"), "Reachable", "False", Some("TooLarge")).await;
        // What stands in buffers is taken without being read.
        let sent = site.sent();
        assert!(sent <= limit + 16 * MB, "{name}: {sent} bytes were taken");
    }
    assert_eq!(worker.metric("tipstaff_fetches_total{outcome=\"TooLarge\"}").await, Some(3.0));
    assert_eq!(tipstaff.count("select count(*) from artifacts").await, 1);

    tipstaff.request("largest", "1").await;
    tipstaff.request("small", "2").await;
    assert_eq!(tipstaff.ended_runs("small", 2).await[1].reason.as_deref(), Some("Unchanged"));
    tipstaff.ended_runs("largest", 1).await;
    let said = tipstaff.condition("tsub/largest", "Succeeding", "False", Some("RunFailed")).await;
    assert!(said.starts_with("TooLarge: ") && said.contains("are parsed"), "{said}");
    let kept =
        sqlx::query("select blob_uri, fetch_hash from artifacts where byte_size = $1").bind(268_435_456_i64);
    let kept = kept.fetch_one(&tipstaff.pool).await.unwrap();
    assert_eq!(hash_of_blob(&tipstaff, kept.get("blob_uri")).await, kept.get::<String, _>("fetch_hash"));
    all_is_done(&tipstaff, Duration::from_secs(30)).await;
    assert_grew_less(&worker, before, 100 * MB);
    worker.terminate().await;
    tipstaff.remove().await;
}

/// Read as it comes.
async fn hash_of_blob(tipstaff: &Installation, uri: &str) -> String {
    let (bucket, key) = uri.strip_prefix("s3://").and_then(|path| path.split_once('/')).unwrap();
    let client = s3_client(&tipstaff.stack.s3().unwrap());
    let mut body: ByteStream = client.get_object().bucket(bucket).key(key).send().await.unwrap().body;
    let mut hash = Sha256::new();
    while let Some(piece) = body.next().await {
        hash.update(piece.unwrap());
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
