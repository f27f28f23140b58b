//! The `Payment` scheme: what a 402 offers, and which credentials answer it (specs/mpp.md). What is paid by them is in
//! `mpp_paid.rs`.
#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use farthing_tests::facilitator::Facilitator;
use farthing_tests::gateway::{Gateway, wait_for};
use farthing_tests::http::{self, Answer};
use farthing_tests::lightning::Offered;
use farthing_tests::mpp::{
    Forge, asked, call, challenge, challenges, credential, for_amount, lines, receipt, with_mpp, with_rules,
};
use farthing_tests::mpp_stage::{Stage, TOOL};
use farthing_tests::payer::{self, BASE_SEPOLIA, Wallet, now_s};
use farthing_tests::refused::assert_refused;
use farthing_tests::scene::{CHAT, ask};
use farthing_tests::upstream::Upstream;
use serde_json::{Value, json};
use wire::mpp::{Challenge, Opaque, digest};

/// A challenge is asked for again, with a problem of this type.
#[track_caller]
fn assert_problem(answer: &Answer, status: u16, problem: &str) {
    let body = answer.json();
    assert_eq!((answer.status, body["type"].as_str().unwrap()), (status, &*uri(problem)), "{body}");
    let offered = challenges(answer);
    assert_eq!(!offered.is_empty(), status == 402, "{body}");
    let first = offered.first().map(|challenge| Value::from(challenge.id.as_str()));
    assert_eq!(body.get("challengeId"), first.as_ref(), "{body}");
    assert!(receipt(answer).is_none());
    assert_eq!(body["money"], "nothing_taken");
    assert_eq!(answer.must("cache-control"), "no-store");
}

fn uri(problem: &str) -> String {
    format!("https://paymentauth.org/problems/{problem}")
}

/// MPP-1, MPP-3, MPP-4, MPP-5, 402-1, 402-2, 402-3, 402-4: what one challenge says, in which order they stand, and what else is in the same answer.
#[test]
fn mpp_1_one_answer_has_an_offer_for_everybody() {
    let facilitator = Facilitator::start([]);
    let upstream = Upstream::friendly();
    let rails = with_mpp(&Facilitator::rails(&[facilitator.address]));
    let l402 = "l402: { test: {}, price: { usd_per_btc: 100000 }, mint: { per_source_per_second: 1000, per_source_burst: 1000 } }";
    let rails = rails.replacen("rails: { ", &format!("rails: {{ {l402}, "), 1);
    let gateway = Gateway::start(upstream.address, &rails);
    let answer = wait_for("the offer", || {
        let answer = http::post(gateway.address, CHAT, &[], &ask());
        challenges(&answer).iter().any(|challenge| challenge.method == "evm").then_some(answer)
    });
    assert_refused(&answer, 402, "payment_required", "nothing_taken");
    assert_problem(&answer, 402, "payment-required");
    // L402 first, for clients that read one line; then the others, one each.
    let lines = lines(&answer);
    assert!(lines[0].starts_with("L402 "), "{lines:?}");
    assert!(lines[1..].iter().all(|line| line.starts_with("Payment id=\"")), "{lines:?}");
    assert!(Offered::find(&answer).is_some());
    let offered = challenges(&answer);
    assert_eq!(offered.len(), lines.len() - 1);
    let ways: Vec<_> = offered.iter().map(|c| (c.method.as_str(), c.intent.as_str())).collect();
    assert_eq!(ways.last(), Some(&("credit", "session")), "after every payment");
    let evm = challenge(&answer, "evm");
    assert_eq!((evm.realm.as_str(), evm.intent.as_str()), (&*gateway.address.to_string(), "charge"));
    let left = evm.expires_at_s().unwrap() - now_s();
    assert!((290..=300).contains(&left), "{left}");
    assert_eq!(evm.header, None);
    assert!(digest::matches(evm.digest.as_deref().unwrap(), ask().to_string().as_bytes()));
    let opaque = Opaque::decode(evm.opaque.as_deref().unwrap()).unwrap();
    assert_eq!(
        (opaque.route.as_str(), opaque.key_epoch),
        (CHAT, 1),
        "a route without a name is called as its path"
    );
    // The same price in every protocol.
    let required = payer::challenge(&answer);
    let x402 = payer::offer(&required, BASE_SEPOLIA);
    let request = asked(&evm);
    assert_eq!(request.amount, x402["amount"].as_str().unwrap());
    assert_eq!(
        (&request.currency, &request.recipient),
        (&x402["asset"].as_str().unwrap().to_owned(), &x402["payTo"].as_str().unwrap().to_owned())
    );
    assert_eq!(request.method_details.chain_id, 84532);
    assert_eq!(request.method_details.credential_types.unwrap(), ["authorization"]);
    let body = answer.json();
    assert!(!body["accepts"].as_array().unwrap().is_empty(), "x402 v1");
    assert!(body["error"]["message"].is_string(), "the SDK's error");
    let exposed = answer.must("access-control-expose-headers");
    for name in ["WWW-Authenticate", "PAYMENT-REQUIRED", "Payment-Receipt", "PAYMENT-RESPONSE", "Retry-After"]
    {
        assert!(exposed.contains(name), "{exposed}");
    }
    let bytes: usize = answer.headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    assert!(bytes < 8192, "{bytes}");
    // Two challenges never share an id: the second payment of a wallet would be a replay of its first.
    assert_ne!(challenge(&http::post(gateway.address, CHAT, &[], &ask()), "evm").id, evm.id);
    assert_eq!((upstream.hits(), gateway.books().entries.len()), (0, 0), "MPP-4");
}

/// 402-4: what does not fit is left out from the end, whole.
#[test]
fn all_headers_of_a_402_stay_below_eight_kibibytes() {
    let facilitator = Facilitator::start([]);
    let upstream = Upstream::friendly();
    let tokens: Vec<String> = (1..=20)
        .map(|n| {
            format!(
                "{{ address: \"0x{}\", name: USDC, version: \"2\", decimals: 6 }}",
                format!("{n:02x}").repeat(20)
            )
        })
        .collect();
    let rails = Facilitator::rails(&[facilitator.address])
        .replace("asset: USDC", &format!("asset: [{}]", tokens.join(", ")));
    let l402 = "l402: { test: {}, lsat: true, price: { usd_per_btc: 100000 }, mint: { per_source_per_second: 1000, per_source_burst: 1000 } }";
    let rails = rails.replacen("rails: { ", &format!("rails: {{ {l402}, "), 1);
    let gateway = Gateway::start(upstream.address, &with_rules(&rails, "{ methods: [evm, credit] }"));
    let answer = wait_for("the offers", || {
        let answer = http::post(gateway.address, CHAT, &[], &ask());
        (challenges(&answer).len() > 1).then_some(answer)
    });
    let bytes: usize = answer.headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    assert!((6000..8192).contains(&bytes), "{bytes}");
    let (offered, lines) = (challenges(&answer), lines(&answer));
    assert!(offered.len() > 2 && offered.len() < 20, "{}", offered.len());
    assert!(lines[0].starts_with("LSAT ") && lines[1].starts_with("L402 "), "{lines:?}");
    assert_eq!(offered.len(), lines.len() - 2, "none is cut");
    let currencies: Vec<String> = offered.iter().map(|challenge| asked(challenge).currency).collect();
    let expected: Vec<String> =
        (1..=offered.len()).map(|n| format!("0x{}", format!("{n:02x}").repeat(20))).collect();
    assert_eq!(
        currencies.iter().map(|c| c.to_lowercase()).collect::<Vec<_>>(),
        expected,
        "the first of them"
    );
}

/// MPP-20: the client says what it can pay with, and which it likes better.
#[test]
fn mpp_20_a_client_chooses_among_the_offers() {
    let stage = Stage::new();
    let ways = |header: Option<&str>| {
        let headers: Vec<_> = header.map(|value| ("accept-payment", value)).into_iter().collect();
        let offered = challenges(&stage.unpaid(CHAT, &headers));
        offered.into_iter().map(|challenge| challenge.method).collect::<Vec<_>>().join(" ")
    };
    for (header, expected) in [
        (None, "evm credit"),
        (Some("evm/charge"), "evm"),
        (Some("credit/session"), "credit"),
        (Some("*/*;q=0.1, credit/*"), "credit evm"),
        (Some("evm/*;q=0, */*"), "credit"),
        (Some("*/session, evm/charge;q=0.9"), "credit evm"),
        // Nothing that is there, and nothing that can be read: all of it.
        (Some("stripe/charge"), "evm credit"),
        (Some("evm"), "evm credit"),
        (Some("evm/charge;q=2"), "evm credit"),
        (Some("EVM/charge"), "evm credit"),
        (Some(""), "evm credit"),
    ] {
        assert_eq!(ways(header), expected, "{header:?}");
    }
}

/// MPP-14, MPP-15: whose SDK puts a key into `Authorization` is asked for its credential elsewhere, and there alone it counts.
#[test]
fn mpp_15_a_bearer_leaves_the_field_to_its_key() {
    let stage = Stage::new();
    let bearer = ("authorization", "Bearer sk-of-somebody");
    let asked = challenge(&stage.unpaid(CHAT, &[bearer]), "evm");
    assert_eq!(asked.header.as_deref(), Some("Payment-Authorization"));
    let payment = Wallet::new(1).charge(&asked).to_value();
    let both = format!("Bearer sk-of-somebody, {payment}");
    assert_problem(&stage.unpaid(CHAT, &[("authorization", &both)]), 402, "malformed-credential");
    stage.assert_nothing_happened();
    let paid = stage.unpaid(CHAT, &[bearer, ("payment-authorization", &payment)]);
    assert_eq!(paid.status, 200, "{}", paid.text());
    // Clients that know of no other field put it behind the key.
    let asked = challenge(&stage.unpaid(CHAT, &[]), "evm");
    let behind = format!("Bearer sk-of-somebody, {}", Wallet::new(1).charge(&asked).to_value());
    assert_eq!(stage.unpaid(CHAT, &[("authorization", &behind)]).status, 200);
}

/// MPP-13, MPP-7, MPP-10, MPP-11, MPP-12: a credential answers a challenge of ours for this request, or nothing is taken; what was bound by
/// the gateway's own key, and what was not, fail alike.
#[test]
fn mpp_13_only_a_challenge_of_ours_for_this_request_is_answered() {
    let stage = Stage::new();
    let forge = Forge::of(&stage.gateway);
    let wallet = Wallet::new(1);
    let good = stage.asked(CHAT, &ask());
    let bound = |change: fn(&mut Challenge, &mut Opaque)| forge.bound(&good, change);
    let altered = |change: fn(&mut Challenge)| {
        let mut challenge = good.clone();
        change(&mut challenge);
        challenge
    };
    let tool = challenge(&stage.unpaid(TOOL, &[]), "evm");
    for (what, challenge, problem, reason) in [
        (
            "tampered id",
            altered(|c| c.id.replace_range(0..1, if c.id.starts_with('A') { "B" } else { "A" })),
            "invalid-challenge",
            "id",
        ),
        ("tampered amount", altered(|c| for_amount(c, "1")), "invalid-challenge", "id"),
        (
            "tampered expiry",
            altered(|c| c.expires = Some("2099-01-01T00:00:00.000Z".into())),
            "invalid-challenge",
            "id",
        ),
        ("tampered digest", altered(|c| c.digest = Some(digest::of(b""))), "invalid-challenge", "id"),
        ("without a digest", altered(|c| c.digest = None), "invalid-challenge", "id"),
        ("with a field", altered(|c| c.header = Some("X-Payment".into())), "invalid-challenge", "id"),
        ("foreign realm", altered(|c| c.realm = "api.example".into()), "invalid-challenge", "realm"),
        ("foreign realm, bound", bound(|c, _| c.realm = "api.example".into()), "invalid-challenge", "realm"),
        ("without opaque", altered(|c| c.opaque = None), "invalid-challenge", "foreign"),
        ("without an end, bound", bound(|c, _| c.expires = None), "invalid-challenge", "foreign"),
        ("of another store, bound", bound(|_, o| o.store_epoch += 1), "invalid-challenge", "epoch"),
        (
            "of an unknown key",
            altered(|c| {
                let mut opaque = Opaque::decode(c.opaque.as_deref().unwrap()).unwrap();
                opaque.key_epoch = 9;
                c.opaque = Some(opaque.encode());
            }),
            "invalid-challenge",
            "epoch",
        ),
        ("of another route", tool, "invalid-challenge", "route"),
        ("of another route, bound", bound(|_, o| o.route = "tool".into()), "invalid-challenge", "route"),
        (
            "of another request, bound",
            bound(|_, o| o.quote = Some("A".repeat(32))),
            "invalid-challenge",
            "request",
        ),
        ("for less, bound", bound(|c, _| for_amount(c, "1")), "invalid-challenge", "amount"),
        (
            "for another payee, bound",
            bound(|c, _| {
                let mut request = c.request_object().unwrap();
                request.insert("recipient".into(), "0x209693Bc6afc0C5328bA36FaF03C514EF312287C".into());
                c.request = wire::mpp::challenge::encode_object(&request);
            }),
            "invalid-challenge",
            "recipient",
        ),
        (
            "for another token, bound",
            bound(|c, _| {
                let mut request = c.request_object().unwrap();
                request.insert("currency".into(), "0x209693Bc6afc0C5328bA36FaF03C514EF312287C".into());
                c.request = wire::mpp::challenge::encode_object(&request);
            }),
            "invalid-challenge",
            "currency",
        ),
        (
            "expired",
            bound(|c, _| c.expires = wire::rfc3339::format(now_s() - 1)),
            "payment-expired",
            "expired",
        ),
        (
            "for another body, bound",
            bound(|c, _| c.digest = Some(digest::of(b"{}"))),
            "verification-failed",
            "digest",
        ),
    ] {
        let shown = wallet.charge_with(&challenge, |transfer| transfer.valid_before = now_s() + 200);
        let answer = call(&stage.gateway, CHAT, &shown, &ask());
        assert_problem(&answer, 402, problem);
        assert_eq!(answer.json()["error"]["reason"], reason, "{what}");
    }
    stage.assert_nothing_happened();
    // Both spellings of a digest, and more than is asked by now.
    for challenge in [
        good.clone(),
        forge.bound(&good, |c, o| {
            let text = c.digest.take().unwrap();
            c.digest = text.split_once('=').map(|(name, hash)| format!("{name}=:{hash}:"));
            o.quote = None;
        }),
        forge.bound(&good, |c, _| for_amount(c, "999999")),
    ] {
        let answer = call(&stage.gateway, CHAT, &wallet.charge(&challenge), &ask());
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

/// MPP-13.7: what is signed must pay for the challenge.
#[test]
fn mpp_13_7_a_payload_pays_for_its_challenge() {
    let stage = Stage::new();
    let wallet = Wallet::new(1);
    let asked = stage.asked(CHAT, &ask());
    let changed = |change: fn(&mut Value)| {
        let mut shown = wallet.charge(&asked);
        let mut payload = Value::Object(shown.payload);
        change(&mut payload);
        shown.payload = payload.as_object().unwrap().clone();
        shown
    };
    let signed =
        |change: fn(&mut wire::x402::Transfer<wire::x402::Address>)| wallet.charge_with(&asked, change);
    let mut foreign_source = wallet.charge(&asked);
    foreign_source.source = Some("did:pkh:eip155:84532:0x209693Bc6afc0C5328bA36FaF03C514EF312287C".into());
    for (what, shown, problem) in [
        ("a nonce of its own", signed(|t| t.nonce = [7; 32]), "verification-failed"),
        ("less", signed(|t| t.value -= 1), "payment-insufficient"),
        ("more", signed(|t| t.value += 1), "verification-failed"),
        ("somebody else is paid", signed(|t| t.to = t.from), "verification-failed"),
        ("over", signed(|t| t.valid_before = now_s()), "payment-expired"),
        ("not yet", signed(|t| t.valid_after = now_s() + 100), "verification-failed"),
        ("signed by somebody else", signed(|t| t.from = t.to), "verification-failed"),
        ("a source that has not signed", foreign_source, "verification-failed"),
        ("no type", changed(|p| p["type"] = Value::Null), "malformed-credential"),
        ("no signature", changed(|p| p["signature"] = Value::Null), "malformed-credential"),
        ("a number", changed(|p| p["value"] = json!(1)), "malformed-credential"),
        ("not hex", changed(|p| p["from"] = json!("0xzz")), "malformed-credential"),
        (
            "a transaction",
            changed(|p| *p = json!({"type": "transaction", "transaction": "0x02"})),
            "verification-failed",
        ),
        ("a hash", changed(|p| *p = json!({"type": "hash", "hash": "0x02"})), "verification-failed"),
    ] {
        let answer = call(&stage.gateway, CHAT, &shown, &ask());
        assert_eq!(answer.json()["type"], uri(problem), "{what}: {}", answer.text());
        assert_problem(&answer, 402, problem);
    }
    stage.assert_nothing_happened();
}

/// MPP-16, reference items 13, 14, 20: what cannot be read is asked for again; what cannot be told apart is refused.
#[test]
fn mpp_16_one_request_has_one_payment() {
    let stage = Stage::new();
    let wallet = Wallet::new(1);
    let unpaid = stage.unpaid(CHAT, &[]);
    let (one, other) = (
        wallet.charge(&challenge(&unpaid, "evm")).to_value(),
        wallet.charge(&stage.asked(CHAT, &ask())).to_value(),
    );
    let x402 = wallet.pay(&unpaid, BASE_SEPOLIA);
    let key = stage.gateway.key("1 TEST");
    let credit = |key: &str| credential(challenge(&unpaid, "credit"), None, json!({"token": key})).to_value();
    for text in
        ["Payment", "Payment !!!notb64", "Payment e30", "Payment W10", "Payment eyJjaGFsbGVuZ2UiOnt9fQ"]
    {
        assert_problem(&stage.unpaid(CHAT, &[("authorization", text)]), 402, "malformed-credential");
    }
    for (what, fields) in [
        ("two of them", vec![("authorization", one.as_str()), ("payment-authorization", other.as_str())]),
        ("x402 v2 too", vec![("authorization", one.as_str()), ("payment-signature", &x402.v2())]),
        ("x402 v1 too", vec![("authorization", one.as_str()), ("x-payment", &x402.v1())]),
        ("a key's and another", vec![("authorization", &credit(&key)), ("x-api-key", "fk_test_other")]),
        ("a key's and a payment", vec![("authorization", &credit(&key)), ("payment-signature", &x402.v2())]),
    ] {
        let answer = stage.unpaid(CHAT, &fields);
        assert_problem(&answer, 400, "bad-request");
        assert_eq!(answer.code(), "ambiguous_credentials", "{what}");
    }
    // A method that is not taken here.
    let mut foreign = challenge(&unpaid, "evm");
    foreign.method = "stripe".into();
    let answer = call(&stage.gateway, CHAT, &credential(foreign, None, json!({"spt": "spt_1"})), &ask());
    assert_problem(&answer, 400, "method-unsupported");
    assert_eq!((stage.upstream.hits(), stage.facilitator.settles().len()), (0, 0));
    // The same one twice is one.
    let twice = [("authorization", one.as_str()), ("payment-authorization", one.as_str())];
    assert_eq!(stage.unpaid(CHAT, &twice).status, 200);
    // One that cannot be read beside one that can.
    let beside = [("authorization", "Payment ???"), ("payment-signature", &*x402.v2())];
    assert_eq!(stage.unpaid(CHAT, &beside).status, 200);
    let beside = [("authorization", "Payment ???"), ("x-api-key", &*key)];
    assert_eq!(stage.unpaid(CHAT, &beside).status, 200);
}

/// MPP-9: what was bound before a rotation is taken until the operator drops its key.
#[test]
fn mpp_9_old_keys_verify_until_they_are_dropped() {
    let (upstream, facilitator) = (Upstream::friendly(), Facilitator::start([]));
    let folder = tempfile::tempdir().unwrap();
    for (epoch, byte) in [(1, "31"), (2, "32")] {
        use std::os::unix::fs::PermissionsExt as _;
        let path = folder.path().join(format!("{epoch}.key"));
        std::fs::write(&path, byte.repeat(32)).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let keys = |written: &str| {
        let here = folder.path().display().to_string();
        format!("tokens: {{ master_keys: [{}] }}\n", written.replace("{keys}", &here))
    };
    let first = keys(r#"{ epoch: 1, key: "file:{keys}/1.key" }"#);
    let grace = keys(
        r#"{ epoch: 2, key: "file:{keys}/2.key" }, { epoch: 1, key: "file:{keys}/1.key", verify_only: true }"#,
    );
    let second = keys(r#"{ epoch: 2, key: "file:{keys}/2.key" }"#);
    let rails = with_mpp(&Facilitator::rails(&[facilitator.address]));
    let gateway = Gateway::start(upstream.address, &format!("{first}{rails}"));
    let offered = || {
        wait_for("the offer", || {
            let answer = http::post(gateway.address, CHAT, &[], &ask());
            challenges(&answer).into_iter().find(|challenge| challenge.method == "evm")
        })
    };
    let epoch =
        |challenge: &Challenge| Opaque::decode(challenge.opaque.as_deref().unwrap()).unwrap().key_epoch;
    let turn = |from: &str, to: &str| {
        let text = std::fs::read_to_string(gateway.config()).unwrap();
        assert!(text.contains(from));
        std::fs::write(gateway.config(), text.replace(from, to)).unwrap();
        gateway.operator(&["reload"]);
    };
    let (old, older) = (offered(), offered());
    assert_eq!(epoch(&old), 1);
    turn(&first, &grace);
    assert_eq!(epoch(&offered()), 2, "new ones by the new key");
    let wallet = Wallet::new(1);
    let answer = call(&gateway, CHAT, &wallet.charge(&old), &ask());
    assert_eq!(answer.status, 200, "{}", answer.text());
    turn(&grace, &second);
    offered();
    let answer = call(&gateway, CHAT, &wallet.charge(&older), &ask());
    assert_problem(&answer, 402, "invalid-challenge");
    assert_eq!(answer.json()["error"]["reason"], "epoch");
    // What was paid by then is not lost: whoever shows it again is told what became of it.
    let again = call(&gateway, CHAT, &wallet.charge(&old), &ask());
    assert_eq!((again.status, again.header("farthing-replayed")), (200, Some("true")), "{}", again.text());
    assert_eq!((upstream.hits(), facilitator.transfers()), (1, 1));
}

/// 402-5, and routes that give things away.
#[test]
fn a_look_costs_nothing() {
    let stage = Stage::new();
    let head = http::request(stage.gateway.address, "HEAD", TOOL, &[], b"");
    assert_eq!((head.status, head.body.len()), (402, 0));
    let asked = challenge(&head, "evm");
    assert_eq!(asked.digest, None, "a fixed price has no body to be bound to");
    assert!(head.header("payment-required").is_some());
    let payment = Wallet::new(1).charge(&asked).to_value();
    // What costs nothing takes nothing.
    let gift = http::get(stage.gateway.address, "/gift", &[("authorization", &payment)]);
    assert_eq!((gift.status, receipt(&gift)), (200, None));
    assert_eq!(stage.facilitator.settles().len(), 0);
    let paid = http::get(stage.gateway.address, TOOL, &[("authorization", &payment)]);
    assert_eq!(paid.status, 200, "{}", paid.text());
    assert!(receipt(&paid).is_some());
}

/// Without `rails.mpp` nothing of it is said, and its credentials are foreign.
#[test]
fn without_the_rail_nothing_is_known_of_the_scheme() {
    let facilitator = Facilitator::start([]);
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, &Facilitator::rails(&[facilitator.address]));
    let answer = http::post(gateway.address, CHAT, &[("authorization", "Payment !!!")], &ask());
    assert_refused(&answer, 402, "payment_required", "nothing_taken");
    assert!(lines(&answer).is_empty());
}
