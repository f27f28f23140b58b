use std::collections::BTreeMap;

use proptest::prelude::*;
use secp256k1::SecretKey;
use wire::cashu::{Dleq, KeysetId, Point, Proof};
use wire::hex;

use super::blinding::{blind, hash_to_curve, key, point, unblind};
use super::dleq::challenge;
use super::{OutputSeed, Terms, is_named, split, verify_blind, verify_proof};

fn at(text: &str) -> Point {
    Point::parse(text).unwrap()
}

/// Computed with the mint that most others are measured by.
#[test]
fn cashu_7_points_of_secrets() {
    for (secret, expected) in [
        ("farthing", "02266aba66fa830a5f455e9fe198e063619df15c5a1a4c2c0f1df29d707dfdd6e2"),
        ("farthing-1", "026703b80026ce00a104109488cc9b2250d8ef078348e1c48c0b003fcb824341a1"),
        ("farthing-2", "02740823fa91bc40f8e273391463c5cad08fc60a3786f3dbe0855f639d5970640d"),
        ("", "0204f5901f3e54cb4fd76bee23c83ca4f965b7009b74b3572f455ab90d88e6cbfe"),
    ] {
        assert_eq!(hash_to_curve(secret.as_bytes()), Ok(at(expected)), "{secret}");
    }
}

const MINT_KEY: &str = "02989c0b76cb563971fdc9bef31ec06c3560f3249d6ee9e5d83c57625596e05f6f";
const BLINDED: &str = "027be4700d54968d9cb0a216dbf3b93b95bcd9703fb56b7e91b40288a2ea1f2c0d";
const SIGNED: &str = "036e26ffe54015db2d8f71c657c4977f65620f2f0a79002fc20f4680a240d31b8e";
const UNBLINDED: &str = "0361fcd15c569701e109d06428f750d3f11d0c1a40585e82fddf32a2afa9048bd7";
const E: &str = "93d0a9d441c9cde908ab9833a2251d2ae0521a54a63bef9401858604ea21424c";
const S: &str = "821e94d7a5a80a3c36557d35e6776ff971694eda25e2ce914fe2afd119bc5dc4";

/// The same mint with the key 07, 32 times, and the blinding factor 09, 32 times.
#[test]
fn cashu_7_a_signature_of_a_real_mint() {
    assert_eq!(blind("farthing", &[9; 32]), Ok(at(BLINDED)));
    assert_eq!(unblind(&at(SIGNED), &[9; 32], &at(MINT_KEY)), Ok(at(UNBLINDED)));
    let (e, s) = (hex::decode_array(E).unwrap(), hex::decode_array(S).unwrap());
    assert!(verify_blind(&at(MINT_KEY), &at(BLINDED), &at(SIGNED), &e, &s));
    let keyset = KeysetId::parse("009a1f293253e41e").unwrap();
    let dleq = Some(Dleq { e, s, r: [9; 32] });
    let proof = Proof { amount: 1, keyset, secret: "farthing".into(), signature: at(UNBLINDED), dleq };
    assert_eq!(verify_proof(&at(MINT_KEY), &proof), Some(true));
    assert_eq!(verify_proof(&at(MINT_KEY), &Proof { dleq: None, ..proof.clone() }), None);
    for bad in [
        Proof { secret: "farthing-1".into(), ..proof.clone() },
        Proof { signature: at(SIGNED), ..proof.clone() },
        Proof { dleq: Some(Dleq { e, s, r: [8; 32] }), ..proof.clone() },
        Proof { dleq: Some(Dleq { e: s, s, r: [9; 32] }), ..proof.clone() },
        Proof { dleq: Some(Dleq { e: [0; 32], s: [0; 32], r: [0; 32] }), ..proof.clone() },
        Proof { signature: Point([0xff; 33]), ..proof.clone() },
    ] {
        assert_eq!(verify_proof(&at(MINT_KEY), &bad), Some(false));
    }
    assert_eq!(verify_proof(&at(BLINDED), &proof), Some(false));
}

/// A mint that signs with another key than it shows is found out.
#[test]
fn cashu_7_another_key_is_no_evidence() {
    let (shown, used) = (secret(5), secret(6));
    let (blinded, nonce) = (key(&blind("s", &[9; 32]).unwrap()).unwrap(), secret(4));
    let signed = blinded.mul_tweak(&used.into()).unwrap();
    for made_with in [shown, used] {
        let r2 = blinded.mul_tweak(&nonce.into()).unwrap();
        let e = challenge(&[&nonce.public_key(), &r2, &shown.public_key(), &signed]);
        let times = secp256k1::SecretKey::from_secret_bytes(e).unwrap().mul_tweak(&made_with.into()).unwrap();
        let s = times.add_tweak(&nonce.into()).unwrap().to_secret_bytes();
        assert!(!verify_blind(&point(&shown.public_key()), &point(&blinded), &point(&signed), &e, &s));
    }
}

fn secret(byte: u8) -> SecretKey {
    SecretKey::from_secret_bytes([byte; 32]).unwrap()
}

/// Computed with the same mint.
#[test]
fn cashu_8_names_of_keysets() {
    let keys: BTreeMap<u64, Point> =
        [(1, 1), (2, 2), (16, 3)].map(|(amount, byte)| (amount, point(&secret(byte).public_key()))).into();
    let terms = |fee_ppk, final_expiry| Terms { unit: "sat", fee_ppk, final_expiry };
    for (id, terms) in [
        ("006e43c268284a72", terms(7, None)),
        ("01d94f4c56db9b97d516f7aa54802bdcdabafa18c483929591f9b48877bd725355", terms(100, None)),
        ("016f059b091808c48862129e73050bf70302944ee32df32a4a1ba466225b6e4d7a", terms(0, None)),
        (
            "012b81da00a0cba0073255350897b2951ec483d0c8c9678653fe21ca2c32aa21e7",
            terms(100, Some(1_896_187_313)),
        ),
    ] {
        let id = KeysetId::parse(id).unwrap();
        assert!(is_named(&id, &keys, terms), "{id:?}");
        let fewer: BTreeMap<u64, Point> = keys.clone().into_iter().take(2).collect();
        assert!(!is_named(&id, &fewer, terms), "{id:?}");
        if id.version() == 1 {
            assert!(!is_named(&id, &keys, Terms { fee_ppk: 3, ..terms }), "{id:?}");
        }
    }
    let short = KeysetId::parse("01d94f4c56db9b97").unwrap();
    assert!(!is_named(&short, &keys, terms(100, None)), "an abbreviation names nothing for sure");
}

#[test]
fn cashu_9_the_same_payment_has_the_same_coins() {
    let keyset = KeysetId::parse("009a1f293253e41e").unwrap();
    let other = KeysetId::parse("00aa1f293253e41e").unwrap();
    let coins = |seed: u8, payment: u8, keyset, amounts: &[u64]| {
        OutputSeed::new(&[seed; 32]).outputs(&[payment; 32], keyset, amounts).unwrap()
    };
    let first = coins(1, 2, &keyset, &[1, 1, 8]);
    assert_eq!(first, coins(1, 2, &keyset, &[1, 1, 8]));
    let mut secrets: Vec<String> = first.iter().map(|coin| coin.secret.clone()).collect();
    for coins in [
        coins(2, 2, &keyset, &[1]),
        coins(1, 3, &keyset, &[1]),
        coins(1, 2, &other, &[1]),
        coins(1, 2, &keyset, &[2]),
    ] {
        secrets.extend(coins.iter().map(|coin| coin.secret.clone()));
    }
    let count = secrets.len();
    secrets.sort();
    secrets.dedup();
    assert_eq!((secrets.len(), secrets[0].len()), (count, 64));
    // Signed, each is what the mint would have signed without the blinding.
    let mint = secret(7);
    for coin in first {
        let signed = key(&coin.blinded().unwrap()).unwrap().mul_tweak(&mint.into()).unwrap();
        let found = unblind(&point(&signed), &coin.blinding, &point(&mint.public_key())).unwrap();
        let plain =
            key(&hash_to_curve(coin.secret.as_bytes()).unwrap()).unwrap().mul_tweak(&mint.into()).unwrap();
        assert_eq!(found, point(&plain));
        assert!(!format!("{coin:?}").contains(&coin.secret));
    }
}

#[test]
fn a_sum_in_coins() {
    let keys =
        |amounts: &[u64]| amounts.iter().map(|amount| (*amount, Point([2; 33]))).collect::<BTreeMap<_, _>>();
    let usual = keys(&[1, 2, 4, 8, 16]);
    for (sum, keys, most, expected) in [
        (13, &usual, 64, Some(vec![1, 4, 8])),
        (40, &usual, 64, Some(vec![8, 16, 16])),
        (40, &usual, 2, None),
        (0, &usual, 64, None),
        (3, &keys(&[2]), 64, None),
        (u64::MAX, &keys(&[1]), 64, None),
        (1, &keys(&[]), 64, None),
    ] {
        assert_eq!(split(sum, keys, most), expected, "{sum}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_point_or_an_error(bytes in proptest::array::uniform32(any::<u8>()), factor in proptest::array::uniform32(any::<u8>())) {
        let mut compressed = [2; 33];
        compressed[1..].copy_from_slice(&bytes);
        let _ = unblind(&Point(compressed), &factor, &at(MINT_KEY));
        prop_assert!(!verify_blind(&Point(compressed), &at(BLINDED), &at(SIGNED), &factor, &bytes));
    }
}
