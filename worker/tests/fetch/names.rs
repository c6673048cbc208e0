//! Names whose addresses change or mix, from a name server of the test's own.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;
use worker::fetch::{AllowedAddresses, FetchError, Fetcher};

use crate::site::{Fetching, body, raw_server};

/// May be reached in these tests, and stands for a public address.
const OPEN: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// May not.
const CLOSED: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;

#[derive(Clone)]
enum Record {
    Address(IpAddr),
    /// Another name, whose addresses follow in the same answer.
    Alias(&'static str, Vec<IpAddr>),
}

use Record::{Address, Alias};

/// For each name the answers in turn, the last of them for good; how often each was asked for its IPv4 addresses.
struct Names {
    address: SocketAddr,
    asked: Arc<Mutex<HashMap<String, usize>>>,
}

impl Names {
    async fn serve(answers: HashMap<&'static str, Vec<Vec<Record>>>) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let names = Self { address: socket.local_addr().unwrap(), asked: Arc::default() };
        let asked = Arc::clone(&names.asked);
        tokio::spawn(async move {
            let mut query = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut query).await {
                let (name, kind, question) = read_question(&query[..length]);
                let turn = {
                    let mut asked = asked.lock().unwrap();
                    let turn = asked.entry(name.clone()).or_default();
                    *turn += usize::from(kind == A);
                    // Either kind may be asked for first.
                    turn.saturating_sub(usize::from(kind == A))
                };
                let records =
                    answers.get(name.as_str()).map_or(&[][..], |turns| &turns[turn.min(turns.len() - 1)]);
                let _ = socket.send_to(&answer(&query[..2], question, kind, records), from).await;
            }
        });
        names
    }

    fn asked(&self, name: &str) -> usize {
        self.asked.lock().unwrap().get(name).copied().unwrap_or_default()
    }

    fn fetcher(&self) -> Fetcher {
        let allowed = AllowedAddresses::with_networks(["127.0.0.1/32".parse().unwrap()]);
        Fetcher::with_name_servers(allowed, &[self.address]).unwrap()
    }
}

/// The name, the type that is asked for, and the question as it stands (RFC 1035, section 4.1.2).
fn read_question(query: &[u8]) -> (String, u16, &[u8]) {
    let mut labels = Vec::new();
    let mut at = 12;
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..end]).to_ascii_lowercase());
        at = end;
    }
    let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
    (labels.join("."), kind, &query[12..at + 5])
}

/// An answer that may not be kept: its records live for no time.
fn answer(id: &[u8], question: &[u8], kind: u16, records: &[Record]) -> Vec<u8> {
    // The question's name, by a pointer to where it stands.
    let asked = vec![0xc0, 12];
    let mut encoded = Vec::new();
    for record in records {
        match record {
            Address(address) => encoded.extend(encode_address(&asked, kind, *address)),
            Alias(name, addresses) => {
                let name: Vec<u8> = name
                    .split('.')
                    .flat_map(|label| [&[label.len() as u8][..], label.as_bytes()].concat())
                    .chain([0])
                    .collect();
                encoded.push(encode(&asked, CNAME, &name));
                encoded.extend(addresses.iter().filter_map(|address| encode_address(&name, kind, *address)));
            }
        }
    }
    let [high, low] = (encoded.len() as u16).to_be_bytes();
    let header = [id[0], id[1], 0x81, 0x80, 0, 1, high, low, 0, 0, 0, 0];
    [&header[..], question, &encoded.concat()].concat()
}

fn encode_address(name: &[u8], asked: u16, address: IpAddr) -> Option<Vec<u8>> {
    match address {
        IpAddr::V4(address) if asked == A => Some(encode(name, A, &address.octets())),
        IpAddr::V6(address) if asked == AAAA => Some(encode(name, AAAA, &address.octets())),
        _ => None,
    }
}

fn encode(name: &[u8], kind: u16, data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u16).to_be_bytes();
    [name, &kind.to_be_bytes(), &[0, 1], &[0; 4], &length, data].concat()
}

/// A port on which a server answers at [`OPEN`], closing after each answer so that each fetch looks the name up, and at which
/// a connection to [`CLOSED`] would be seen.
struct Trap {
    port: u16,
    closed: std::net::TcpListener,
}

impl Trap {
    async fn set() -> Self {
        loop {
            let (open, _) = raw_server("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nopen", false).await;
            // The port may be taken at the other address.
            if let Ok(closed) = std::net::TcpListener::bind((CLOSED, open.port())) {
                closed.set_nonblocking(true).unwrap();
                return Self { port: open.port(), closed };
            }
        }
    }

    fn assert_untouched(&self) {
        let nobody = self.closed.accept().unwrap_err();
        assert_eq!(nobody.kind(), std::io::ErrorKind::WouldBlock, "a connection was made to {CLOSED}");
    }
}

async fn get(
    fetcher: &Fetcher,
    fetching: &Fetching,
    url: &str,
) -> Result<worker::fetch::Fetched, FetchError> {
    fetcher.get(&crate::site::request(url), &fetching.spool, &worker::fetch::NoGate).await
}

#[tokio::test]
async fn a_name_that_turns_to_a_closed_address_is_judged_anew_at_each_connection() {
    let turns = (0..20).map(|turn| vec![Address(if turn % 2 == 0 { OPEN } else { CLOSED })]).collect();
    let names = Names::serve(HashMap::from([("rebinding.example", turns)])).await;
    let (trap, fetching, fetcher) = (Trap::set().await, Fetching::local().await, names.fetcher());
    let url = format!("http://rebinding.example:{}/", trap.port);
    let mut refused = 0;
    for _ in 0..20 {
        match get(&fetcher, &fetching, &url).await {
            Ok(fetched) => {
                let reached = fetched.exchange().remote_address;
                assert_eq!(reached, Some(SocketAddr::new(OPEN, trap.port)));
            }
            Err(FetchError::AddressNotAllowed { host, .. }) => {
                assert_eq!(host, "rebinding.example");
                refused += 1;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(
        (refused, names.asked("rebinding.example")),
        (10, 20),
        "each fetch asked once, and both were seen"
    );
    trap.assert_untouched();
}

#[tokio::test]
async fn of_several_addresses_only_the_open_ones_are_tried() {
    let both = vec![vec![Address(CLOSED), Address(OPEN), Address(Ipv6Addr::LOCALHOST.into())]];
    let names = Names::serve(HashMap::from([("both.example", both)])).await;
    let (trap, fetching, fetcher) = (Trap::set().await, Fetching::local().await, names.fetcher());
    for _ in 0..5 {
        let fetched = get(&fetcher, &fetching, &format!("http://both.example:{}/", trap.port)).await;
        assert_eq!(body(fetched).0.remote_address, Some(SocketAddr::new(OPEN, trap.port)));
    }
    trap.assert_untouched();

    // The closed one is no way out when the open one does not answer.
    let closed = std::net::TcpListener::bind((CLOSED, 0)).unwrap();
    closed.set_nonblocking(true).unwrap();
    let port = closed.local_addr().unwrap().port();
    let error = get(&fetcher, &fetching, &format!("http://both.example:{port}/")).await.unwrap_err();
    assert!(matches!(error, FetchError::ConnectFailed { .. }), "{error:?}");
    assert_eq!(closed.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn a_name_that_leads_to_closed_addresses_only_is_refused_however_it_does() {
    let mapped = |address: IpAddr| match address {
        IpAddr::V4(address) => IpAddr::V6(address.to_ipv6_mapped()),
        IpAddr::V6(_) => address,
    };
    let names = Names::serve(HashMap::from([
        ("closed.example", vec![vec![Address(CLOSED)]]),
        ("alias.example", vec![vec![Alias("database.internal", vec![CLOSED])]]),
        ("loopback.example", vec![vec![Address(Ipv6Addr::LOCALHOST.into())]]),
        ("mapped.example", vec![vec![Address(mapped(CLOSED))]]),
        ("metadata.example", vec![vec![Address(Ipv4Addr::new(169, 254, 169, 254).into())]]),
        ("everywhere.example", vec![vec![Address(Ipv4Addr::UNSPECIFIED.into())]]),
        ("fine.example", vec![vec![Alias("host.example", vec![OPEN])]]),
        ("nothing.example", vec![vec![]]),
    ]))
    .await;
    let (trap, fetching, fetcher) = (Trap::set().await, Fetching::local().await, names.fetcher());
    for name in ["closed", "alias", "loopback", "mapped", "metadata", "everywhere"] {
        let error =
            get(&fetcher, &fetching, &format!("http://{name}.example:{}/", trap.port)).await.unwrap_err();
        assert!(matches!(error, FetchError::AddressNotAllowed { .. }), "{name}: {error:?}");
        // What the name leads to is not told to whoever asked.
        assert!(!format!("{error} {error:?}").contains("internal"), "{error:?}");
    }
    let fine = get(&fetcher, &fetching, &format!("http://fine.example:{}/", trap.port)).await;
    assert_eq!(body(fine).0.remote_address, Some(SocketAddr::new(OPEN, trap.port)));
    let error = get(&fetcher, &fetching, "http://nothing.example/").await.unwrap_err();
    assert!(matches!(error, FetchError::HostNotFound { .. }), "{error:?}");
    trap.assert_untouched();
}
