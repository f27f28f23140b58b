//! The node and the price of a configuration, as `rails` takes them.

use std::io;

use rails::Secret;
use rails::dial::{Dialer, Origin};
use rails::lightning::nwc::Connection;
use rails::lightning::rate::{Feed, RateSettings, Unit};
use rails::lightning::{Backend, Expect, LightningNode};
use rustls::pki_types::CertificateDer;

use crate::config::{self, BaseUrl, BitcoinPrice, L402};
use crate::snapshot::origin;

/// A node nobody has asked yet. Where a certificate is written, no other is trusted.
pub(super) fn node(rules: &L402, public: &Dialer) -> io::Result<LightningNode> {
    let dialer = match certificates(&rules.node) {
        [] => public.within(rules.time_max),
        pinned => Dialer::pinned(pinned, rules.time_max)?,
    };
    let expect = Expect { network: rules.network, node_key: rules.node_key };
    Ok(LightningNode::new(backend(&rules.node)?, expect, dialer, rules.time_max))
}

fn certificates(node: &config::LightningNode) -> &[CertificateDer<'static>] {
    match node {
        config::LightningNode::Lnd { cert, .. } | config::LightningNode::Cln { cert, .. } => cert,
        config::LightningNode::Test
        | config::LightningNode::Phoenixd { .. }
        | config::LightningNode::LnBits { .. }
        | config::LightningNode::Nwc { .. } => &[],
    }
}

fn backend(node: &config::LightningNode) -> io::Result<Backend> {
    Ok(match node {
        config::LightningNode::Test => Backend::Test,
        config::LightningNode::Lnd { url, macaroon, .. } => {
            let (origin, base) = place(url);
            Backend::Lnd { origin, base, macaroon: secret(macaroon) }
        }
        config::LightningNode::Cln { url, rune, .. } => {
            let (origin, base) = place(url);
            Backend::Cln { origin, base, rune: secret(rune) }
        }
        config::LightningNode::Phoenixd { url, password } => {
            let (origin, base) = place(url);
            Backend::Phoenixd { origin, base, password: secret(password) }
        }
        config::LightningNode::LnBits { url, key } => {
            let (origin, base) = place(url);
            Backend::LnBits { origin, base, key: secret(key) }
        }
        config::LightningNode::Nwc { uri } => {
            let connection = Connection::parse(uri.expose()).map_err(io::Error::other)?;
            Backend::Nwc(connection)
        }
    })
}

fn place(url: &BaseUrl) -> (Origin, String) {
    (origin(url), url.base_path.clone())
}

fn secret(secret: &config::Secret) -> Secret {
    Secret::new(secret.expose())
}

pub(crate) fn rate_settings(price: &BitcoinPrice) -> io::Result<RateSettings> {
    Ok(match price {
        BitcoinPrice::Fixed(price) => RateSettings::Fixed(*price),
        BitcoinPrice::Read { url, query, pointer, in_sats, every, max_age } => RateSettings::Read(Feed {
            origin: origin(url),
            path: format!("{}{query}", if url.base_path.is_empty() { "/" } else { &url.base_path }),
            pointer: pointer.parse().map_err(|_| io::Error::other("a place in a JSON document is none"))?,
            unit: if *in_sats { Unit::SatsPerUsd } else { Unit::UsdPerBtc },
            every: *every,
            max_age: *max_age,
        }),
    })
}
