//! Whether a part does its work: asked in its own protocol, not guessed from an open port.

use std::{net::SocketAddrV4, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::command;

/// The longest that one check may take.
const DEADLINE: Duration = Duration::from_secs(5);
const LONGEST_ANSWER: u64 = 64 * 1024;

/// How a part is asked whether it is ready.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub(crate) enum Health {
    /// `GET` of the path answers 200.
    Http { path: String },
    /// All these command lines succeed, in order.
    Commands { commands: Vec<Vec<String>> },
    /// The broker names itself when asked for the cluster's metadata.
    Kafka,
    /// `pg_isready` says that connections are accepted.
    Postgres { pg_isready: PathBuf },
}

impl Health {
    /// Asks once. The error says what is not as it should be.
    pub(crate) async fn check(&self, address: SocketAddrV4) -> Result<(), String> {
        tokio::time::timeout(DEADLINE, self.ask(address))
            .await
            .unwrap_or_else(|_| Err("it accepts connections but does not answer".to_owned()))
    }

    async fn ask(&self, address: SocketAddrV4) -> Result<(), String> {
        match self {
            Health::Http { path } => http(address, path).await,
            Health::Commands { commands } => {
                for words in commands {
                    run(words).await?;
                }
                Ok(())
            }
            Health::Kafka => kafka(address).await,
            Health::Postgres { pg_isready } => {
                let (host, port) = (address.ip().to_string(), address.port().to_string());
                let program = pg_isready.display().to_string();
                run(&[&program, "-q", "-h", &host, "-p", &port].map(str::to_owned)).await
            }
        }
    }
}

async fn run(words: &[String]) -> Result<(), String> {
    let Some((program, arguments)) = words.split_first() else {
        return Ok(());
    };
    command::run(program.as_ref(), arguments, &[], "", DEADLINE)
        .await
        .map(|_| ())
        .map_err(|error| error.to_string())
}

async fn http(address: SocketAddrV4, path: &str) -> Result<(), String> {
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    let answer = exchange(address, request.as_bytes(), false)
        .await
        .map_err(|error| format!("no answer to GET {path}: {error}"))?;
    let status = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let status = String::from_utf8_lossy(status);
    match status.split(' ').nth(1) {
        Some("200") => Ok(()),
        _ => Err(format!("GET {path} answered: {status}")),
    }
}

/// Asks for the metadata of no topic in particular, in the protocol's oldest version that brokers still speak.
async fn kafka(address: SocketAddrV4) -> Result<(), String> {
    const METADATA: i16 = 3;
    const VERSION: i16 = 0;
    const CORRELATION: i32 = 1;
    const NO_CLIENT_NAME: i16 = -1;
    const NO_TOPICS: i32 = 0;
    let mut request = Vec::new();
    request.extend(METADATA.to_be_bytes());
    request.extend(VERSION.to_be_bytes());
    request.extend(CORRELATION.to_be_bytes());
    request.extend(NO_CLIENT_NAME.to_be_bytes());
    request.extend(NO_TOPICS.to_be_bytes());
    let length = u32::try_from(request.len()).unwrap_or_default();
    let framed = [&length.to_be_bytes()[..], &request].concat();
    let answer = exchange(address, &framed, true)
        .await
        .map_err(|error| format!("no answer to a metadata request: {error}"))?;
    // The answer: correlation id, then the number of brokers.
    match answer.get(4..8) {
        Some(brokers) if brokers.iter().any(|byte| *byte != 0) => Ok(()),
        _ => Err("its metadata names no broker yet".to_owned()),
    }
}

/// Sends a request; reads the answer, which either has its length before it or ends with the connection.
async fn exchange(address: SocketAddrV4, request: &[u8], length_first: bool) -> std::io::Result<Vec<u8>> {
    let mut connection = TcpStream::connect(address).await?;
    connection.write_all(request).await?;
    let length = match length_first {
        true => u64::from(connection.read_u32().await?).min(LONGEST_ANSWER),
        false => LONGEST_ANSWER,
    };
    let mut answer = Vec::new();
    connection.take(length).read_to_end(&mut answer).await?;
    Ok(answer)
}
