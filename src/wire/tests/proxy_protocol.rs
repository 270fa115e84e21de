//! Which PROXY headers are read, and as what.

use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;

use crate::wire::proxy_protocol::{Addresses, Header, Parsed, ProxyError, header, parse};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn addresses(source: &str, destination: &str) -> Addresses {
    Addresses::new(source.parse().unwrap(), destination.parse().unwrap())
}

/// A header of version 2 with these bytes behind the signature, and as many behind the length as it says.
fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, rest].concat()
}

/// Checks the verdict, and that it is the same whatever stands behind the header and however it comes.
fn check(bytes: &[u8], expected: Result<Option<Addresses>, ProxyError>) {
    let length = bytes.len();
    let expected = expected.map(|addresses| Parsed::Whole(Header { addresses, length }));
    assert_eq!(parse(bytes), expected, "{}", bytes.escape_ascii());
    let followed = [bytes, b"PROXY UNKNOWN\r\n"].concat();
    assert_eq!(parse(&followed), expected, "{}", followed.escape_ascii());
    check_cuts(bytes);
}

/// Checks that a part of `bytes` is not taken for a header or for none where the whole is not, and that no more is asked
/// for than the header has.
fn check_cuts(bytes: &[u8]) {
    let whole = parse(bytes);
    for cut in 0..bytes.len() {
        match (parse(&bytes[..cut]), whole) {
            (Ok(Parsed::Incomplete(needed)), Ok(Parsed::Whole(header))) => {
                assert!(needed > 0 && cut + needed <= header.length, "{cut}: {}", bytes.escape_ascii());
            }
            (Ok(Parsed::Incomplete(needed)), _) => assert!(needed > 0),
            (Ok(Parsed::Whole(header)), _) => {
                assert!(whole == Ok(Parsed::Whole(header)) && header.length <= cut, "{cut}: {header:?}");
            }
            (Err(error), _) => assert_eq!(whole, Err(error), "{cut}: {}", bytes.escape_ascii()),
        }
    }
}

#[test]
fn line_is_read_to_the_letter_or_refused() {
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(91));
    assert_eq!(long.len(), 107);
    let v6 = "ffff:f:f:f:f:f:f:ffff";
    let rows = [
        (
            "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n",
            Ok(Some(addresses("192.0.2.1:56324", "198.51.100.2:443"))),
        ),
        (
            "PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n",
            Ok(Some(addresses("255.255.255.255:65535", "0.0.0.0:0"))),
        ),
        ("PROXY TCP6 2001:DB8::1 ::1 1 2\r\n", Ok(Some(addresses("[2001:db8::1]:1", "[::1]:2")))),
        (
            &format!("PROXY TCP6 {v6} {v6} 65535 65535\r\n"),
            Ok(Some(addresses(&format!("[{v6}]:65535"), &format!("[{v6}]:65535")))),
        ),
        (
            "PROXY TCP6 ::ffff:192.0.2.1 ::ffff:c000:202 1 2\r\n",
            Ok(Some(addresses("192.0.2.1:1", "192.0.2.2:2"))),
        ),
        ("PROXY UNKNOWN\r\n", Ok(None)),
        ("PROXY UNKNOWN \r\n", Ok(None)),
        ("PROXY UNKNOWN ffff::1 a b  c \n \r d\r\n", Ok(None)),
        (&long, Ok(None)),
        (&format!("PROXY UNKNOWN {}\r\n", "x".repeat(92)), Err(ProxyError::LineTooLong)),
        (&"PROXY ".repeat(20), Err(ProxyError::LineTooLong)),
        ("PROXY \r\n", Err(ProxyError::Protocol)),
        ("PROXY UNKNOWN4\r\n", Err(ProxyError::Protocol)),
        ("PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n", Err(ProxyError::Protocol)),
        ("PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n", Err(ProxyError::Protocol)),
        ("PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n", Err(ProxyError::Protocol)),
        ("PROXY TCP4\r\n", Err(ProxyError::Fields)),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", Err(ProxyError::Fields)),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n", Err(ProxyError::Fields)),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n", Err(ProxyError::Fields)),
        ("PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n", Err(ProxyError::Fields)),
        ("PROXY TCP4 192.0.2.1 192.0.2.2\t1 2 3\r\n", Err(ProxyError::Address)),
        ("PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n", Err(ProxyError::Address)),
        ("PROXY TCP4 192.0.2 192.0.2.2 1 2\r\n", Err(ProxyError::Address)),
        ("PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n", Err(ProxyError::Address)),
        ("PROXY TCP4 ::1 ::1 1 2\r\n", Err(ProxyError::Address)),
        ("PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n", Err(ProxyError::Address)),
        ("PROXY TCP6 [::1] ::1 1 2\r\n", Err(ProxyError::Address)),
        ("PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", Err(ProxyError::Address)),
        ("PROXY TCP6 1::2::3 ::1 1 2\r\n", Err(ProxyError::Address)),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n", Err(ProxyError::Port)),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 00\r\n", Err(ProxyError::Port)),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n", Err(ProxyError::Port)),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n", Err(ProxyError::Port)),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n", Err(ProxyError::Port)),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\r\n", Err(ProxyError::Port)),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n\r\n", Err(ProxyError::Port)),
        ("PROXY\tTCP4 192.0.2.1 192.0.2.2 1 2\r\n", Err(ProxyError::Signature)),
        ("proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n", Err(ProxyError::Signature)),
        ("GET / HTTP/1.1\r\n\r\n", Err(ProxyError::Signature)),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Err(ProxyError::Signature)),
        ("\x16\x03\x01", Err(ProxyError::Signature)),
        ("\r\nPROXY UNKNOWN\r\n", Err(ProxyError::Signature)),
    ];
    for (line, expected) in rows {
        check(line.as_bytes(), expected);
    }
}

#[test]
fn line_that_has_not_ended_is_waited_for_and_no_more_than_its_end() {
    for (part, needed) in [
        ("", 15),
        ("P", 14),
        ("PROXY", 10),
        ("PROXY UNKNOWN", 2),
        ("PROXY UNKNOWN\r", 1),
        ("PROXY UNKNOWN x", 2),
        // A bare line feed ends nothing.
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n", 2),
    ] {
        assert_eq!(parse(part.as_bytes()), Ok(Parsed::Incomplete(needed)), "{part:?}");
    }
}

const V4: &[u8] = &[192, 0, 2, 1, 198, 51, 100, 2, 0xdc, 0x04, 0x01, 0xbb];

fn v6() -> Vec<u8> {
    let address = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
    [&address("2001:db8::1")[..], &address("::1"), &[0, 1, 0, 2]].concat()
}

#[test]
fn binary_header_is_read_or_refused() {
    let v4 = Some(addresses("192.0.2.1:56324", "198.51.100.2:443"));
    let noop = [V4, &[0x04, 0, 2, 9, 9, 0xe0, 0, 0]].concat();
    let rows = [
        (binary(0x21, 0x11, V4), Ok(v4)),
        (binary(0x21, 0x12, V4), Ok(v4)),
        (binary(0x21, 0x11, &noop), Ok(v4)),
        (binary(0x21, 0x21, &v6()), Ok(Some(addresses("[2001:db8::1]:1", "[::1]:2")))),
        (binary(0x21, 0x22, &v6()), Ok(Some(addresses("[2001:db8::1]:1", "[::1]:2")))),
        (binary(0x21, 0x31, &[b'/'; 216]), Ok(None)),
        (binary(0x21, 0x32, &[0; 216]), Ok(None)),
        // Addresses without a meaning, whatever follows.
        (binary(0x21, 0x00, &[]), Ok(None)),
        (binary(0x21, 0x00, &[1, 2]), Ok(None)),
        (binary(0x21, 0x10, V4), Ok(None)),
        (binary(0x20, 0x00, &[]), Ok(None)),
        (binary(0x20, 0x11, V4), Ok(None)),
        (binary(0x20, 0x11, &[1]), Ok(None)),
        (binary(0x20, 0xff, &vec![0; 16384]), Ok(None)),
        (binary(0x11, 0x11, V4), Err(ProxyError::Version(1))),
        (binary(0x31, 0x11, V4), Err(ProxyError::Version(3))),
        (binary(0x22, 0x11, V4), Err(ProxyError::Command(2))),
        (binary(0x2f, 0x11, V4), Err(ProxyError::Command(15))),
        (binary(0x21, 0x41, V4), Err(ProxyError::Family(0x41))),
        (binary(0x21, 0x13, V4), Err(ProxyError::Family(0x13))),
        (binary(0x21, 0x03, &[]), Err(ProxyError::Family(0x03))),
        (binary(0x21, 0x11, &V4[1..]), Err(ProxyError::TooShort(11))),
        (binary(0x21, 0x21, &v6()[1..]), Err(ProxyError::TooShort(35))),
        (binary(0x21, 0x31, &[0; 215]), Err(ProxyError::TooShort(215))),
        (binary(0x20, 0x00, &vec![0; 16385]), Err(ProxyError::TooLong(16385))),
        (binary(0x21, 0x11, &[V4, &[0x04]].concat()), Err(ProxyError::Values)),
        (binary(0x21, 0x11, &[V4, &[0x04, 0]].concat()), Err(ProxyError::Values)),
        (binary(0x21, 0x11, &[V4, &[0x04, 0, 1]].concat()), Err(ProxyError::Values)),
        (binary(0x21, 0x11, &[V4, &[0x04, 0xff, 0xff, 0]].concat()), Err(ProxyError::Values)),
    ];
    for (bytes, expected) in rows {
        check(&bytes, expected);
    }
    for (part, needed) in [(1, 15), (12, 4), (15, 1), (16, 12), (27, 1)] {
        let part = &binary(0x21, 0x11, V4)[..part];
        assert_eq!(parse(part), Ok(Parsed::Incomplete(needed)), "{}", part.escape_ascii());
    }
}

#[test]
fn checksum_counts_where_there_is_one() {
    let with = |sum: [u8; 4], behind: &[u8]| {
        let addresses = [127, 0, 0, 1, 127, 0, 0, 1, 0x9c, 0x40, 0x1f, 0x90];
        binary(0x21, 0x11, &[&addresses, &[0x03, 0, 4][..], &sum, behind].concat())
    };
    let good = checksum(&with([0; 4], &[]));
    check(&with(good, &[]), Ok(Some(addresses("127.0.0.1:40000", "127.0.0.1:8080"))));
    for bit in 0..32 {
        let bad = (u32::from_be_bytes(good) ^ (1 << bit)).to_be_bytes();
        check(&with(bad, &[]), Err(ProxyError::Checksum));
    }
    check(&with(good, &[0x04, 0, 0]), Err(ProxyError::Checksum));
    check(&with(good, &[0x03, 0, 4, 0, 0, 0, 0]), Err(ProxyError::Checksum));
    check(&binary(0x21, 0x11, &[V4, &[0x03, 0, 3, 0, 0, 0]].concat()), Err(ProxyError::Checksum));
}

/// The checksum by division as it is taught, with the polynomial the other way round.
fn checksum(bytes: &[u8]) -> [u8; 4] {
    let bits = bytes.iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1));
    let remainder = bits.fold(u32::MAX, |sum, bit| {
        let out = (sum >> 31 == 1) != bit;
        (sum << 1) ^ if out { 0x1edc_6f41 } else { 0 }
    });
    (!remainder.reverse_bits()).to_be_bytes()
}

#[test]
fn checksum_is_the_one_of_the_standard() {
    // RFC 3720 appendix B.4 (its bytes are the other way round).
    assert_eq!(checksum(&[0; 32]), [0x8a, 0x91, 0x36, 0xaa]);
    assert_eq!(checksum(&[0xff; 32]), [0x62, 0xa8, 0xab, 0x43]);
    assert_eq!(checksum(b"123456789"), [0xe3, 0x06, 0x92, 0x83]);
}

#[test]
fn header_is_written_as_the_specification_has_it() {
    let rows = [
        (None, binary(0x20, 0, &[])),
        (Some(addresses("192.0.2.1:56324", "198.51.100.2:443")), binary(0x21, 0x11, V4)),
        (Some(addresses("[2001:db8::1]:1", "[::1]:2")), binary(0x21, 0x21, &v6())),
        (Some(addresses("[::ffff:192.0.2.1]:56324", "[::ffff:198.51.100.2]:443")), binary(0x21, 0x11, V4)),
    ];
    for (addresses, expected) in rows {
        assert_eq!(header(addresses.as_ref()), expected, "{addresses:?}");
    }
}

fn socket() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>()).prop_map(SocketAddr::from)
}

proptest! {
    #[test]
    fn header_that_is_written_is_read_as_the_same(source in socket(), destination in socket()) {
        let addresses = Addresses::new(source, destination);
        check(&header(Some(&addresses)), Ok(Some(addresses)));
        if source.is_ipv4() == destination.is_ipv4() {
            let kind = if source.is_ipv4() { 4 } else { 6 };
            let (from, to) = (source.ip(), destination.ip());
            let line = format!("PROXY TCP{kind} {from} {to} {} {}\r\n", source.port(), destination.port());
            check(line.as_bytes(), Ok(Some(addresses)));
        }
    }

    #[test]
    fn bytes_of_any_kind_give_one_verdict(
        start in prop::sample::select(vec![&b""[..], b"PROXY ", b"PROXY TCP4 ", b"PROXY TCP6 ", SIGNATURE]),
        bytes in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        check_cuts(&[start, &bytes].concat());
    }

    #[test]
    fn binary_header_of_any_content_gives_one_verdict(
        command in 0x1eu8..0x24,
        family in 0u8..0x44,
        rest in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        check_cuts(&binary(command, family, &rest));
    }

    #[test]
    fn line_of_plausible_words_gives_one_verdict(
        words in prop::collection::vec("TCP4|TCP6|UNKNOWN|[0-9.]{1,15}|[0-9a-f:]{1,20}|[0-9]{1,6}| |\r|\n", 0..8),
    ) {
        check_cuts(format!("PROXY {}\r\n", words.join(" ")).as_bytes());
    }
}
