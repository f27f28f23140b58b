use super::{Context, Refused, UnknownCaveats, Widened, check_narrowing, evaluate, parse_all};
use serde_json::Value;
use subtle::ConstantTimeEq as _;
use wire::hex;
use wire::macaroon::Macaroon;

const CONTEXT: Context<'static> = Context {
    now_unix_s: 1_790_000_000,
    service: "inference",
    tier: 0,
    capability: Some("chat"),
    route: "chat",
    model: Some("deepseek-chat"),
    preimage: None,
    holder: None,
    unknown: UnknownCaveats::Reject,
    require_scope: true,
};

fn vectors() -> Vec<Value> {
    let text = include_str!("../../../../specs/vectors/l402/macaroons.json");
    let file: Value = serde_json::from_str(text).unwrap();
    file["macaroons"].as_array().unwrap().clone()
}

/// Chain, identifier layout and caveats of one vector: the steps of an L402 check that exist so far.
fn verdict(row: &Value, unknown: UnknownCaveats, require_scope: bool) -> Result<(), String> {
    let text = |member: &str| row[member].as_str().unwrap();
    let macaroon = Macaroon::decode(&hex::decode(text("v2_hex_pymacaroons")).unwrap()).unwrap();
    let chain = macaroon.chain(&hex::decode_array(text("root_key")).unwrap());
    assert!(bool::from(chain.last().unwrap().ct_eq(&macaroon.signature)), "{}", text("name"));
    // L402-30: version 0 and 66 bytes.
    if macaroon.identifier.len() != 66 || !macaroon.identifier.starts_with(&[0, 0]) {
        return Err("identifier".into());
    }
    let preimage = hex::decode_array(text("preimage")).unwrap();
    let context = Context {
        now_unix_s: row["verify_context"]["now"].as_u64().unwrap(),
        tier: u8::try_from(row["verify_context"]["tier"].as_u64().unwrap()).unwrap(),
        preimage: Some(&preimage),
        unknown,
        require_scope,
        ..CONTEXT
    };
    let caveats = parse_all(&macaroon.caveats).map_err(|error| error.to_string())?;
    evaluate(&caveats, &context).map_err(|refused| refused.to_string())
}

#[test]
fn l402_51_52_53_vectors_hold_under_skip() {
    let rows = vectors();
    assert_eq!(rows.len(), 16);
    for row in &rows {
        let accepted = verdict(row, UnknownCaveats::Skip, false).is_ok();
        let expected = match row["expect"].as_str().unwrap() {
            "accept" | "accept_if_policy_allows_unscoped" => true,
            "reject" => false,
            other => panic!("{other}"),
        };
        assert_eq!(accepted, expected, "{}", row["name"]);
    }
}

#[test]
fn l402_53_the_default_refuses_exactly_three_more_at_the_caveat_step() {
    let mut refused = Vec::new();
    for row in &vectors() {
        if verdict(row, UnknownCaveats::Skip, false).is_err() {
            continue;
        }
        if let Err(reason) = verdict(row, UnknownCaveats::Reject, false) {
            assert!(reason.starts_with("unknown caveat"), "{reason}");
            refused.push(row["name"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(refused, ["six_caveats_volume", "long_caveat_varint2", "utf8_caveat"]);
}

#[test]
fn l402_54_an_unscoped_token_is_refused_by_default() {
    let rows = vectors();
    assert_eq!(rows[0]["name"], "no_caveats");
    assert!(verdict(&rows[0], UnknownCaveats::Skip, true).is_err());
    assert!(verdict(&rows[1], UnknownCaveats::Skip, true).is_ok());
}

#[test]
fn l402_51_narrowing_table() {
    let (a, b) = (
        "ed25519:CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk",
        "ed25519:AgkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk",
    );
    let (holder_a, holder_b) = (format!("holder={a}"), format!("holder={b}"));
    for (caveats, widened) in [
        (vec!["expires=5", "expires=5", "expires=4"], None),
        (vec!["expires=5", "expires=6"], Some("expires")),
        // The nearest earlier one counts, not the first.
        (vec!["expires=9", "expires=5", "expires=6"], Some("expires")),
        (vec!["expires=5", "models=a", "expires=6"], Some("expires")),
        (vec!["not_before=5", "not_before=5", "not_before=6"], None),
        (vec!["not_before=5", "not_before=4"], Some("not_before")),
        (vec!["expiration=5000", "expiration=5001"], Some("expiration")),
        (vec!["expires=5", "expiration=6000"], None),
        (vec!["a_valid_until=5", "b_valid_until=6", "a_valid_until=5"], None),
        (vec!["a_valid_until=5", "b_valid_until=4", "a_valid_until=6"], Some("valid_until")),
        (vec!["per_call=USD:5", "per_call=USD:4"], None),
        (vec!["per_call=USD:5", "per_call=USD:6"], Some("per_call")),
        (vec!["per_call=USD:5", "per_call=TEST:4"], Some("per_call")),
        (vec!["budget=a:USD:5", "budget=b:USD:50"], None),
        (vec!["models=a*,b", "models=ab,a*,b"], None),
        (vec!["models=a*,b", "models=c"], Some("models")),
        (vec!["models=ab*", "models=a*"], Some("models")),
        (vec!["models=a", "models=*"], Some("models")),
        (vec!["routes=a,b", "routes=b"], None),
        (vec!["routes=a", "routes=a,b"], Some("routes")),
        (vec!["services=a:1,b:0", "services=a:1", "services=a:0"], None),
        (vec!["services=a:0", "services=a:1"], Some("services")),
        (vec!["services=a:0", "services=a:0,b:0"], Some("services")),
        (vec!["a_capabilities=x,y", "b_capabilities=z", "a_capabilities=y"], None),
        (vec!["a_capabilities=x", "a_capabilities=x,y"], Some("capabilities")),
        (vec![&holder_a, &holder_a], None),
        (vec![&holder_a, &holder_b], Some("holder")),
    ] {
        let parsed = parse_all(&caveats).unwrap();
        let expected = widened.map_or(Ok(()), |name| Err(Widened(name.to_owned())));
        assert_eq!(check_narrowing(&parsed), expected, "{caveats:?}");
    }
}

#[test]
fn l402_51_every_caveat_must_hold() {
    let forbidden = |name| Err(Refused::Forbidden(name));
    for (caveats, expected) in [
        (vec!["expires=1790000001", "routes=chat", "models=deepseek-*", "not_before=1790000000"], Ok(())),
        (vec!["expires=1790000000"], Err(Refused::Expired(1_790_000_000))),
        (vec!["expiration=1790000000000"], Err(Refused::Expired(1_790_000_000))),
        (vec!["expiration=1790000000001"], Ok(())),
        (vec!["inference_valid_until=1790000000"], Err(Refused::Expired(1_790_000_000))),
        // Another service's end does not concern us.
        (vec!["images_valid_until=1"], Ok(())),
        (vec!["not_before=1790000001"], forbidden("not_before")),
        (vec!["models=gpt-*"], forbidden("models")),
        (vec!["models=deepseek-*", "models=deepseek-r1"], forbidden("models")),
        (vec!["routes=embed"], forbidden("routes")),
        (vec!["inference_capabilities=embed"], forbidden("capabilities")),
        (vec!["images_capabilities=embed"], Ok(())),
        (vec!["services=images:0"], forbidden("services")),
        (vec!["holder=ed25519:CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk"], forbidden("holder")),
        (vec!["per_call=USD:1", "budget=a:USD:1"], Ok(())),
        (vec!["colour=red"], Err(Refused::Unknown("colour".into()))),
    ] {
        let context = Context { require_scope: false, ..CONTEXT };
        assert_eq!(evaluate(&parse_all(&caveats).unwrap(), &context), expected, "{caveats:?}");
    }
}

#[test]
fn a_tier_above_the_granted_one_is_refused() {
    let caveats = parse_all(&["services=inference:1"]).unwrap();
    for (tier, expected) in [(0, true), (1, true), (2, false)] {
        assert_eq!(evaluate(&caveats, &Context { tier, ..CONTEXT }).is_ok(), expected, "tier {tier}");
    }
}

#[test]
fn a_preimage_caveat_must_equal_the_one_beside_it() {
    let caveats = parse_all(&[format!("preimage={}", "05".repeat(32))]).unwrap();
    for (beside, expected) in [(None, true), (Some([5; 32]), true), (Some([6; 32]), false)] {
        let context = Context { preimage: beside.as_ref(), require_scope: false, ..CONTEXT };
        assert_eq!(evaluate(&caveats, &context).is_ok(), expected, "{beside:?}");
    }
}
