//! Free ports, and who listens on one.

use std::{
    collections::HashSet,
    fs,
    hash::{BuildHasher as _, RandomState},
    io,
    net::{Ipv4Addr, SocketAddrV4, TcpListener},
    sync::Mutex,
};

use crate::StackError;

/// Below the range that Linux takes the ports of outgoing connections from (32768 on). A client that keeps dialling a
/// stopped part from a port of that range would one day be given the part's own port, and then the part could not
/// start there again.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;
const ATTEMPTS: usize = 1_000;

static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

/// A port of this address that nothing listened on a moment ago, and that this process was not given before.
///
/// Another process may take it before the part does: the part then ends, and is started again with another port.
pub(crate) fn free(address: Ipv4Addr) -> Result<SocketAddrV4, StackError> {
    let mut given = GIVEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let given = given.get_or_insert_default();
    for _ in 0..ATTEMPTS {
        let port = FIRST + random_below(COUNT);
        if !given.contains(&port) && TcpListener::bind((address, port)).is_ok() {
            given.insert(port);
            return Ok(SocketAddrV4::new(address, port));
        }
    }
    Err(StackError::NoFreePort { address, attempts: ATTEMPTS })
}

fn random_below(limit: u16) -> u16 {
    // Every RandomState has new random keys.
    let random = RandomState::new().hash_one(0_u8) % u64::from(limit);
    u16::try_from(random).unwrap_or_default()
}

/// Whether it is one of these processes that listens on the port, not another one that took it. `true` where that cannot
/// be seen.
pub(crate) fn listens(processes: &[u32], port: u16) -> bool {
    processes.iter().any(|process| match fs::read_dir(format!("/proc/{process}/fd")) {
        Ok(files) => holds_listener(*process, files, port),
        // The process has ended, or this is a system without such folders; else it may not be read.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            !fs::exists("/proc/net/tcp").unwrap_or(false)
        }
        Err(_) => true,
    })
}

fn holds_listener(process: u32, files: fs::ReadDir, port: u16) -> bool {
    // Of the process's own network, which may be a node's.
    let sockets: HashSet<_> = ["tcp", "tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(format!("/proc/{process}/net/{table}")).ok())
        .flat_map(|table| listening_sockets(&table, port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    files
        .filter_map(|file| fs::read_link(file.ok()?.path()).ok())
        .any(|target| target.to_str().is_some_and(|target| sockets.contains(target)))
}

/// The inodes of the sockets that listen on the port, from a table of `/proc/net`.
fn listening_sockets(table: &str, port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    let suffix = format!(":{port:04X}");
    table
        .lines()
        .filter_map(|line| {
            let fields: Vec<_> = line.split_ascii_whitespace().collect();
            let matches = fields.get(1)?.ends_with(&suffix) && *fields.get(3)? == LISTEN;
            matches.then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn no_port_is_given_twice_and_each_can_be_listened_on() {
        let addresses: HashSet<_> = (0..50).map(|_| free(Ipv4Addr::LOCALHOST).unwrap()).collect();
        assert_eq!(addresses.len(), 50);
        for address in addresses {
            assert!((FIRST..FIRST + COUNT).contains(&address.port()));
            TcpListener::bind(address).unwrap();
        }
    }

    #[test]
    fn only_the_listener_listens() {
        let address = free(Ipv4Addr::LOCALHOST).unwrap();
        let this = [std::process::id()];
        assert!(!listens(&this, address.port()));
        let _listener = TcpListener::bind(address).unwrap();
        assert!(listens(&this, address.port()));
        let mut other = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let seen = listens(&[other.id()], address.port());
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(!seen);
    }
}
