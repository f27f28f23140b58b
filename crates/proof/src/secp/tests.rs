use super::{HALF_ORDER, ORDER, SecretKey, Signature, SignatureError as E};
use crate::eip712::{Domain, transfer_with_authorization};
use serde_json::Value;
use wire::hex;
use wire::x402::{Address, Authorization, ExactPayload, test_keys};

fn eip712_vectors() -> Value {
    serde_json::from_str(include_str!("../../../../specs/vectors/x402/eip712_vectors.json")).unwrap()
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap()
}

fn digest(case: &Value) -> ([u8; 32], Address) {
    let domain = Domain {
        name: text(&case["domain"], "name"),
        version: text(&case["domain"], "version"),
        chain_id: case["domain"]["chainId"].as_u64().unwrap(),
        verifying_contract: text(&case["domain"], "verifyingContract").parse().unwrap(),
    };
    let authorization: Authorization = serde_json::from_value(case["message"].clone()).unwrap();
    let transfer = ExactPayload { signature: String::new(), authorization }.evm().unwrap();
    (domain.separator().digest(&transfer_with_authorization(&transfer)), transfer.from)
}

/// X402-38, A8, A9: of fourteen signatures one stands.
#[test]
fn x402_38_of_the_vectors_only_the_valid_one_is_accepted() {
    let file = eip712_vectors();
    let cases = file["eip3009Cases"].as_array().unwrap();
    assert_eq!(cases.len(), 14);
    for case in cases {
        let name = text(case, "name");
        let (digest, from) = digest(case);
        assert_eq!(hex::encode_0x(&digest), text(case, "digest"), "{name}");
        let verdict =
            Signature::parse(text(case, "signature")).and_then(|signature| signature.verify(&digest, &from));
        let expected = match name {
            "valid" => Ok(()),
            "valid_v_0_1" => Err(E::RecoveryByte(0)),
            "malleated_high_s" => Err(E::HighS),
            "eip2098_compact_64" | "truncated_signature" => Err(E::Length(64)),
            "zero_signature" => Err(E::Range),
            "erc6492_wrapped" => Err(E::Length(320)),
            "wrong_chain"
            | "wrong_contract"
            | "wrong_domain_name"
            | "wrong_domain_version"
            | "value_tampered"
            | "to_tampered"
            | "nonce_tampered" => Err(E::WrongSigner),
            other => panic!("unexpected case {other}"),
        };
        assert_eq!(verdict, expected, "{name}");
    }
}

/// Our signer makes the vector's signature, and is the vector's address.
#[test]
fn signing_is_deterministic_and_canonical() {
    let file = eip712_vectors();
    let key = SecretKey::parse(text(&file, "privateKey")).unwrap();
    assert_eq!(key.address().to_string(), test_keys::EVM[0]);
    let valid = &file["eip3009Cases"][0];
    let signature = key.sign(&digest(valid).0).unwrap();
    assert_eq!(hex::encode_0x(signature.as_bytes()), text(valid, "signature"));
}

/// `n - s`: the other signature of the same pair of keys and message.
fn high_s_twin(signature: &[u8; 65]) -> [u8; 65] {
    let mut twin = *signature;
    let mut borrow = 0;
    for index in (0..32).rev() {
        let difference = i16::from(ORDER[index]) - i16::from(signature[32 + index]) - borrow;
        borrow = i16::from(difference < 0);
        twin[32 + index] = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    twin[64] = 55 - twin[64];
    twin
}

/// A9: every encoding but one of a valid signature is refused.
#[test]
fn a9_every_other_encoding_of_a_valid_signature_is_refused() {
    let key = SecretKey::from_bytes(&[0x11; 32]).unwrap();
    let mut seen = [false; 2];
    for round in 0..16u8 {
        let digest = [round; 32];
        let good = *key.sign(&digest).unwrap().as_bytes();
        seen[usize::from(good[64] - 27)] = true;
        assert_eq!(Signature::from_bytes(&good).unwrap().verify(&digest, &key.address()), Ok(()));
        let changed = |at: usize, to: u8| {
            let mut bytes = good;
            bytes[at] = to;
            bytes
        };
        let filled = |range: std::ops::Range<usize>, with: &[u8; 32]| {
            let mut bytes = good;
            bytes[range].copy_from_slice(with);
            bytes
        };
        for (what, bytes, expected) in [
            ("high s", high_s_twin(&good), E::HighS),
            ("v 0/1", changed(64, good[64] - 27), E::RecoveryByte(good[64] - 27)),
            ("v of EIP-155", changed(64, good[64] + 8), E::RecoveryByte(good[64] + 8)),
            ("zero r", filled(0..32, &[0; 32]), E::Range),
            ("zero s", filled(32..64, &[0; 32]), E::Range),
            ("r beyond the order", filled(0..32, &ORDER), E::Range),
            ("s beyond the order", filled(32..64, &[0xff; 32]), E::Range),
        ] {
            assert_eq!(Signature::from_bytes(&bytes), Err(expected), "{what}");
        }
        // EIP-2098: the parity of v in the top bit of s.
        let mut compact = good[..64].to_vec();
        compact[32] |= (good[64] - 27) << 7;
        let text = hex::encode_0x(&good);
        for (what, text, expected) in [
            ("compact", hex::encode_0x(&compact), E::Length(64)),
            ("one byte more", format!("{text}00"), E::Length(66)),
            ("without 0x", text[2..].to_owned(), E::Hex),
            ("not hexadecimal", text.replacen(&text[2..4], "zz", 1), E::Hex),
        ] {
            assert_eq!(Signature::parse(&text), Err(expected), "{what}");
        }
        // The other recovery byte recovers to somebody else or to nobody.
        let other = Signature::from_bytes(&changed(64, 55 - good[64])).unwrap();
        assert!(other.verify(&digest, &key.address()).is_err());
    }
    assert_eq!(seen, [true, true], "both values of v were met");
}

/// The captured payment has v 28, so its compact form differs from its truncation.
#[test]
fn a_compact_signature_with_v_28_is_refused() {
    let file: Value =
        serde_json::from_str(include_str!("../../../../specs/vectors/x402/v2_exact_eip3009.json")).unwrap();
    let data = &file["typedData"][0];
    let mut bytes = hex::decode_0x(text(data, "signature")).unwrap();
    assert_eq!(bytes.pop(), Some(28));
    bytes[32] |= 0x80;
    assert_eq!(Signature::parse(&hex::encode_0x(&bytes)), Err(E::Length(64)));
}

#[test]
fn boundaries_of_s() {
    let with_s = |s: &[u8; 32]| {
        let mut bytes = [1; 65];
        bytes[32..64].copy_from_slice(s);
        bytes[64] = 27;
        Signature::from_bytes(&bytes).map(|_| ())
    };
    assert_eq!(with_s(&HALF_ORDER), Ok(()));
    let mut above = HALF_ORDER;
    above[31] += 1;
    assert_eq!(with_s(&above), Err(E::HighS));
    assert_eq!(with_s(&ORDER), Err(E::Range));
    let mut one = [0; 32];
    one[31] = 1;
    assert_eq!(with_s(&one), Ok(()));
}

#[test]
fn the_zero_address_never_signed() {
    let key = SecretKey::from_bytes(&[1; 32]).unwrap();
    assert_eq!(key.sign(&[7; 32]).unwrap().verify(&[7; 32], &Address::ZERO), Err(E::WrongSigner));
}

#[test]
fn a_secret_key_is_checked_and_never_printed() {
    assert!(SecretKey::from_bytes(&[0; 32]).is_err());
    assert!(SecretKey::from_bytes(&ORDER).is_err());
    assert!(SecretKey::parse("0x11").is_err());
    assert_eq!(format!("{:?}", SecretKey::from_bytes(&[1; 32]).unwrap()), "SecretKey(hidden)");
}
