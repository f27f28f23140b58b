use super::{AttenuateError, Forbidden, KeyError as E, attenuate, mint, permits, verify};
use crate::caveat::Widened;
use crate::{EpochState, MasterKey, MasterKeys};
use money::{Amount, Asset};
use proptest::prelude::*;
use wire::caveat::CaveatError;
use wire::credit_key::{CreditKey, Mode};
use wire::hex;
use wire::macaroon::{Macaroon, MacaroonError};

const NOW: u64 = 1_800_000_000;
const HOLDER: &str = "holder=ed25519:11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

fn keys() -> MasterKeys {
    keys_with(7, EpochState::Mint, 0x42)
}

fn keys_with(epoch: u16, state: EpochState, byte: u8) -> MasterKeys {
    let fallback = MasterKey { epoch: 900, state: EpochState::Mint, secret: [9; 32].into() };
    let key = MasterKey { epoch, state, secret: [byte; 32].into() };
    match state {
        EpochState::Mint => MasterKeys::new([key]).unwrap(),
        EpochState::Verify | EpochState::Retired => MasterKeys::new([fallback, key]).unwrap(),
    }
}

fn account() -> [u8; 16] {
    std::array::from_fn(|index| 0xa0 + u8::try_from(index).unwrap())
}

fn key_id() -> [u8; 16] {
    std::array::from_fn(|index| 0xc0 + u8::try_from(index).unwrap())
}

fn plain() -> String {
    mint(&keys(), Mode::Test, account(), key_id(), &[]).unwrap()
}

fn minted(caveats: &[&str]) -> Result<String, AttenuateError> {
    let caveats: Vec<String> = caveats.iter().map(|&caveat| caveat.to_owned()).collect();
    mint(&keys(), Mode::Test, account(), key_id(), &caveats)
}

/// Appends without our checks, as any macaroon library does.
fn appended(caveats: &[&str]) -> CreditKey {
    let mut key = CreditKey::parse(&plain()).unwrap();
    for caveat in caveats {
        key.add_caveat(caveat.as_bytes()).unwrap();
    }
    key
}

/// The worked example of specs/credit-keys.md, to the byte.
/// L402-24: a credit key has no location.
#[test]
fn l402_40_43_worked_example() {
    assert_eq!(
        plain(),
        "fk_test_AgImRksBAQAHoKGio6SlpqeoqaqrrK2ur8DBwsPExcbHyMnKy8zNzs8AAAYg3SsHebek3FRCDUVBuKcGcxAGEEi8FBQQvBJw6TWsn60"
    );
    let narrow = attenuate(&plain(), "expires=1900000000").unwrap();
    let narrow = attenuate(&narrow, "budget=kid1:USD:5000000000").unwrap();
    assert_eq!(narrow, minted(&["expires=1900000000", "budget=kid1:USD:5000000000"]).unwrap());
    assert_eq!(
        narrow,
        "fk_test_AgImRksBAQAHoKGio6SlpqeoqaqrrK2ur8DBwsPExcbHyMnKy8zNzs8AAhJleHBpcmVzPTE5MDAwMDAwMDAAAhpidWRnZXQ9a2lkMTpVU0Q6NTAwMDAwMDAwMAAABiDPg9AyxrZaDN-fYq82RMbFAe18L6NBEtqucOJ17O3kgA"
    );
    let verified = verify(&keys(), Mode::Test, &CreditKey::parse(&narrow).unwrap(), NOW).unwrap();
    let links: Vec<String> = verified.links.iter().map(|link| hex::encode(link)).collect();
    assert_eq!(
        links,
        [
            "2ec520f8def800f1457d86cd4f7f6b81",
            "314a2f0a17fe9d17480069a115c56d92",
            "9589d9d188e6cb2de51cb3fedaed0afe"
        ]
    );
    assert_eq!((verified.account, verified.key_id, verified.epoch), (account(), key_id(), 7));
    assert_eq!(verified.expires, Some(1_900_000_000));
    assert_eq!(verified.budgets.len(), 1);
    assert_eq!(verified.budgets[0].link, verified.links[2]);
    assert_eq!(verified.budgets[0].limit, Amount::from_units(5_000_000_000));
    assert_eq!(verified.asset(), Some(Asset::Usd));
}

/// KEY-1: before the MAC verifies there is one answer, whatever is wrong.
#[test]
fn whatever_is_not_ours_is_unknown() {
    let key = CreditKey::parse(&attenuate(&plain(), "expires=1900000000").unwrap()).unwrap();
    assert!(verify(&keys(), Mode::Test, &key, NOW).is_ok());
    assert_eq!(verify(&keys(), Mode::Live, &key, NOW), Err(E::Unknown), "other mode");
    for (what, other) in [
        ("other master", keys_with(7, EpochState::Mint, 0x43)),
        ("other epoch", keys_with(8, EpochState::Mint, 0x42)),
        ("L402-42 retired", keys_with(7, EpochState::Retired, 0x42)),
    ] {
        assert_eq!(verify(&other, Mode::Test, &key, NOW), Err(E::Unknown), "{what}");
    }
    assert!(verify(&keys_with(7, EpochState::Verify, 0x42), Mode::Test, &key, NOW).is_ok(), "L402-42 verify");

    let altered = |change: fn(&mut Macaroon)| {
        let mut macaroon = key.macaroon().clone();
        change(&mut macaroon);
        verify(&keys(), Mode::Test, &CreditKey::from_macaroon(macaroon).unwrap(), NOW)
    };
    assert_eq!(altered(|m| m.caveats.clear()), Err(E::Unknown), "caveat cut off");
    assert_eq!(altered(|m| m.caveats[0] = b"expires=1900000001".to_vec()), Err(E::Unknown), "caveat altered");
    assert_eq!(
        altered(|m| m.caveats.push(b"expires=1".to_vec())),
        Err(E::Unknown),
        "caveat added, not signed"
    );
    assert_eq!(
        altered(|m| m.caveats[0] = b"nonsense".to_vec()),
        Err(E::Unknown),
        "caveats are read after the MAC"
    );
    assert_eq!(altered(|m| m.identifier[6] ^= 1), Err(E::Unknown), "other account");
    assert_eq!(altered(|m| m.identifier[22] ^= 1), Err(E::Unknown), "other key id");
    // L402-21: the location is not signed.
    assert!(altered(|m| m.location = Some(b"x".to_vec())).is_ok());
}

#[test]
fn every_bit_of_the_signature_counts() {
    let key = CreditKey::parse(&plain()).unwrap();
    for bit in 0..256 {
        let mut macaroon = key.macaroon().clone();
        macaroon.signature[bit / 8] ^= 1 << (bit % 8);
        let forged = CreditKey::from_macaroon(macaroon).unwrap();
        assert_eq!(verify(&keys(), Mode::Test, &forged, NOW), Err(E::Unknown), "bit {bit}");
    }
}

#[test]
fn a_genuine_key_is_told_what_is_wrong() {
    let weak = "holder=ed25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    for (rule, caveats, expected) in [
        ("expired to the second", vec!["expires=1800000000"], E::Expired(NOW)),
        ("expired, milliseconds", vec!["expiration=1799999999999"], E::Expired(NOW)),
        ("the earlier end counts", vec!["expires=1900000000", "expiration=1"], E::Expired(1)),
        (
            "L402-51 widened",
            vec!["expires=1900000000", "expires=1900000001"],
            E::Widened(Widened("expires".into())),
        ),
        (
            "L402-51 widened while expired",
            vec!["expires=1", "expires=2"],
            E::Widened(Widened("expires".into())),
        ),
        ("L402-53 unknown", vec!["max_tokens=5"], E::UnknownCaveat("max_tokens".into())),
        ("L402 names are not a key's", vec!["services=a:0"], E::UnknownCaveat("services".into())),
        (
            "L402 names are not a key's",
            vec!["a_valid_until=1900000000"],
            E::UnknownCaveat("valid_until".into()),
        ),
        ("L402-51 malformed", vec!["expires=soon"], E::Caveat(CaveatError::Malformed)),
        ("L402-51 reserved", vec!["ip=10.0.0.1"], E::Caveat(CaveatError::Reserved("ip"))),
        ("SEC-80 holder of small order", vec![weak], E::Caveat(CaveatError::Malformed)),
        ("L402-56 two assets", vec!["per_call=USD:5", "budget=a:TEST:5"], E::SeveralAssets),
    ] {
        assert_eq!(verify(&keys(), Mode::Test, &appended(&caveats), NOW), Err(expected), "{rule}");
    }
}

/// What would be refused when presented is not handed out.
/// KEY-2.
#[test]
fn minting_and_narrowing_refuse_what_would_be_useless() {
    let refused = |error| Err(AttenuateError::Refused(error));
    assert_eq!(minted(&["max_tokens=5"]), refused(E::UnknownCaveat("max_tokens".into())));
    assert_eq!(minted(&["expires=1", "expires=2"]), refused(E::Widened(Widened("expires".into()))));
    let narrow = minted(&["expires=1900000000"]).unwrap();
    assert_eq!(attenuate(&narrow, "expires=1900000001"), refused(E::Widened(Widened("expires".into()))));
    assert_eq!(attenuate(&narrow, "budget=x"), refused(E::Caveat(CaveatError::Malformed)));
    assert!(matches!(attenuate("sk-1", "expires=1"), Err(AttenuateError::Key(_))));
    let full = minted(&["expires=5"; 16]).unwrap();
    assert_eq!(attenuate(&full, "expires=5"), Err(AttenuateError::Limit(MacaroonError::TooManyCaveats)));
}

/// KEY-3, KEY-4, L402-57.
#[test]
fn permits_table() {
    let chat = |caveats: &[&str], route: &str, model: Option<&str>, now| {
        let verified = verify(&keys(), Mode::Test, &appended(caveats), NOW).unwrap();
        permits(&verified, route, model, None, now)
    };
    let model = Some("deepseek-chat");
    for (rule, caveats, expected) in [
        ("no caveat", vec![], Ok(())),
        ("model by prefix", vec!["models=gpt-5,deepseek-*"], Ok(())),
        ("model by name", vec!["models=deepseek-chat"], Ok(())),
        ("other model", vec!["models=gpt-5"], Err(Forbidden::Model)),
        ("prefix is no name", vec!["models=deepseek"], Err(Forbidden::Model)),
        ("both lists must match", vec!["models=deepseek-*", "models=deepseek-r1"], Err(Forbidden::Model)),
        ("route", vec!["routes=embed,chat"], Ok(())),
        ("other route", vec!["routes=embed"], Err(Forbidden::Route)),
        ("valid from now", vec!["not_before=1800000000"], Ok(())),
        ("not yet", vec!["not_before=1800000001"], Err(Forbidden::NotBefore(NOW + 1))),
        ("holder: fails closed", vec![HOLDER], Err(Forbidden::HolderProofMissing)),
    ] {
        assert_eq!(chat(&caveats, "chat", model, NOW), expected, "{rule}");
    }
    let bound = verify(&keys(), Mode::Test, &appended(&[HOLDER, "routes=chat"]), NOW).unwrap();
    let holder = bound.holder.unwrap();
    for (rule, route, signed_by, expected) in [
        ("KEY-4 its holder", "chat", Some(&holder), Ok(())),
        ("KEY-4 another", "chat", Some(&[1; 32]), Err(Forbidden::HolderProofMissing)),
        ("KEY-4 nobody", "chat", None, Err(Forbidden::HolderProofMissing)),
        ("KEY-4 its holder, elsewhere", "embed", Some(&holder), Err(Forbidden::Route)),
    ] {
        assert_eq!(permits(&bound, route, model, signed_by, NOW), expected, "{rule}");
    }
    assert_eq!(chat(&["models=*"], "chat", None, NOW), Err(Forbidden::Model), "no model named");
    // A cached key keeps its clock.
    let expiring = ["expires=1800000010"];
    assert_eq!(chat(&expiring, "chat", model, NOW + 9), Ok(()));
    assert_eq!(chat(&expiring, "chat", model, NOW + 10), Err(Forbidden::Expired(NOW + 10)));
}

/// L402-55: forks made after a budget share it; each budget has its own link.
#[test]
fn l402_55_budgets_are_named_by_their_place_in_the_chain() {
    let verified = |key: &str| verify(&keys(), Mode::Test, &CreditKey::parse(key).unwrap(), NOW).unwrap();
    let parent = minted(&["budget=a:USD:100"]).unwrap();
    let (left, right) =
        (attenuate(&parent, "budget=x:USD:10").unwrap(), attenuate(&parent, "budget=y:USD:10").unwrap());
    let (left, right) = (verified(&left), verified(&right));
    assert_eq!(left.budgets[0], right.budgets[0]);
    assert_ne!(left.budgets[1].link, right.budgets[1].link);
    // The same text on another key is another budget.
    let other = mint(&keys(), Mode::Test, account(), [1; 16], &["budget=a:USD:100".into()]).unwrap();
    assert_ne!(verified(&other).budgets[0].link, left.budgets[0].link);
    assert_eq!(left.links[..2], right.links[..2]);
}

#[test]
fn per_call_keeps_the_strictest() {
    let verified =
        verify(&keys(), Mode::Test, &appended(&["per_call=USD:9", "per_call=USD:5"]), NOW).unwrap();
    assert_eq!(verified.per_call, Some((Asset::Usd, Amount::from_units(5))));
}

proptest! {
    /// Whatever a holder appends, the key never permits more than before.
    #[test]
    fn nothing_appended_gives_more(
        caveat in "(expires=[0-9]{1,10}|models=[ab*,]{1,6}|routes=[ab,]{1,4}|not_before=[0-9]{1,10}|[a-z]{1,8}=[a-z]{1,4})",
        route in "[ab]", model in "[ab]{1,3}", now in 1u64..2_000_000_000,
    ) {
        let base = ["expires=1900000000", "models=a*", "routes=a"];
        let before = verify(&keys(), Mode::Test, &appended(&base), 0).unwrap();
        let after = verify(&keys(), Mode::Test, &appended(&[&base[..], &[&caveat]].concat()), now);
        if after.is_ok_and(|after| permits(&after, &route, Some(&model), None, now).is_ok()) {
            prop_assert!(permits(&before, &route, Some(&model), None, now).is_ok(), "{}", caveat);
        }
    }
}
