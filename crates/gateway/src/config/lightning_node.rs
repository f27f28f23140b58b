//! The Lightning node behind `rails.l402`: exactly one, with the least key that will do (L402-70).

use rustls::pki_types::CertificateDer;

use super::Mode;
use super::secret::Secret;
use super::section::{Keys, Section};
use super::upstream::read_ca;
use super::url::{BaseUrl, Scheme};

/// Who makes the invoices, and how it is asked.
#[derive(Clone, Debug)]
pub enum LightningNode {
    /// Play money: real invoices of regtest whose preimages anybody can work out.
    Test,
    /// LND's REST interface.
    Lnd {
        /// Where.
        url: BaseUrl,
        /// `invoice.macaroon`, in hexadecimal.
        macaroon: Secret,
        /// Trusted instead of the public roots; empty for those.
        cert: Vec<CertificateDer<'static>>,
    },
    /// Core Lightning's CLNRest.
    Cln {
        /// Where.
        url: BaseUrl,
        /// A rune for `invoice`, `listinvoices`, `waitanyinvoice`, `getinfo`.
        rune: Secret,
        /// Trusted instead of the public roots; empty for those.
        cert: Vec<CertificateDer<'static>>,
    },
    /// phoenixd.
    Phoenixd {
        /// Where.
        url: BaseUrl,
        /// The limited one, if nothing is ever refunded.
        password: Secret,
    },
    /// LNbits.
    LnBits {
        /// Where.
        url: BaseUrl,
        /// The invoice key of a wallet, if nothing is ever refunded.
        key: Secret,
    },
    /// Any wallet behind Nostr Wallet Connect.
    Nwc {
        /// `nostr+walletconnect://...`
        uri: Secret,
    },
}

/// The kinds, as they are written.
const KINDS: [&str; 6] = ["test", "lnd", "cln", "phoenixd", "lnbits", "nwc"];

pub(super) fn read(l402: &Section<'_>) -> Option<LightningNode> {
    let written: Vec<&str> = KINDS.into_iter().filter(|kind| l402.node(kind).is_some()).collect();
    match written.as_slice() {
        [] => {
            l402.missing(format!("rails.l402 needs a node: one of {}", KINDS.join(", ")));
            None
        }
        [kind] => read_one(l402, kind),
        [_, second, ..] => {
            l402.complain(second, "rails.l402: invoices come from one node only");
            None
        }
    }
}

fn read_one(l402: &Section<'_>, kind: &str) -> Option<LightningNode> {
    let open = |known| l402.section(kind, Keys::secret(known, &[]));
    match kind {
        "test" => {
            if l402.context.mode == Mode::Live {
                l402.complain("test", "rails.l402.test: play money exists in mode test only");
            }
            let node = l402.node("test")?;
            Section::open(l402.context, &l402.path_of("test"), node, Keys::new(&[], &[]))?;
            Some(LightningNode::Test)
        }
        "lnd" => {
            let section = open(&["url", "macaroon", "cert"])?;
            let (url, macaroon) = (url(&section), secret(&section, "macaroon"));
            let cert = cert(&section, url.as_ref());
            Some(LightningNode::Lnd { url: url?, macaroon: macaroon?, cert })
        }
        "cln" => {
            let section = open(&["url", "rune", "cert"])?;
            let (url, rune) = (url(&section), secret(&section, "rune"));
            let cert = cert(&section, url.as_ref());
            Some(LightningNode::Cln { url: url?, rune: rune?, cert })
        }
        "phoenixd" => {
            let section = open(&["url", "password"])?;
            let (url, password) = (url(&section), secret(&section, "password"));
            Some(LightningNode::Phoenixd { url: url?, password: password? })
        }
        "lnbits" => {
            let section = open(&["url", "key"])?;
            let (url, key) = (url(&section), secret(&section, "key"));
            Some(LightningNode::LnBits { url: url?, key: key? })
        }
        _ => Some(LightningNode::Nwc { uri: secret(&open(&["uri"])?, "uri")? }),
    }
}

fn url(section: &Section<'_>) -> Option<BaseUrl> {
    section.required("url", |text| super::rail::encrypted(text, "a node"))
}

fn secret(section: &Section<'_>, key: &str) -> Option<Secret> {
    let Some(node) = section.get(key) else {
        section.missing(format!("{} needs \"{key}\"", section.path));
        return None;
    };
    section.context.secret(&section.path_of(key), node)
}

fn cert(section: &Section<'_>, url: Option<&BaseUrl>) -> Vec<CertificateDer<'static>> {
    let found = read_ca(section, "cert");
    if !found.is_empty() && url.is_some_and(|url| url.scheme != Scheme::Https) {
        section.complain(
            "cert",
            format!("{}: the node is reached without TLS; write https in its url", section.path),
        );
    }
    found
}
