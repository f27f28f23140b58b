//! What tokens may: narrowed offline, rotated and revoked by the operator.
#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::time::{SystemTime, UNIX_EPOCH};

use farthing_tests::gateway::{Gateway, nano, wait_for};
use farthing_tests::http::{self, Answer};
use farthing_tests::lightning::{Offered, TEST_NODE, TOOL, call, offered, with_tool};
use farthing_tests::refused::assert_refused;
use farthing_tests::scene::{CHAT, ask};
use farthing_tests::upstream::Upstream;
use serde_json::json;
use sha2::{Digest as _, Sha256};

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[track_caller]
fn assert_reason(answer: &Answer, status: u16, code: &str, reason: &str) {
    assert_refused(answer, status, code, "nothing_taken");
    assert_eq!(answer.json()["error"]["reason"], reason, "{}", answer.text());
}

/// L402-51 to L402-57: whoever holds a token can narrow it, with any library and without asking. Nobody can widen it. What is
/// refused takes nothing, and what remains is as good as before.
#[test]
fn l402_51_57_a_token_is_narrowed_by_its_holder() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, &with_tool(""));
    let offer = offered(gateway.address, CHAT, &ask());
    let soon = now_s() + 3600;
    let good = [
        vec![format!("expires={soon}")],
        vec![format!("farthing_valid_until={soon}")],
        vec![format!("expiration={soon}000")],
        vec!["services=farthing:0".to_owned()],
        vec!["models=m".to_owned()],
        vec!["routes=chat".to_owned(), "models=m*".to_owned()],
        vec!["per_call=TEST:5000000".to_owned()],
        vec![format!("somebody_valid_until={}", now_s() - 9)],
    ];
    let mut calls = 0;
    for caveats in &good {
        let caveats: Vec<&str> = caveats.iter().map(String::as_str).collect();
        let answer = call(gateway.address, CHAT, &offer.narrowed(&caveats), &ask());
        assert_eq!(answer.status, 200, "{caveats:?}: {}", answer.text());
        assert!(answer.header("farthing-key").is_none(), "{caveats:?}: no key to the whole");
        calls += 1;
    }
    let (over, later) = (now_s() - 1, soon + 1);
    for (caveats, status, code, reason) in [
        (vec![format!("expires={over}")], 402, "proof_expired", "token_expired"),
        (vec![format!("farthing_valid_until={over}")], 402, "proof_expired", "token_expired"),
        (vec![format!("expiration={over}000")], 402, "proof_expired", "token_expired"),
        (vec![format!("expires={soon}"), format!("expires={later}")], 402, "proof_invalid", "caveat_widened"),
        (vec!["services=farthing:1".to_owned()], 402, "proof_invalid", "caveat_widened"),
        (vec!["services=other:0".to_owned()], 402, "proof_invalid", "caveat_widened"),
        (vec!["models=other".to_owned()], 403, "key_forbidden", "caveat_forbids"),
        (vec!["routes=tool".to_owned()], 403, "key_forbidden", "caveat_forbids"),
        (vec!["per_call=USD:5000000".to_owned()], 402, "proof_invalid", "caveat_asset"),
        (vec!["amount_msat=9999999".to_owned()], 403, "key_forbidden", "unknown_caveat"),
        (vec!["ip=127.0.0.1".to_owned()], 402, "proof_invalid", "caveat_reserved"),
        (vec!["nonsense".to_owned()], 402, "proof_invalid", "caveat_malformed"),
    ] {
        let caveats: Vec<&str> = caveats.iter().map(String::as_str).collect();
        let answer = call(gateway.address, CHAT, &offer.narrowed(&caveats), &ask());
        assert_reason(&answer, status, code, reason);
        assert_eq!(
            Offered::find(&answer).is_some(),
            status == 402,
            "paying helps or it does not: {caveats:?}"
        );
    }
    assert_eq!(upstream.hits(), calls);
    let books = gateway.books_after(calls);
    assert_eq!(books.count("deposit"), 1);
}

/// L402-53: an operator may let tokens with unknown caveats pass, as the specification says.
#[test]
fn l402_53_unknown_caveats_are_skipped_where_the_operator_says_so() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, &with_tool(", unknown_caveats: skip"));
    let offer = offered(gateway.address, CHAT, &ask());
    let answer = call(gateway.address, CHAT, &offer.narrowed(&["farthing_monthly_volume_sats=10"]), &ask());
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// L402-55: a budget is of its place in the chain. Two branches with the same words have one each; what comes below shares.
#[test]
fn l402_55_each_branch_has_its_own_budget() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, &TEST_NODE.replace("mint:", "deposit: 0.1 USD, mint:"));
    let offer = offered(gateway.address, CHAT, &ask());
    let unpaid = http::post(gateway.address, CHAT, &[], &ask());
    let need = nano(&unpaid.json()["error"]["need"]);
    let budget = format!("budget=kid:TEST:{need}");
    let branch = |first: &str| offer.narrowed(&[first, &budget]);
    // How many calls a budget covers whole, before the next gets what fits.
    let whole_calls = |tokens: &[String]| {
        let mut tokens = tokens.iter().cycle();
        let is_whole = |_: &i32| {
            let answer = call(gateway.address, CHAT, tokens.next().unwrap(), &ask());
            assert_eq!(answer.status, 200, "{}", answer.text());
            // The hold has ended before the next is looked at.
            gateway.books_after(upstream.hits());
            answer.header("farthing-clamped").is_none()
        };
        (0..20).take_while(is_whole).count()
    };
    let (one, two) = (branch("expires=4000000001"), branch("expires=4000000002"));
    let below = |models: &str| offer.narrowed(&["expires=4000000003", &budget, models]);
    let alone = whole_calls(&[one]);
    assert!((1..20).contains(&alone), "{alone}");
    assert_eq!(whole_calls(&[two]), alone, "another branch has its own");
    assert_eq!(whole_calls(&[below("models=m"), below("models=m*")]), alone, "what comes below shares");
    assert_eq!(gateway.books().count("deposit"), 1);
}

/// L402-54: a tier and a capability that a route asks for.
#[test]
fn l402_52_54_a_route_asks_for_a_service_a_tier_and_a_capability() {
    let upstream = Upstream::friendly();
    let routes = "routes: [\
        { name: plain, match: { method: POST, path: /v1/chat/completions }, upstream: openai, price: by_model }, \
        { name: best, match: { method: POST, path: /v1/responses }, upstream: openai, price: by_model, l402: { tier: 2, capability: think } }, \
        { name: other, match: { method: POST, path: /v1/completions }, upstream: openai, price: by_model, l402: { service: batch } }]\n";
    let gateway = Gateway::start(upstream.address, &format!("{routes}{TEST_NODE}"));
    let body = |path: &str| match path {
        "/v1/responses" => json!({"model": "m", "max_output_tokens": 1000, "input": "hi"}),
        "/v1/completions" => json!({"model": "m", "max_tokens": 1000, "prompt": "hi"}),
        _ => ask(),
    };
    let [plain, best, other] = [CHAT, "/v1/responses", "/v1/completions"]
        .map(|path| (path, offered(gateway.address, path, &body(path))));
    for (token, path, caveats, expected) in [
        (&plain, best.0, &[][..], "caveat_forbids"),
        (&best, plain.0, &[], ""),
        (&best, best.0, &[], ""),
        (&best, best.0, &["services=farthing:1"], "caveat_forbids"),
        (&best, best.0, &["farthing_capabilities=think"], ""),
        (&best, best.0, &["farthing_capabilities=see,hear"], "caveat_forbids"),
        (&best, other.0, &[], "caveat_forbids"),
        (&other, plain.0, &[], "caveat_forbids"),
    ] {
        let answer = call(gateway.address, path, &token.1.narrowed(caveats), &body(path));
        let told = answer.json()["error"]["reason"].as_str().unwrap_or_default().to_owned();
        assert_eq!(
            (answer.status == 200, told.as_str()),
            (expected.is_empty(), expected),
            "{} {path} {caveats:?}",
            token.0
        );
    }
}

/// L402-42: keys are rotated by a reload. Tokens of before go on, new ones are made under the new epoch, and those of an
/// epoch that is taken out are dead within a second, on every thread.
#[test]
fn l402_42_rotation_refuses_nobody_and_retirement_everybody() {
    let upstream = Upstream::friendly();
    let keys = |list: &str| format!("tokens: {{ l402_keys: [{list}] }}\n{TEST_NODE}");
    let one = |more: &str| format!("{{ epoch: 1, key: \"${{env:ONE}}\"{more} }}");
    let two = "{ epoch: 2, key: \"${env:TWO}\" }";
    let (first, second) = ("1c".repeat(31) + "01", "2d".repeat(31) + "02");
    let environment = [("ONE", first.as_str()), ("TWO", second.as_str())];
    let gateway = Gateway::start_in(upstream.address, &keys(&one("")), &environment);
    let rewrite = |from: &str, to: &str| {
        let text = std::fs::read_to_string(gateway.config()).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(gateway.config(), text.replace(from, to)).unwrap();
        gateway.operator(&["reload"]);
    };
    let old = offered(gateway.address, CHAT, &ask());
    assert_eq!(old.terms().epoch, 1);
    assert_eq!(call(gateway.address, CHAT, &old.paid(), &ask()).status, 200);
    // Under load: nobody is refused while it happens.
    std::thread::scope(|scope| {
        let working: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..10 {
                        let answer = call(gateway.address, CHAT, &old.paid(), &ask());
                        assert!([200, 402].contains(&answer.status), "{}", answer.text());
                        assert!(
                            answer.status == 200 || answer.code() == "insufficient_balance",
                            "{}",
                            answer.text()
                        );
                    }
                })
            })
            .collect();
        rewrite(&one(""), &format!("{}, {two}", one(", verify_only: true")));
        working.into_iter().for_each(|work| work.join().unwrap());
    });
    let new = offered(gateway.address, CHAT, &ask());
    assert_eq!(new.terms().epoch, 2);
    assert_eq!(call(gateway.address, CHAT, &new.paid(), &ask()).status, 200);
    rewrite(&format!("{}, {two}", one(", verify_only: true")), two);
    for _ in 0..8 {
        let answer = call(gateway.address, CHAT, &old.paid(), &ask());
        assert_reason(&answer, 402, "proof_expired", "epoch_retired");
    }
    assert_eq!(call(gateway.address, CHAT, &new.paid(), &ask()).status, 200);
}

/// L402-44: one payment, or one branch of it, on every thread at once, and after a restart.
#[test]
fn l402_44_a_payment_and_a_branch_are_revoked() {
    let upstream = Upstream::friendly();
    let mut gateway = Gateway::start(upstream.address, TEST_NODE);
    let (one, two) = (offered(gateway.address, CHAT, &ask()), offered(gateway.address, CHAT, &ask()));
    let branch = two.narrowed(&["expires=4000000000"]);
    for token in [one.paid(), two.paid(), branch.clone()] {
        assert_eq!(call(gateway.address, CHAT, &token, &ask()).status, 200);
    }
    let payment_hash = wire::hex::encode(&one.decoded().payment_hash);
    gateway.operator(&["key", "revoke", &payment_hash]);
    // The last point of a chain is the token's signature.
    let mut token = two.decoded_token();
    token.add_caveat(b"expires=4000000000").unwrap();
    let link =
        Sha256::new().chain_update("farthing/link/1").chain_update(token.macaroon().signature).finalize();
    gateway.operator(&["key", "revoke", &wire::hex::encode(&link[..16])]);
    for round in 0..2 {
        for _ in 0..8 {
            for token in [one.paid(), one.narrowed(&["models=m"]), branch.clone()] {
                assert_reason(
                    &call(gateway.address, CHAT, &token, &ask()),
                    402,
                    "proof_invalid",
                    "token_revoked",
                );
            }
            assert_eq!(call(gateway.address, CHAT, &two.paid(), &ask()).status, 200);
        }
        if round == 0 {
            gateway.crash_and_restart();
        }
    }
}

/// L402-45, L402-46: a payment that nobody knows is credited while its time lasts, and never where the store may have
/// forgotten it.
#[test]
fn l402_45_46_an_unknown_payment_is_credited_only_while_it_may_be() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, &TEST_NODE.replace("mint:", "claim_window: 1s, mint:"));
    let (early, late) = (offered(gateway.address, CHAT, &ask()), offered(gateway.address, CHAT, &ask()));
    let first = call(gateway.address, CHAT, &early.paid(), &ask());
    let end = u64::from(late.terms().issued_at_s) + 1;
    wait_for("the window to end", || (now_s() > end).then_some(()));
    assert_reason(
        &call(gateway.address, CHAT, &late.paid(), &ask()),
        402,
        "proof_expired",
        "claim_window_over",
    );
    if first.status == 200 {
        assert_eq!(
            call(gateway.address, CHAT, &early.paid(), &ask()).status,
            200,
            "what is known stays known"
        );
    }
    let restored =
        Gateway::start(upstream.address, &TEST_NODE.replace("mint:", "first_claim_epoch_min: 2, mint:"));
    let offer = offered(restored.address, CHAT, &ask());
    let refused = call(restored.address, CHAT, &offer.paid(), &ask());
    assert_reason(&refused, 403, "verification_failed", "sold_before_restore");
    assert!(restored.log().contains("ALARM"), "the operator is told");
    assert_eq!(restored.books().entries.len(), 0);
}

/// A token of one gateway opens nothing at another, and neither do guessed preimages; both are counted for their source.
#[test]
fn l402_50_only_our_token_and_its_preimage_pay() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, TEST_NODE);
    let other = Gateway::start(upstream.address, TEST_NODE);
    let (ours, theirs) = (offered(gateway.address, CHAT, &ask()), offered(other.address, CHAT, &ask()));
    let foreign = call(gateway.address, CHAT, &theirs.paid(), &ask());
    assert_reason(&foreign, 402, "proof_invalid", "token_unknown");
    let guessed = format!("L402 {}:{}", ours.token, "ab".repeat(32));
    assert_reason(&call(gateway.address, CHAT, &guessed, &ask()), 402, "proof_invalid", "preimage_mismatch");
    let unpaid = format!("LSAT {}:", ours.token);
    assert_reason(
        &call(gateway.address, CHAT, &unpaid, &ask()),
        402,
        "malformed_credential",
        "preimage_missing",
    );
    let strict = Gateway::start(
        upstream.address,
        "limits: { unpaid: { per_ip: 100000/min }, invalid_proofs: { per_ip: 60/min, burst: 5 }, default: { rpm: 100000, concurrent: 1000 } }\n\
         rails: { l402: { test: {}, price: { usd_per_btc: 100000 } } }\n",
    );
    let answers: Vec<u16> = (0..8).map(|_| call(strict.address, CHAT, &guessed, &ask()).status).collect();
    assert_eq!((answers[0], answers[7]), (402, 429), "{answers:?}");
    assert_eq!(upstream.hits(), 0);
}

/// The route of a fixed price is no way around what a token is narrowed to.
#[test]
fn a_narrowed_token_stays_narrow_on_routes_of_a_fixed_price() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, &with_tool(""));
    let offer = offered(gateway.address, TOOL, &json!({}));
    let refused = call(gateway.address, TOOL, &offer.narrowed(&["per_call=TEST:9999999"]), &json!({}));
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert_eq!(refused.code(), "key_forbidden");
    let refused = call(gateway.address, TOOL, &offer.narrowed(&["budget=a:TEST:9999999"]), &json!({}));
    assert_eq!((refused.status, refused.code().as_str()), (402, "over_token_budget"), "{}", refused.text());
    assert_eq!(upstream.hits(), 0);
    let served = http::post(gateway.address, TOOL, &[("authorization", &offer.paid())], &json!({}));
    assert_eq!(served.status, 200, "what is left is whole: {}", served.text());
}
