//! `tempo`/`charge` for nothing: who holds this wallet? An account's signature over one challenge, on no chain.

use wire::mpp::Challenge;
use wire::x402::Address;

use super::did;
use crate::eip712::{wallet_proof, wallet_separator};
use crate::secp::{Signature, SignatureError};

/// Why a proof names no wallet. Nothing was consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WalletError {
    /// `source` is absent, or no account on the chain of the challenge.
    #[error("source is no account on this chain")]
    Source,
    /// Not 65 bytes of that account over this challenge.
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

/// The account that has signed an answer to a challenge on a chain. It is to be taken once: whoever sees it could show it
/// again.
///
/// # Errors
/// [`WalletError`]
pub fn verify(
    challenge: &Challenge,
    chain_id: u64,
    source: Option<&str>,
    signature: &str,
) -> Result<Address, WalletError> {
    let (network, account) = source.and_then(did::account).ok_or(WalletError::Source)?;
    if network != format!("eip155:{chain_id}") {
        return Err(WalletError::Source);
    }
    let digest = wallet_separator(chain_id).digest(&wallet_proof(&account, &challenge.id, &challenge.realm));
    Signature::parse(signature)?.verify(&digest, &account)?;
    Ok(account)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use wire::mpp::tempo::ChargePayload;
    use wire::mpp::{Credential, payload};

    use super::{WalletError as E, verify};
    use crate::eip712::{wallet_proof, wallet_separator};
    use crate::secp::SignatureError;

    fn vector() -> (Value, Credential, String) {
        let text = include_str!("../../../../specs/vectors/mpp/tempo-proof.json");
        let vector: Value = serde_json::from_str(text).unwrap();
        let line = vector["authorization"].as_str().unwrap();
        let credential = Credential::read([("authorization", line.as_bytes())]).unwrap().unwrap();
        let ChargePayload::Proof { signature } = payload::read(&credential.payload).unwrap() else {
            panic!()
        };
        (vector, credential, signature)
    }

    #[test]
    fn a_captured_proof_names_its_wallet() {
        let (vector, credential, signature) = vector();
        let message = &vector["typed_data"]["message"];
        let account = message["account"].as_str().unwrap().parse().unwrap();
        let (id, realm) = (message["challengeId"].as_str().unwrap(), message["realm"].as_str().unwrap());
        let hash = wallet_separator(4217).digest(&wallet_proof(&account, id, realm));
        assert_eq!(wire::hex::encode_0x(&hash), vector["hash"].as_str().unwrap());
        let Credential { challenge, source, .. } = &credential;
        assert_eq!(verify(challenge, 4217, source.as_deref(), &signature), Ok(account));
    }

    #[test]
    fn a_proof_is_for_one_challenge_and_account() {
        let (_, credential, signature) = vector();
        let Credential { challenge, source, .. } = credential;
        let source = source.unwrap();
        let mut other = challenge.clone();
        other.id.push('A');
        let mut realm = challenge.clone();
        realm.realm = "api.example.org".to_owned();
        let stranger = "did:pkh:eip155:4217:0x209693Bc6afc0C5328bA36FaF03C514EF312287C";
        let signer = Err(E::Signature(SignatureError::WrongSigner));
        for (what, challenge, chain_id, source, expected) in [
            ("another challenge", &other, 4217, Some(source.as_str()), signer),
            ("another realm", &realm, 4217, Some(source.as_str()), signer),
            ("another account", &challenge, 4217, Some(stranger), signer),
            ("another chain", &challenge, 42431, Some(source.as_str()), Err(E::Source)),
            ("nobody", &challenge, 4217, None, Err(E::Source)),
            ("no account", &challenge, 4217, Some("did:key:z6Mk"), Err(E::Source)),
        ] {
            assert_eq!(verify(challenge, chain_id, source, &signature), expected, "{what}");
        }
        let cut = &signature[..signature.len() - 2];
        let length = Err(E::Signature(SignatureError::Length(64)));
        assert_eq!(verify(&challenge, 4217, Some(&source), cut), length, "one encoding");
    }
}
