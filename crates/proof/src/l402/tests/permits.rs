use std::collections::HashSet;

use super::{CONTEXT, NOW, list, outcome, token, verify};
use crate::caveat::{Context, UnknownCaveats};
use crate::l402::{L402Error as E, permits};

#[test]
fn l402_51_53_57_permits_table() {
    let holder = "holder=ed25519:11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    let key = wire::base64::decode_url("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", 43).unwrap();
    let key: [u8; 32] = key.try_into().unwrap();
    let forbidden = |name| Err(E::Forbidden(name));
    for (appended, context, expected, code) in [
        (vec![], CONTEXT, Ok(()), ""),
        (vec!["inference_capabilities=chat,embed", "inference_valid_until=1790000001"], CONTEXT, Ok(()), ""),
        (vec!["inference_valid_until=1790000000"], CONTEXT, Err(E::Expired(NOW)), "proof_expired"),
        (vec!["expiration=1790000000000"], CONTEXT, Err(E::Expired(NOW)), "proof_expired"),
        (vec!["images_valid_until=1"], CONTEXT, Ok(()), ""),
        (vec!["inference_capabilities=embed"], CONTEXT, forbidden("capabilities"), "key_forbidden"),
        (vec!["models=gpt-*"], CONTEXT, forbidden("models"), "key_forbidden"),
        (vec!["routes=embed"], CONTEXT, forbidden("routes"), "key_forbidden"),
        (vec!["not_before=1790000001"], CONTEXT, forbidden("not_before"), "key_forbidden"),
        (vec![], Context { service: "images", ..CONTEXT }, forbidden("services"), "key_forbidden"),
        (vec![], Context { tier: 1, ..CONTEXT }, Ok(()), ""),
        (vec![], Context { tier: 2, ..CONTEXT }, forbidden("services"), "key_forbidden"),
        (
            vec!["services=inference:0"],
            Context { tier: 1, ..CONTEXT },
            forbidden("services"),
            "key_forbidden",
        ),
        (vec!["colour=red"], CONTEXT, Err(E::UnknownCaveat("colour".into())), "key_forbidden"),
        (vec!["colour=red"], Context { unknown: UnknownCaveats::Skip, ..CONTEXT }, Ok(()), ""),
        (vec!["amount_msat=1"], CONTEXT, Err(E::UnknownCaveat("amount_msat".into())), "key_forbidden"),
        (vec![holder], CONTEXT, Err(E::HolderProofMissing), "holder_proof_missing"),
        (vec![holder], Context { holder: Some(&key), ..CONTEXT }, Ok(()), ""),
        (
            vec![holder],
            Context { holder: Some(&[1; 32]), ..CONTEXT },
            Err(E::HolderProofMissing),
            "holder_proof_missing",
        ),
        (vec!["budget=a:BTC:1", "per_call=BTC:1"], CONTEXT, Ok(()), ""),
    ] {
        let found = outcome(&appended, &context);
        assert_eq!(found, expected, "{appended:?}");
        assert_eq!(found.map_or_else(|error| error.code(), |()| ""), code, "{appended:?}");
    }
}

/// L402-57: a payer is told which caveat it was.
#[test]
fn l402_57_the_caveat_is_named() {
    for (appended, caveat, reason) in [
        ("models=gpt-*", Some("models"), "caveat_forbids"),
        ("colour=red", Some("colour"), "unknown_caveat"),
        ("services=inference:2", Some("services"), "caveat_widened"),
        ("methods=GET", Some("methods"), "caveat_reserved"),
        ("expires=1", None, "token_expired"),
    ] {
        let error = outcome(&[appended], &CONTEXT).unwrap_err();
        assert_eq!((error.caveat(), error.reason()), (caveat, reason), "{appended}");
    }
}

#[test]
fn l402_44_revocation_by_payment_and_by_branch() {
    let parent = verify(token(&["models=deepseek-*"])).unwrap();
    let branch = verify(token(&["models=deepseek-*", "expires=1900000000"])).unwrap();
    let [minted, narrowed] = parent.tokens[0].links[..2] else { panic!("one link per point") };
    let last = branch.tokens[0].links[3];
    for (what, revoked, parent_lives, branch_lives) in [
        ("nothing", [0; 16], true, true),
        ("the payment", parent.account, false, false),
        ("the token as minted", minted, false, false),
        ("a point on both", narrowed, false, false),
        ("one branch", last, true, false),
    ] {
        let set = HashSet::from([revoked]);
        for (verified, lives) in [(&parent, parent_lives), (&branch, branch_lives)] {
            let found = permits(verified, &CONTEXT, |id| set.contains(id)).map(|_| ());
            let expected = if lives { Ok(()) } else { Err(E::Revoked) };
            assert_eq!(found, expected, "{what}");
        }
    }
    assert_eq!(E::Revoked.code(), "proof_invalid");
}

#[test]
fn l402_14_the_first_token_that_permits_is_used() {
    let tokens = [token(&["models=gpt-*"]), token(&["expires=1900000000"]), token(&[])];
    let verified = crate::l402::verify(&super::keys(), &list(&tokens)).unwrap();
    let used = permits(&verified, &CONTEXT, |_| false).unwrap();
    assert_eq!(used, &verified.tokens[1]);
    let gpt = Context { model: Some("gpt-5"), ..CONTEXT };
    assert_eq!(permits(&verified, &gpt, |_| false).unwrap(), &verified.tokens[0]);
    let images = Context { service: "images", ..CONTEXT };
    assert_eq!(permits(&verified, &images, |_| false), Err(E::Forbidden("services")));
    // The link of the second is revoked: the third still stands.
    let link = verified.tokens[1].links[2];
    assert_eq!(permits(&verified, &CONTEXT, |id| *id == link).unwrap(), &verified.tokens[2]);
}

/// A verified token that was kept has no clock of its own.
#[test]
fn l402_50_a_kept_token_ends_in_time() {
    let verified = verify(token(&["expires=1790000005"])).unwrap();
    for (now_unix_s, expected) in [(NOW + 4, true), (NOW + 5, false)] {
        let context = Context { now_unix_s, ..CONTEXT };
        assert_eq!(permits(&verified, &context, |_| false).is_ok(), expected);
    }
}
