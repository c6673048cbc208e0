//! Free ports on loopback, and who listens on one.

use std::{
    collections::HashSet,
    fs,
    hash::{BuildHasher as _, RandomState},
    net::{Ipv4Addr, TcpListener},
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

/// A port that nothing listened on a moment ago, and that this process was not given before.
///
/// Another process may take it before the part does: the part then ends, and is started again with another port.
pub(crate) fn free() -> Result<u16, StackError> {
    let mut given = GIVEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let given = given.get_or_insert_default();
    for _ in 0..ATTEMPTS {
        let port = FIRST + random_below(COUNT);
        if !given.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            given.insert(port);
            return Ok(port);
        }
    }
    Err(StackError::NoFreePort { attempts: ATTEMPTS })
}

fn random_below(limit: u16) -> u16 {
    // Every RandomState has new random keys.
    let random = RandomState::new().hash_one(0_u8) % u64::from(limit);
    u16::try_from(random).unwrap_or_default()
}

/// Whether it is this process that listens on the port, not another one that took it. `true` where that cannot be seen.
pub(crate) fn listens(process: u32, port: u16) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{process}/fd")) else {
        return true;
    };
    let sockets: HashSet<_> = ["tcp", "tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(format!("/proc/net/{table}")).ok())
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
        let ports: HashSet<_> = (0..50).map(|_| free().unwrap()).collect();
        assert_eq!(ports.len(), 50);
        for port in ports {
            assert!((FIRST..FIRST + COUNT).contains(&port));
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        }
    }

    #[test]
    fn only_the_listener_listens() {
        let port = free().unwrap();
        assert!(!listens(std::process::id(), port));
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        assert!(listens(std::process::id(), port));
        let mut other = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let seen = listens(other.id(), port);
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(!seen);
    }
}
