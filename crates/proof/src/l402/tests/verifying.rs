use proptest::prelude::*;
use wire::caveat::{Caveat, CaveatError};
use wire::l402::{Credential, Identifier, Preimage, Terms, Token};
use wire::macaroon::Macaroon;

use super::{SALE, keys, keys_of, list, preimage, token, verify};
use crate::EpochState as S;
use crate::caveat::Widened;
use crate::l402::{FirstClaim, L402Error as E, first_claim, mint};
use crate::{account_id, deposit_key};

#[test]
fn l402_50_only_the_preimage_pays() {
    let paid = verify(token(&[])).unwrap();
    assert_eq!(paid.payment_hash, preimage().payment_hash());
    assert_eq!(paid.account, account_id::lightning(&paid.payment_hash));
    assert_eq!(paid.deposit_key(), deposit_key::ln(&paid.payment_hash.0));
    for (what, guess) in
        [("another", [6; 32]), ("zeros", [0; 32]), ("the payment hash itself", preimage().payment_hash().0)]
    {
        let credential = Credential::new(token(&[]), Preimage::new(guess));
        assert_eq!(crate::l402::verify(&keys(), &credential), Err(E::Preimage), "{what}");
    }
}

/// A token of ours over another payment does not go with this preimage, and its identifier cannot be changed.
#[test]
fn l402_30_50_the_identifier_is_signed() {
    let good = token(&[]);
    let identifier = *good.identifier();
    let mut dearer = Terms::decode(&identifier.token_id).unwrap();
    dearer.credit = money::Amount::from_units(i64::MAX);
    for (what, altered) in [
        ("credit", Identifier { token_id: dearer.encode(), ..identifier }),
        ("random", Identifier { token_id: Terms { random: [0; 8], ..dearer }.encode(), ..identifier }),
    ] {
        let macaroon = Macaroon { identifier: altered.encode().to_vec(), ..good.macaroon().clone() };
        assert_eq!(verify(Token::from_macaroon(macaroon).unwrap()), Err(E::Unknown), "{what}");
    }
    let foreign = Identifier { token_id: [0xee; 32], ..identifier };
    let foreign = Macaroon::mint(&[0; 32], &foreign.encode(), None);
    assert_eq!(verify(Token::from_macaroon(foreign).unwrap()), Err(E::Unknown));
}

#[test]
fn l402_42_epochs() {
    let token = token(&[]);
    let verdict = |keys| crate::l402::verify(&keys, &Credential::new(token.clone(), preimage())).map(|_| ());
    assert_eq!(verdict(keys_of([(7, S::Mint)])), Ok(()));
    assert_eq!(verdict(keys_of([(7, S::Verify), (8, S::Mint)])), Ok(()));
    assert_eq!(verdict(keys_of([(7, S::Retired), (8, S::Mint)])), Err(E::EpochRetired));
    assert_eq!(verdict(keys_of([(8, S::Mint)])), Err(E::EpochRetired));
    let rotated = keys_of([(7, S::Verify), (8, S::Mint)]);
    let newer = mint(&rotated, preimage().payment_hash(), &SALE, &["services=inference:0".into()]).unwrap();
    let verified = crate::l402::verify(&rotated, &Credential::new(newer, preimage())).unwrap();
    assert_eq!(verified.tokens[0].terms.epoch, 8);
}

#[test]
fn a_genuine_token_is_told_what_is_wrong_with_its_caveats() {
    let small_order = format!("holder=ed25519:{}", wire::base64::encode_url(&[0; 32]));
    let other_preimage = format!("preimage={}", "06".repeat(32));
    for (rule, appended, expected) in [
        ("L402-51 widened", "services=inference:2", E::Widened(Widened("services".into()))),
        ("L402-56 asset", "per_call=USD:5", E::WrongAsset),
        ("L402-56 asset of a budget", "budget=a:TEST:5", E::WrongAsset),
        ("malformed", "expires=1.5", E::Caveat(CaveatError::Malformed)),
        ("reserved", "ip=10.0.0.1", E::Caveat(CaveatError::Reserved("ip"))),
        ("small order", &small_order, E::Caveat(CaveatError::Malformed)),
        ("another preimage", &other_preimage, E::PreimageCaveat),
    ] {
        let error = verify(token(&[appended])).unwrap_err();
        assert_eq!(error, expected, "{rule}");
        assert_eq!(error.code(), "proof_invalid", "{rule}");
    }
}

/// The hex form: the preimage stands in a caveat, and is not kept.
#[test]
fn l402_41_a_verified_token_holds_no_secret() {
    let own = format!("preimage={}", wire::hex::encode(preimage().as_bytes()));
    let hex = wire::hex::encode(&token(&[&own]).macaroon().encode());
    let credential = Credential::read([("macaroon", hex.as_bytes())]).unwrap().unwrap();
    let verified = crate::l402::verify(&keys(), &credential).unwrap();
    assert!(verified.tokens[0].caveats[1] == Caveat::Preimage([0; 32]));
    assert!(crate::l402::permits(&verified, &super::CONTEXT, |_| false).is_ok());
}

/// L402-14, and settled: tokens that do not verify are passed over.
#[test]
fn l402_14_a_list_needs_one_token_of_ours() {
    let mut forged = token(&[]).macaroon().clone();
    forged.signature[0] ^= 1;
    let forged = Token::from_macaroon(forged).unwrap();
    let verified = crate::l402::verify(&keys(), &list(&[forged.clone(), token(&[])])).unwrap();
    assert_eq!(verified.tokens.len(), 1);
    let widened = token(&["services=inference:9"]);
    let refused = crate::l402::verify(&keys(), &list(&[forged, widened]));
    assert_eq!(refused, Err(E::Unknown));
}

#[test]
fn l402_43_55_budgets_are_named_by_their_place_in_the_chain() {
    let parent = verify(token(&["budget=a:BTC:9000"])).unwrap().tokens.remove(0);
    let fork =
        verify(token(&["budget=a:BTC:9000", "per_call=BTC:8", "per_call=BTC:7"])).unwrap().tokens.remove(0);
    let other = verify(token(&["expires=1900000000", "budget=a:BTC:9000"])).unwrap().tokens.remove(0);
    assert_eq!(parent.budgets[0].limit.units(), 9000);
    assert_eq!(parent.budgets, fork.budgets);
    assert_ne!(parent.budgets[0].link, other.budgets[0].link);
    assert_eq!(parent.links[2], parent.budgets[0].link);
    assert_eq!((parent.links.len(), fork.links.len()), (3, 5));
    assert_eq!((parent.per_call, fork.per_call.map(money::Amount::units)), (None, Some(7)));
}

#[test]
fn l402_45_46_the_first_claim() {
    let terms = verify(token(&[])).unwrap().tokens[0].terms;
    let sold = u64::from(SALE.issued_at_s);
    let claim = FirstClaim { now_unix_s: sold + 99, window_s: 100, epoch_min: 0 };
    for (what, claim, expected) in [
        ("last second", claim, Ok(())),
        ("restored, this epoch", FirstClaim { epoch_min: 7, ..claim }, Ok(())),
        ("window over", FirstClaim { now_unix_s: sold + 100, ..claim }, Err(E::ClaimWindow(sold + 100))),
        ("restored, older epoch", FirstClaim { epoch_min: 8, ..claim }, Err(E::BeforeRestore)),
        ("no overflow", FirstClaim { window_s: u64::MAX, ..claim }, Ok(())),
    ] {
        assert_eq!(first_claim(&terms, claim), expected, "{what}");
    }
    // Paying again would not bring the first payment back: no fresh challenge.
    assert_eq!(E::BeforeRestore.code(), "verification_failed");
}

proptest! {
    /// L402-51: whatever a holder appends, it is refused or it still holds what was there.
    #[test]
    fn nothing_appended_gives_more(
        name in "(services|expires|expiration|not_before|models|routes|inference_valid_until|preimage|per_call)",
        value in "(inference:[0-9]|[0-9]{1,10}|[a-z*,]{1,8}|BTC:[0-9]{1,5})",
        now in 1_789_999_990u64..1_790_000_010, tier in 0u8..3,
    ) {
        let base = ["inference_valid_until=1790000000", "per_call=BTC:500", "models=deepseek-*"];
        let context = crate::caveat::Context { now_unix_s: now, tier, ..super::CONTEXT };
        let appended = format!("{name}={value}");
        let narrowed = [&base[..], &[appended.as_str()]].concat();
        if super::outcome(&narrowed, &context).is_ok() {
            prop_assert_eq!(super::outcome(&base, &context), Ok(()));
            let verified = verify(token(&narrowed)).unwrap();
            prop_assert!(verified.tokens[0].per_call.is_some_and(|limit| limit.units() <= 500));
        }
    }

    #[test]
    fn every_bit_of_the_signature_counts(byte in 0usize..32, bit in 0u8..8) {
        let mut macaroon = token(&[]).macaroon().clone();
        macaroon.signature[byte] ^= 1 << bit;
        prop_assert_eq!(verify(Token::from_macaroon(macaroon).unwrap()), Err(E::Unknown));
    }
}
