use super::{Host, NonceKey, SiwxError as E, Wallet, answer, check_signature, personal_message, verify};
use crate::secp::SecretKey;
use ed25519_dalek::{Signer as _, SigningKey};
use proptest::prelude::*;
use serde_json::Value;
use wire::hex;
use wire::rfc3339;
use wire::x402::base58;
use wire::x402::siwx::Answer;

/// 2026-11-20T10:30:00Z.
const ISSUED: u64 = 1_795_170_600;
const HOST: Host<'static> = Host {
    domain: "api.example.com",
    origin: "https://api.example.com",
    chains: &["eip155:84532", "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1"],
};

fn vector() -> Value {
    serde_json::from_str(include_str!("../../../../specs/vectors/x402/siwx_vectors.json")).unwrap()
}

fn captured(chain: &str) -> Answer {
    Answer::parse(vector()[chain]["header"].as_str().unwrap()).unwrap()
}

fn key() -> NonceKey {
    NonceKey::new(&[5; 32])
}

fn evm_key() -> SecretKey {
    SecretKey::from_bytes(&[0x21; 32]).unwrap()
}

/// The captured answer with a nonce of ours, changed, and signed again.
fn signed(chain: &str, change: impl Fn(&mut Answer)) -> Answer {
    let mut answer = captured(chain);
    answer.info.nonce = key().mint(HOST.domain, [1; 8], ISSUED);
    let wallet = SigningKey::from_bytes(&[7; 32]);
    answer.signer.address = match chain {
        "evm" => evm_key().address().to_string(),
        _ => base58::encode(wallet.verifying_key().as_bytes()),
    };
    change(&mut answer);
    let text = answer.message().unwrap_or_default();
    answer.signer.signature = match chain {
        "evm" => hex::encode_0x(evm_key().sign(&personal_message(&text)).unwrap().as_bytes()),
        _ => base58::encode(&wallet.sign(text.as_bytes()).to_bytes()),
    };
    answer
}

fn at(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn the_vectors_wallets_are_recognised() {
    let evm = captured("evm");
    let hash = personal_message(&evm.message().unwrap());
    assert_eq!(hex::encode_0x(&hash), vector()["evm"]["eip191Hash"]);
    let payer = |chain: &str| vector()[chain]["referenceVerify"]["payer"].as_str().unwrap().to_owned();
    assert_eq!(check_signature(&evm), Ok(Wallet::Evm(payer("evm").parse().unwrap())));
    let solana = Wallet::Svm(base58::decode_array(&payer("solana")).unwrap());
    assert_eq!(check_signature(&captured("solana")), Ok(solana));
    // A stranger's nonce: genuine, and not an answer to us.
    assert_eq!(verify(&key(), &evm, &HOST, ISSUED), Err(E::Nonce));
}

/// What the client writes is what the reference client wrote.
#[test]
fn the_vectors_answer_is_ours() {
    let payer =
        SecretKey::parse("0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80").unwrap();
    let captured = captured("evm");
    assert_eq!(answer(&payer, captured.info.clone(), "eip155:84532"), Ok(captured));
}

#[test]
fn x402_35_an_answer_to_our_challenge_opens_the_wallets_accounts() {
    for chain in ["evm", "solana"] {
        let answer = signed(chain, |_| {});
        let answer = Answer::parse(&answer.to_header()).unwrap();
        let signed_in = verify(&key(), &answer, &HOST, ISSUED + 299).unwrap();
        assert_eq!(signed_in.network, answer.signer.chain_id);
        assert_eq!(signed_in.nonce_until_s, ISSUED + 300);
        assert_eq!(hex::encode(&signed_in.nonce), answer.info.nonce);
    }
}

/// A24: another host, old, future, another chain, another nonce.
#[test]
fn x402_35_a24_an_answer_that_is_not_for_us_now_opens_nothing() {
    let origin = |uri: &str| {
        let uri = uri.to_owned();
        move |answer: &mut Answer| answer.info.uri = uri.clone()
    };
    for (what, answer, now, expected) in [
        ("other host", signed("evm", |a| a.info.domain = "evil.example".into()), 0, E::Domain),
        ("longer host", signed("evm", origin("https://api.example.com.evil/")), 0, E::Uri),
        ("host as a user", signed("evm", origin("https://api.example.com@evil/")), 0, E::Uri),
        ("other port", signed("evm", origin("https://api.example.com:8443/")), 0, E::Uri),
        ("other scheme", signed("evm", origin("http://api.example.com/")), 0, E::Uri),
        ("version 2", signed("evm", |a| a.info.version = "2".into()), 0, E::Text),
        ("mainnet", signed("evm", |a| a.signer.chain_id = "eip155:8453".into()), 0, E::Chain),
        (
            "Solana's chain, Ethereum's signature",
            signed("evm", |a| a.signer.chain_id = "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1".into()),
            0,
            E::Chain,
        ),
        ("no time", signed("evm", |a| a.info.issued_at = "yesterday".into()), 0, E::IssuedAt),
        ("too old", signed("evm", |a| a.info.expiration_time = None), 301, E::TooOld),
        ("expired", signed("evm", |a| a.info.expiration_time = at("2026-11-20T10:31:00Z")), 60, E::Expired),
        ("no end", signed("evm", |a| a.info.expiration_time = at("never")), 0, E::ExpirationTime),
        ("not yet", signed("evm", |a| a.info.not_before = at("2026-11-20T10:30:01Z")), 0, E::NotYetValid),
        ("no beginning", signed("evm", |a| a.info.not_before = at("soon")), 0, E::NotBefore),
        ("stranger's nonce", signed("evm", |a| a.info.nonce = "a1".repeat(32)), 0, E::Nonce),
        ("short nonce", signed("evm", |a| a.info.nonce = "a1".repeat(16)), 0, E::Nonce),
        (
            "another host's nonce",
            signed("evm", |a| a.info.nonce = key().mint("b.example.com", [1; 8], ISSUED)),
            0,
            E::Nonce,
        ),
        (
            "another key's nonce",
            signed("evm", |a| a.info.nonce = NonceKey::new(&[6; 32]).mint(HOST.domain, [1; 8], ISSUED)),
            0,
            E::Nonce,
        ),
        (
            "an old nonce under a new time",
            signed("evm", |a| a.info.nonce = key().mint(HOST.domain, [1; 8], ISSUED - 301)),
            0,
            E::Nonce,
        ),
        (
            "a nonce of later",
            signed("evm", |a| a.info.nonce = key().mint(HOST.domain, [1; 8], ISSUED + 1)),
            0,
            E::Nonce,
        ),
        ("two lines in one", signed("evm", |a| a.info.statement = at("a\nb")), 0, E::Text),
        ("not an address", signed("evm", |a| a.signer.address = "me".into()), 0, E::Malformed),
        (
            "somebody else",
            signed("evm", |a| a.signer.address = captured("evm").signer.address),
            0,
            E::Signature,
        ),
        ("not a key", signed("solana", |a| a.signer.address = "me".into()), 0, E::Malformed),
        ("a weak key", signed("solana", |a| a.signer.address = base58::encode(&[0; 32])), 0, E::Signature),
    ] {
        assert_eq!(verify(&key(), &answer, &HOST, ISSUED + now), Err(expected), "{what}");
    }
    let early = verify(&key(), &signed("evm", |_| {}), &HOST, ISSUED - 1);
    assert_eq!(early, Err(E::Future));
}

/// A9: one encoding, and no word of a contract.
#[test]
fn a9_every_other_signature_is_refused() {
    let good = signed("evm", |_| {});
    let with = |signature: String| {
        let mut other = good.clone();
        other.signer.signature = signature;
        other
    };
    let hinted = |mut answer: Answer| {
        answer.signer.signature_scheme = at("eip1271");
        answer
    };
    let mut bytes = hex::decode_0x(&good.signer.signature).unwrap();
    bytes[64] -= 27;
    for (what, answer, expected) in [
        ("v 0/1", with(hex::encode_0x(&bytes)), E::Signature),
        ("compact", with(hex::encode_0x(&bytes[..64])), E::Malformed),
        ("ERC-6492", with(format!("0x{}", "64".repeat(320))), E::Malformed),
        ("no hexadecimal", with("sig".into()), E::Malformed),
        ("scheme eip1271 is a hint only", hinted(with("0x".into())), E::Malformed),
    ] {
        assert_eq!(verify(&key(), &answer, &HOST, ISSUED), Err(expected), "{what}");
    }
    assert!(verify(&key(), &hinted(good.clone()), &HOST, ISSUED).is_ok());
    let mut cut = signed("solana", |_| {});
    cut.signer.signature.remove(0);
    assert!(verify(&key(), &cut, &HOST, ISSUED).is_err());
}

#[test]
fn a_nonce_is_ours_alone() {
    let nonce = key().mint(HOST.domain, [1; 8], ISSUED);
    assert_eq!(nonce.len(), 64);
    assert_ne!(nonce, key().mint(HOST.domain, [2; 8], ISSUED));
    assert_eq!(key().check(HOST.domain, &nonce).unwrap().1, ISSUED);
    let bytes = hex::decode(&nonce).unwrap();
    for place in 0..bytes.len() {
        let mut other = bytes.clone();
        other[place] ^= 1;
        assert_eq!(key().check(HOST.domain, &hex::encode(&other)), None, "byte {place}");
    }
    assert_eq!(format!("{:?}", key()), "NonceKey(hidden)");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a payer writes into a member that we do not check, the signature covers it.
    #[test]
    fn every_member_is_signed(statement in "[ -~]{1,40}", request in "[ -~]{1,10}") {
        let mut answer = signed("evm", |_| {});
        let text = answer.message();
        answer.info.statement = Some(statement);
        answer.info.request_id = Some(request);
        prop_assert_ne!(text, answer.message());
        prop_assert_eq!(verify(&key(), &answer, &HOST, ISSUED), Err(E::Signature));
    }

    #[test]
    fn only_the_last_five_minutes_count(age in 0u64..1_000) {
        let answer = signed("evm", |answer| {
            answer.info.issued_at = rfc3339::format(ISSUED).unwrap();
            answer.info.expiration_time = None;
        });
        prop_assert_eq!(verify(&key(), &answer, &HOST, ISSUED + age).is_ok(), age <= 300);
    }
}
