//! Which addresses may be reached.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The addresses that may be reached: public ones, and the networks that the administrator opened.
///
/// The default opens nothing, so that nobody who may write a Source can reach the cluster, the node or a cloud's
/// metadata service through a worker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedAddresses {
    opened: Vec<IpNet>,
}

impl AllowedAddresses {
    /// Public addresses and those in `networks`.
    pub fn with_networks(networks: impl IntoIterator<Item = IpNet>) -> Self {
        Self { opened: networks.into_iter().collect() }
    }

    /// Whether `address` may be reached. An IPv6 address that carries an IPv4 address is judged by the latter.
    pub fn permits(&self, address: IpAddr) -> bool {
        if self.is_opened(address) {
            return true;
        }
        match address {
            IpAddr::V4(address) => is_public_v4(address),
            IpAddr::V6(address) => match embedded_v4(address) {
                Some(embedded) => self.permits(IpAddr::V4(embedded)),
                None => is_public_v6(address),
            },
        }
    }

    fn is_opened(&self, address: IpAddr) -> bool {
        self.opened.iter().any(|network| network.contains(&address))
    }
}

/// IPv4 networks that are not public (IANA's registry of special-purpose addresses, RFC 6890).
const NOT_PUBLIC_V4: [Ipv4Net; 16] = [
    v4([0, 0, 0, 0], 8),        // this network
    v4([10, 0, 0, 0], 8),       // private
    v4([100, 64, 0, 0], 10),    // carrier-grade NAT; a cloud's metadata service too
    v4([127, 0, 0, 0], 8),      // loopback
    v4([168, 63, 129, 16], 32), // a cloud's host agent: answers to virtual machines only, though its network is public
    v4([169, 254, 0, 0], 16),   // link-local, clouds' metadata services
    v4([172, 16, 0, 0], 12),    // private
    v4([192, 0, 0, 0], 24),     // protocol assignments
    v4([192, 0, 2, 0], 24),     // documentation
    v4([192, 88, 99, 0], 24),   // 6to4 relays, deprecated
    v4([192, 168, 0, 0], 16),   // private
    v4([198, 18, 0, 0], 15),    // benchmarks
    v4([198, 51, 100, 0], 24),  // documentation
    v4([203, 0, 113, 0], 24),   // documentation
    v4([224, 0, 0, 0], 4),      // multicast
    v4([240, 0, 0, 0], 4),      // reserved, broadcast
];

/// All that is allocated for public IPv6 unicast: loopback, unique local, link-local, site-local and multicast lie outside.
const GLOBAL_UNICAST_V6: Ipv6Net = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

/// What is not public within it.
const NOT_PUBLIC_V6: [Ipv6Net; 3] = [
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), // protocol assignments: Teredo, benchmarks, ORCHID
    v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), // documentation
    v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), // documentation
];

/// IPv6 networks whose last 32 bits are an IPv4 address.
const ENDING_IN_V4: [Ipv6Net; 3] = [
    v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96),    // IPv4-mapped
    v6([0, 0, 0, 0, 0, 0, 0, 0], 96),         // IPv4-compatible; `::` and `::1` are 0.0.0.0 and 0.0.0.1
    v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96), // NAT64
];

/// 6to4: bits 16 to 47 are an IPv4 address.
const SIX_TO_FOUR: Ipv6Net = v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16);

fn is_public_v4(address: Ipv4Addr) -> bool {
    !NOT_PUBLIC_V4.iter().any(|network| network.contains(&address))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    GLOBAL_UNICAST_V6.contains(&address) && !NOT_PUBLIC_V6.iter().any(|network| network.contains(&address))
}

fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let octets = address.octets();
    let at = if ENDING_IN_V4.iter().any(|network| network.contains(&address)) {
        12
    } else if SIX_TO_FOUR.contains(&address) {
        2
    } else {
        return None;
    };
    Some(Ipv4Addr::new(octets[at], octets[at + 1], octets[at + 2], octets[at + 3]))
}

const fn v4([a, b, c, d]: [u8; 4], prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6([a, b, c, d, e, f, g, h]: [u16; 8], prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), prefix)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const PUBLIC: &[&str] = &[
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "93.184.215.14",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.1",
        "168.63.129.15",
        "168.63.129.17",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "203.0.112.255",
        "203.0.114.0",
        "223.255.255.255",
        "2000::1",
        "2001:200::1",
        "2001:4860:4860::8888",
        "2606:4700::1111",
        "2a00:1450:4001:80b::200e",
        "2001:db7::1",
        "2001:db9::1",
        "3ffe::1",
        "3fff:1000::1",
        "::ffff:8.8.8.8",
        "::8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2002:808:808::1",
    ];

    const CLOSED: &[&str] = &[
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "10.255.255.255",
        "100.64.0.1",
        "100.100.100.200",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.254",
        "168.63.129.16",
        "169.254.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "192.168.255.255",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::2",
        "::127.0.0.1",
        "::10.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:0:8.8.8.8",
        "64:ff9b::127.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::808:808",
        "100::1",
        "2001::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "2001:2::1",
        "2001:10::1",
        "2001:20::1",
        "2001:db8::1",
        "2002:7f00:1::1",
        "2002:a00:1::1",
        "2002:a9fe:a9fe::1",
        "2002:c0a8:1::1",
        "3fff::1",
        "3fff:fff::1",
        "4000::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fdff:ffff::1",
        "fe80::1",
        "febf::1",
        "fec0::1",
        "feff::1",
        "ff00::1",
        "ff02::1",
        "ff0e::1",
    ];

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_public_addresses_are_allowed_by_default() {
        let allowed = AllowedAddresses::default();
        for public in PUBLIC {
            assert!(allowed.permits(address(public)), "{public} is public");
        }
        for closed in CLOSED {
            assert!(!allowed.permits(address(closed)), "{closed} is not public");
        }
        assert!(PUBLIC.len() + CLOSED.len() >= 60);
    }

    #[test]
    fn opened_networks_are_allowed_and_nothing_beside_them() {
        let allowed = AllowedAddresses::with_networks(
            ["10.1.0.0/16", "127.0.0.0/8", "192.168.7.9/32", "fd00:1::/32"]
                .map(|network| network.parse().unwrap()),
        );
        for (text, permitted) in [
            ("10.1.0.1", true),
            ("10.1.255.255", true),
            ("10.2.0.1", false),
            ("127.0.0.1", true),
            ("::1", false),
            ("::ffff:127.0.0.1", true),
            ("64:ff9b::10.1.2.3", true),
            ("64:ff9b::10.2.2.3", false),
            ("2002:a01:203::1", true),
            ("192.168.7.9", true),
            ("192.168.7.8", false),
            ("fd00:1::5", true),
            ("fd00:2::5", false),
            ("8.8.8.8", true),
            ("169.254.169.254", false),
        ] {
            assert_eq!(allowed.permits(address(text)), permitted, "{text}");
        }
    }

    #[test]
    fn a_network_of_ipv6_addresses_can_be_opened_though_they_carry_closed_ipv4_addresses() {
        let allowed = AllowedAddresses::with_networks(["64:ff9b::/96".parse().unwrap()]);
        assert!(allowed.permits(address("64:ff9b::10.0.0.1")));
        assert!(!allowed.permits(address("10.0.0.1")));
    }
}
