//! Whose request it is, where proxies stand before us (L402-65, SEC-11).
//!
//! What a header says is believed only from a proxy that the operator trusts, and only as far as trusted ones have
//! written it: read from the right, the first address that is none of theirs is the client's. Whatever stands left of it
//! anybody may have written. A header that cannot be read counts for the proxy itself: its own bucket is the strictest.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderValue, header};

use crate::config::Net;

/// Proxies in a row at most; a chain of more is none of the operator's.
const HOPS_MAX: usize = 16;
pub(crate) const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// The address that limits count for.
pub(crate) fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[Net]) -> IpAddr {
    let peer = peer.to_canonical();
    if !is_trusted(trusted, peer) {
        return peer;
    }
    let standard = headers.get_all(header::FORWARDED).iter().rev();
    let usual = headers.get_all(X_FORWARDED_FOR).iter().rev();
    let found = match (headers.contains_key(header::FORWARDED), headers.contains_key(X_FORWARDED_FOR)) {
        // A proxy writes one of them, and may hand on the other as it came.
        (true, true) | (false, false) => None,
        (true, false) => rightmost(standard, forwarded, trusted),
        (false, true) => rightmost(usual, listed, trusted),
    };
    found.unwrap_or(peer)
}

/// Whether this is a proxy of the operator's.
pub(crate) fn is_trusted(trusted: &[Net], address: IpAddr) -> bool {
    let address = address.to_canonical();
    trusted.iter().any(|net| net.contains(address))
}

/// The first address from the right that is no trusted proxy's; the leftmost where all are. None: something on the way
/// there cannot be read. `lines` begins with the last one, and `read` gives what stands in one, the last first.
fn rightmost<'h>(
    lines: impl Iterator<Item = &'h HeaderValue>,
    read: impl Fn(&str) -> Option<Vec<Option<IpAddr>>>,
    trusted: &[Net],
) -> Option<IpAddr> {
    let (mut last, mut hops) = (None, 0);
    for line in lines {
        for hop in read(line.to_str().ok()?)? {
            hops += 1;
            let address = hop.filter(|_| hops <= HOPS_MAX)?;
            if !is_trusted(trusted, address) {
                return Some(address);
            }
            last = Some(address);
        }
    }
    last
}

/// `192.0.2.1, 198.51.100.7`.
#[expect(clippy::unnecessary_wraps, reason = "of one kind with `forwarded`")]
fn listed(line: &str) -> Option<Vec<Option<IpAddr>>> {
    Some(line.rsplit(',').take(HOPS_MAX + 1).map(|one| address(one.trim())).collect())
}

/// RFC 7239: `for=192.0.2.1;proto=https, for="[2001:db8::1]:4711"`. Quotes span what a client may have written, so a line
/// is read whole or not at all; who hides in it is no address.
fn forwarded(line: &str) -> Option<Vec<Option<IpAddr>>> {
    let mut hops = Vec::new();
    for element in split(line, b',')? {
        let mut found = None;
        for pair in split(element, b';')? {
            let (name, value) = pair.trim().split_once('=')?;
            if name.eq_ignore_ascii_case("for") && found.replace(address(unquoted(value)?)).is_some() {
                return None;
            }
        }
        hops.push(found?);
    }
    hops.reverse();
    Some(hops)
}

/// The parts between separators that stand outside quotes. None: a quote is not closed.
fn split(text: &str, separator: u8) -> Option<Vec<&str>> {
    let (mut parts, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            byte if byte == separator && !quoted => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    (!quoted).then_some(parts)
}

/// Addresses need no escapes: one with any is none.
fn unquoted(value: &str) -> Option<&str> {
    match value.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"').filter(|inner| !inner.contains(['"', '\\'])),
        None => Some(value),
    }
}

/// An address, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let plain = bracketed.unwrap_or(text).parse::<IpAddr>().ok();
    let plain = plain.filter(|address| bracketed.is_none() || address.is_ipv6());
    let address = plain.or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()))?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::client;
    use crate::config::Net;

    const PROXY: &str = "10.0.0.1";

    fn seen(peer: &str, lines: &[(&'static str, &str)]) -> String {
        let trusted: Vec<Net> =
            ["10.0.0.0/8", "fd00::/8"].iter().map(|text| Net::parse(text).unwrap()).collect();
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        client(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    /// L402-65, SEC-11.
    #[test]
    fn l402_65_whose_request_it_is() {
        let many = vec!["10.1.1.1"; 17].join(", ");
        for (what, peer, value, expected) in [
            ("nobody asked", "203.0.113.9", "198.51.100.1", "203.0.113.9"),
            ("through a proxy", PROXY, "198.51.100.1", "198.51.100.1"),
            ("a proxy over IPv6", "::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1"),
            ("made up in front", PROXY, "1.1.1.1, 198.51.100.1", "198.51.100.1"),
            ("nonsense in front", PROXY, "localhost; DROP, , 198.51.100.1", "198.51.100.1"),
            ("two proxies", "fd00::1", "1.1.1.1,198.51.100.1 , 10.0.0.2", "198.51.100.1"),
            ("a trusted one made up in front", PROXY, "10.0.0.9, 198.51.100.1", "198.51.100.1"),
            ("all are ours", PROXY, "10.3.0.1, 10.0.0.2", "10.3.0.1"),
            ("with a port", PROXY, "198.51.100.1:4711", "198.51.100.1"),
            ("IPv6", PROXY, "2001:db8::7", "2001:db8::7"),
            ("IPv6 with a port", PROXY, "[2001:db8::7]:443", "2001:db8::7"),
            ("IPv4 within IPv6", PROXY, "::ffff:198.51.100.1", "198.51.100.1"),
            ("no address", PROXY, "unknown", PROXY),
            ("no address on the way", PROXY, "198.51.100.1, unknown, 10.0.0.2", PROXY),
            ("nothing at the end", PROXY, "198.51.100.1,", PROXY),
            ("nothing at all", PROXY, "", PROXY),
            ("a number", PROXY, "3325256705", PROXY),
            ("half an address", PROXY, "[198.51.100.1]", PROXY),
            ("too many", PROXY, many.as_str(), PROXY),
        ] {
            assert_eq!(seen(peer, &[("x-forwarded-for", value)]), expected, "{what}");
        }
        assert_eq!(seen(PROXY, &[]), PROXY);
    }

    #[test]
    fn the_header_of_the_standard() {
        for (what, value, expected) in [
            ("plain", "for=198.51.100.1", "198.51.100.1"),
            ("with more", "For=198.51.100.1;proto=https;by=10.0.0.1", "198.51.100.1"),
            ("IPv6", "for=\"[2001:db8::7]:4711\"", "2001:db8::7"),
            ("made up in front", "for=1.1.1.1, for=198.51.100.1", "198.51.100.1"),
            ("hidden in front", "for=_hidden, for=unknown, for=198.51.100.1", "198.51.100.1"),
            ("two proxies", "for=198.51.100.1, for=10.0.0.2", "198.51.100.1"),
            ("an open quote in front", "for=\", for=198.51.100.1", PROXY),
            ("a quote that swallows", "for=\"1.1.1.1, for=198.51.100.1\"", PROXY),
            ("hidden", "for=_hidden", PROXY),
            ("twice", "for=198.51.100.1;for=1.1.1.1", PROXY),
            ("nobody", "proto=https", PROXY),
            ("nothing", "", PROXY),
            ("escaped", "for=\"198.51.100\\.1\"", PROXY),
        ] {
            assert_eq!(seen(PROXY, &[("forwarded", value)]), expected, "{what}");
        }
    }

    #[test]
    fn lines_and_headers_together() {
        let xff = "x-forwarded-for";
        assert_eq!(seen(PROXY, &[(xff, "1.1.1.1"), (xff, "198.51.100.1")]), "198.51.100.1", "the last line");
        assert_eq!(seen(PROXY, &[(xff, "198.51.100.1"), (xff, "10.0.0.2")]), "198.51.100.1");
        let closed = [("forwarded", "for=\""), ("forwarded", "for=198.51.100.1")];
        assert_eq!(seen(PROXY, &closed), "198.51.100.1", "what the proxy wrote stands in a line of its own");
        // A proxy that writes one of them hands the other on as the client wrote it.
        assert_eq!(seen(PROXY, &[("forwarded", "for=1.1.1.1"), (xff, "198.51.100.1")]), PROXY);
        assert_eq!(seen(PROXY, &[(xff, "\u{e9}")]), PROXY);
    }
}
