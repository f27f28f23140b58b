//! A payment that its payer named: is this the same payment again, or another one under a used name? (X402-34)

use crate::mac;

/// What a named payment was for. All of it from our own offer and from the request, nothing from the echo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedPayment<'a> {
    /// `exact`, ...
    pub scheme: &'a str,
    /// CAIP-2.
    pub network: &'a str,
    /// As our offer writes it.
    pub asset: &'a str,
    /// Atomic units.
    pub amount: u128,
    /// As our offer writes it.
    pub pay_to: &'a str,
    /// HTTP method.
    pub method: &'a str,
    /// The bytes of path and query that are forwarded.
    pub path: &'a [u8],
    /// SHA-256 of the body.
    pub body_digest: &'a [u8; 32],
}

/// Under what a name is kept: the same name at another tenant or route is another one.
#[must_use]
pub fn key(tenant: &str, route: &str, name: &str) -> [u8; 32] {
    mac::hash("farthing/payment-identifier/1", &[tenant.as_bytes(), route.as_bytes(), name.as_bytes()])
}

/// Equal for the same payment for the same request. A used name with another fingerprint is refused (409).
#[must_use]
pub fn fingerprint(payment: &NamedPayment<'_>) -> [u8; 32] {
    let fields: [&[u8]; 8] = [
        payment.scheme.as_bytes(),
        payment.network.as_bytes(),
        payment.asset.as_bytes(),
        &payment.amount.to_be_bytes(),
        payment.pay_to.as_bytes(),
        payment.method.as_bytes(),
        payment.path,
        payment.body_digest,
    ];
    mac::hash("farthing/payment-fingerprint/1", &fields)
}

#[cfg(test)]
mod tests {
    use super::{NamedPayment, fingerprint, key};
    use std::collections::HashSet;

    #[test]
    fn x402_34_every_member_counts() {
        let base = NamedPayment {
            scheme: "exact",
            network: "eip155:1",
            asset: "a",
            amount: 1,
            pay_to: "p",
            method: "POST",
            path: b"/x",
            body_digest: &[1; 32],
        };
        let all = [
            base,
            NamedPayment { scheme: "upto", ..base },
            NamedPayment { network: "eip155:10", ..base },
            NamedPayment { asset: "ap", pay_to: "", ..base },
            NamedPayment { amount: 2, ..base },
            NamedPayment { pay_to: "q", ..base },
            NamedPayment { method: "GET", ..base },
            NamedPayment { path: b"/y", ..base },
            NamedPayment { body_digest: &[2; 32], ..base },
        ];
        let prints: HashSet<_> = all.iter().map(fingerprint).collect();
        assert_eq!(prints.len(), all.len());
        assert_eq!(fingerprint(&base), fingerprint(&base.clone()));

        let keys = [
            key("t", "r", "n"),
            key("t2", "r", "n"),
            key("t", "r2", "n"),
            key("t", "r", "n2"),
            key("tr", "", "n"),
        ];
        assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len());
    }
}
