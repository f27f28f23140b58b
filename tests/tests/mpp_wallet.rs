//! A wallet shows itself by the `Payment` scheme, and has a key to what it paid here before (mpp.md section 10.4).

use farthing_tests::facilitator::Facilitator;
use farthing_tests::gateway::{Gateway, nano, wait_for};
use farthing_tests::http::{self, Answer};
use farthing_tests::mpp::{Forge, call, challenge, challenges, credential, with_mpp};
use farthing_tests::payer::{BASE_SEPOLIA, Wallet, encode, now_s};
use farthing_tests::refused::assert_refused;
use farthing_tests::scene::{CHAT, ask};
use farthing_tests::upstream::{FRIENDLY_COST, Upstream};
use proof::eip712::{wallet_proof, wallet_separator};
use serde_json::json;
use wire::mpp::{Challenge, Credential};

const SIGN_IN: &str = "/farthing/sign-in";
/// The test network of Tempo.
const CHAIN: u64 = 42431;

fn proof(wallet: &Wallet, challenge: &Challenge) -> Credential {
    let digest =
        wallet_separator(CHAIN).digest(&wallet_proof(&wallet.address(), &challenge.id, &challenge.realm));
    let source = format!("did:pkh:eip155:{CHAIN}:{}", wallet.address());
    credential(challenge.clone(), Some(source), json!({"type": "proof", "signature": wallet.sign(&digest)}))
}

fn asked(gateway: &Gateway) -> Challenge {
    let answer = http::post(gateway.address, SIGN_IN, &[], &json!({}));
    assert_eq!(answer.status, 402, "{}", answer.text());
    let asked = challenge(&answer, "tempo");
    assert_eq!((asked.intent.as_str(), challenges(&answer).len()), ("charge", 1));
    let request = asked.request_object();
    assert_eq!(request.map(|request| request["amount"].clone()), Ok(json!("0")), "nothing is paid");
    asked
}

fn show(gateway: &Gateway, shown: &Credential) -> Answer {
    call(gateway, SIGN_IN, shown, &json!({}))
}

#[test]
fn a_wallet_has_a_key_for_its_proof() {
    let (upstream, facilitator) = (Upstream::friendly(), Facilitator::start([]));
    let rails = with_mpp(&Facilitator::rails(&[facilitator.address]));
    let mut gateway = Gateway::start(upstream.address, &rails);
    let wallet = Wallet::new(1);
    // Who has paid nothing has nothing here.
    let refused = show(&gateway, &proof(&wallet, &asked(&gateway)));
    assert_refused_here(&refused, 402, "payment_required");
    assert_eq!(refused.json()["error"]["reason"], "no_account");
    let unpaid = wait_for("the offer", || {
        let answer = http::post(gateway.address, CHAT, &[], &ask());
        let is_there = challenges(&answer).iter().any(|challenge| challenge.method == "evm");
        is_there.then_some(answer)
    });
    let paid = wallet.pay(&unpaid, BASE_SEPOLIA);
    let served = http::post(gateway.address, CHAT, &[("payment-signature", &paid.v2())], &ask());
    assert_eq!(served.status, 200, "{}", served.text());
    let key = served.must("farthing-key");
    let left = gateway.settled_balance(key);
    assert_eq!(left, paid.nano() - FRIENDLY_COST);
    // The same balance, by a signature.
    let shown = proof(&wallet, &asked(&gateway));
    let opened = show(&gateway, &shown);
    assert_eq!(opened.status, 200, "{}", opened.text());
    let body = opened.json();
    assert_eq!(nano(&body["balance"]["amount"]), left);
    let fresh = body["key"].as_str().unwrap_or_default();
    assert_ne!(fresh, key);
    assert_eq!(gateway.settled_balance(fresh), left);
    assert_eq!(opened.must("cache-control"), "no-store");
    // Once, and not after a restart either: what was used by then is forgotten.
    assert_refused_here(&show(&gateway, &shown), 402, "proof_invalid");
    let unused = proof(&wallet, &asked(&gateway));
    gateway.crash_and_restart();
    let refused = show(&gateway, &unused);
    assert_refused_here(&refused, 402, "proof_invalid");
    assert_eq!(refused.json()["error"]["reason"], "process");
    // Somebody else's name, another time, another place, another payload.
    let forge = Forge::of(&gateway);
    let asked = asked(&gateway);
    let mut stranger = proof(&Wallet::new(2), &asked);
    stranger.source = proof(&wallet, &asked).source;
    let late = forge.bound(&asked, |challenge, _| challenge.expires = wire::rfc3339::format(now_s() - 1));
    let elsewhere = forge.bound(&asked, |_, opaque| opaque.route = "#balance".to_owned());
    let payload = credential(asked.clone(), None, json!({"type": "hash", "hash": "0x00"}));
    for (what, shown, problem) in [
        ("signed by another", stranger, "verification-failed"),
        ("late", proof(&wallet, &late), "payment-expired"),
        ("elsewhere", proof(&wallet, &elsewhere), "invalid-challenge"),
        ("no proof", payload, "malformed-credential"),
    ] {
        let refused = show(&gateway, &shown);
        let expected = format!("https://paymentauth.org/problems/{problem}");
        assert_eq!((refused.status, refused.json()["type"].as_str()), (402, Some(&*expected)), "{what}");
    }
    // It is no payment for a call.
    let refused = call(&gateway, CHAT, &proof(&wallet, &asked), &ask());
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert_eq!((upstream.hits(), facilitator.transfers()), (1, 1));
}

/// IDN-35: a wallet that is blocked opens nothing of what it has paid before, however it shows itself; as soon as the block is
/// gone it does.
#[test]
fn idn_35_a_blocked_wallet_does_not_sign_in() {
    let (upstream, facilitator) = (Upstream::friendly(), Facilitator::start([]));
    let rails = with_mpp(&Facilitator::rails(&[facilitator.address]));
    let gateway = Gateway::start(upstream.address, &rails);
    let wallet = Wallet::new(1);
    let unpaid = wait_for("the offer", || {
        let answer = http::post(gateway.address, CHAT, &[], &ask());
        challenges(&answer).iter().any(|challenge| challenge.method == "evm").then_some(answer)
    });
    let paid = wallet.pay(&unpaid, BASE_SEPOLIA);
    assert_eq!(http::post(gateway.address, CHAT, &[("payment-signature", &paid.v2())], &ask()).status, 200);

    let text = std::fs::read_to_string(gateway.config()).unwrap_or_default();
    let blocked = format!("{text}identity: {{ block: [\"{}\"] }}\n", wallet.address());
    std::fs::write(gateway.config(), blocked).unwrap_or_default();
    gateway.operator(&["reload"]);
    let refused = show(&gateway, &proof(&wallet, &asked(&gateway)));
    assert_refused(&refused, 403, "agent_blocked", "nothing_taken");
    assert_eq!(refused.header("farthing-key"), None);
    let terms = http::get(gateway.address, SIGN_IN, &[]).json();
    let answer = encode(&wallet.sign_in(&json!({ "info": terms["info"] }), BASE_SEPOLIA));
    for path in [SIGN_IN, CHAT] {
        let refused = http::post(gateway.address, path, &[("sign-in-with-x", &answer)], &ask());
        assert_refused(&refused, 403, "agent_blocked", "nothing_taken");
    }
    assert_eq!(upstream.hits(), 1);

    std::fs::write(gateway.config(), text).unwrap_or_default();
    gateway.operator(&["reload"]);
    assert_eq!(show(&gateway, &proof(&wallet, &asked(&gateway))).status, 200);
}

/// A refusal whose challenge asks for a signature, and for nothing else.
#[track_caller]
fn assert_refused_here(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{}", answer.text());
    let offered = challenges(answer);
    assert!(offered.iter().all(|challenge| challenge.method == "tempo") && offered.len() == 1);
    assert_eq!(answer.json()["challengeId"], offered[0].id.as_str());
    assert_eq!(answer.json()["money"], "nothing_taken");
}

/// Where no wallet pays there is no place for one.
#[test]
fn without_a_chain_no_wallet_shows_itself() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, &with_mpp("rails: { test: {} }\n"));
    let answer = http::post(gateway.address, SIGN_IN, &[], &json!({}));
    assert_refused(&answer, 404, "route_not_found", "nothing_taken");
}
