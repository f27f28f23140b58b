//! BOLT11: what an invoice says, and whether it is the one that was asked for.

use std::str::FromStr as _;

use lightning_invoice::{Currency, SignedRawBolt11Invoice, TaggedField};
use sha2::{Digest as _, Sha256};
use wire::l402::challenge::INVOICE_BYTES_MAX;

use super::port::{Expect, Invoice, Network, Wanted};

/// Longest description, in bytes of UTF-8.
pub const DESCRIPTION_BYTES_MAX: usize = 639;
/// How long an invoice without an expiry can be paid, by BOLT11.
const EXPIRY_S_DEFAULT: u64 = 3600;
/// How far the node's clock may be from ours.
const CLOCK_SKEW_S_MAX: u64 = 60;

/// What an invoice says. Its signature is the payee's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// The chain.
    pub network: Network,
    /// What it asks for, millisatoshi; none if the payer is to choose.
    pub amount_msat: Option<u64>,
    /// Names the payment.
    pub payment_hash: [u8; 32],
    /// Who signed it and is paid.
    pub payee: [u8; 33],
    /// Unix seconds.
    pub issued_at_s: u64,
    /// Unix seconds: from then on it cannot be paid.
    pub expires_at_s: u64,
    /// What it is for.
    pub description: Description,
    /// What the payer's node shows to the payee's, so that no hop between can ask for it. Our test node makes its
    /// preimages of it.
    pub payment_secret: Option<[u8; 32]>,
}

/// What an invoice is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Description {
    /// In words. Somebody else's: not to be trusted, or printed as it is.
    Text(String),
    /// SHA-256 of words that stand elsewhere.
    Hash([u8; 32]),
}

/// Why a text is no invoice that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Bolt11Error {
    /// Longer than any header value that we send.
    #[error("invoice is longer than {INVOICE_BYTES_MAX} bytes")]
    TooLong,
    /// No BOLT11 at all.
    #[error("not a BOLT11 invoice")]
    Malformed,
    /// A chain that we do not know.
    #[error("invoice of an unknown network")]
    Network,
    /// Not the payee's signature.
    #[error("signature of the invoice is wrong")]
    Signature,
    /// A field is missing or stands there twice.
    #[error("invoice has no single {0}")]
    Field(&'static str),
    /// More than there is, or not whole millisatoshi.
    #[error("amount of the invoice is no number of millisatoshi")]
    Amount,
    /// Its end cannot be told.
    #[error("expiry of the invoice is out of range")]
    Expiry,
}

/// Reads an invoice. Bounded work; says nothing about its time.
///
/// # Errors
/// [`Bolt11Error`]: it cannot be paid as it stands.
pub fn decode(text: &str) -> Result<Decoded, Bolt11Error> {
    use Bolt11Error as E;
    if text.len() > INVOICE_BYTES_MAX {
        return Err(E::TooLong);
    }
    let signed = SignedRawBolt11Invoice::from_str(text).map_err(|_| E::Malformed)?;
    let raw = signed.raw_invoice();
    let network = network(&raw.currency()).ok_or(E::Network)?;
    if !signed.check_signature() {
        return Err(E::Signature);
    }
    let payee = match raw.payee_pub_key() {
        Some(named) => named.0,
        None => signed.recover_payee_pub_key().map_err(|_| E::Signature)?.0,
    };
    let amount_msat = match (raw.hrp.raw_amount, raw.amount_pico_btc()) {
        (None, _) => None,
        (Some(_), Some(pico)) if pico % 10 == 0 => Some(pico / 10),
        (Some(_), _) => return Err(E::Amount),
    };
    let issued_at_s = raw.data.timestamp.as_unix_timestamp();
    let expiry_s = raw.expiry_time().map_or(EXPIRY_S_DEFAULT, |expiry| expiry.as_seconds());
    let fields = Fields::of(raw.known_tagged_fields());
    Ok(Decoded {
        network,
        amount_msat,
        payment_hash: only(fields.payment_hashes).ok_or(E::Field("payment hash"))?,
        payee: payee.serialize(),
        issued_at_s,
        expires_at_s: issued_at_s.checked_add(expiry_s).ok_or(E::Expiry)?,
        description: only(fields.descriptions).ok_or(E::Field("description"))?,
        payment_secret: match fields.payment_secrets.len() {
            0 => None,
            _ => Some(only(fields.payment_secrets).ok_or(E::Field("payment secret"))?),
        },
    })
}

/// The fields of which an invoice may have one.
#[derive(Default)]
struct Fields {
    payment_hashes: Vec<[u8; 32]>,
    descriptions: Vec<Description>,
    payment_secrets: Vec<[u8; 32]>,
}

impl Fields {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "a foreign enum, of which three fields may not repeat"
    )]
    fn of<'a>(fields: impl Iterator<Item = &'a TaggedField>) -> Self {
        let mut found = Self::default();
        for field in fields {
            match field {
                TaggedField::PaymentHash(hash) => found.payment_hashes.push(*hash.0.as_ref()),
                TaggedField::Description(text) => {
                    found.descriptions.push(Description::Text(text.as_inner().0.clone()));
                }
                TaggedField::DescriptionHash(hash) => {
                    found.descriptions.push(Description::Hash(*hash.0.as_ref()));
                }
                TaggedField::PaymentSecret(secret) => found.payment_secrets.push(secret.0),
                _ => {}
            }
        }
        found
    }
}

fn only<T>(mut values: Vec<T>) -> Option<T> {
    let value = values.pop()?;
    values.is_empty().then_some(value)
}

const fn network(currency: &Currency) -> Option<Network> {
    match currency {
        Currency::Bitcoin => Some(Network::Mainnet),
        Currency::BitcoinTestnet => Some(Network::Testnet),
        Currency::Signet => Some(Network::Signet),
        Currency::Regtest => Some(Network::Regtest),
        Currency::Simnet => None,
    }
}

/// What a node gave back for a wanted invoice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Returned {
    /// The invoice.
    pub bolt11: String,
    /// The hash that it says the invoice has.
    pub payment_hash: [u8; 32],
}

/// The invoice, if it is what was asked for (L402-60). `amount_msat` is what the node was asked for: at least what is wanted.
///
/// # Errors
/// The first field that differs. No token may be minted over such an invoice.
pub(crate) fn check(
    returned: Returned,
    wanted: &Wanted<'_>,
    amount_msat: u64,
    expect: &Expect,
    now_s: u64,
) -> Result<Invoice, &'static str> {
    let invoice = decode(&returned.bolt11).map_err(|error| match error {
        Bolt11Error::Signature => "signature",
        Bolt11Error::Network => "network",
        Bolt11Error::Amount => "amount",
        Bolt11Error::Expiry => "expiry",
        Bolt11Error::Field(field) => field,
        Bolt11Error::TooLong | Bolt11Error::Malformed => "invoice",
    })?;
    let described = match &invoice.description {
        Description::Text(text) => text == wanted.description,
        Description::Hash(hash) => *hash == <[u8; 32]>::from(Sha256::digest(wanted.description)),
    };
    let asked = [
        ("payment hash", invoice.payment_hash == returned.payment_hash),
        ("amount", invoice.amount_msat == Some(amount_msat) && amount_msat >= wanted.amount_msat.max(1)),
        ("network", invoice.network == expect.network),
        ("expiry", invoice.expires_at_s - invoice.issued_at_s == u64::from(wanted.expiry_s)),
        ("timestamp", invoice.issued_at_s.abs_diff(now_s) <= CLOCK_SKEW_S_MAX),
        ("description", described),
        ("payee", expect.node_key.is_none_or(|key| key == invoice.payee)),
    ];
    match asked.into_iter().find(|(_, as_asked)| !as_asked) {
        Some((field, _)) => Err(field),
        None => Ok(Invoice {
            bolt11: returned.bolt11,
            payment_hash: invoice.payment_hash,
            amount_msat,
            expires_at_s: invoice.expires_at_s,
        }),
    }
}
