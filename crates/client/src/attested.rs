//! What a seller signed about one payment: the offer that was paid, and that he delivered (X402-36). Kept, one file a
//! payment (`attested/<name>.json`), with what it takes to check it again.
//!
//! A signed offer that promises something else than the seller asks for is not paid (A18). Who may sign for an origin is
//! what the origin itself publishes, or the account that is paid; another place is never asked.

use http::{HeaderMap, Method, StatusCode};
use proof::x402_attest::{self, AttestError, Attested as Signable, Trusted};
use rails::dial::Dialer;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use std::path::PathBuf;
use std::time::Duration;
use wire::jws::{self, Jwk};
use wire::x402::extension;
use wire::x402::offer_receipt::{Delivered, ID, Offer, Offers, Receipt, Signed};
use wire::x402::{Address, v2};
use wire::{hex, json};

use crate::connection::Outgoing;
use crate::folder::{self, FileError};
use crate::{Target, printable};

/// Where an origin says whose signatures speak for it.
const DID_PATH: &str = "/.well-known/did.json";
const DOCUMENT_BYTES_MAX: usize = 64 * 1024;
const TIME_MAX: Duration = Duration::from_secs(10);
const VERSION: u8 = 1;

/// What was signed about one payment, not checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attested {
    version: u8,
    /// Who was paid.
    pub origin: String,
    /// CAIP-2.
    pub network: String,
    /// Whom the seller's result names as payee of the payment.
    pub pay_to: String,
    /// Our address on that network.
    pub payer: String,
    /// As the result says.
    pub transaction: String,
    /// What was promised before it was paid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offer: Option<Signed<Offer>>,
    /// That it was delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Signed<Receipt>>,
}

/// Why what was signed does not stand, or cannot be checked.
#[derive(Debug, thiserror::Error)]
pub enum AttestedError {
    /// It does not stand.
    #[error("signed {what} does not stand: {error}")]
    Signature {
        /// `offer`, `receipt`
        what: &'static str,
        /// Why.
        error: AttestError,
    },
    /// A genuine receipt of something else.
    #[error("signed receipt does not stand: it names another {0}")]
    OtherPayment(&'static str),
    /// The origin publishes no keys to check it by.
    #[error("signed offer or receipt not checked: {0} publishes no keys for it")]
    NoKeys(String),
}

impl AttestedError {
    /// Whether the seller showed something that does not stand, instead of nothing.
    #[must_use]
    pub const fn is_refused(&self) -> bool {
        match self {
            Self::Signature {
                error: AttestError::UnknownKey | AttestError::Signature | AttestError::Ended(_),
                ..
            }
            | Self::OtherPayment(_) => true,
            // A way of signing that we do not read shows nothing.
            Self::Signature { error: AttestError::Malformed | AttestError::Version(_), .. }
            | Self::NoKeys(_) => false,
        }
    }
}

/// The signed offers of a challenge.
pub(crate) fn promised(extensions: Option<&Map<String, Value>>) -> Vec<Signed<Offer>> {
    let entry: Option<extension::Extension<Offers>> = extension::find(extensions, ID);
    entry.map(|entry| entry.info.offers).unwrap_or_default()
}

/// The signed receipt of a result.
pub(crate) fn delivered(extensions: Option<&Map<String, Value>>) -> Option<Signed<Receipt>> {
    let entry: Option<extension::Extension<Delivered>> = extension::find(extensions, ID);
    Some(entry?.info.receipt)
}

/// The promise that covers an entry of a challenge. `Err(())`: there are promises about it, and none is what it asks.
pub(crate) fn covering(
    place: usize,
    entry: &v2::PaymentRequirements,
    resource_url: Option<&str>,
    promises: &[Signed<Offer>],
) -> Result<Option<Signed<Offer>>, ()> {
    let mut contradicted = false;
    for signed in promises {
        let named = accept_index(signed).and_then(|index| usize::try_from(index).ok()) == Some(place);
        // Signed in a way that we do not read: as good as not signed.
        let Some(offer) = payload(signed) else { continue };
        let url = resource_url.unwrap_or(&offer.resource_url);
        if offer.promises_v2(entry, url) {
            return Ok(Some(signed.clone()));
        }
        let same = |ours: &str, theirs: &str| ours.eq_ignore_ascii_case(theirs);
        contradicted |= named
            || (offer.scheme == entry.scheme
                && offer.network == entry.network
                && same(&offer.asset, &entry.asset));
    }
    if contradicted { Err(()) } else { Ok(None) }
}

/// What is signed, whoever signed it.
fn payload<T: Signable + Clone>(signed: &Signed<T>) -> Option<T> {
    match signed {
        Signed::Eip712 { payload, .. } => Some(payload.clone()),
        Signed::Jws { signature, .. } => {
            let payload = json::parse_strict(&jws::split(signature).ok()?.payload).ok()?;
            serde_json::from_value(payload).ok()
        }
    }
}

const fn accept_index<T>(signed: &Signed<T>) -> Option<u64> {
    match signed {
        Signed::Eip712 { accept_index, .. } | Signed::Jws { accept_index, .. } => *accept_index,
    }
}

/// What is known of a payment that something was signed about.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) origin: &'a Target,
    pub(crate) network: &'a str,
    pub(crate) pay_to: &'a str,
    pub(crate) payer: String,
    pub(crate) transaction: &'a str,
}

impl Attested {
    /// `None` where nothing was signed.
    pub(crate) fn new(
        facts: &Facts<'_>,
        offer: Option<Signed<Offer>>,
        receipt: Option<Signed<Receipt>>,
    ) -> Option<Self> {
        (offer.is_some() || receipt.is_some()).then(|| Self {
            version: VERSION,
            origin: facts.origin.origin_text(),
            network: facts.network.to_owned(),
            pay_to: facts.pay_to.to_owned(),
            payer: facts.payer.clone(),
            transaction: facts.transaction.to_owned(),
            offer,
            receipt,
        })
    }

    /// Keeps it, under the hash of what it says.
    pub(crate) fn save(&self, folder: &std::path::Path) -> Result<PathBuf, FileError> {
        let bytes = serde_json::to_vec_pretty(self).map_err(|_| folder::malformed(folder))?;
        let path = folder.join(format!("{}.json", &hex::encode(&Sha256::digest(&bytes))[..32]));
        folder::replace(&path, &bytes)?;
        Ok(path)
    }

    /// Checks both against the keys that the origin publishes, and the receipt against the payment.
    ///
    /// # Errors
    /// [`AttestedError`]
    pub(crate) async fn check(&self, origin: &Target, dialer: &Dialer) -> Result<(), AttestedError> {
        let mut keys = Keys::default();
        // The account that is paid may always speak for what it sells.
        keys.accounts.extend(self.pay_to.parse::<Address>().ok());
        let verdict = self.verify(&keys);
        let Err(AttestedError::Signature { error: AttestError::UnknownKey, .. }) = verdict else {
            return verdict;
        };
        let published = Keys::published_by(origin, dialer).await;
        let published = published.ok_or_else(|| AttestedError::NoKeys(printable(&self.origin)))?;
        keys.accounts.extend(published.accounts);
        keys.keys = published.keys;
        self.verify(&keys)
    }

    fn verify(&self, keys: &Keys) -> Result<(), AttestedError> {
        let named: Vec<(&str, [u8; 32])> =
            keys.keys.iter().map(|(name, key)| (name.as_str(), *key)).collect();
        let trusted = Trusted { keys: &named, accounts: &keys.accounts };
        let offer = self.offer.as_ref().map(|offer| x402_attest::verify(offer, &trusted)).transpose();
        let offer = offer.map_err(|error| AttestedError::Signature { what: "offer", error })?;
        let Some(receipt) = &self.receipt else { return Ok(()) };
        let receipt = x402_attest::verify(receipt, &trusted)
            .map_err(|error| AttestedError::Signature { what: "receipt", error })?;
        let other = |what| Err(AttestedError::OtherPayment(what));
        if receipt.network != self.network {
            return other("network");
        }
        if !receipt.payer.eq_ignore_ascii_case(&self.payer) {
            return other("payer");
        }
        if offer.is_some_and(|offer| offer.resource_url != receipt.resource_url) {
            return other("resource");
        }
        let told = receipt.transaction.unwrap_or_default();
        if !told.is_empty() && told != self.transaction {
            return other("transaction");
        }
        Ok(())
    }
}

/// Whose signatures speak for an origin.
#[derive(Debug, Default)]
struct Keys {
    keys: Vec<(String, [u8; 32])>,
    accounts: Vec<Address>,
}

impl Keys {
    /// From the origin's own `did:web` document; `None` if it has none, or one of somebody else.
    async fn published_by(origin: &Target, dialer: &Dialer) -> Option<Self> {
        let target = origin.sibling(DID_PATH.to_owned());
        let outgoing = Outgoing {
            method: Method::GET,
            target: &target,
            headers: HeaderMap::new(),
            body: bytes::Bytes::new(),
            secret: false,
            trailers: false,
            signer: None,
        };
        let answer = outgoing.send(dialer, (TIME_MAX, TIME_MAX)).await.ok()?;
        if answer.status != StatusCode::OK {
            return None;
        }
        let body = answer.body.collect(DOCUMENT_BYTES_MAX).await.ok()?;
        let did = format!("did:web:{}", origin.origin().authority().replace(':', "%3A"));
        Self::read(&json::parse_strict(&body).ok()?, &did)
    }

    fn read(document: &Value, did: &str) -> Option<Self> {
        if document["id"] != did {
            return None;
        }
        let mut all = Self::default();
        for method in document["verificationMethod"].as_array()? {
            let Some(id) = method["id"]
                .as_str()
                .filter(|id| id.strip_prefix(did).is_some_and(|rest| rest.starts_with('#')))
            else {
                continue;
            };
            let key: Option<Jwk> = serde_json::from_value(method["publicKeyJwk"].clone()).ok();
            all.keys.extend(key.and_then(|key| Some((id.to_owned(), key.public()?))));
            let account = method["blockchainAccountId"].as_str().and_then(|text| text.rsplit(':').next());
            all.accounts.extend(account.and_then(|text| text.parse::<Address>().ok()));
        }
        Some(all)
    }
}

#[cfg(test)]
mod tests {
    use super::{Attested, AttestedError as E, Keys, covering, payload};
    use proof::SigningKey;
    use proof::secp::SecretKey;
    use proof::x402_attest::{Signer, sign};
    use serde_json::{Value, json};
    use wire::x402::offer_receipt::{Offer, Receipt, Signed};
    use wire::x402::v2::PaymentRequirements;

    const DID: &str = "did:web:api.example.com";
    const KID: &str = "did:web:api.example.com#key-1";

    fn vector(name: &str) -> Value {
        let file: Value =
            serde_json::from_str(include_str!("../../../specs/vectors/x402/offer_receipt_vectors.json"))
                .unwrap();
        file[name].clone()
    }

    fn offers() -> [Signed<Offer>; 2] {
        ["offerJws", "offerEip712"].map(|name| serde_json::from_value(vector(name)).unwrap())
    }

    fn entry(offer: &Offer) -> PaymentRequirements {
        PaymentRequirements {
            scheme: offer.scheme.clone(),
            network: offer.network.clone(),
            amount: offer.amount.clone(),
            asset: offer.asset.clone(),
            pay_to: offer.pay_to.clone(),
            max_timeout_seconds: 300,
            extra: None,
        }
    }

    /// A18: what a seller signed and what he asks for must be one.
    #[test]
    fn a18_an_entry_that_no_promise_covers_is_not_paid() {
        for signed in offers() {
            let offer = payload(&signed).unwrap();
            let (asked, url) = (entry(&offer), offer.resource_url.clone());
            let dearer = PaymentRequirements { amount: "20001".into(), ..asked.clone() };
            let elsewhere = PaymentRequirements { pay_to: offer.asset.clone(), ..asked.clone() };
            let other = PaymentRequirements { scheme: "exact".into(), ..asked.clone() };
            let place = 5;
            for (what, entry, url, promises, expected) in [
                ("covered", &asked, Some(url.as_str()), vec![signed.clone()], Ok(true)),
                ("no address told", &asked, None, vec![signed.clone()], Ok(true)),
                ("no promises", &asked, Some(&url), vec![], Ok(false)),
                ("a promise of another scheme", &other, Some(&url), vec![signed.clone()], Ok(false)),
                ("dearer", &dearer, Some(&url), vec![signed.clone()], Err(())),
                ("another payee", &elsewhere, Some(&url), vec![signed.clone()], Err(())),
                ("another resource", &asked, Some("https://evil.example/"), vec![signed.clone()], Err(())),
            ] {
                let found = covering(place, entry, url, &promises).map(|found| found.is_some());
                assert_eq!(found, expected, "{what}");
            }
        }
    }

    fn facts(offer: Option<Signed<Offer>>, receipt: Option<Signed<Receipt>>) -> Attested {
        Attested {
            version: 1,
            origin: "https://api.example.com".into(),
            network: "eip155:84532".into(),
            pay_to: "0x976EA74026E726554dB657fA54763abd0C3a0aa9".into(),
            payer: "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266".into(),
            transaction: "0xabc".into(),
            offer,
            receipt,
        }
    }

    #[test]
    fn x402_36_signatures_are_held_against_what_the_origin_publishes() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let jwk = wire::jws::Jwk::ed25519(&key.verifying_key().to_bytes(), "key-1".into());
        let document = |id: &str, kid: &str| {
            json!({"id": id, "verificationMethod": [
                {"id": kid, "publicKeyJwk": jwk},
                {"id": format!("{id}#offers"),
                 "blockchainAccountId": "eip155:1:0x14dC79964da2C08b23698B3D3cc7Ca32193d9955"}]})
        };
        let keys = Keys::read(&document(DID, KID), DID).unwrap();
        assert_eq!((keys.keys.len(), keys.accounts.len()), (1, 1));
        assert!(Keys::read(&document("did:web:evil.example", KID), DID).is_none());
        let strangers = Keys::read(&document(DID, "did:web:evil.example#key-1"), DID).unwrap();
        assert!(strangers.keys.is_empty());
        for signed in offers() {
            assert!(facts(Some(signed.clone()), None).verify(&keys).is_ok());
            let refused = facts(Some(signed), None).verify(&Keys::default()).unwrap_err();
            assert!(matches!(refused, E::Signature { what: "offer", .. }), "{refused}");
        }
        // Whoever is paid may sign for what he sells.
        let account = SecretKey::parse(&"5a".repeat(32)).unwrap();
        let good = Receipt {
            issued_at: 1,
            network: "eip155:84532".into(),
            payer: "0xF39fd6e51aad88F6F4ce6aB8827279cffFb92266".into(),
            resource_url: "https://api.example.com/".into(),
            transaction: Some("0xabc".into()),
            version: 1,
        };
        let own = Keys { keys: vec![], accounts: vec![account.address()] };
        for (expected, receipt) in [
            (None, good.clone()),
            (None, Receipt { transaction: None, ..good.clone() }),
            (Some("network"), Receipt { network: "eip155:1".into(), ..good.clone() }),
            (Some("payer"), Receipt { payer: account.address().to_string(), ..good.clone() }),
            (Some("transaction"), Receipt { transaction: Some("0xdef".into()), ..good.clone() }),
        ] {
            let signed = sign(Signer::Eip712(&account), receipt, None).unwrap();
            let found = match facts(None, Some(signed)).verify(&own) {
                Ok(()) => None,
                Err(E::OtherPayment(what)) => Some(what),
                Err(error) => panic!("{error}"),
            };
            assert_eq!(found, expected);
        }
    }
}
