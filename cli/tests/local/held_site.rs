//! A server that takes requests and lets them wait until it is told what to answer.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

pub(crate) struct HeldSite {
    address: SocketAddr,
    requests: mpsc::UnboundedReceiver<()>,
    answer: watch::Sender<Option<&'static str>>,
}

impl HeldSite {
    pub(crate) async fn start() -> HeldSite {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, requests) = mpsc::unbounded_channel();
        let answer = watch::Sender::new(None);
        let answers = answer.clone();
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(serve(connection, sender.clone(), answers.subscribe()));
            }
        });
        HeldSite { address, requests, answer }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Waits for a request that was not waited for yet.
    pub(crate) async fn wait_for_request(&mut self) {
        timeout(Duration::from_secs(60), self.requests.recv()).await.expect("no request came").unwrap();
    }

    /// Answers what waits and all that comes.
    pub(crate) fn answer(&self, body: &'static str) {
        self.answer.send_replace(Some(body));
    }
}

async fn serve(
    mut connection: TcpStream,
    requests: mpsc::UnboundedSender<()>,
    mut answer: watch::Receiver<Option<&'static str>>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match connection.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let _ = requests.send(());
    let Ok(body) = answer.wait_for(Option::is_some).await.map(|body| body.unwrap_or_default()) else {
        return;
    };
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    // The client may be gone by now.
    let _ = connection.write_all(format!("{head}{body}").as_bytes()).await;
}
