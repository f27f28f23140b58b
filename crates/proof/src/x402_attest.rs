//! Signed offers and receipts, both ways: a seller signs what he promises and what he delivered, a buyer checks it
//! (X402-36).
//!
//! A signature shows that a key signed. That the key may speak for the resource is shown by where the buyer has the
//! key from, so he names the keys he trusts.

use ed25519_dalek::{Signer as _, SigningKey};
use serde::Serialize;
use serde::de::DeserializeOwned;
use wire::x402::Address;
use wire::x402::offer_receipt::{Offer, Receipt, Signed, VERSION};
use wire::{hex, json, jws};

use crate::secp::{SecretKey, Signature};
use crate::{ed25519, eip712};

/// What is signed: an [`Offer`] or a [`Receipt`].
pub trait Attested: Serialize + DeserializeOwned {
    /// Name of its EIP-712 domain.
    const DOMAIN: &'static str;

    /// Its EIP-712 struct hash.
    fn struct_hash(&self) -> [u8; 32];

    /// Of the payload; only [`VERSION`] is known.
    fn version(&self) -> u64;
}

impl Attested for Offer {
    const DOMAIN: &'static str = "x402 offer";

    fn struct_hash(&self) -> [u8; 32] {
        eip712::offer(self)
    }

    fn version(&self) -> u64 {
        self.version
    }
}

impl Attested for Receipt {
    const DOMAIN: &'static str = "x402 receipt";

    fn struct_hash(&self) -> [u8; 32] {
        eip712::receipt(self)
    }

    fn version(&self) -> u64 {
        self.version
    }
}

/// Who signs, and how.
#[derive(Clone, Copy, Debug)]
pub enum Signer<'a> {
    /// As a JWS, with Ed25519.
    Jws {
        /// The key.
        key: &'a SigningKey,
        /// Where its public half is found: `did:web:api.example.com#key-1`.
        kid: &'a str,
    },
    /// As EIP-712.
    Eip712(&'a SecretKey),
}

/// Whose signatures count.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trusted<'a> {
    /// Ed25519 keys by name.
    pub keys: &'a [(&'a str, [u8; 32])],
    /// EVM accounts.
    pub accounts: &'a [Address],
}

/// Why an attestation does not stand, or was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttestError {
    /// Not a JWS we take, or not the payload that was expected.
    #[error("attestation is malformed")]
    Malformed,
    /// A version of later.
    #[error("attestation version {0}")]
    Version(u64),
    /// Signed by a key that speaks for nobody here.
    #[error("signed by an unknown key")]
    UnknownKey,
    /// The signature does not stand.
    #[error("signature refused")]
    Signature,
    /// The offer's time is over.
    #[error("offer ended at {0}")]
    Ended(u64),
}

/// Signs a payload. `accept_index` tells a reader where to look, and is not signed.
///
/// # Errors
/// [`AttestError`] where the payload is no JSON, or the key cannot sign it.
pub fn sign<T: Attested>(
    signer: Signer<'_>,
    payload: T,
    accept_index: Option<u64>,
) -> Result<Signed<T>, AttestError> {
    match signer {
        Signer::Jws { key, kid } => {
            let payload = serde_json::to_vec(&payload).map_err(|_| AttestError::Malformed)?;
            let input = jws::signing_input(kid, &payload);
            let signature = jws::assemble(&input, &key.sign(input.as_bytes()).to_bytes());
            Ok(Signed::Jws { accept_index, signature })
        }
        Signer::Eip712(key) => {
            let signature = key.sign(&digest(&payload)).map_err(|_| AttestError::Signature)?;
            Ok(Signed::Eip712 { accept_index, payload, signature: hex::encode_0x(signature.as_bytes()) })
        }
    }
}

/// Checks an attestation and reads what was signed.
///
/// # Errors
/// [`AttestError`]
pub fn verify<T: Attested + Clone>(signed: &Signed<T>, trusted: &Trusted<'_>) -> Result<T, AttestError> {
    let payload = match signed {
        Signed::Jws { signature, .. } => {
            let jws = jws::split(signature).map_err(|_| AttestError::Malformed)?;
            let kid = jws.kid.as_deref().ok_or(AttestError::UnknownKey)?;
            let named = trusted.keys.iter().find(|(name, _)| *name == kid);
            let (_, public) = named.ok_or(AttestError::UnknownKey)?;
            ed25519::verify(public, jws.signing_input.as_bytes(), &jws.signature)
                .map_err(|_| AttestError::Signature)?;
            let payload = json::parse_strict(&jws.payload).map_err(|_| AttestError::Malformed)?;
            serde_json::from_value(payload).map_err(|_| AttestError::Malformed)?
        }
        Signed::Eip712 { payload, signature, .. } => {
            let signature = Signature::parse(signature).map_err(|_| AttestError::Signature)?;
            let signer = signature.recover(&digest(payload)).map_err(|_| AttestError::Signature)?;
            if signer == Address::ZERO || !trusted.accounts.contains(&signer) {
                return Err(AttestError::UnknownKey);
            }
            payload.clone()
        }
    };
    match payload.version() {
        VERSION => Ok(payload),
        other => Err(AttestError::Version(other)),
    }
}

/// Whether an offer's time is not over. 0 and no end are one.
///
/// # Errors
/// [`AttestError::Ended`]
pub fn check_time(offer: &Offer, now_unix_s: u64) -> Result<(), AttestError> {
    match offer.valid_until {
        Some(end) if end != 0 && end < now_unix_s => Err(AttestError::Ended(end)),
        _ => Ok(()),
    }
}

fn digest<T: Attested>(payload: &T) -> [u8; 32] {
    eip712::attest_separator(T::DOMAIN).digest(&payload.struct_hash())
}

#[cfg(test)]
mod tests {
    use super::{AttestError as E, Attested, Signer, Trusted, check_time, digest, sign, verify};
    use crate::secp::SecretKey;
    use ed25519_dalek::SigningKey;
    use serde_json::Value;
    use wire::hex;
    use wire::x402::offer_receipt::{Offer, Receipt, Signed};
    use wire::x402::{Address, test_keys};

    const KID: &str = "did:web:api.example.com#key-1";

    fn vector() -> Value {
        serde_json::from_str(include_str!("../../../specs/vectors/x402/offer_receipt_vectors.json")).unwrap()
    }

    fn read<T: serde::de::DeserializeOwned>(name: &str) -> T {
        serde_json::from_value(vector()[name].clone()).unwrap()
    }

    fn ed25519_key() -> SigningKey {
        SigningKey::from_bytes(&[7; 32])
    }

    fn evm_key() -> SecretKey {
        SecretKey::parse("0x4bbbf85ce3377467afe5d46f804f221813b2bb87f24d81f60f1fcdbf7cbf4356").unwrap()
    }

    fn account() -> Address {
        test_keys::EVM[7].parse().unwrap()
    }

    /// Signs what the reference signed, and takes what the reference made.
    fn both_ways<T: Attested + Clone + PartialEq + std::fmt::Debug>(jws: &str, eip712: &str, digested: &str) {
        let public = ed25519_key().verifying_key().to_bytes();
        assert_eq!(hex::encode(&public), "ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c");
        let (keys, accounts) = ([(KID, public)], [account()]);
        let trusted = Trusted { keys: &keys, accounts: &accounts };
        let (jws, eip712): (Signed<T>, Signed<T>) = (read(jws), read(eip712));
        let payload = verify(&eip712, &trusted).unwrap();
        assert_eq!(verify(&jws, &trusted).as_ref(), Ok(&payload));
        assert_eq!(hex::encode(&digest(&payload)), digested);

        let index = |signed: &Signed<T>| match signed {
            Signed::Jws { accept_index, .. } | Signed::Eip712 { accept_index, .. } => *accept_index,
        };
        let key = ed25519_key();
        let ours = sign(Signer::Jws { key: &key, kid: KID }, payload.clone(), index(&jws));
        assert_eq!(ours.as_ref(), Ok(&jws));
        assert_eq!(sign(Signer::Eip712(&evm_key()), payload, index(&eip712)).as_ref(), Ok(&eip712));

        let stranger = [(KID, [9; 32])];
        let elsewhere = [("did:web:evil.example#key-1", public)];
        assert_eq!(verify(&jws, &Trusted::default()), Err(E::UnknownKey));
        assert_eq!(verify(&eip712, &Trusted::default()), Err(E::UnknownKey));
        assert_eq!(verify(&jws, &Trusted { keys: &stranger, accounts: &[] }), Err(E::Signature));
        assert_eq!(verify(&jws, &Trusted { keys: &elsewhere, accounts: &[] }), Err(E::UnknownKey));
        let other = [test_keys::EVM[6].parse().unwrap()];
        assert_eq!(verify(&eip712, &Trusted { keys: &[], accounts: &other }), Err(E::UnknownKey));
    }

    #[test]
    fn x402_36_offers_both_ways() {
        let digest = "e5fe3f81a1776b072938872185505bfedcd02f20d8e299aba4952d20682c4a9b";
        both_ways::<Offer>("offerJws", "offerEip712", digest);
    }

    #[test]
    fn x402_36_receipts_both_ways() {
        let digest = "4588d63f13a034d02517a724d5e8f5289901a9f6484c6ced1606dea1cca1d975";
        both_ways::<Receipt>("receiptJws", "receiptEip712", digest);
    }

    /// A18: what a false seller could change.
    #[test]
    fn a18_an_altered_offer_does_not_stand() {
        let accounts = [account()];
        let trusted = Trusted { keys: &[], accounts: &accounts };
        let Signed::Eip712 { payload, signature, .. } = read::<Signed<Offer>>("offerEip712") else {
            panic!()
        };
        for altered in [
            Offer { amount: "20001".into(), ..payload.clone() },
            Offer { asset: payload.pay_to.clone(), ..payload.clone() },
            Offer { network: "eip155:8453".into(), ..payload.clone() },
            Offer { pay_to: payload.asset.clone(), ..payload.clone() },
            Offer { resource_url: "https://evil.example/".into(), ..payload.clone() },
            Offer { scheme: "exact".into(), ..payload.clone() },
            Offer { valid_until: None, ..payload.clone() },
            Offer { version: 2, ..payload.clone() },
        ] {
            let signed =
                Signed::Eip712 { accept_index: None, payload: altered.clone(), signature: signature.clone() };
            assert_eq!(verify(&signed, &trusted), Err(E::UnknownKey), "{altered:?}");
        }
        let Signed::Jws { signature, .. } = read::<Signed<Offer>>("offerJws") else { panic!() };
        let keys = [(KID, ed25519_key().verifying_key().to_bytes())];
        let trusted = Trusted { keys: &keys, accounts: &[] };
        let parts: Vec<&str> = signature.split('.').collect();
        let cheaper = Offer { amount: "1".into(), ..payload.clone() };
        let body = wire::base64::encode_url(&serde_json::to_vec(&cheaper).unwrap());
        let swapped = format!("{}.{body}.{}", parts[0], parts[2]);
        let signed: Signed<Offer> = Signed::Jws { accept_index: None, signature: swapped };
        assert_eq!(verify(&signed, &trusted), Err(E::Signature));
        // A receipt is no offer, though the same key signed it.
        let Signed::Jws { signature, .. } = read::<Signed<Receipt>>("receiptJws") else { panic!() };
        let signed: Signed<Offer> = Signed::Jws { accept_index: None, signature };
        assert_eq!(verify(&signed, &trusted), Err(E::Malformed));
        let key = ed25519_key();
        let later = Offer { version: 2, ..payload };
        let signed = sign(Signer::Jws { key: &key, kid: KID }, later, None).unwrap();
        assert_eq!(verify(&signed, &trusted), Err(E::Version(2)));
    }

    #[test]
    fn an_offer_ends() {
        let Signed::Eip712 { payload, .. } = read::<Signed<Offer>>("offerEip712") else { panic!() };
        assert_eq!(check_time(&payload, 1_795_171_642), Ok(()));
        assert_eq!(check_time(&payload, 1_795_171_643), Err(E::Ended(1_795_171_642)));
        for valid_until in [None, Some(0)] {
            assert_eq!(check_time(&Offer { valid_until, ..payload.clone() }, u64::MAX), Ok(()));
        }
        // Both ways to say so are one to a signature.
        let (absent, zero) =
            (Offer { valid_until: None, ..payload.clone() }, Offer { valid_until: Some(0), ..payload });
        assert_eq!(digest(&absent), digest(&zero));
    }
}
