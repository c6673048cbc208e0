//! Addresses in URLs, in all their spellings.

use std::net::Ipv4Addr;

use async_trait::async_trait;
use jiff::Timestamp;
use proptest::prelude::*;
use url::Url;
use worker::fetch::{AllowedAddresses, FetchError, Gate};

use crate::site::{Fetching, request};

/// Addresses that are closed.
const CLOSED: &[&str] = &[
    // Decimal, octal, hexadecimal, short, with zeros, with a dot at the end.
    "http://127.0.0.1/",
    "http://127.0.0.1./",
    "http://127.1/",
    "http://127.0.1/",
    "http://127.255.255.254/",
    "http://2130706433/",
    "http://2130706433./",
    "http://0x7f000001/",
    "http://0X7F000001/",
    "http://0x7f.1/",
    "http://0x7f.0.0.0x1/",
    "http://0x7f.0x0.0x0.0x1/",
    "http://017700000001/",
    "http://0177.0.0.1/",
    "http://0177.0.0.01/",
    "http://00000000177.1/",
    "http://0/",
    "http://0x/",
    "http://0.0.0.0/",
    "http://00.0x0/",
    "http://10.1/",
    "http://0xa.1/",
    "http://012.0.0.1/",
    "http://167772161/",
    "http://169.254.169.254/latest/meta-data",
    "http://2852039166/",
    "http://0xa9fea9fe/",
    "http://0251.0376.0251.0376/",
    "http://169.254.43518/",
    "http://172.16.1/",
    "http://192.168.257/",
    "http://3232235777/",
    "http://100.64.1/",
    "http://4294967295/",
    "http://0xffffffff/",
    // Percent-encoded, full-width, circled, with other dots.
    "http://%31%32%37.0.0.1/",
    "http://127%2e0%2e0%2e1/",
    "http://\u{ff11}\u{ff12}\u{ff17}.0.0.1/",
    "http://\u{2460}\u{2461}\u{2466}.0.0.1/",
    "http://127\u{3002}0\u{3002}0\u{3002}1/",
    "http://127\u{ff0e}0\u{ff61}0.1/",
    "http://1\u{ad}27.0.0.1/",
    // IPv6.
    "http://[::1]/",
    "http://[::]/",
    "http://[0:0:0:0:0:0:0:1]/",
    "http://[0000:0000:0000:0000:0000:0000:0000:0001]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[::FFFF:7F00:0001]/",
    "http://[0:0:0:0:0:ffff:127.0.0.1]/",
    "http://[::ffff:169.254.169.254]/",
    "http://[::127.0.0.1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[64:ff9b::169.254.169.254]/",
    "http://[2002:7f00:1::]/",
    "http://[2002:a9fe:a9fe::1]/",
    "http://[fe80::1]/",
    "http://[fc00::1]/",
    "http://[fd00:ec2::254]/",
    "http://[fec0::1]/",
    "http://[ff02::1]/",
    "http://[2001:db8::1]/",
    // A public address where a name stands before the host, or after it.
    "http://8.8.8.8@127.0.0.1/",
    "http://8.8.8.8:80@127.0.0.1/",
    "http://8.8.8.8%40@127.0.0.1/",
    "http://example.org@[::1]/",
    "http://a@b@127.0.0.1/",
    "http://127.0.0.1#@8.8.8.8/",
    "http://127.0.0.1?@8.8.8.8/",
    "http://127.0.0.1\\@8.8.8.8/",
    "http://127.0.0.1:80\\@8.8.8.8/",
    // Slashes, blanks, ports, schemes.
    "http:127.0.0.1/",
    "http:/127.0.0.1/",
    "http:///127.0.0.1/",
    "http:\\\\127.0.0.1\\",
    "HTTP://127.0.0.1/",
    "https://127.0.0.1/",
    "http://127.0.0.1:65535/",
    " \thttp://127.0.0.1/\n",
    "ht\ntp://12\t7.0.0.1/",
    // Names that the system knows.
    "http://localhost/",
    "http://LOCALHOST./",
    "http://8.8.8.8@localhost/",
];

/// What no URL is.
const NO_URLS: &[&str] = &[
    "http://[fe80::1%25eth0]/",
    "http://[fe80::1%eth0]/",
    "http://[::1",
    "http://::1/",
    "http://[127.0.0.1]/",
    "http://[::ffff:127.0.0]/",
    "http://[::1]x/",
    "http://256.0.0.1/",
    "http://127.0.0.256/",
    "http://1.2.3.4.5/",
    "http://127.0.0.09/",
    "http://4294967296/",
    "http://0x100000000/",
    "http://127.0.0.1%00/",
    "http://127.0.0.1 8.8.8.8/",
    "http://127.0.0.1:65536/",
    "http://127.0.0.1:80@/",
    "http:///",
    "http://",
    "//127.0.0.1/",
    "127.0.0.1",
];

/// Addresses that are public.
const PUBLIC: &[&str] = &[
    "http://8.8.8.8/",
    "http://134744072/",
    "http://0x8.8.2056/",
    "http://127.0.0.1@8.8.8.8/",
    "http://8.8.8.8\\@127.0.0.1/",
    "http://8.8.8.8#@127.0.0.1/",
    "http://[2606:4700::1111]/",
    "http://[::ffff:8.8.8.8]/",
    "https://[64:ff9b::8.8.8.8]/",
];

/// Is asked about what may be reached only, and lets no request be made.
struct Unreached;

#[async_trait]
impl Gate for Unreached {
    async fn judge(&self, _: &Url) -> Result<(), FetchError> {
        Err(FetchError::NotYet { until: Timestamp::UNIX_EPOCH })
    }
}

async fn judged(fetching: &Fetching, url: &str) -> FetchError {
    fetching.fetcher.get(&request(url), &fetching.spool, &Unreached).await.unwrap_err()
}

#[tokio::test]
async fn no_spelling_of_a_closed_address_gets_through() {
    let fetching = Fetching::open(&[]).await;
    for url in CLOSED {
        let error = fetching.get(url).await.unwrap_err();
        assert!(matches!(error, FetchError::AddressNotAllowed { .. }), "{url}: {error:?}");
        assert_eq!((error.reason(), error.is_transient()), ("AddressNotAllowed", false));
    }
    for url in NO_URLS {
        assert!(url.parse::<Url>().is_err(), "{url} is a URL");
    }
    for url in PUBLIC {
        let error = judged(&fetching, url).await;
        assert!(matches!(error, FetchError::NotYet { .. }), "{url}: {error:?}");
    }
    assert_eq!((CLOSED.len(), NO_URLS.len(), PUBLIC.len()), (83, 21, 9));
}

fn part(number: u32, base: u8) -> String {
    match base {
        0 => number.to_string(),
        1 => format!("0{number:o}"),
        _ => format!("0x{number:x}"),
    }
}

/// An IPv4 address as one, two, three or four numbers, each in a base of its own.
fn spelled(address: u32, parts: usize, bases: [u8; 4]) -> String {
    let octets = address.to_be_bytes();
    let mut numbers: Vec<u32> = octets[..parts - 1].iter().map(|octet| u32::from(*octet)).collect();
    numbers.push(address & (u32::MAX >> (8 * (parts - 1))));
    let spelled: Vec<String> =
        numbers.into_iter().zip(bases).map(|(number, base)| part(number, base)).collect();
    spelled.join(".")
}

#[test]
fn every_spelling_of_an_address_is_judged_as_that_address() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let fetching = runtime.block_on(Fetching::open(&[]));
    // Half of them in closed networks, which are few.
    let closed = prop_oneof![Just(0x7f00_0000_u32), Just(0x0a00_0000), Just(0xa9fe_0000), Just(0xc0a8_0000)];
    let address = prop_oneof![
        any::<u32>(),
        (closed, any::<u16>()).prop_map(|(network, host)| network | u32::from(host))
    ];
    proptest!(|(address in address, parts in 1_usize..=4, bases in any::<[u8; 4]>().prop_map(|bases| bases.map(|base| base % 3)))| {
        let url = format!("http://{}/", spelled(address, parts, bases));
        let is_public = AllowedAddresses::default().permits(Ipv4Addr::from(address).into());
        let error = runtime.block_on(judged(&fetching, &url));
        let expected = if is_public { "NotYet" } else { "AddressNotAllowed" };
        prop_assert_eq!(error.reason(), expected, "{} {}", url, Ipv4Addr::from(address));
    });
}
