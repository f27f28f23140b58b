//! Ranges of addresses, as people write them: `10.0.0.0/8`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

/// All addresses that begin alike. An IPv4 range written within IPv6 is the IPv4 range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Net {
    first: IpAddr,
    prefix: u32,
}

/// Bits in front of an IPv4 address where it is written as IPv6.
const MAPPED_BITS: u32 = 96;

impl Net {
    /// `10.0.0.0/8`, `2001:db8::/32`, or one address. Everybody is no range.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is no range of addresses; write it like 10.0.0.0/8");
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let written: IpAddr = address.parse().map_err(|_| wrong())?;
        let bits = bits_of(written);
        let prefix = match prefix {
            Some(prefix) if prefix.bytes().all(|b| b.is_ascii_digit()) => {
                prefix.parse().map_err(|_| wrong())?
            }
            Some(_) => return Err(wrong()),
            None => bits,
        };
        if prefix == 0 {
            return Err(format!("\"{text}\" is everybody"));
        }
        if prefix > bits {
            return Err(wrong());
        }
        let first = written.to_canonical();
        let prefix = match (written, first) {
            (IpAddr::V6(_), IpAddr::V4(_)) => {
                prefix.checked_sub(MAPPED_BITS).filter(|p| *p > 0).ok_or_else(wrong)?
            }
            _ => prefix,
        };
        let net = Self { first, prefix };
        if net.masked(first) != net.number() {
            return Err(format!(
                "\"{text}\" names one address of a range; the range begins at {}",
                net.start()
            ));
        }
        Ok(net)
    }

    /// Whether an address is in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.first.is_ipv4() && self.masked(address) == self.number()
    }

    fn number(&self) -> u128 {
        number(self.first)
    }

    /// The address, less what a range leaves open.
    fn masked(&self, address: IpAddr) -> u128 {
        let open = bits_of(self.first) - self.prefix;
        number(address).checked_shr(open).and_then(|high| high.checked_shl(open)).unwrap_or(0)
    }

    fn start(&self) -> IpAddr {
        let number = self.masked(self.first);
        match self.first {
            IpAddr::V4(_) => Ipv4Addr::from(u32::try_from(number).unwrap_or(0)).into(),
            IpAddr::V6(_) => std::net::Ipv6Addr::from(number).into(),
        }
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

const fn bits_of(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

#[cfg(test)]
mod tests {
    use super::Net;

    #[test]
    fn ranges() {
        for (net, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("127.0.0.1", "127.0.0.1", "127.0.0.2"),
            ("192.168.4.0/22", "192.168.7.255", "192.168.8.0"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::10.1.2.3"),
            ("::ffff:10.0.0.0/104", "10.9.9.9", "11.0.0.0"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
            ("::1", "::1", "::2"),
            ("fd00::/8", "fdff::1", "10.0.0.1"),
        ] {
            let net = Net::parse(net).unwrap();
            assert!(net.contains(inside.parse().unwrap()), "{inside} in {net}");
            assert!(!net.contains(outside.parse().unwrap()), "{outside} in {net}");
        }
        for wrong in [
            "",
            "10",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/0",
            "::/0",
            "::/129",
            "10.0.0.1/8",
            "2001:db8::1/32",
            "::ffff:0.0.0.0/96",
            "localhost",
            "10.0.0.0/8/8",
        ] {
            assert!(Net::parse(wrong).is_err(), "{wrong}");
        }
    }
}
