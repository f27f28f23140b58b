//! A key that is bound to its holder opens nothing to whoever has stolen it (IDN-26 to IDN-30, L402-58).
#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use farthing_tests::gateway::{Gateway, wait_for};
use farthing_tests::http::Answer;
use farthing_tests::lightning::{Offered, TEST_NODE, offered};
use farthing_tests::mpp;
use farthing_tests::payer::now_s;
use farthing_tests::refused::assert_refused;
use farthing_tests::scene::{CHAT, ask};
use farthing_tests::signer::{Call, Signer, unsigned};
use farthing_tests::upstream::{FRIENDLY_COST, Upstream};
use proof::identity::Tag;
use serde_json::json;
use wire::message_signature::Unsigned;

/// The holder, and one who is not.
fn holders() -> (Signer, Signer) {
    (Signer::new(21), Signer::new(22))
}

fn bound(key: &str, holder: &Signer) -> String {
    proof::credit_key::attenuate(key, &holder.holder()).unwrap()
}

fn bearer(key: &str) -> String {
    format!("Bearer {key}")
}

#[track_caller]
fn assert_reason(answer: &Answer, reason: &str) {
    assert_refused(answer, 401, "holder_proof_invalid", "nothing_taken");
    let error = &answer.json()["error"];
    let told = if error["details"].is_object() { &error["details"]["reason"] } else { &error["reason"] };
    assert_eq!(told, reason, "{}", answer.text());
}

const ALL: [&str; 5] = ["@method", "@authority", "@path", "authorization", "content-digest"];

/// IDN-28 and the whole list of section 7: what a thief can try with a key, a captured request, and a key of his own.
#[test]
fn idn_26_a_stolen_key_is_useless() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, "");
    let ((holder, thief), whole) = (holders(), gateway.key("1 TEST"));
    let key = bound(&whole, &holder);
    let chat = || Call::post(gateway.address, CHAT, &ask());
    let shown = || chat().with("authorization", &bearer(&key));
    let proven = || holder.held(shown());

    let bare = shown().send(gateway.address);
    assert_refused(&bare, 401, "holder_proof_missing", "nothing_taken");
    let wanted = bare.must("accept-signature");
    assert!(wanted.contains("\"authorization\" \"content-digest\")"), "{wanted}");
    assert!(wanted.contains(&holder.thumbprint()) && wanted.contains("tag=\"farthing-holder\""), "{wanted}");

    let served = proven();
    assert_eq!(served.send(gateway.address).status, 200, "good");
    assert_reason(&served.send(gateway.address), "nonce_used");

    let other = bound(&gateway.key("1 TEST"), &holder);
    let narrower = proof::credit_key::attenuate(&key, "models=m").unwrap();
    let digested = || shown().with_digest();
    let signed = |change: fn(&mut Unsigned)| {
        let mut own = unsigned(Tag::Holder, &ALL);
        change(&mut own);
        holder.sign(&own, digested())
    };
    let another_body = |mut call: Call| {
        call.body =
            json!({"model": "m", "max_tokens": 2000, "messages": [{"role": "user", "content": "hi"}]})
                .to_string()
                .into_bytes();
        call
    };
    let moved = |mut call: Call| {
        call.headers.retain(|(name, _)| name != "authorization");
        call.with("x-api-key", &key)
    };
    let to = |mut call: Call, target: &str| {
        call.target = target.into();
        call
    };
    let by = |mut call: Call, method: &str| {
        call.method = method.into();
        call
    };
    for (what, call, reason) in [
        ("body changed", another_body(proven()), "content_digest"),
        (
            "body and digest changed",
            {
                let call = another_body(proven());
                let digest = wire::content_digest::of(&call.body);
                call.altered("content-digest", Some(&digest))
            },
            "signature",
        ),
        ("path changed", to(proven(), "/v1/messages"), "signature"),
        ("query added", to(proven(), "/v1/chat/completions?a=1"), "not_covered"),
        (
            "other token of the same holder",
            proven().altered("authorization", Some(&bearer(&other))),
            "signature",
        ),
        (
            "token narrowed after it was signed for",
            proven().altered("authorization", Some(&bearer(&narrower))),
            "signature",
        ),
        ("token moved to another field", moved(proven()), "not_covered"),
        (
            "token not signed",
            holder.signed(Tag::Holder, &["@method", "@authority", "@path", "content-digest"], digested()),
            "not_covered",
        ),
        ("body not signed", holder.signed(Tag::Holder, &ALL[..4], digested()), "not_covered"),
        ("expired", signed(|own| (own.created, own.expires) = (now_s() - 50, now_s())), "expired"),
        (
            "made in the future",
            signed(|own| (own.created, own.expires) = (now_s() + 40, now_s() + 60)),
            "not_yet_valid",
        ),
        ("for too long", signed(|own| own.expires = own.created + 61), "window_too_long"),
        ("no nonce", signed(|own| own.nonce = None), "nonce"),
        ("signed by somebody else", thief.held(shown()), "keyid"),
        ("two proofs", holder.sign(&unsigned(Tag::Holder, &ALL), proven()), "ambiguous"),
        ("not readable", shown().with("signature-input", "h=(").with("signature", "h=:AA==:"), "malformed"),
    ] {
        let before = upstream.hits();
        assert_reason(&call.send(gateway.address), reason);
        assert_eq!(upstream.hits(), before, "{what}");
    }
    // Signed for something else: nobody has proven anything.
    let agent = holder.signed(Tag::WebBotAuth, &ALL, digested());
    assert_refused(&agent.send(gateway.address), 401, "holder_proof_missing", "nothing_taken");
    let swapped = proof::credit_key::attenuate(&key, &thief.holder()).unwrap_err();
    assert!(swapped.to_string().contains("widens"), "{swapped}");
    assert_refused(&by(proven(), "PUT").send(gateway.address), 405, "method_not_allowed", "nothing_taken");
    let two = proven().with("authorization", &bearer(&whole)).send(gateway.address);
    assert_refused(&two, 400, "ambiguous_credentials", "nothing_taken");

    assert_eq!(proven().send(gateway.address).status, 200, "the holder is served as before");
    assert_eq!(gateway.settled_balance(&whole), 1_000_000_000 - 2 * FRIENDLY_COST);
    assert_eq!(gateway.books().count("capture"), 2);
}

/// IDN-27: a caveat appended by a thief who cannot sign for the other key makes the key useless to him too.
#[test]
fn idn_26_a_second_holder_refuses_the_key() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, "");
    let ((holder, thief), whole) = (holders(), gateway.key("1 TEST"));
    let mut key = wire::credit_key::CreditKey::parse(&bound(&whole, &holder)).unwrap();
    key.add_caveat(thief.holder().as_bytes()).unwrap();
    let call = Call::post(gateway.address, CHAT, &ask()).with("authorization", &bearer(&key.to_text()));
    let answer = thief.held(call).send(gateway.address);
    assert_refused(&answer, 401, "key_unknown", "nothing_taken");
    assert_eq!(answer.json()["error"]["reason"], "caveat_refused");
}

/// IDN-30: looks and top-ups want the proof as well, and a body that nobody compares is not vouched for.
#[test]
fn idn_30_nothing_is_open_without_a_proof() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, "");
    let ((holder, _), whole) = (holders(), gateway.key("1 TEST"));
    let key = bound(&whole, &holder);
    let call = || holder.held(Call::post(gateway.address, CHAT, &ask()).with("x-api-key", &key));
    let served = call().send(gateway.address);
    assert_eq!(served.status, 200, "{}", served.text());
    let receipt = format!("/farthing/receipts/{}", served.must("farthing-receipt"));
    let proof = format!("{receipt}/proof");
    for target in ["/farthing/balance", receipt.as_str(), proof.as_str()] {
        let look = Call::get(gateway.address, target).with("x-api-key", &key);
        assert_refused(&look.send(gateway.address), 401, "holder_proof_missing", "nothing_taken");
        let seen = holder.held(look.clone()).send(gateway.address);
        assert_eq!(seen.status, 200, "{target}: {}", seen.text());
    }
    let quote = || {
        Call::post(gateway.address, &format!("/farthing/quote?path={CHAT}"), &ask()).with("x-api-key", &key)
    };
    assert_refused(&quote().send(gateway.address), 401, "holder_proof_missing", "nothing_taken");
    assert_eq!(holder.held(quote()).send(gateway.address).status, 200);
    let top_up = Call::get(gateway.address, "/farthing/topup?amount=1").with("x-api-key", &key);
    assert_refused(&top_up.send(gateway.address), 401, "holder_proof_missing", "nothing_taken");
    assert_eq!(holder.held(top_up).send(gateway.address).status, 402, "now it says how to pay");
    // Nobody there looks at a body, so nobody can say that it is the one that was signed.
    let with_body = Call::post(gateway.address, "/farthing/topup", &ask()).with("x-api-key", &key);
    assert_reason(&holder.held(with_body).send(gateway.address), "content_digest");
}

/// IDN-29: what is not ours, or is over, is told so whatever is signed.
#[test]
fn idn_29_the_chain_and_revocation_come_first() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, "");
    let ((holder, _), whole) = (holders(), gateway.key("1 TEST"));
    let key = bound(&whole, &holder);
    // Within the signature, but not its last character, of which some bits say nothing.
    let (mut forged, at) = (key.clone(), key.len() - 5);
    let other = if key.as_bytes()[at] == b'A' { "B" } else { "A" };
    forged.replace_range(at..=at, other);
    let shown = |key: &str| Call::post(gateway.address, CHAT, &ask()).with("x-api-key", key);
    assert_refused(&shown(&forged).send(gateway.address), 401, "key_unknown", "nothing_taken");
    let old = proof::credit_key::attenuate(&key, "expires=1000000000").unwrap();
    assert_refused(&shown(&old).send(gateway.address), 401, "key_expired", "nothing_taken");
    let narrow = proof::credit_key::attenuate(&key, "models=other").unwrap();
    assert_refused(&shown(&narrow).send(gateway.address), 401, "holder_proof_missing", "nothing_taken");
    let proven = holder.held(shown(&narrow));
    assert_refused(&proven.send(gateway.address), 403, "key_forbidden", "nothing_taken");
    let id = gateway.operator(&["key", "inspect", &whole])["key_id"].as_str().unwrap().to_owned();
    gateway.operator(&["key", "revoke", &id]);
    assert_refused(&shown(&key).send(gateway.address), 401, "key_revoked", "nothing_taken");
}

/// After a restart nobody remembers nonces: what was signed before is not taken, what is signed now is (IDN-11).
#[test]
fn idn_11_a_proof_does_not_outlive_the_process_that_saw_it() {
    let (upstream, before) = (Upstream::friendly(), now_s() - 1);
    let mut gateway = Gateway::start(upstream.address, "");
    let ((holder, _), whole) = (holders(), gateway.key("1 TEST"));
    let key = bound(&whole, &holder);
    let shown = || Call::post(gateway.address, CHAT, &ask()).with("authorization", &bearer(&key));
    let signed_at = |created: u64| {
        holder.sign(&Unsigned { created, ..unsigned(Tag::Holder, &ALL) }, shown().with_digest())
    };
    let before_it_began = signed_at(before).send(gateway.address);
    assert_reason(&before_it_began, "signed_before_restart");
    assert_eq!(before_it_began.header("retry-after"), Some("1"));
    let created = now_s() + 1;
    let used = signed_at(created);
    assert_eq!(used.send(gateway.address).status, 200);
    assert_reason(&used.send(gateway.address), "nonce_used");
    assert_eq!(gateway.books_after(1).count("capture"), 1);
    wait_for("the second of the signature to pass", || (now_s() > created).then_some(()));
    let address = gateway.address;
    gateway.crash_and_restart();
    assert_reason(&used.send(address), "signed_before_restart");
    let fresh = holder.held(Call::post(address, CHAT, &ask()).with("authorization", &bearer(&key)));
    assert_eq!(fresh.send(address).status, 200);
    assert_eq!(gateway.settled_balance(&whole), 1_000_000_000 - 2 * FRIENDLY_COST);
}

/// L402-58: a token that was narrowed to a holder opens its payment to nobody else, and claims nothing for him.
#[test]
fn l402_58_a_token_is_bound_like_a_key() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, TEST_NODE);
    let (holder, thief) = holders();
    let offer: Offered = offered(gateway.address, CHAT, &ask());
    let bound = offer.narrowed(&[&holder.holder()]);
    let shown = || Call::post(gateway.address, CHAT, &ask()).with("authorization", &bound);
    assert_refused(&shown().send(gateway.address), 401, "holder_proof_missing", "nothing_taken");
    let stolen = thief.held(shown()).send(gateway.address);
    assert_refused(&stolen, 401, "holder_proof_invalid", "nothing_taken");
    assert_eq!((upstream.hits(), gateway.books().count("deposit")), (0, 0), "the payment is still unclaimed");
    let call = holder.held(shown());
    assert_eq!(call.send(gateway.address).status, 200);
    let again = call.send(gateway.address);
    assert_refused(&again, 401, "holder_proof_invalid", "nothing_taken");
    let look = Call::get(gateway.address, "/farthing/balance").with("authorization", &bound);
    assert_refused(&look.send(gateway.address), 401, "holder_proof_missing", "nothing_taken");
    assert_eq!(holder.held(look).send(gateway.address).status, 200);
    let other_model = offer.narrowed(&["models=other", &holder.holder()]);
    let other = Call::post(gateway.address, CHAT, &ask()).with("authorization", &other_model);
    assert_refused(&other.send(gateway.address), 403, "key_forbidden", "nothing_taken");
    assert_eq!((upstream.hits(), gateway.books_after(1).count("deposit")), (1, 1));
}

/// IDN-27: the proof is for the token in hexadecimal too, whichever of its fields that stands in.
#[test]
fn idn_27_a_token_in_hexadecimal_is_covered() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, TEST_NODE);
    let ((holder, _), offer) = (holders(), offered(gateway.address, CHAT, &ask()));
    let mut token = offer.decoded_token();
    let preimage = format!("preimage={}", wire::hex::encode(offer.preimage().as_bytes()));
    for caveat in [holder.holder(), preimage] {
        token.add_caveat(caveat.as_bytes()).unwrap();
    }
    let hex = wire::hex::encode(&token.macaroon().encode());
    for field in ["macaroon", "grpc-metadata-macaroon", "token"] {
        let shown = || Call::post(gateway.address, CHAT, &ask()).with(field, &hex);
        assert_refused(&shown().send(gateway.address), 401, "holder_proof_missing", "nothing_taken");
        let unbound = holder.signed(
            Tag::Holder,
            &["@method", "@authority", "@path", "content-digest"],
            shown().with_digest(),
        );
        assert_reason(&unbound.send(gateway.address), "not_covered");
        let served = holder.held(shown()).send(gateway.address);
        assert_eq!(served.status, 200, "{field}: {}", served.text());
    }
    assert_eq!(upstream.hits(), 3);
}

/// Who has the key alone fills neither the limits of its account nor, for long, ours.
#[test]
fn idn_26_a_thief_fills_no_limit_of_the_account() {
    let upstream = Upstream::friendly();
    let limits = "limits: { default: { rpm: 3 }, invalid_proofs: { per_ip: 1000/min, burst: 8 } }\n";
    let gateway = Gateway::start(upstream.address, limits);
    let ((holder, thief), whole) = (holders(), gateway.key("1 TEST"));
    let key = bound(&whole, &holder);
    let shown = || Call::post(gateway.address, CHAT, &ask()).with("x-api-key", &key);
    for stolen in [shown(), thief.held(shown()), shown(), thief.held(shown()), shown(), shown()] {
        assert_eq!(stolen.send(gateway.address).status, 401);
    }
    let statuses: Vec<u16> = (0..4).map(|_| holder.held(shown()).send(gateway.address).status).collect();
    assert_eq!(statuses, [200, 200, 200, 429], "all three are his");
    let tries: Vec<u16> = (0..40).map(|_| shown().send(gateway.address).status).collect();
    assert_eq!((tries[0], tries[39]), (401, 429), "{tries:?}");
}

/// One nonce, sixty-four tries at once: one call.
#[test]
fn idn_11_a_nonce_counts_once_however_many_ask_at_once() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, "");
    let ((holder, _), whole) = (holders(), gateway.key("1 TEST"));
    let key = bound(&whole, &holder);
    let call = holder.held(Call::post(gateway.address, CHAT, &ask()).with("authorization", &bearer(&key)));
    let address = gateway.address;
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..64).map(|_| scope.spawn(|| call.send(address).status)).collect();
        tries.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let served = statuses.iter().filter(|status| **status == 200).count();
    let refused = statuses.iter().filter(|status| **status == 401).count();
    assert_eq!((served, refused), (1, 63), "{statuses:?}");
    assert_eq!(upstream.hits(), 1);
}

/// IDN-30: the same key in a credential of the `Payment` scheme.
#[test]
fn idn_30_a_key_is_bound_in_any_wrapping() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, &mpp::with_mpp("rails: { test: {} }\n"));
    let ((holder, thief), whole) = (holders(), gateway.key("1 TEST"));
    let unpaid = Call::post(gateway.address, CHAT, &ask()).send(gateway.address);
    let credit = mpp::challenge(&unpaid, "credit");
    let value = mpp::credential(credit, None, json!({"token": bound(&whole, &holder)})).to_value();
    for field in ["authorization", "payment-authorization"] {
        let shown = || Call::post(gateway.address, CHAT, &ask()).with(field, &value);
        assert_refused(&shown().send(gateway.address), 401, "holder_proof_missing", "nothing_taken");
        assert_reason(&thief.held(shown()).send(gateway.address), "keyid");
        let unbound = holder.signed(
            Tag::Holder,
            &["@method", "@authority", "@path", "content-digest"],
            shown().with_digest(),
        );
        assert_reason(&unbound.send(gateway.address), "not_covered");
        let served = holder.held(shown()).send(gateway.address);
        assert_eq!(served.status, 200, "{}", served.text());
    }
    assert_eq!(gateway.settled_balance(&whole), 1_000_000_000 - 2 * FRIENDLY_COST);
}
