use money::{Amount, Asset};
use proptest::prelude::*;
use wire::hex;
use wire::l402::{Credential, PaymentHash, Preimage};

use super::{SALE, keys, preimage};
use crate::l402::{L402Error, MintError, Sale, TOKEN_BYTES_MAX, mint, verify};

/// The worked example of `specs/l402.md`, over a payment that was really made.
#[test]
fn l402_24_25_40_worked_example() {
    let hash =
        PaymentHash::parse("4752f2ae061a0945c43b0d8a03c6380b4fba96c75b18de705acc459c4af76ee0").unwrap();
    let caveats = ["services=inference:0".to_owned(), "inference_valid_until=1900000000".to_owned()];
    let token = mint(&keys(), hash, &SALE, &caveats).unwrap();
    assert_eq!(
        token.to_base64(),
        "AgEEbHNhdAJCAABHUvKuBhoJRcQ7DYoDxjgLT7qWx1sY3nBazEWcSvdu4AEABwgAAAAAAAAnEAAAAAAAACcQarE7gAEC\
         AwQFBgcIAAIUc2VydmljZXM9aW5mZXJlbmNlOjAAAiBpbmZlcmVuY2VfdmFsaWRfdW50aWw9MTkwMDAwMDAwMAAABiCX\
         yfiHLiE67+SkJJTdLaz3mXiEGgpzcPn7ecVvmxQycA=="
    );
    assert_eq!(
        hex::encode(&token.macaroon().signature),
        "97c9f8872e213aefe4a42494dd2dacf79978841a0a7370f9fb79c56f9b143270"
    );
    let root = keys().root(7, &token.macaroon().identifier).unwrap();
    assert_eq!(hex::encode(&*root), "b57fe134c00dfba58c44ce60ce348544b8d30538f932fe9dfaffceee64dd9119");
    assert_eq!(token.macaroon().encode().len(), 169);

    let paid = Preimage::parse("cf01e5abc638804bc48261f7c08cab43acaffd13165693f124e0b7ed8f411196").unwrap();
    let credential = Credential::new(token, paid);
    assert_eq!(credential.to_authorization().len(), 298);
    let verified = verify(&keys(), &credential).unwrap();
    assert_eq!(hex::encode(&verified.account), "264afb52ccbe0df272ba943cabb6cbc9");
    assert_eq!(verified.deposit_key(), crate::deposit_key::ln(&hash.0));
}

#[test]
fn l402_25_54_what_is_never_minted() {
    let long = format!("services={}:0", "a".repeat(64));
    let mint = |sale: &Sale, caveats: &[&str]| {
        let caveats: Vec<_> = caveats.iter().map(|caveat| (*caveat).to_owned()).collect();
        mint(&keys(), preimage().payment_hash(), sale, &caveats).map(|_| ())
    };
    let scope = "services=inference:0";
    assert_eq!(mint(&SALE, &[scope]), Ok(()));
    for (why, caveats, expected) in [
        ("no service", vec![], MintError::Unscoped),
        ("no service among others", vec!["expires=1900000000"], MintError::Unscoped),
        ("four caveats", vec![scope; 4], MintError::TooManyCaveats(4)),
        ("too long for npm macaroon", vec![&long, &long], MintError::TooLong(TOKEN_BYTES_MAX + 57)),
        ("unknown", vec![scope, "colour=red"], L402Error::UnknownCaveat("colour".into()).into()),
        ("widening", vec![scope, "services=inference:1"], {
            L402Error::Widened(crate::caveat::Widened("services".into())).into()
        }),
        ("another asset", vec![scope, "per_call=USD:1"], L402Error::WrongAsset.into()),
        ("unreadable", vec![scope, "expires=soon"], {
            L402Error::Caveat(wire::caveat::CaveatError::Malformed).into()
        }),
    ] {
        assert_eq!(mint(&SALE, &caveats), Err(expected), "{why}");
    }
    for sale in [
        Sale { credit: Amount::ZERO, ..SALE },
        Sale { credit: Amount::from_units(-1), ..SALE },
        Sale { amount_msat: 0, ..SALE },
    ] {
        assert_eq!(mint(&sale, &[scope]), Err(MintError::SellsNothing), "{sale:?}");
    }
}

proptest! {
    /// What is minted verifies and says what was sold.
    #[test]
    fn a_sale_is_what_is_bought(
        preimage: [u8; 32], random: [u8; 8], credit in 1i64.., amount_msat in 1u64.., issued_at_s: u32, asset in 0usize..10,
    ) {
        let preimage = Preimage::new(preimage);
        let sale = Sale { asset: Asset::ALL[asset], credit: Amount::from_units(credit), amount_msat, issued_at_s, random };
        let token = mint(&keys(), preimage.payment_hash(), &sale, &["services=a:0".into()]).unwrap();
        let verified = verify(&keys(), &Credential::new(token, preimage)).unwrap();
        let terms = verified.tokens[0].terms;
        prop_assert_eq!(Sale { asset: terms.asset, credit: terms.credit, amount_msat: terms.amount_msat, issued_at_s: terms.issued_at_s, random: terms.random }, sale);
        prop_assert_eq!(terms.epoch, 7);
    }
}
