use money::{Amount, Asset};
use proptest::prelude::*;
use serde_json::Value;

use super::macaroon_vectors;
use crate::hex;
use crate::l402::token::TokenError;
use crate::l402::{Identifier, PaymentHash, Preimage, Terms, Token};

fn terms() -> Terms {
    Terms {
        epoch: 7,
        asset: Asset::Btc,
        credit: Amount::from_units(10_000),
        amount_msat: 10_000,
        issued_at_s: 1_790_000_000,
        random: [1, 2, 3, 4, 5, 6, 7, 8],
    }
}

/// The worked example of `specs/l402.md`.
#[test]
fn l402_30_worked_example() {
    let token_id = "01000708000000000000271000000000000027106ab13b800102030405060708";
    assert_eq!(hex::encode(&terms().encode()), token_id);
    assert_eq!(Terms::decode(&hex::decode_array(token_id).unwrap()), Some(terms()));
}

#[test]
fn l402_30_a_token_id_that_sells_nothing_is_not_ours() {
    for (what, altered) in [
        ("credit zero", Terms { credit: Amount::ZERO, ..terms() }),
        ("credit negative", Terms { credit: Amount::from_units(-1), ..terms() }),
        ("no amount", Terms { amount_msat: 0, ..terms() }),
    ] {
        assert_eq!(Terms::decode(&altered.encode()), None, "{what}");
    }
    let mut layout = terms().encode();
    layout[0] = 2;
    assert_eq!(Terms::decode(&layout), None);
    let mut asset = terms().encode();
    asset[3] = 77;
    assert_eq!(Terms::decode(&asset), None);
}

#[test]
fn l402_30_kind_and_length() {
    let identifier = Identifier { payment_hash: PaymentHash([9; 32]), token_id: [8; 32] };
    let bytes = identifier.encode();
    assert_eq!(Identifier::decode(&bytes), Some(identifier));
    assert_eq!(Identifier::decode(&bytes[..65]), None);
    assert_eq!(Identifier::decode(&[&bytes[..], &[0]].concat()), None);
    let mut other = bytes;
    other[1] = 1;
    assert_eq!(Identifier::decode(&other), None);
    assert_eq!(Identifier::decode(b"FK"), None);
}

#[test]
fn l402_20_21_30_tokens_of_other_libraries() {
    let mut refused = Vec::new();
    for row in &macaroon_vectors() {
        let text = |member: &str| row[member].as_str().unwrap();
        let standard = Token::from_base64(text("b64_std"));
        assert_eq!(standard, Token::from_base64(text("b64_url_nopad")), "{}", text("name"));
        assert_eq!(standard, Token::decode(&hex::decode(text("v2_hex_pymacaroons")).unwrap()));
        match standard {
            Ok(token) => {
                assert_eq!(token.to_base64(), text("b64_std"));
                assert_eq!(token.identifier().payment_hash.to_string(), text("payment_hash"));
                assert_eq!(hex::encode(&token.identifier().token_id), text("token_id"));
            }
            Err(error) => {
                assert_eq!(error, TokenError::Identifier);
                refused.push(text("name").to_owned());
            }
        }
    }
    assert_eq!(refused, ["unknown_identifier_version_bad", "truncated_identifier_bad"]);
}

/// Payments that were really made, and invoices of another encoder.
#[test]
fn l402_50_preimages_open_their_payment_hashes() {
    let mut count = 0;
    for (text, list) in [
        (include_str!("../../../../../specs/vectors/l402/paid_regtest_ldk.json"), "payments"),
        (include_str!("../../../../../specs/vectors/l402/invoices.json"), "invoices"),
    ] {
        let file: Value = serde_json::from_str(text).unwrap();
        for row in file[list].as_array().unwrap() {
            let preimage = Preimage::parse(row["preimage"].as_str().unwrap()).unwrap();
            let hash = PaymentHash::parse(row["payment_hash"].as_str().unwrap()).unwrap();
            assert_eq!(preimage.payment_hash(), hash);
            count += 1;
        }
    }
    assert_eq!(count, 26);
}

/// L402-23.
#[test]
fn l402_23_debug_hides_what_pays() {
    assert_eq!(format!("{:?}", Preimage::new([0xab; 32])), "Preimage(hidden)");
    let (row, token) = super::three_caveats();
    let printed = format!("{token:?}");
    assert!(printed.ends_with("3 caveats, signature hidden)"), "{printed}");
    assert!(!printed.contains(row["signature"].as_str().unwrap()));
    assert!(!printed.contains("inference"));
}

proptest! {
    #[test]
    fn any_bytes_are_an_identifier_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..80), id: [u8; 32]) {
        if let Some(identifier) = Identifier::decode(&bytes) {
            prop_assert_eq!(identifier.encode().to_vec(), bytes.clone());
        }
        if let Some(terms) = Terms::decode(&id) {
            prop_assert_eq!(terms.encode(), id);
        }
        let _ = Token::decode(&bytes);
    }

    #[test]
    fn terms_round_trip(epoch: u16, asset in 0usize..10, credit in 1i64.., amount_msat in 1u64.., issued_at_s: u32, random: [u8; 8]) {
        let terms = Terms { epoch, asset: Asset::ALL[asset], credit: Amount::from_units(credit), amount_msat, issued_at_s, random };
        prop_assert_eq!(Terms::decode(&terms.encode()), Some(terms));
    }
}
