//! Sites that send too much, too slowly or something else than they say.

use std::io::Write;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use futures::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use worker::fetch::{Excess, FetchError, FetchRequest};

use crate::site::{Fetching, LONG_ENOUGH, MAX_BYTES, PAGE, Site, body, gzip, raw_server, request, text};

/// Of zeros, in each bomb: more than is allowed.
const BOMB_SIZE: usize = 4 * MAX_BYTES as usize;

const ENCODINGS: [&str; 4] = ["gzip", "deflate", "br", "zstd"];

/// The beginning of a compressed body that comes to `bytes`, and is not ended.
fn begin_compressed(encoding: &str, bytes: &[u8]) -> Vec<u8> {
    match encoding {
        "gzip" => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(bytes).unwrap();
            encoder.flush().unwrap();
            encoder.get_ref().clone()
        }
        "deflate" => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(bytes).unwrap();
            encoder.flush().unwrap();
            encoder.get_ref().clone()
        }
        "br" => {
            let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 22);
            encoder.write_all(bytes).unwrap();
            encoder.flush().unwrap();
            encoder.get_ref().clone()
        }
        "zstd" => {
            let mut encoder = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
            encoder.write_all(bytes).unwrap();
            encoder.flush().unwrap();
            encoder.get_ref().clone()
        }
        other => panic!("{other} is not known"),
    }
}

/// A whole compressed body.
fn compress(encoding: &str, bytes: &[u8]) -> Vec<u8> {
    match encoding {
        "gzip" => gzip(bytes),
        "deflate" => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        "br" => {
            let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 22);
            encoder.write_all(bytes).unwrap();
            encoder.into_inner()
        }
        "zstd" => zstd::encode_all(bytes, 3).unwrap(),
        other => panic!("{other} is not known"),
    }
}

/// A bomb, with bytes after it that no decoder understands, for as long as somebody reads.
struct Bomb {
    begin: Option<Bytes>,
    ended: Arc<Notify>,
}

impl Stream for Bomb {
    type Item = Result<Bytes, std::io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(Some(Ok(self.begin.take().unwrap_or(Bytes::from_static(&[0xff; 4096])))))
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        self.ended.notify_one();
    }
}

async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

#[tokio::test]
async fn no_bomb_is_decompressed_beyond_the_limit_or_read_to_its_end() {
    let fetching = Fetching::local().await;
    for encoding in ENCODINGS {
        let begin = Bytes::from(begin_compressed(encoding, &vec![0; BOMB_SIZE]));
        assert!(begin.len() < BOMB_SIZE / 100, "{encoding}");
        let ended = Arc::new(Notify::new());
        let notify = Arc::clone(&ended);
        let answer = move || {
            let bomb = Bomb { begin: Some(begin.clone()), ended: Arc::clone(&notify) };
            async move { ([(header::CONTENT_ENCODING, encoding)], Body::from_stream(bomb)).into_response() }
        };
        let url = format!("http://{}/", serve(Router::new().route("/", get(answer))).await);

        let error = fetching.get(&url).await.unwrap_err();
        assert!(matches!(error, FetchError::TooLarge { max_bytes: MAX_BYTES, .. }), "{encoding}: {error:?}");
        timeout(LONG_ENOUGH, ended.notified()).await.expect("the connection is closed");

        // With a limit behind the bomb, what follows it is come upon.
        let mut request = request(&url);
        request.max_bytes = 2 * BOMB_SIZE as u64;
        let error = fetching.send(&request).await.unwrap_err();
        assert_eq!(error.reason(), "DecompressionFailed", "{encoding}: {error:?}");
    }
}

#[tokio::test]
async fn the_limit_counts_each_byte_after_decompression() {
    let fetching = Fetching::local().await;
    for encoding in ENCODINGS {
        let [exact, larger] =
            [0, 1].map(|more| Bytes::from(compress(encoding, &vec![0; MAX_BYTES as usize + more])));
        let router = Router::new()
            .route("/exact", get(move || async move { ([(header::CONTENT_ENCODING, encoding)], exact) }))
            .route("/larger", get(move || async move { ([(header::CONTENT_ENCODING, encoding)], larger) }));
        let address = serve(router).await;
        let (_, exact) = body(fetching.get(&format!("http://{address}/exact")).await);
        assert_eq!(exact.byte_size, MAX_BYTES, "{encoding}");
        let larger = format!("http://{address}/larger");
        let error = fetching.get(&larger).await.unwrap_err();
        assert!(matches!(error, FetchError::TooLarge { .. }), "{encoding}: {error:?}");
        let (_, beginning) =
            body(fetching.send(&FetchRequest { excess: Excess::CutOff, ..request(&larger) }).await);
        assert_eq!(beginning.byte_size, MAX_BYTES, "{encoding}");
    }
}

#[tokio::test]
async fn each_way_of_compressing_is_undone_and_seen_to_end() {
    let fetching = Fetching::local().await;
    for encoding in ENCODINGS {
        let whole = compress(encoding, PAGE.as_bytes());
        let cut = whole[..whole.len() / 2].to_vec();
        let router = Router::new()
            .route("/whole", get(move || async move { ([(header::CONTENT_ENCODING, encoding)], whole) }))
            .route("/cut", get(move || async move { ([(header::CONTENT_ENCODING, encoding)], cut) }));
        let address = serve(router).await;
        let (_, body) = body(fetching.get(&format!("http://{address}/whole")).await);
        assert_eq!(text(&body).await, PAGE, "{encoding}");
        let error = fetching.get(&format!("http://{address}/cut")).await.unwrap_err();
        assert_eq!((error.reason(), error.is_transient()), ("BodyTruncated", true), "{encoding}: {error:?}");
    }
}

#[tokio::test]
async fn a_body_whose_compression_nobody_undoes_is_not_taken_for_a_page() {
    let fetching = Fetching::local().await;
    for (encoding, is_kept) in [
        ("gzip, gzip", false),
        ("br, GZIP", false),
        ("compress", false),
        // Mistakes of sites that compress nothing.
        ("identity", true),
        ("utf-8", true),
        ("", true),
    ] {
        let answer = move || async move { ([(header::CONTENT_ENCODING, encoding)], PAGE) };
        let url = format!("http://{}/", serve(Router::new().route("/", get(answer))).await);
        let fetched = fetching.get(&url).await;
        if is_kept {
            let (exchange, body) = body(fetched);
            assert_eq!(text(&body).await, PAGE);
            assert!(exchange.headers.contains(&("content-encoding".to_owned(), encoding.to_owned())));
        } else {
            let error = fetched.unwrap_err();
            assert_eq!((error.reason(), error.is_transient()), ("UnknownEncoding", false), "{encoding}");
        }
    }
}

/// Sends `begin` to who connects first, and then one byte after the other, for as long as somebody reads.
async fn dripping(begin: &'static [u8]) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let drops = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&drops);
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = [0; 4096];
        let _ = stream.read(&mut asked).await;
        stream.write_all(begin).await.unwrap();
        while stream.write_all(b"x").await.is_ok() {
            counter.fetch_add(1, Ordering::SeqCst);
            sleep(Duration::from_millis(20)).await;
        }
    });
    (address, drops)
}

#[tokio::test]
async fn a_site_that_never_stops_sending_a_little_is_given_up() {
    let fetching = Fetching::local().await;
    for begin in [
        b"HTTP/1.1 200 OK\r\nx-long: ".as_slice(),
        b"HTTP/1.1 200 OK\r\n\r\n".as_slice(),
        b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n".as_slice(),
    ] {
        let (address, drops) = dripping(begin).await;
        let mut request = request(&format!("http://{address}/"));
        request.timeout = Duration::from_millis(500);
        let begun = Instant::now();
        let error = fetching.send(&request).await.unwrap_err();
        assert_eq!((error.reason(), error.is_transient()), ("Timeout", true), "{error:?}");
        assert!((request.timeout..LONG_ENOUGH).contains(&begun.elapsed()));
        assert!(drops.load(Ordering::SeqCst) > 1, "no two reads were far apart");
    }
}

#[tokio::test]
async fn redirects_share_one_timeout() {
    let fetching = Fetching::local().await;
    let (silent, _) = raw_server("", true).await;
    let site = Site::start().await;
    let mut request = request(&site.url(&format!("/to/http://{silent}/")));
    request.timeout = Duration::from_millis(300);
    let error = fetching.send(&request).await.unwrap_err();
    assert!(matches!(&error, FetchError::Timeout { url } if url.starts_with(&site.url("/to/"))), "{error:?}");
}

#[tokio::test]
async fn headers_that_are_too_many_or_too_long_are_an_error_of_their_own() {
    let fetching = Fetching::local().await;
    let many: String = (0..500).map(|number| format!("x-{number}: value\r\n")).collect();
    let long = format!("x-long: {}\r\n", "v".repeat(MAX_BYTES as usize));
    let long_line = format!("x-{}: v\r\n", "n".repeat(100_000));
    for headers in [many, long, long_line] {
        let (address, _) = raw_server(format!("HTTP/1.1 200 OK\r\n{headers}\r\n{PAGE}"), false).await;
        let error = fetching.get(&format!("http://{address}/")).await.unwrap_err();
        assert!(matches!(error, FetchError::HeadersTooLarge { .. }), "{error:?}");
        assert_eq!((error.reason(), error.is_transient()), ("HeadersTooLarge", false));
    }
    // Those that sites really send are read.
    let usual: String = (0..60).map(|number| format!("x-{number}: {}\r\n", "v".repeat(1000))).collect();
    let (address, _) = raw_server(format!("HTTP/1.1 200 OK\r\n{usual}\r\n{PAGE}"), false).await;
    assert_eq!(body(fetching.get(&format!("http://{address}/")).await).0.headers.len(), 60);
}

#[tokio::test]
async fn what_follows_the_announced_length_is_neither_kept_nor_taken_for_the_next_answer() {
    let fetching = Fetching::local().await;
    let answer =
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfirstHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    let (address, connections) = raw_server(answer, true).await;
    for asked in 1..=3 {
        let (_, body) = body(fetching.get(&format!("http://{address}/")).await);
        assert_eq!(text(&body).await, "first");
        assert_eq!(connections.load(Ordering::SeqCst), asked, "the connection is not used again");
    }
}

#[tokio::test]
async fn lengths_that_contradict_or_exceed_the_limit_are_refused_before_the_body() {
    let fetching = Fetching::local().await;
    for (headers, reason) in [
        ("content-length: 5\r\ncontent-length: 6\r\n", "RequestFailed"),
        ("content-length: five\r\n", "RequestFailed"),
        ("content-length: 1048577\r\n", "TooLarge"),
        ("content-length: 9223372036854775807\r\n", "TooLarge"),
    ] {
        let (address, _) = raw_server(format!("HTTP/1.1 200 OK\r\n{headers}\r\nabcde"), true).await;
        let error = fetching.get(&format!("http://{address}/")).await.unwrap_err();
        assert_eq!(error.reason(), reason, "{headers}: {error:?}");
    }
}

/// Sends less than it announces, and resets the connection once the client has read some of it.
async fn resetting(mut stream: TcpStream) {
    let mut asked = [0; 4096];
    let _ = stream.read(&mut asked).await;
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n").await.unwrap();
    // More than the kernel keeps.
    stream.write_all(&vec![0; 16 * 1024 * 1024]).await.unwrap();
    stream.set_zero_linger().unwrap();
}

#[tokio::test]
async fn a_connection_that_is_reset_within_a_body_leaves_no_body() {
    let fetching = Fetching::local().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut request = request(&format!("http://{}/", listener.local_addr().unwrap()));
    tokio::spawn(async move { resetting(listener.accept().await.unwrap().0).await });
    request.max_bytes = 100_000_000;
    let error = fetching.send(&request).await.unwrap_err();
    assert_eq!((error.reason(), error.is_transient()), ("BodyTruncated", true), "{error:?}");
}

#[tokio::test]
async fn a_redirect_to_a_closed_address_is_refused_at_whatever_hop_it_comes() {
    let (site, fetching) = (Site::start().await, Fetching::open(&["127.0.0.1/32"]).await);
    let listener = std::net::TcpListener::bind("127.0.0.2:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let closed = listener.local_addr().unwrap();
    let mut target = format!("http://{closed}/");
    for hops in 1..=5 {
        target = site.url(&format!("/to/{target}"));
        let before = site.requests();
        let error = fetching.get(&target).await.unwrap_err();
        assert!(matches!(error, FetchError::AddressNotAllowed { .. }), "{error:?}");
        assert_eq!(site.requests() - before, hops);
    }
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}
