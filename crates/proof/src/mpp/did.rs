//! `did:pkh:eip155:<chain>:<address>`: how a credential says who pays.

use wire::x402::Address;

/// The network (CAIP-2) and the account of a source.
pub(super) fn account(source: &str) -> Option<(&str, Address)> {
    let (network, address) = source.strip_prefix("did:pkh:")?.rsplit_once(':')?;
    Some((network, address.parse().ok()?))
}
