//! What stands between a process and a server: it lets through, refuses with 503, or is slow.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::AbortHandle,
    time::sleep,
};

/// How it treats connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// Lets everything through.
    Flows,
    /// Cuts what is open, and answers 503.
    Refused,
    /// Holds up every piece, on both ways.
    Slow(Duration),
}

/// A proxy of one server.
pub struct Proxy {
    port: u16,
    traffic: watch::Sender<Traffic>,
    serving: AbortHandle,
}

const UNAVAILABLE: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

impl Proxy {
    /// Listens on a free port.
    pub async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (traffic, seen) = watch::channel(Traffic::Flows);
        let serving = tokio::spawn(async move {
            loop {
                // One that is gone before it is taken is nobody's loss.
                if let Ok((client, _)) = listener.accept().await {
                    tokio::spawn(connection(client, server, seen.clone()));
                }
            }
        });
        Self { port, traffic, serving: serving.abort_handle() }
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it listens, as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Treats connections so from now on.
    pub fn set(&self, traffic: Traffic) {
        self.traffic.send_replace(traffic);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Ends with either side, or when everything is refused; whoever is at its other end sees that.
async fn connection(mut client: TcpStream, server: SocketAddr, mut traffic: watch::Receiver<Traffic>) {
    if *traffic.borrow() == Traffic::Refused {
        let mut request = [0; 4096];
        let _ = client.read(&mut request).await;
        let _ = client.write_all(UNAVAILABLE).await;
        return;
    }
    let Ok(server) = TcpStream::connect(server).await else { return };
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    tokio::select! {
        () = copy(client_reads, server_writes, traffic.clone()) => {}
        () = copy(server_reads, client_writes, traffic.clone()) => {}
        _ = traffic.wait_for(|traffic| *traffic == Traffic::Refused) => {}
    }
}

async fn copy(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    traffic: watch::Receiver<Traffic>,
) {
    let mut piece = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut piece).await {
        let traffic = *traffic.borrow();
        if let Traffic::Slow(time) = traffic {
            sleep(time).await;
        }
        if to.write_all(&piece[..count]).await.is_err() {
            return;
        }
    }
}
