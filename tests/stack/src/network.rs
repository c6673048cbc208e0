//! The network of a stack with a node: 10.a.b.0/24, which nothing else on the machine uses.

use std::{
    fmt, fs,
    hash::{BuildHasher as _, RandomState},
    net::Ipv4Addr,
};

use serde::{Deserialize, Serialize};

use crate::StackError;

/// Where services have their addresses, on every node.
pub(crate) const SERVICES: &str = "10.96.0.0/16";
const SECOND_BYTE_OF_SERVICES: u8 = 96;
const ATTEMPTS: usize = 100;

/// The middle bytes of 10.a.b.0/24. The lower half is for the machine and the node, the upper one for pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Network {
    second: u8,
    third: u8,
}

impl Network {
    /// A network that the machine had no route into a moment ago. Another stack may take it before this one does: the
    /// node then does not start, and another network is chosen.
    pub(crate) fn choose() -> Result<Network, StackError> {
        // Where there is no such table, there is no node either.
        let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
        for _ in 0..ATTEMPTS {
            // Every RandomState has new random keys.
            let [second, third, ..] = RandomState::new().hash_one(0_u8).to_ne_bytes();
            let network = Network { second, third };
            if second != SECOND_BYTE_OF_SERVICES && !routes.lines().any(|route| network.is_reached_by(route))
            {
                return Ok(network);
            }
        }
        Err(StackError::NoFreeNetwork { attempts: ATTEMPTS })
    }

    /// The machine's address in it: what pods reach the machine's servers at.
    pub(crate) fn host(self) -> Ipv4Addr {
        self.address(1)
    }

    pub(crate) fn node(self) -> Ipv4Addr {
        self.address(2)
    }

    pub(crate) fn pods(self) -> String {
        format!("{}/{}", self.address(128), Network::BITS_OF_PODS)
    }

    /// The length of the prefix of the pods' network.
    pub(crate) const BITS_OF_PODS: u8 = 25;

    /// The name of the machine's interface; Linux takes 15 characters.
    pub(crate) fn interface(self) -> String {
        format!("stack-{}-{}", self.second, self.third)
    }

    fn address(self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, self.second, self.third, last)
    }

    /// Whether a line of `/proc/net/route` is a way into this network; the default route is none.
    fn is_reached_by(self, route: &str) -> bool {
        let fields: Vec<_> = route.split_ascii_whitespace().collect();
        // Addresses as the machine's memory holds them.
        let address = |index: usize| {
            let bytes = u32::from_str_radix(fields.get(index)?, 16).ok()?.to_ne_bytes();
            Some(Ipv4Addr::from(bytes).to_bits())
        };
        let (Some(destination), Some(mask)) = (address(1), address(7)) else {
            return false;
        };
        let whole = u32::MAX << 8;
        let shared = mask & whole;
        mask != 0 && destination & shared == self.address(0).to_bits() & shared
    }
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/24", self.address(0))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const NETWORK: Network = Network { second: 7, third: 9 };

    #[test]
    fn its_addresses_lie_apart() {
        assert_eq!(NETWORK.to_string(), "10.7.9.0/24");
        assert_eq!(NETWORK.host().to_string(), "10.7.9.1");
        assert_eq!(NETWORK.node().to_string(), "10.7.9.2");
        assert_eq!(NETWORK.pods(), "10.7.9.128/25");
        assert!(Network { second: 255, third: 255 }.interface().len() <= 15);
    }

    #[test]
    fn a_route_into_it_is_seen() {
        let line = |destination: [u8; 4], mask: [u8; 4]| {
            let hexadecimal = |bytes| format!("{:08X}", u32::from_ne_bytes(bytes));
            format!(
                "eth0\t{}\t00000000\t0001\t0\t0\t0\t{}\t0\t0\t0",
                hexadecimal(destination),
                hexadecimal(mask)
            )
        };
        for (destination, mask, reached) in [
            ([0, 0, 0, 0], [0, 0, 0, 0], false),
            ([10, 0, 0, 0], [255, 0, 0, 0], true),
            ([10, 7, 0, 0], [255, 255, 0, 0], true),
            ([10, 7, 9, 0], [255, 255, 255, 252], true),
            ([10, 7, 9, 128], [255, 255, 255, 128], true),
            ([10, 7, 8, 0], [255, 255, 255, 0], false),
            ([10, 8, 9, 0], [255, 255, 255, 0], false),
            ([172, 16, 0, 0], [255, 240, 0, 0], false),
        ] {
            assert_eq!(NETWORK.is_reached_by(&line(destination, mask)), reached, "{destination:?} {mask:?}");
        }
        assert!(!NETWORK.is_reached_by("Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask"));
    }

    #[test]
    fn one_is_found() {
        assert_ne!(Network::choose().unwrap().second, SECOND_BYTE_OF_SERVICES);
    }
}
