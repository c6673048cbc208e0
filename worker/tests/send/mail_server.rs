//! A mail server on this machine that speaks enough SMTP (RFC 5321), with STARTTLS (RFC 3207) where it has a certificate.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// How a server behaves.
#[derive(Clone, Default)]
pub(crate) struct Manners {
    /// Its certificate: without one it has no TLS.
    pub(crate) tls: Option<TlsAcceptor>,
    /// Whether TLS begins with the connection.
    pub(crate) is_encrypted: bool,
    /// What it says to a command in place of consent; `.` is the end of a message, and nothing the begin of it all.
    pub(crate) refusal: Option<(&'static str, &'static str)>,
}

pub(crate) struct MailServer {
    pub(crate) address: SocketAddr,
    heard: Arc<Mutex<Heard>>,
}

/// What it has been told.
#[derive(Default)]
pub(crate) struct Heard {
    /// Commands, and whether each was encrypted.
    pub(crate) commands: Vec<(String, bool)>,
    /// Messages that it took or refused at their end.
    pub(crate) messages: Vec<String>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl MailServer {
    pub(crate) async fn start(manners: Manners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard: Arc<Mutex<Heard>> = Arc::default();
        let server = Self { address, heard: Arc::clone(&heard) };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (manners, heard) = (manners.clone(), Arc::clone(&heard));
                tokio::spawn(async move {
                    let mut stream: Box<dyn Stream> = Box::new(stream);
                    if manners.is_encrypted {
                        stream = Box::new(manners.tls.as_ref().unwrap().accept(stream).await?);
                    }
                    let is_encrypted = manners.is_encrypted;
                    Conversation { stream: BufReader::new(stream), is_encrypted, manners, heard }.hold().await
                });
            }
        });
        server
    }

    /// What it has been told since this was last asked.
    pub(crate) fn take(&self) -> Heard {
        std::mem::take(&mut *self.heard.lock().unwrap())
    }
}

struct Conversation {
    stream: BufReader<Box<dyn Stream>>,
    is_encrypted: bool,
    manners: Manners,
    heard: Arc<Mutex<Heard>>,
}

impl Conversation {
    async fn hold(mut self) -> io::Result<()> {
        self.reply("", "220 mail.example ready").await?;
        loop {
            let command = self.line().await?;
            self.heard.lock().unwrap().commands.push((command.clone(), self.is_encrypted));
            let verb = command.split(' ').next().unwrap_or_default();
            match verb {
                "EHLO" => {
                    let start_tls = self.manners.tls.is_some() && !self.is_encrypted;
                    let extension = if start_tls { "STARTTLS" } else { "8BITMIME" };
                    let reply = format!("250-mail.example\r\n250-{extension}\r\n250 AUTH PLAIN");
                    self.reply(verb, &reply).await?;
                }
                "STARTTLS" => {
                    self.reply(verb, "220 go ahead").await?;
                    let acceptor = self.manners.tls.clone().unwrap();
                    let stream: Box<dyn Stream> = Box::new(acceptor.accept(self.stream.into_inner()).await?);
                    (self.stream, self.is_encrypted) = (BufReader::new(stream), true);
                }
                "DATA" => {
                    if self.reply(verb, "354 go ahead").await? {
                        let message = self.message().await?;
                        self.heard.lock().unwrap().messages.push(message);
                        self.reply(".", "250 2.0.0 queued as 4F2A").await?;
                    }
                }
                "AUTH" => drop(self.reply(verb, "235 2.7.0 welcome").await?),
                "QUIT" => return self.reply(verb, "221 2.0.0 bye").await.map(drop),
                _ => drop(self.reply(verb, "250 2.1.0 ok").await?),
            }
        }
    }

    /// Says `consent`, unless it has no such manners. Tells whether it has.
    async fn reply(&mut self, verb: &str, consent: &str) -> io::Result<bool> {
        let refusal = self.manners.refusal.filter(|(refused, _)| *refused == verb).map(|(_, reply)| reply);
        let reply = format!("{}\r\n", refusal.unwrap_or(consent));
        self.stream.write_all(reply.as_bytes()).await?;
        self.stream.flush().await?;
        Ok(refusal.is_none())
    }

    async fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end_matches("\r\n").to_owned())
    }

    /// A message as it was before its dots were doubled.
    async fn message(&mut self) -> io::Result<String> {
        let mut message = String::new();
        loop {
            let line = self.line().await?;
            if line == "." {
                return Ok(message);
            }
            message.push_str(line.strip_prefix('.').unwrap_or(&line));
            message.push_str("\r\n");
        }
    }
}
