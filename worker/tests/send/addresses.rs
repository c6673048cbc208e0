//! No delivery reaches an address that the administrator has not allowed.

use std::io::ErrorKind;
use std::net::TcpListener;

use events::run_reasons;

use crate::receiver::{Receiver, answer};
use crate::sending::{RETRY, Sending, slack, webhook};

#[tokio::test]
async fn closed_addresses_are_not_connected_to_by_literal_or_by_name() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    for host in [
        "127.0.0.1",
        "2130706433",
        "0177.0.0.1",
        "127.1",
        "0.0.0.0",
        "[::ffff:127.0.0.1]",
        "[::1]",
        "localhost",
        "LOCALHOST.",
    ] {
        let url = format!("http://{host}:{port}/hook");
        let sending = Sending::new(&[], &[("url", &url)], None).await;
        for place in [webhook(&url, None, None), slack("url")] {
            let attempt = sending.send(place).await;
            assert_eq!((attempt.outcome, attempt.status), (RETRY, None), "{host}");
            assert_eq!(attempt.reason, run_reasons::ADDRESS_NOT_ALLOWED, "{host}: {}", attempt.detail);
            assert!(attempt.detail.starts_with("nothing was sent to "), "{}", attempt.detail);
        }
    }
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "a connection was made");
}

#[tokio::test]
async fn an_open_address_leads_to_no_closed_one() {
    let closed = TcpListener::bind("127.0.0.2:0").unwrap();
    closed.set_nonblocking(true).unwrap();
    let location = format!("http://{}/", closed.local_addr().unwrap());
    let receiver = Receiver::start(move |_| answer(307, &[("location", &location)], "")).await;
    let sending = Sending::new(&["127.0.0.1/32"], &[], None).await;
    let attempt = sending.send(webhook(&receiver.url("/"), None, None)).await;
    assert_eq!((attempt.outcome, attempt.status), (RETRY, Some(307)));
    assert_eq!(receiver.take().len(), 1);
    assert_eq!(closed.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "a connection was made");
}
