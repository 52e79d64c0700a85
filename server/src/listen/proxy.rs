//! The PROXY protocol's header (versions 1 and 2), with which a load balancer says who its client is. Called by
//! [`crate::listen`] where a listener has `proxyProtocol`, before anything else is read.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use paquebot_config::ProxyProtocol;
use ppp::{v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt};

/// For the whole header: a load balancer sends it with the connection's first packet.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Octets of the longest header of version 1, with its CRLF.
const LONGEST_TEXT: usize = 107;
/// Octets of the longest header of version 2 that is read: addresses and what load balancers add to them.
const LONGEST_BINARY: usize = 4_096;
/// Octets that tell the versions apart: version 2's signature, which is shorter than any header of version 1.
const SIGNATURE: usize = 12;
/// Octets of version 2 that say how long the rest is.
const FIXED: usize = 16;

/// Whether a header from this peer is believed.
#[must_use]
pub fn is_trusted(proxy: &ProxyProtocol, peer: IpAddr) -> bool {
    let peer = peer.to_canonical();
    proxy.trusted.iter().any(|network| network.contains(&peer))
}

/// A client of whom the load balancer does not say who it is. It must not have the rights of the balancer's own address:
/// no network of a relay rule holds this one, but that of everybody.
const NOBODY_KNOWN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// Reads the header, and not an octet more. `None`: the peer speaks for itself (version 2's `LOCAL`), as health checks do.
/// A client whose address is not said (`UNKNOWN`, no Internet address) has the unspecified one.
///
/// # Errors
/// What the connection says; [`io::ErrorKind::InvalidData`] for what is no header.
pub async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Option<SocketAddr>> {
    let mut header = vec![0; SIGNATURE];
    stream.read_exact(&mut header).await?;
    if header.starts_with(v1::PROTOCOL_PREFIX.as_bytes()) {
        while !header.ends_with(b"\r\n") {
            if header.len() >= LONGEST_TEXT {
                return Err(no_header());
            }
            // One by one: what follows the header belongs to the session, or to TLS.
            header.push(stream.read_u8().await?);
        }
        return parse_text(&header);
    }
    header.resize(FIXED, 0);
    stream.read_exact(&mut header[SIGNATURE..]).await?;
    let length = usize::from(u16::from_be_bytes([header[14], header[15]]));
    if !header.starts_with(v2::PROTOCOL_PREFIX) || FIXED + length > LONGEST_BINARY {
        return Err(no_header());
    }
    header.resize(FIXED + length, 0);
    stream.read_exact(&mut header[FIXED..]).await?;
    parse_binary(&header)
}

fn parse_text(header: &[u8]) -> io::Result<Option<SocketAddr>> {
    let header = v1::Header::try_from(header).map_err(|_| no_header())?;
    Ok(match header.addresses {
        v1::Addresses::Unknown => Some(NOBODY_KNOWN),
        v1::Addresses::Tcp4(tcp) => Some(SocketAddr::new(tcp.source_address.into(), tcp.source_port)),
        v1::Addresses::Tcp6(tcp) => Some(SocketAddr::new(tcp.source_address.into(), tcp.source_port)),
    })
}

fn parse_binary(header: &[u8]) -> io::Result<Option<SocketAddr>> {
    let header = v2::Header::try_from(header).map_err(|_| no_header())?;
    Ok(match (header.command, header.addresses) {
        (v2::Command::Local, _) => None,
        (_, v2::Addresses::Unspecified | v2::Addresses::Unix(_)) => Some(NOBODY_KNOWN),
        (_, v2::Addresses::IPv4(tcp)) => Some(SocketAddr::new(tcp.source_address.into(), tcp.source_port)),
        (_, v2::Addresses::IPv6(tcp)) => Some(SocketAddr::new(tcp.source_address.into(), tcp.source_port)),
    })
}

fn no_header() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the connection does not begin with a PROXY protocol header")
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use proptest::prelude::*;

    use super::*;

    /// What is read of some octets, and what is left for the session.
    fn read_from(mut octets: &[u8]) -> (io::Result<Option<SocketAddr>>, &[u8]) {
        let result = ready(read(&mut octets));
        (result, octets)
    }

    /// The future of a slice is ready at once.
    fn ready<F: Future>(future: F) -> F::Output {
        let mut future = std::pin::pin!(future);
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("a slice waits for nothing"),
        }
    }

    fn binary(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
        [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[0x20 | command, family], &length, addresses, b"EHLO x"].concat()
    }

    #[test]
    fn headers_of_both_versions_and_not_an_octet_more() {
        let v4 = binary(1, 0x11, &[192, 0, 2, 7, 10, 0, 0, 1, 0x1f, 0x90, 0, 25]);
        let v6 =
            binary(1, 0x21, &[&[0x20, 1, 0x0d, 0xb8][..], &[0; 11], &[7], &[0; 16], &[0x1f, 0x90, 0, 25]].concat());
        for (wire, client) in [
            (&b"PROXY TCP4 192.0.2.7 10.0.0.1 8080 25\r\nEHLO x"[..], Some("192.0.2.7:8080")),
            (b"PROXY TCP6 2001:db8::7 2001:db8::1 8080 25\r\nEHLO x", Some("[2001:db8::7]:8080")),
            (b"PROXY UNKNOWN\r\nEHLO x", Some("0.0.0.0:0")),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\nEHLO x", Some("0.0.0.0:0")),
            (&v4, Some("192.0.2.7:8080")),
            (&v6, Some("[2001:db8::7]:8080")),
            (&binary(0, 0, &[]), None),
            (&binary(1, 0, b"more of it"), Some("0.0.0.0:0")),
            (&binary(1, 0x31, &[b'/'; 216]), Some("0.0.0.0:0")),
            (&binary(0, 0x11, &[192, 0, 2, 7, 10, 0, 0, 1, 0x1f, 0x90, 0, 25]), None),
        ] {
            let (result, rest) = read_from(wire);
            assert_eq!(result.unwrap(), client.map(|client| client.parse().unwrap()), "{wire:?}");
            assert_eq!(rest, b"EHLO x");
        }
    }

    #[test]
    fn what_is_no_header() {
        for wire in [
            &b"EHLO client.example\r\nMAIL FROM:<>\r\n"[..],
            b"PROXY TCP4 192.0.2.7\r\n",
            b"PROXY TCP4 192.0.2.777 10.0.0.1 8080 25\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 808080 25\r\n",
            b"PROXY",
            &[b"PROXY TCP4 ", &[b'1'; 200][..]].concat(),
            &[&b"\r\n\r\n\0\r\nQUIT\n\x21\x11"[..], &[0xff; 70_000]].concat(),
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x02ab",
        ] {
            let (result, _) = read_from(wire);
            assert!(result.is_err(), "{wire:?}");
        }
    }

    #[test]
    fn only_trusted_peers_are_believed() {
        let proxy = ProxyProtocol { trusted: vec!["10.0.0.0/8".parse().unwrap()] };
        assert!(is_trusted(&proxy, "10.1.2.3".parse().unwrap()));
        assert!(is_trusted(&proxy, "::ffff:10.1.2.3".parse().unwrap()));
        assert!(!is_trusted(&proxy, "192.0.2.1".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn any_octets_are_a_header_or_an_error(text in "PROXY (TCP4|TCP6|UNKNOWN)[ 0-9.:a-f]{0,120}\r\n", tail in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read_from(text.as_bytes());
            let _ = read_from(&tail);
            let _ = read_from(&[&b"\r\n\r\n\0\r\nQUIT\n"[..], &tail].concat());
        }
    }
}
