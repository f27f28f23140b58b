//! Sign-in with a wallet: did the holder of this address answer our challenge, for our host, just now? (X402-35)
//!
//! The nonce is ours without being kept: `issued at u64 | random [8] | first 16 bytes of an HMAC` over both and the
//! host, in hexadecimal. That it is used once is the caller's matter: he keeps it until [`SignedIn::nonce_until_s`].

use std::fmt;

use hmac::Mac as _;
use wire::x402::siwx::{Answer, Info, SignatureType, Signer, VERSION};
use wire::x402::{Address, base58};
use wire::{hex, rfc3339};

use crate::ed25519;
use crate::eip712::keccak256;
use crate::mac::{self, KeyedMac};
use crate::secp::{SecretKey, Signature, SignatureError};

const LABEL: &str = "farthing/siwx/1";
/// Length of every nonce.
pub const NONCE_BYTES: usize = 64;
/// How old an answer may be, in seconds.
pub const AGE_S_MAX: u64 = 300;

/// The key that nonces are made with. Wiped on drop, never printed.
pub struct NonceKey(KeyedMac);

/// What we are, for the wallet that answers.
#[derive(Clone, Copy, Debug)]
pub struct Host<'a> {
    /// Host, with its port if it has one.
    pub domain: &'a str,
    /// Scheme and host: `https://api.example.com`.
    pub origin: &'a str,
    /// CAIP-2 ids of the chains whose payers may sign in.
    pub chains: &'a [&'a str],
}

/// Whose address it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wallet {
    /// An EVM account.
    Evm(Address),
    /// A Solana account.
    Svm([u8; 32]),
}

/// A wallet that answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedIn {
    /// Whose accounts are opened.
    pub wallet: Wallet,
    /// Where: CAIP-2.
    pub network: String,
    /// To be used once.
    pub nonce: [u8; 32],
    /// Unix seconds; after it the nonce needs no keeping.
    pub nonce_until_s: u64,
}

/// Why an answer opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SiwxError {
    /// Signed for another host.
    #[error("signed for another host")]
    Domain,
    /// Signed for something that is not ours.
    #[error("signed for another origin")]
    Uri,
    /// Not a text of the known version, or one that could be read in two ways.
    #[error("members do not make a sign-in text")]
    Text,
    /// A chain we take no payments on.
    #[error("chain is not supported")]
    Chain,
    /// Not a time.
    #[error("issuedAt is not a time")]
    IssuedAt,
    /// Too long ago.
    #[error("signed too long ago")]
    TooOld,
    /// Not yet.
    #[error("issued in the future")]
    Future,
    /// Not a time.
    #[error("expirationTime is not a time")]
    ExpirationTime,
    /// Over.
    #[error("expired")]
    Expired,
    /// Not a time.
    #[error("notBefore is not a time")]
    NotBefore,
    /// Not yet.
    #[error("not valid yet")]
    NotYetValid,
    /// Not one of ours, or for another time.
    #[error("nonce is not ours")]
    Nonce,
    /// Not of the form that wallets on this chain have.
    #[error("address or signature is malformed")]
    Malformed,
    /// Not canonical, or somebody else's.
    #[error("signature refused")]
    Signature,
}

impl SiwxError {
    /// The deployed code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Domain => "invalid_siwx_domain_mismatch",
            Self::Uri => "invalid_siwx_uri_mismatch",
            Self::Chain => "invalid_siwx_unsupported_chain",
            Self::IssuedAt => "invalid_siwx_issued_at",
            Self::TooOld => "invalid_siwx_issued_at_too_old",
            Self::Future => "invalid_siwx_issued_at_in_future",
            Self::ExpirationTime => "invalid_siwx_expiration_time",
            Self::Expired => "invalid_siwx_expired",
            Self::NotBefore => "invalid_siwx_not_before",
            Self::NotYetValid => "invalid_siwx_not_yet_valid",
            Self::Nonce => "invalid_siwx_nonce",
            Self::Malformed => "invalid_siwx_malformed_signature",
            Self::Text | Self::Signature => "invalid_siwx_signature",
        }
    }
}

impl NonceKey {
    /// Derives the key from 32 secret bytes under a label of its own.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(mac::keyed(&zeroize::Zeroizing::new(mac::sum(&mac::keyed(secret), LABEL.as_bytes()))))
    }

    /// A nonce for a challenge of now.
    #[must_use]
    pub fn mint(&self, domain: &str, random: [u8; 8], now_unix_s: u64) -> String {
        let tag: [u8; 32] = self.tag(domain, &random, now_unix_s).finalize().into_bytes().into();
        let mut bytes = [0; NONCE_BYTES / 2];
        bytes[..8].copy_from_slice(&now_unix_s.to_be_bytes());
        bytes[8..16].copy_from_slice(&random);
        bytes[16..].copy_from_slice(&mac::first_half(&tag));
        hex::encode(&bytes)
    }

    /// A nonce of ours, with the time it was made at.
    fn check(&self, domain: &str, text: &str) -> Option<([u8; 32], u64)> {
        let nonce: [u8; 32] = hex::decode_array(text).ok()?;
        let (issued_at, rest) = nonce.split_first_chunk()?;
        let (random, tag) = rest.split_first_chunk()?;
        let issued_at = u64::from_be_bytes(*issued_at);
        self.tag(domain, random, issued_at).verify_truncated_left(tag).ok()?;
        Some((nonce, issued_at))
    }

    fn tag(&self, domain: &str, random: &[u8; 8], issued_at: u64) -> KeyedMac {
        let terms = mac::fields(LABEL, &[domain.as_bytes(), random, &issued_at.to_be_bytes()]);
        self.0.clone().chain_update(terms)
    }
}

impl fmt::Debug for NonceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NonceKey(hidden)")
    }
}

/// Checks an answer to our challenge; the signature last.
///
/// # Errors
/// [`SiwxError`]; nothing was opened, and the nonce not used.
pub fn verify(
    key: &NonceKey,
    answer: &Answer,
    host: &Host<'_>,
    now_unix_s: u64,
) -> Result<SignedIn, SiwxError> {
    check_terms(answer, host, now_unix_s)?;
    let (nonce, minted_at) = key.check(host.domain, &answer.info.nonce).ok_or(SiwxError::Nonce)?;
    if minted_at > now_unix_s || now_unix_s - minted_at > AGE_S_MAX {
        return Err(SiwxError::Nonce);
    }
    let wallet = check_signature(answer)?;
    let nonce_until_s = minted_at.saturating_add(AGE_S_MAX);
    Ok(SignedIn { wallet, network: answer.signer.chain_id.clone(), nonce, nonce_until_s })
}

/// Answers a challenge with an EVM account's key.
///
/// # Errors
/// [`SiwxError`] where the terms make no text, or the key cannot sign it.
pub fn answer(key: &SecretKey, info: Info, chain_id: &str) -> Result<Answer, SiwxError> {
    let signer = Signer {
        chain_id: chain_id.to_owned(),
        signature_type: SignatureType::Eip191,
        address: key.address().to_string(),
        signature_scheme: Some("eip191".to_owned()),
        signature: String::new(),
    };
    let mut answer = Answer { info, signer };
    let text = answer.message().ok_or(SiwxError::Text)?;
    let signature = key.sign(&personal_message(&text)).map_err(|_| SiwxError::Signature)?;
    answer.signer.signature = hex::encode_0x(signature.as_bytes());
    Ok(answer)
}

/// Who signed the text of an answer, whatever it says.
///
/// # Errors
/// [`SiwxError`]
pub fn check_signature(answer: &Answer) -> Result<Wallet, SiwxError> {
    let text = answer.message().ok_or(SiwxError::Text)?;
    match answer.signer.signature_type {
        SignatureType::Eip191 => {
            let address: Address = answer.signer.address.parse().map_err(|_| SiwxError::Malformed)?;
            let signature = Signature::parse(&answer.signer.signature).map_err(|error| match error {
                SignatureError::Hex | SignatureError::Length(_) => SiwxError::Malformed,
                SignatureError::Range
                | SignatureError::HighS
                | SignatureError::RecoveryByte(_)
                | SignatureError::NoKey
                | SignatureError::WrongSigner => SiwxError::Signature,
            })?;
            signature.verify(&personal_message(&text), &address).map_err(|_| SiwxError::Signature)?;
            Ok(Wallet::Evm(address))
        }
        SignatureType::Ed25519 => {
            let public = base58::decode_array(&answer.signer.address).map_err(|_| SiwxError::Malformed)?;
            let signature =
                base58::decode_array(&answer.signer.signature).map_err(|_| SiwxError::Malformed)?;
            ed25519::verify(&public, text.as_bytes(), &signature).map_err(|_| SiwxError::Signature)?;
            Ok(Wallet::Svm(public))
        }
    }
}

/// What an Ethereum wallet signs for a text (EIP-191).
#[must_use]
pub fn personal_message(text: &str) -> [u8; 32] {
    keccak256(format!("\x19Ethereum Signed Message:\n{}{text}", text.len()).as_bytes())
}

fn check_terms(answer: &Answer, host: &Host<'_>, now: u64) -> Result<(), SiwxError> {
    use SiwxError as E;
    let info = &answer.info;
    if info.domain != host.domain {
        return Err(E::Domain);
    }
    // Up to the path, so that neither a longer host nor a user before it passes.
    let behind = info.uri.strip_prefix(host.origin).ok_or(E::Uri)?;
    if !(behind.is_empty() || behind.starts_with(['/', '?', '#'])) {
        return Err(E::Uri);
    }
    if info.version != VERSION {
        return Err(E::Text);
    }
    let namespace = match answer.signer.signature_type {
        SignatureType::Eip191 => "eip155:",
        SignatureType::Ed25519 => "solana:",
    };
    if !answer.signer.chain_id.starts_with(namespace)
        || !host.chains.contains(&answer.signer.chain_id.as_str())
    {
        return Err(E::Chain);
    }
    let issued_at = rfc3339::parse(&info.issued_at).ok_or(E::IssuedAt)?;
    if issued_at > now {
        return Err(E::Future);
    }
    if now - issued_at > AGE_S_MAX {
        return Err(E::TooOld);
    }
    if let Some(text) = &info.expiration_time
        && rfc3339::parse(text).ok_or(E::ExpirationTime)? <= now
    {
        return Err(E::Expired);
    }
    if let Some(text) = &info.not_before
        && rfc3339::parse(text).ok_or(E::NotBefore)? > now
    {
        return Err(E::NotYetValid);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
